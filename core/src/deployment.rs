//! A deployment: one release, or one stack operation, going to one environment.

use serde::{Deserialize, Serialize};

use crate::attempt::{self, Outcome};
use crate::id::DeploymentId;
use crate::job;
use crate::step::{End, SkippedBy, StepState};
use crate::time::Timestamp;

/// State of a deployment, as CONTRACT names it.
///
/// `waiting` is not among them: it is `Queued` seen together with who holds its locks, and is worked out when asked for, so it
/// is never stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeploymentState {
    /// Its job is in the queue. The job's limit counts.
    Queued,
    /// An agent claimed its job. The attempt's limits count.
    Running,
    /// A person asked for a cancel, and it has not ended yet. The attempt's limits count.
    Canceling,
    /// Started, outcome not known yet; the stack lock is held. Ends by proof or by a person, never by a clock.
    Unknown,
    /// Every step ended well.
    Succeeded,
    /// A step ended badly.
    Failed,
    /// A person asked for it.
    Canceled,
    /// Ended by infrastructure, proven.
    Lost,
}

/// A deployment as far as decisions go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// Its id.
    pub id: DeploymentId,
    /// Where it stands.
    pub state: DeploymentState,
    /// Why it stands there, for people.
    pub reason: Option<String>,
    /// When a person asked for a cancel.
    pub cancel_asked: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// What the rows say of a deployment's parts.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Its steps, in order.
    pub steps: &'a [StepFact<'a>],
    /// Its jobs.
    pub jobs: &'a [JobFact],
    /// How the attempts of its jobs stand that have not ended.
    pub attempts: &'a [attempt::State],
}

/// A job as far as its deployment's state goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFact {
    /// Where it stands.
    pub state: job::State,
    /// A step of it failed and people were asked: if it ended as failed, the step says what came of that.
    pub guided: bool,
}

/// A step as far as its deployment's state goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepFact<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where it stands.
    pub state: StepState,
    /// Why it was skipped, if it was.
    pub skipped: Option<SkippedBy>,
    /// Why it ended as it did.
    pub reason: Option<&'a str>,
    /// A start of it was granted, or the controller began it.
    pub begun: bool,
}

impl DeploymentState {
    /// Every state, for tables.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Running,
        Self::Canceling,
        Self::Unknown,
        Self::Succeeded,
        Self::Failed,
        Self::Canceled,
        Self::Lost,
    ];

    /// Whether nothing follows.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled | Self::Lost)
    }

    /// How it ended; `None` for one that has not.
    #[must_use]
    pub const fn end(self) -> Option<End> {
        match self {
            Self::Succeeded => Some(End::Succeeded),
            Self::Failed => Some(End::Failed),
            Self::Canceled => Some(End::Canceled),
            Self::Lost => Some(End::Lost),
            Self::Queued | Self::Running | Self::Canceling | Self::Unknown => None,
        }
    }

    /// The word in JSON and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Canceling => "canceling",
            Self::Unknown => "unknown",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Lost => "lost",
        }
    }

    /// The state that [`DeploymentState::as_str`] names.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// Why a cancel was not accepted. Nothing changes then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The deployment is over.
    #[error("deployment `{0}` has ended already: it is {1}")]
    Ended(DeploymentId, &'static str),
}

/// Marks that a person asks for a cancel. The mark outlives the way through `Unknown` and back.
///
/// # Errors
/// [`Rejected::Ended`] for one that is over.
pub fn ask_cancel(deployment: &Deployment, now: Timestamp) -> Result<Deployment, Rejected> {
    if deployment.state.is_terminal() {
        return Err(Rejected::Ended(deployment.id, deployment.state.as_str()));
    }
    Ok(Deployment { cancel_asked: deployment.cancel_asked.or(Some(now)), ..deployment.clone() })
}

/// Ends a deployment that is never begun: what was true when it was accepted is not true any more.
#[must_use]
pub fn deny(deployment: &Deployment, why: &str, now: Timestamp) -> Deployment {
    let (state, reason) = (DeploymentState::Failed, Some(format!("it was never begun: {why}")));
    Deployment { state, reason, ended_at: Some(now), ..deployment.clone() }
}

/// Works out where a deployment stands from where its parts stand. One that has ended stays as it is.
///
/// What ended worst decides: lost before failed before canceled, because a state that infrastructure left behind needs a person's eye
/// the most.
#[must_use]
pub fn settle(deployment: &Deployment, facts: &Facts<'_>, now: Timestamp) -> Deployment {
    let mut next = deployment.clone();
    if deployment.state.is_terminal() {
        return next;
    }
    let over = facts.steps.iter().all(|step| step.state.is_terminal())
        && facts.jobs.iter().all(|job| matches!(job.state, job::State::Ended { .. }));
    if over {
        (next.state, next.reason) = outcome(facts);
        next.ended_at = Some(now);
        return next;
    }
    let unknown = facts.attempts.iter().find_map(|state| match state {
        attempt::State::Unknown { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    let active = facts.attempts.iter().any(|state| !matches!(state, attempt::State::Offered))
        || facts.steps.iter().any(|step| step.begun);
    (next.state, next.reason) = match unknown {
        Some(reason) => (DeploymentState::Unknown, Some(reason)),
        None if active && deployment.cancel_asked.is_some() => (DeploymentState::Canceling, None),
        None if active => (DeploymentState::Running, None),
        None if deployment.state == DeploymentState::Queued => (DeploymentState::Queued, next.reason),
        None => (DeploymentState::Queued, None),
    };
    next
}

/// The end of a deployment whose parts have all ended.
fn outcome(facts: &Facts<'_>) -> (DeploymentState, Option<String>) {
    let of_jobs = facts.jobs.iter().filter_map(|job| match &job.state {
        job::State::Ended { outcome: Outcome::Failed { .. } } if job.guided => None,
        job::State::Ended { outcome } => {
            end_state(outcome).map(|state| (state, outcome.reason().unwrap_or_default().to_owned()))
        }
        _ => None,
    });
    let of_steps = facts.steps.iter().filter_map(|step| {
        let state = match (step.state, step.skipped) {
            (StepState::Lost, _) => DeploymentState::Lost,
            (StepState::Failed, _) => DeploymentState::Failed,
            (StepState::Canceled, _) | (StepState::Skipped, Some(SkippedBy::Cancel)) => DeploymentState::Canceled,
            _ => return None,
        };
        let why = step.reason.unwrap_or("canceled before it was started");
        Some((state, format!("step `{}`: {why}", step.name)))
    });
    let rank = |state: DeploymentState| match state {
        DeploymentState::Lost => 0,
        DeploymentState::Failed => 1,
        _ => 2,
    };
    let worst = of_jobs.chain(of_steps).min_by_key(|(state, _)| rank(*state));
    worst.map_or((DeploymentState::Succeeded, None), |(state, reason)| (state, Some(reason)))
}

/// `None` for a good end.
const fn end_state(outcome: &Outcome) -> Option<DeploymentState> {
    match outcome {
        Outcome::Succeeded => None,
        Outcome::Failed { .. } => Some(DeploymentState::Failed),
        Outcome::Canceled { .. } => Some(DeploymentState::Canceled),
        // A job never ends as abandoned (`job::decide`); nothing was started if it did.
        Outcome::Lost { .. } | Outcome::Abandoned { .. } => Some(DeploymentState::Lost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::AttemptId;

    fn deployment(state: DeploymentState) -> Deployment {
        Deployment {
            id: DeploymentId::new(Timestamp::from_micros(1), [1; 10]),
            state,
            reason: None,
            cancel_asked: None,
            ended_at: None,
        }
    }

    fn step(state: StepState) -> StepFact<'static> {
        let begun = !matches!(state, StepState::Queued | StepState::Skipped);
        StepFact { name: "one", state, skipped: None, reason: Some("why"), begun }
    }

    fn ended(outcome: Outcome) -> job::State {
        job::State::Ended { outcome }
    }

    fn why() -> String {
        "why".to_owned()
    }

    fn assigned() -> job::State {
        job::State::Assigned { attempt: AttemptId::new(Timestamp::from_micros(1), [3; 10]) }
    }

    fn settled(
        from: DeploymentState,
        steps: &[StepFact<'_>],
        jobs: &[job::State],
        attempts: &[attempt::State],
    ) -> DeploymentState {
        let jobs: Vec<_> = jobs.iter().map(|state| JobFact { state: state.clone(), guided: false }).collect();
        settle(&deployment(from), &Facts { steps, jobs: &jobs, attempts }, Timestamp::from_micros(9)).state
    }

    #[test]
    fn it_stands_where_its_parts_stand() {
        use DeploymentState as S;
        let queued = [step(StepState::Queued)];
        let unknown = attempt::State::Unknown { step: 0, between: false, reason: why() };
        assert_eq!(settled(S::Queued, &queued, &[job::State::Queued], &[]), S::Queued);
        assert_eq!(settled(S::Queued, &queued, &[assigned()], &[attempt::State::Offered]), S::Queued);
        assert_eq!(settled(S::Queued, &queued, &[assigned()], &[attempt::State::Preparing]), S::Running);
        assert_eq!(
            settled(S::Running, &queued, &[job::State::Queued], &[]),
            S::Queued,
            "it was given up before a start"
        );
        assert_eq!(settled(S::Running, &[step(StepState::Unknown)], &[assigned()], &[unknown]), S::Unknown);
        assert_eq!(settled(S::Queued, &[step(StepState::Waiting)], &[], &[]), S::Running);
    }

    #[test]
    fn the_worst_end_decides() {
        use DeploymentState as S;
        let lost = Outcome::Lost { reason: why() };
        let (failed, canceled) = (Outcome::Failed { reason: why() }, Outcome::Canceled { reason: why() });
        let done = [step(StepState::Succeeded)];
        assert_eq!(settled(S::Running, &done, &[ended(Outcome::Succeeded)], &[]), S::Succeeded);
        assert_eq!(settled(S::Running, &done, &[ended(canceled), ended(Outcome::Succeeded)], &[]), S::Canceled);
        assert_eq!(settled(S::Running, &done, &[ended(failed.clone()), ended(lost)], &[]), S::Lost);
        assert_eq!(settled(S::Lost, &done, &[ended(failed)], &[]), S::Lost, "the end is the end");
        assert_eq!(settled(S::Running, &[step(StepState::Failed)], &[], &[]), S::Failed);
        let cut = StepFact { skipped: Some(SkippedBy::Cancel), ..step(StepState::Skipped) };
        assert_eq!(settled(S::Queued, &[cut], &[], &[]), S::Canceled);
        let left_out = StepFact { skipped: Some(SkippedBy::Condition), ..step(StepState::Skipped) };
        assert_eq!(settled(S::Queued, &[left_out], &[], &[]), S::Succeeded);
    }

    #[test]
    fn what_people_decided_counts_and_not_the_job_that_failed() {
        let failed = ended(Outcome::Failed { reason: why() });
        let end = |state: StepState, job: job::State, guided: bool| {
            let facts = Facts { steps: &[step(state)], jobs: &[JobFact { state: job, guided }], attempts: &[] };
            settle(&deployment(DeploymentState::Running), &facts, Timestamp::from_micros(9)).state
        };
        assert_eq!(end(StepState::Succeeded, failed.clone(), true), DeploymentState::Succeeded);
        assert_eq!(end(StepState::Succeeded, failed.clone(), false), DeploymentState::Failed);
        assert_eq!(end(StepState::Failed, failed.clone(), true), DeploymentState::Failed);
        assert_eq!(end(StepState::Waiting, failed, true), DeploymentState::Running);
        assert_eq!(end(StepState::Lost, ended(Outcome::Succeeded), true), DeploymentState::Lost);
        let lost = ended(Outcome::Lost { reason: why() });
        assert_eq!(end(StepState::Succeeded, lost, true), DeploymentState::Lost, "only a failure is theirs to decide");
    }

    #[test]
    fn a_cancel_is_remembered_through_the_unknown() {
        let at = Timestamp::from_micros(5);
        let asked = Deployment { cancel_asked: Some(at), ..deployment(DeploymentState::Unknown) };
        let steps = [step(StepState::Running)];
        let running = attempt::State::Running { step: 0, between: false };
        let jobs = [JobFact { state: assigned(), guided: false }];
        let facts = Facts { steps: &steps, jobs: &jobs, attempts: &[running] };
        let back = settle(&asked, &facts, at);
        assert_eq!((back.state, back.cancel_asked), (DeploymentState::Canceling, Some(at)));
    }

    #[test]
    fn names_are_read_back() {
        for state in DeploymentState::ALL {
            assert_eq!(DeploymentState::from_name(state.as_str()), Some(state));
            assert_eq!(state.end().is_some(), state.is_terminal());
            assert!(
                state.end().is_none_or(|end| end.state().as_str() == state.as_str()),
                "a child's end is its step's end"
            );
        }
    }
}
