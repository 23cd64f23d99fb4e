//! A deployment: one release, or one stack operation, going to one environment.

use serde::{Deserialize, Serialize};

use crate::attempt::Outcome;
use crate::id::DeploymentId;
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

/// What happens to a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An agent claimed its job.
    JobClaimed,
    /// Its job went back to the queue; nothing was started.
    JobRequeued {
        /// Why.
        reason: String,
    },
    /// The agent is gone after a start.
    JobUnknown {
        /// What is known.
        reason: String,
    },
    /// The agent is back with it.
    JobBack,
    /// Its job is over.
    JobOver(Outcome),
    /// A person asks for a cancel.
    CancelAsked,
}

/// Why an event was not accepted. Nothing changes then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The deployment is over.
    #[error("deployment `{0}` has ended already: it is {1}")]
    Ended(DeploymentId, &'static str),
    /// The event does not belong to the state.
    #[error("deployment `{0}` is {1}, which does not admit this")]
    OutOfTurn(DeploymentId, &'static str),
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

/// Decides what an event makes of a deployment.
///
/// # Errors
/// [`Rejected`] when the event does not belong to the state; nothing changes then.
pub fn decide(deployment: &Deployment, event: &Event, now: Timestamp) -> Result<Deployment, Rejected> {
    use DeploymentState as S;
    let state = deployment.state;
    if state.is_terminal() {
        return Err(Rejected::Ended(deployment.id, state.as_str()));
    }
    let mut next = deployment.clone();
    let active = if deployment.cancel_asked.is_some() { S::Canceling } else { S::Running };
    match (state, event) {
        (S::Queued, Event::JobClaimed) => (next.state, next.reason) = (active, None),
        (S::Queued | S::Running | S::Canceling, Event::JobRequeued { reason }) => {
            (next.state, next.reason) = (S::Queued, Some(reason.clone()));
        }
        (S::Running | S::Canceling | S::Unknown, Event::JobUnknown { reason }) => {
            (next.state, next.reason) = (S::Unknown, Some(reason.clone()));
        }
        (S::Unknown, Event::JobBack) => (next.state, next.reason) = (active, None),
        (S::Running | S::Canceling, Event::JobBack) => {}
        (S::Queued | S::Running | S::Canceling | S::Unknown, Event::JobOver(outcome)) => {
            next.state = end_state(outcome);
            next.reason = outcome.reason().map(str::to_owned);
            next.ended_at = Some(now);
        }
        (_, Event::CancelAsked) => {
            next.cancel_asked = deployment.cancel_asked.or(Some(now));
            if state == S::Running {
                next.state = S::Canceling;
            }
        }
        (S::Queued, Event::JobUnknown { .. } | Event::JobBack)
        | (S::Running | S::Canceling | S::Unknown, Event::JobClaimed)
        | (S::Unknown, Event::JobRequeued { .. })
        | (S::Succeeded | S::Failed | S::Canceled | S::Lost, _) => {
            return Err(Rejected::OutOfTurn(deployment.id, state.as_str()));
        }
    }
    Ok(next)
}

const fn end_state(outcome: &Outcome) -> DeploymentState {
    match outcome {
        Outcome::Succeeded => DeploymentState::Succeeded,
        Outcome::Failed { .. } => DeploymentState::Failed,
        Outcome::Canceled { .. } => DeploymentState::Canceled,
        // A job never ends as abandoned (`job::decide`); nothing was started if it did.
        Outcome::Lost { .. } | Outcome::Abandoned { .. } => DeploymentState::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(state: DeploymentState) -> Deployment {
        Deployment {
            id: DeploymentId::new(Timestamp::from_micros(1), [1; 10]),
            state,
            reason: None,
            cancel_asked: None,
            ended_at: None,
        }
    }

    fn text() -> String {
        "why".to_owned()
    }

    #[test]
    fn every_state_answers_every_event() {
        let events = [
            Event::JobClaimed,
            Event::JobRequeued { reason: text() },
            Event::JobUnknown { reason: text() },
            Event::JobBack,
            Event::JobOver(Outcome::Succeeded),
            Event::CancelAsked,
        ];
        let row = |state| -> Vec<&str> {
            events
                .iter()
                .map(|event| {
                    decide(&deployment(state), event, Timestamp::from_micros(9)).map_or("-", |d| d.state.as_str())
                })
                .collect()
        };
        assert_eq!(row(DeploymentState::Queued), ["running", "queued", "-", "-", "succeeded", "queued"]);
        assert_eq!(row(DeploymentState::Running), ["-", "queued", "unknown", "running", "succeeded", "canceling"]);
        assert_eq!(row(DeploymentState::Canceling), ["-", "queued", "unknown", "canceling", "succeeded", "canceling"]);
        assert_eq!(row(DeploymentState::Unknown), ["-", "-", "unknown", "running", "succeeded", "unknown"]);
        for end in
            [DeploymentState::Succeeded, DeploymentState::Failed, DeploymentState::Canceled, DeploymentState::Lost]
        {
            assert_eq!(row(end), ["-"; 6], "{end:?} is terminal");
        }
    }

    #[test]
    fn a_cancel_is_remembered_through_the_unknown() {
        let at = Timestamp::from_micros(5);
        let mut current = deployment(DeploymentState::Running);
        for event in [Event::CancelAsked, Event::JobUnknown { reason: text() }, Event::JobBack] {
            current = decide(&current, &event, at).unwrap();
        }
        assert_eq!((current.state, current.cancel_asked), (DeploymentState::Canceling, Some(at)));
    }

    #[test]
    fn names_are_read_back() {
        for state in DeploymentState::ALL {
            assert_eq!(DeploymentState::from_name(state.as_str()), Some(state));
        }
    }
}
