//! A job: what waits in the queue and is tried by attempts, one after the other.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::attempt::Outcome;
use crate::id::{AttemptId, DeploymentId, JobId};
use crate::time::Timestamp;

/// Attempts that may be given up between claim and start until the job itself fails: a job that takes its agents with it
/// is not passed on for ever. An offer that was declined does not count: the job waits, and says for what. Nor does what an agent gave
/// back because it has to leave.
pub const MAX_ABANDONED: u32 = 10;
/// How long a job may wait in the queue before it fails, if nothing shorter was asked for.
pub const MAX_QUEUED: Duration = Duration::from_secs(7 * 24 * 3_600);

/// A job as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// The deployment it belongs to.
    pub deployment: DeploymentId,
    /// Where it stands.
    pub state: State,
    /// When the state was entered.
    pub since: Timestamp,
    /// Counter of its attempts; the newest attempt has this epoch.
    pub epoch: u64,
    /// Attempts that were given up before a start.
    pub abandoned: u32,
    /// Since when it waits for an agent to claim it. An offer that was declined does not interrupt that, a claim does.
    pub waits_since: Timestamp,
    /// How long it may wait.
    pub max_wait: Duration,
}

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Waits for its locks and an agent. Limit: the job's own `max_wait`.
    Queued,
    /// An attempt has it. The attempt's state has the limit.
    Assigned {
        /// The attempt.
        attempt: AttemptId,
    },
    /// Over.
    Ended {
        /// How; never `Abandoned`.
        outcome: Outcome,
    },
}

/// What happens to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An agent was found and the locks were taken.
    Assign {
        /// The new attempt.
        attempt: AttemptId,
    },
    /// Its attempt is over.
    AttemptOver(Outcome),
    /// A person asks for a cancel.
    CancelAsked,
    /// The state's limit passed.
    LimitPassed,
}

/// What the engine has to do beside saving the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Look for an agent.
    Dispatch,
    /// Pass the cancel on to the attempt.
    CancelAttempt(AttemptId),
    /// Nothing of the job runs any more, and it will not be tried again: free its locks if it is queued.
    FreeLocks,
    /// It went back to the queue.
    Requeued {
        /// Why.
        reason: String,
    },
    /// The job is over.
    Over(Outcome),
}

/// A transition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The job as it has to be saved.
    pub next: Job,
    /// What follows, in order.
    pub effects: Vec<Effect>,
}

/// Why an event was not accepted. Nothing changes then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The job is over.
    #[error("job `{0}` has ended")]
    Ended(JobId),
    /// The event does not belong to the state.
    #[error("job `{0}` is {1}, which does not admit this")]
    OutOfTurn(JobId, &'static str),
}

impl State {
    /// The state's name, for messages and the database.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Assigned { .. } => "assigned",
            Self::Ended { .. } => "ended",
        }
    }
}

/// Decides what an event makes of a job.
///
/// # Errors
/// [`Rejected`] when the event does not belong to the state; nothing changes then.
pub fn decide(job: &Job, event: &Event, now: Timestamp) -> Result<Decision, Rejected> {
    match (&job.state, event) {
        (State::Ended { .. }, _) => Err(Rejected::Ended(job.id)),
        (State::Queued, Event::Assign { attempt }) => {
            let mut decision = job.to(State::Assigned { attempt: *attempt }, now, vec![]);
            decision.next.epoch += 1;
            Ok(decision)
        }
        (State::Queued, Event::CancelAsked) => {
            Ok(job.end(Outcome::Canceled { reason: "canceled before anything was started".to_owned() }, now))
        }
        (State::Queued, Event::LimitPassed) => Ok(job.end(
            Outcome::Failed {
                reason: format!(
                    "waited {} for an agent to take it, which is as long as it may; nothing was started",
                    words(job.max_wait)
                ),
            },
            now,
        )),
        (State::Assigned { .. }, Event::AttemptOver(Outcome::Abandoned { reason, declined: true, .. })) => {
            Ok(job.to(State::Queued, now, back_to_the_queue(reason)))
        }
        (State::Assigned { .. }, Event::AttemptOver(Outcome::Abandoned { reason, given_back: true, .. })) => {
            let mut decision = job.to(State::Queued, now, back_to_the_queue(reason));
            // It was claimed.
            decision.next.waits_since = now;
            Ok(decision)
        }
        (State::Assigned { .. }, Event::AttemptOver(Outcome::Abandoned { reason, .. })) => Ok(job.requeue(reason, now)),
        (State::Assigned { .. }, Event::AttemptOver(outcome)) => Ok(job.end(outcome.clone(), now)),
        (State::Assigned { attempt }, Event::CancelAsked) => {
            Ok(job.to(job.state.clone(), job.since, vec![Effect::CancelAttempt(*attempt)]))
        }
        (State::Queued, Event::AttemptOver(_))
        | (State::Assigned { .. }, Event::Assign { .. } | Event::LimitPassed) => {
            Err(Rejected::OutOfTurn(job.id, job.state.name()))
        }
    }
}

impl Job {
    /// Queued without having waited.
    #[must_use]
    pub const fn new(id: JobId, deployment: DeploymentId, max_wait: Duration, now: Timestamp) -> Self {
        let state = State::Queued;
        Self { id, deployment, state, since: now, epoch: 0, abandoned: 0, waits_since: now, max_wait }
    }

    fn to(&self, state: State, since: Timestamp, effects: Vec<Effect>) -> Decision {
        Decision { next: Self { state, since, ..self.clone() }, effects }
    }

    fn end(&self, outcome: Outcome, now: Timestamp) -> Decision {
        self.to(State::Ended { outcome: outcome.clone() }, now, vec![Effect::FreeLocks, Effect::Over(outcome)])
    }

    fn requeue(&self, reason: &str, now: Timestamp) -> Decision {
        let abandoned = self.abandoned + 1;
        if abandoned >= MAX_ABANDONED {
            let mut decision = self.end(
                Outcome::Failed {
                    reason: format!(
                        "{abandoned} attempts were given up before anything was started; the last: {reason}"
                    ),
                },
                now,
            );
            decision.next.abandoned = abandoned;
            return decision;
        }
        let mut decision = self.to(State::Queued, now, back_to_the_queue(reason));
        (decision.next.abandoned, decision.next.waits_since) = (abandoned, now);
        decision
    }
}

/// A time for people, without what is less than a second.
fn words(time: Duration) -> String {
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let mut left = time.as_secs();
    let mut words = Vec::new();
    for (unit, length) in units {
        if left >= length {
            words.push(format!("{}{unit}", left / length));
            left %= length;
        }
    }
    if words.is_empty() { "0s".to_owned() } else { words.concat() }
}

fn back_to_the_queue(reason: &str) -> Vec<Effect> {
    vec![Effect::FreeLocks, Effect::Requeued { reason: reason.to_owned() }, Effect::Dispatch]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(state: State) -> Job {
        let at = Timestamp::from_micros(1);
        Job {
            id: JobId::new(at, [1; 10]),
            deployment: DeploymentId::new(at, [2; 10]),
            state,
            since: at,
            epoch: 3,
            abandoned: 0,
            waits_since: at,
            max_wait: Duration::from_secs(7_500),
        }
    }

    fn attempt() -> AttemptId {
        AttemptId::new(Timestamp::from_micros(1), [3; 10])
    }

    fn lost() -> Outcome {
        Outcome::Lost { reason: "gone".to_owned() }
    }

    fn over(declined: bool, given_back: bool) -> Event {
        Event::AttemptOver(Outcome::Abandoned { reason: "left".to_owned(), declined, given_back })
    }

    fn abandoned() -> Event {
        over(false, false)
    }

    #[test]
    fn every_state_answers_every_event() {
        let states = [State::Queued, State::Assigned { attempt: attempt() }, State::Ended { outcome: lost() }];
        let events = [
            Event::Assign { attempt: attempt() },
            abandoned(),
            Event::AttemptOver(lost()),
            Event::CancelAsked,
            Event::LimitPassed,
        ];
        let now = Timestamp::from_micros(9);
        let table: Vec<Vec<&str>> = states
            .iter()
            .map(|state| {
                events
                    .iter()
                    .map(|event| decide(&job(state.clone()), event, now).map_or("-", |d| d.next.state.name()))
                    .collect()
            })
            .collect();
        assert_eq!(
            table,
            [
                ["assigned", "-", "-", "ended", "ended"],
                ["-", "queued", "ended", "assigned", "-"],
                ["-", "-", "-", "-", "-"],
            ]
        );
    }

    #[test]
    fn a_new_attempt_has_a_new_epoch() {
        let next =
            decide(&job(State::Queued), &Event::Assign { attempt: attempt() }, Timestamp::from_micros(9)).unwrap().next;
        assert_eq!(next.epoch, 4);
    }

    #[test]
    fn a_job_that_nobody_can_hold_fails_in_the_end() {
        let mut current = job(State::Queued);
        let now = Timestamp::from_micros(9);
        for round in 1..=MAX_ABANDONED {
            current = decide(&current, &Event::Assign { attempt: attempt() }, now).unwrap().next;
            let decision = decide(&current, &abandoned(), now).unwrap();
            assert!(decision.effects.contains(&Effect::FreeLocks), "round {round}");
            current = decision.next;
        }
        assert!(
            matches!(&current.state, State::Ended { outcome: Outcome::Failed { reason } } if reason.contains("left"))
        );
    }

    #[test]
    fn declined_and_given_back_is_no_reason_to_fail() {
        let mut current = job(State::Queued);
        let now = Timestamp::from_micros(9);
        let (declined, given_back) = (over(true, false), over(false, true));
        for _ in 0..=MAX_ABANDONED {
            current = decide(&current, &Event::Assign { attempt: attempt() }, now).unwrap().next;
            current = decide(&current, &declined, now).unwrap().next;
            current = decide(&current, &Event::Assign { attempt: attempt() }, now).unwrap().next;
            current = decide(&current, &given_back, now).unwrap().next;
        }
        assert_eq!((current.state, current.abandoned), (State::Queued, 0));
    }

    #[test]
    fn a_declined_offer_does_not_end_the_wait_and_a_claim_does() {
        let after = |declined, given_back| {
            let (at, later) = (Timestamp::from_micros(5), Timestamp::from_micros(9));
            let assigned = decide(&job(State::Queued), &Event::Assign { attempt: attempt() }, at).unwrap().next;
            decide(&assigned, &over(declined, given_back), later).unwrap().next.waits_since
        };
        assert_eq!((after(true, false), after(false, false)), (Timestamp::from_micros(1), Timestamp::from_micros(9)));
        assert_eq!(after(false, true), Timestamp::from_micros(9), "what is given back was claimed");
    }

    #[test]
    fn one_that_waited_too_long_says_how_long() {
        let ended = decide(&job(State::Queued), &Event::LimitPassed, Timestamp::from_micros(9)).unwrap().next.state;
        let State::Ended { outcome: Outcome::Failed { reason } } = ended else { panic!("{ended:?}") };
        assert_eq!(reason, "waited 2h5m for an agent to take it, which is as long as it may; nothing was started");
        assert_eq!(words(MAX_QUEUED), "7d");
        let assigned = State::Assigned { attempt: attempt() };
        assert!(decide(&job(assigned), &Event::LimitPassed, Timestamp::from_micros(9)).is_err(), "never once claimed");
    }

    #[test]
    fn what_was_started_is_never_queued_anew() {
        let decision = decide(
            &job(State::Assigned { attempt: attempt() }),
            &Event::AttemptOver(lost()),
            Timestamp::from_micros(9),
        )
        .unwrap();
        assert_eq!(decision.effects, [Effect::FreeLocks, Effect::Over(lost())]);
    }
}
