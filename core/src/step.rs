//! One step of a deployment: its state and the verdict on how it ended.
//!
//! [`judge`] turns init's exit record and Pulumi's summary into a verdict. It never turns doubt into success.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine_event::Summary;
use crate::init::ExitRecord;

/// State of a step, as CONTRACT names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Not confirmed yet.
    Queued,
    /// Confirmed: the container was started or is about to be.
    Running,
    /// Started, outcome not known yet.
    Unknown,
    /// Ended well.
    Succeeded,
    /// Ended badly, or could not be started.
    Failed,
    /// Ended after a person asked for it.
    Canceled,
    /// Ended by infrastructure, proven.
    Lost,
    /// Not run, because of what came before it.
    Skipped,
}

impl StepState {
    /// Every state, for tables.
    pub const ALL: [Self; 8] =
        [Self::Queued, Self::Running, Self::Unknown, Self::Succeeded, Self::Failed, Self::Canceled, Self::Lost, Self::Skipped];

    /// Whether nothing follows.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled | Self::Lost | Self::Skipped)
    }

    /// The word in JSON and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Unknown => "unknown",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Lost => "lost",
            Self::Skipped => "skipped",
        }
    }

    /// The state after an event, or `None` when the event does not belong to the state.
    #[must_use]
    pub const fn after(self, event: StepEvent) -> Option<Self> {
        match (self, event) {
            (Self::Queued, StepEvent::Confirmed) | (Self::Unknown, StepEvent::Back) => Some(Self::Running),
            (Self::Running, StepEvent::Silent) => Some(Self::Unknown),
            (Self::Running | Self::Unknown, StepEvent::Ended(end)) => Some(end.state()),
            (Self::Queued, StepEvent::Ended(End::Failed)) => Some(Self::Failed),
            (Self::Queued, StepEvent::JobEnded) => Some(Self::Skipped),
            (Self::Running | Self::Unknown, StepEvent::JobEnded) => Some(Self::Lost),
            _ => None,
        }
    }
}

/// What happens to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepEvent {
    /// The right to start was granted.
    Confirmed,
    /// The agent that holds it is gone, without proof that the container is.
    Silent,
    /// The agent is back with it.
    Back,
    /// It ended.
    Ended(End),
    /// Its job ended before it did.
    JobEnded,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Well.
    Succeeded,
    /// Badly.
    Failed,
    /// A person asked for it.
    Canceled,
    /// By infrastructure, proven.
    Lost,
}

impl End {
    /// The step state of this end.
    #[must_use]
    pub const fn state(self) -> StepState {
        match self {
            Self::Succeeded => StepState::Succeeded,
            Self::Failed => StepState::Failed,
            Self::Canceled => StepState::Canceled,
            Self::Lost => StepState::Lost,
        }
    }
}

/// A step's end and what to tell people about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How it ended.
    pub end: End,
    /// Why, when it did not end well.
    pub reason: Option<String>,
}

impl Verdict {
    fn new(end: End, reason: impl Into<String>) -> Self {
        Self { end, reason: Some(reason.into()) }
    }
}

/// What [`judge`] needs to know of a step beside its exit record.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'a> {
    /// The step runs Pulumi, so its summary event counts beside the exit code.
    pub pulumi: bool,
    /// What the engine events said.
    pub summary: Option<&'a Summary>,
    /// A person asked for a cancel and the agent carried it out.
    pub cancel_carried_out: bool,
    /// What the step was allowed to take.
    pub timeout: Duration,
}

/// Decides how a step ended from init's own account of it.
///
/// The order matters: who stopped the container from outside comes before what the tool made of it, because a tool that
/// ends with 0 after half of its work is no success; a cancel counts only when the signal reached the tool.
#[must_use]
pub fn judge(record: &ExitRecord, step: Judged<'_>) -> Verdict {
    if record.outside_stop {
        return Verdict::new(
            End::Lost,
            "the container was stopped from outside (SIGTERM): the engine was restarted or someone ran `docker stop`; what the step had done by then stays done",
        );
    }
    if step.cancel_carried_out && (record.interrupted || record.killed) {
        let how = if record.killed {
            "canceled; it did not end within the grace period and was killed, so the state may be inconsistent"
        } else {
            "canceled; it was interrupted once and ended by itself"
        };
        return Verdict::new(End::Canceled, how);
    }
    if record.deadline {
        let end = if record.killed { "it was interrupted and, when it did not end, killed" } else { "it was interrupted and ended by itself" };
        return Verdict::new(End::Failed, format!("took longer than its timeout of {} s; {end}", step.timeout.as_secs()));
    }
    if let Some(error) = &record.error {
        return Verdict::new(End::Failed, error.clone());
    }
    match (record.code, record.signal) {
        (Some(0), _) => judge_pulumi_success(step),
        (Some(code), _) => Verdict::new(End::Failed, failure(&format!("exit code {code}"), step)),
        (None, Some(signal)) => Verdict::new(End::Failed, failure(&format!("ended by signal {signal}"), step)),
        (None, None) => Verdict::new(End::Lost, "the exit record holds neither an exit code nor a signal"),
    }
}

fn judge_pulumi_success(step: Judged<'_>) -> Verdict {
    if !step.pulumi {
        return Verdict { end: End::Succeeded, reason: None };
    }
    match step.summary {
        None => Verdict::new(End::Failed, "pulumi ended with exit code 0 but reported no summary, so what it did is not known; look at the log and the stack's state"),
        Some(summary) if summary.maybe_corrupt => Verdict::new(End::Failed, failure("pulumi says that the state may be corrupt", step)),
        Some(summary) if !summary.succeeded() => Verdict::new(End::Failed, failure("pulumi ended with exit code 0 but reported a failure", step)),
        Some(_) => Verdict { end: End::Succeeded, reason: None },
    }
}

/// Adds the first error that the engine reported, which says more than an exit code.
fn failure(what: &str, step: Judged<'_>) -> String {
    match step.summary.and_then(Summary::first_error) {
        Some(error) => format!("{what}: {error}"),
        None => what.to_owned(),
    }
}
