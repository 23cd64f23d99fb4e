//! One step of a deployment: its state and the verdict on how it ended.
//!
//! [`judge`] turns init's exit record and Pulumi's summary into a verdict. It never turns doubt into success.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine_event::{Op, Outcome, Summary};
use crate::init::ExitRecord;
use crate::offer::Operation;

/// State of a step, as CONTRACT names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Not confirmed yet.
    Queued,
    /// People are asked: a gate is open, or it failed in a guided deployment.
    Waiting,
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
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Waiting,
        Self::Running,
        Self::Unknown,
        Self::Succeeded,
        Self::Failed,
        Self::Canceled,
        Self::Lost,
        Self::Skipped,
    ];

    /// Whether nothing follows.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled | Self::Lost | Self::Skipped)
    }

    /// Whether it ended, and not well.
    #[must_use]
    pub const fn is_bad(self) -> bool {
        matches!(self, Self::Failed | Self::Canceled | Self::Lost)
    }

    /// The word in JSON and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Waiting => "waiting",
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
            // A gate that shows a plan is opened by the end of the preview, which ran under the gate's own name.
            (Self::Queued | Self::Running | Self::Unknown, StepEvent::Opened) => Some(Self::Waiting),
            (Self::Waiting, StepEvent::Ended(end)) => Some(end.state()),
            (Self::Queued, StepEvent::Ended(end)) if !matches!(end, End::Succeeded) => Some(end.state()),
            (Self::Running | Self::Unknown | Self::Waiting, StepEvent::TriedAgain) => Some(Self::Queued),
            (Self::Queued | Self::Running | Self::Unknown, StepEvent::Asked) => Some(Self::Waiting),
            (Self::Queued, StepEvent::Skipped) => Some(Self::Skipped),
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
    /// It failed and is to be tried again.
    TriedAgain,
    /// It failed, and people decide what becomes of it.
    Asked,
    /// The controller began it: a gate.
    Opened,
    /// It is not run.
    Skipped,
    /// Its job ended before it did.
    JobEnded,
}

/// What a person decides about a step that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// It is tried again.
    Retry,
    /// It counts as if it had ended well.
    Ignore,
    /// It has failed.
    Fail,
}

impl Choice {
    /// What that is for the step.
    #[must_use]
    pub const fn event(self) -> StepEvent {
        match self {
            Self::Retry => StepEvent::TriedAgain,
            Self::Ignore => StepEvent::Ended(End::Succeeded),
            Self::Fail => StepEvent::Ended(End::Failed),
        }
    }

    /// The word in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Ignore => "ignore",
            Self::Fail => "fail",
        }
    }

    /// The step's reason from then on. `why`: how it failed.
    #[must_use]
    pub fn reason(self, why: &str, person: &str, comment: &str) -> String {
        match self {
            Self::Retry => format!("tried again by {person}: {comment}; before that: {why}"),
            Self::Ignore => format!("failed, ignored by {person}: {comment}; it was: {why}"),
            Self::Fail => format!("{why}; {person} let it fail: {comment}"),
        }
    }
}

/// Why a step was not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkippedBy {
    /// Its condition did not hold, and nothing before it had failed.
    Condition,
    /// Something before it had failed.
    Failure,
    /// A person asked for a cancel.
    Cancel,
    /// A person asked for the deployment without it.
    Person,
}

impl SkippedBy {
    /// Whether what comes after it counts it as a failure.
    #[must_use]
    pub const fn is_bad(self) -> bool {
        !matches!(self, Self::Condition | Self::Person)
    }

    /// The word in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Condition => "condition",
            Self::Failure => "failure",
            Self::Cancel => "cancel",
            Self::Person => "person",
        }
    }
}

/// Most steps of a project: above it begins the next try in a [`slot`].
pub const MAX_STEPS: u32 = 1_000;

/// The number by which agents and logs know one try of a step. The first try of a step has the step's own index.
///
/// An offer names every try that a step may have, so that a try needs no new offer and no try is ever granted twice.
#[must_use]
pub const fn slot(index: u32, tries_before: u32) -> u32 {
    tries_before * MAX_STEPS + index
}

/// First of the tries that no step has: by it a preview for an approval is known. A step has far fewer retries.
const PREVIEW: u32 = 900;

/// The slot of the preview that an approval waits for. `index` is the approval's: it is its start and its log, not
/// those of the step that is previewed.
#[must_use]
pub const fn preview_slot(index: u32) -> u32 {
    slot(index, PREVIEW)
}

/// Whether a slot is that of a preview for an approval.
#[must_use]
pub const fn is_preview(slot: u32) -> bool {
    slot / MAX_STEPS >= PREVIEW
}

/// The step of a [`slot`].
#[must_use]
pub const fn index_of(slot: u32) -> u32 {
    slot % MAX_STEPS
}

/// The place of a slot in time: later tries and later steps are greater.
#[must_use]
pub const fn order_of(slot: u32) -> (u32, u32) {
    (slot % MAX_STEPS, slot / MAX_STEPS)
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
    /// What Pulumi was asked to do: then its summary event counts beside the exit code. `None`: another program ran.
    pub pulumi: Option<Operation>,
    /// What the engine events said.
    pub summary: Option<&'a Summary>,
    /// A person asked for a cancel and the agent carried it out.
    pub cancel_carried_out: bool,
    /// Why the agent canceled it by itself, if it did.
    pub cancel_cause: Option<&'a str>,
    /// What the step was allowed to take.
    pub timeout: Duration,
}

/// `canceled`, and by whom when it was no person.
#[must_use]
pub fn canceled_by(cause: Option<&str>) -> String {
    cause.map_or_else(|| "canceled".to_owned(), |cause| format!("canceled by its agent ({cause})"))
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
            "it did not end within the grace period and was killed, so the state may be inconsistent"
        } else {
            "it was interrupted once and ended by itself"
        };
        return Verdict::new(End::Canceled, format!("{}; {how}", canceled_by(step.cancel_cause)));
    }
    if record.deadline {
        let end = if record.killed {
            "it was interrupted and, when it did not end, killed"
        } else {
            "it was interrupted and ended by itself"
        };
        return Verdict::new(
            End::Failed,
            format!(
                "its deadline passed (a timeout of {} s, or less when its agent was without a controller for too long); {end}",
                step.timeout.as_secs()
            ),
        );
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
    let succeeded = Verdict { end: End::Succeeded, reason: None };
    let operation = match step.pulumi {
        // An unlock runs nothing of the engine.
        None | Some(Operation::Unlock) => return succeeded,
        Some(operation) => operation,
    };
    let failed = |what: &str| Verdict::new(End::Failed, failure(what, step));
    match step.summary {
        None | Some(Summary { totals: None, .. }) => failed(
            "pulumi ended with exit code 0 but reported no summary, so what it did is not known; look at the log and the stack's state",
        ),
        Some(summary) if summary.maybe_corrupt() => failed("pulumi says that the state may be corrupt"),
        Some(summary) if summary.mandatory_violations > 0 => failed("a mandatory policy was violated"),
        // Before 3.237.0 the summary names no result; the exit code stands alone then.
        Some(summary) => match summary.result() {
            None | Some(Outcome::Succeeded) if operation == Operation::Drift => drift(summary).unwrap_or(succeeded),
            None | Some(Outcome::Succeeded) => succeeded,
            Some(_) => failed("pulumi ended with exit code 0 but reported a failure"),
        },
    }
}

/// A drift check has failed when there is drift, so that whoever waits for it learns of it by the exit code.
fn drift(summary: &Summary) -> Option<Verdict> {
    let found: Vec<String> = summary
        .changes()
        .iter()
        .filter(|(op, count)| **op != Op::Same && **count > 0)
        .map(|(op, count)| format!("{count} to {}", op.as_str()))
        .collect();
    let words =
        format!("drift: what is there differs from the stack's state ({}); nothing was changed", found.join(", "));
    (!found.is_empty()).then(|| Verdict::new(End::Failed, words))
}

/// Adds the first error that the engine reported, which says more than an exit code.
fn failure(what: &str, step: Judged<'_>) -> String {
    match step.summary.and_then(|summary| summary.errors.first()) {
        Some(error) => format!("{what}: {error}"),
        None => what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine_event::Totals;

    fn exited(code: i32) -> ExitRecord {
        ExitRecord { code: Some(code), ..ExitRecord::default() }
    }

    fn judged(record: &ExitRecord, pulumi: bool, summary: Option<&Summary>, cancel: bool) -> End {
        let timeout = Duration::from_secs(60);
        judge(
            record,
            Judged {
                pulumi: pulumi.then_some(Operation::Up),
                summary,
                cancel_carried_out: cancel,
                cancel_cause: None,
                timeout,
            },
        )
        .end
    }

    fn summary(result: Option<Outcome>, maybe_corrupt: bool) -> Summary {
        Summary { totals: Some(Totals { result, maybe_corrupt, ..Totals::default() }), ..Summary::default() }
    }

    #[test]
    fn the_exit_code_decides_a_script() {
        assert_eq!(judged(&exited(0), false, None, false), End::Succeeded);
        assert_eq!(judged(&exited(7), false, None, false), End::Failed);
        assert_eq!(judged(&ExitRecord { signal: Some(9), ..ExitRecord::default() }, false, None, false), End::Failed);
        assert_eq!(
            judged(&ExitRecord { error: Some("cannot start".to_owned()), ..exited(0) }, false, None, false),
            End::Failed
        );
        assert_eq!(judged(&ExitRecord::default(), false, None, false), End::Lost);
    }

    #[test]
    fn a_stop_from_outside_is_never_success() {
        for code in [0, 1] {
            let record = ExitRecord { outside_stop: true, interrupted: true, ..exited(code) };
            assert_eq!(judged(&record, false, None, false), End::Lost);
            assert_eq!(judged(&record, false, None, true), End::Lost);
        }
    }

    #[test]
    fn a_cancel_counts_only_when_it_reached_the_tool() {
        assert_eq!(judged(&exited(0), false, None, true), End::Succeeded);
        assert_eq!(judged(&exited(3), false, None, true), End::Failed);
        for record in
            [ExitRecord { interrupted: true, ..exited(0) }, ExitRecord { killed: true, ..ExitRecord::default() }]
        {
            assert_eq!(judged(&record, false, None, true), End::Canceled);
        }
    }

    #[test]
    fn a_deadline_is_a_failure_whatever_the_code() {
        let record = ExitRecord { deadline: true, interrupted: true, ..exited(0) };
        assert_eq!(judged(&record, false, None, false), End::Failed);
    }

    #[test]
    fn pulumi_needs_a_summary_that_agrees() {
        let good = summary(Some(Outcome::Succeeded), false);
        assert_eq!(judged(&exited(0), true, Some(&good), false), End::Succeeded);
        assert_eq!(judged(&exited(1), true, Some(&good), false), End::Failed);
        assert_eq!(judged(&exited(0), true, Some(&summary(None, false)), false), End::Succeeded);
        assert_eq!(judged(&exited(0), true, Some(&summary(Some(Outcome::Failed), false)), false), End::Failed);
        assert_eq!(judged(&exited(0), true, Some(&summary(None, true)), false), End::Failed);
        assert_eq!(judged(&exited(0), true, Some(&Summary::default()), false), End::Failed);
        assert_eq!(judged(&exited(0), true, None, false), End::Failed);
        let violated = Summary { mandatory_violations: 1, ..good };
        assert_eq!(judged(&exited(0), true, Some(&violated), false), End::Failed);
    }

    #[test]
    fn drift_is_a_failure_that_says_what_differs() {
        let of = |changes: &[(Op, u64)]| {
            let changes = changes.iter().copied().collect();
            let totals = Totals { result: Some(Outcome::Succeeded), changes, ..Totals::default() };
            Summary { totals: Some(totals), ..Summary::default() }
        };
        let judged = |operation, summary: &Summary| {
            let step = Judged {
                pulumi: Some(operation),
                summary: Some(summary),
                cancel_carried_out: false,
                cancel_cause: None,
                timeout: Duration::ZERO,
            };
            judge(&exited(0), step)
        };
        let moved = of(&[(Op::Same, 2), (Op::Update, 1), (Op::Delete, 3)]);
        let found = judged(Operation::Drift, &moved);
        assert_eq!(found.end, End::Failed);
        assert!(found.reason.unwrap().contains("(1 to update, 3 to delete); nothing was changed"));
        assert_eq!(judged(Operation::Drift, &of(&[(Op::Same, 4)])).end, End::Succeeded);
        assert_eq!(judged(Operation::Refresh, &moved).end, End::Succeeded);
        assert_eq!(judged(Operation::Drift, &Summary::default()).end, End::Failed, "no account is no all-clear");
        assert_eq!(judged(Operation::Unlock, &Summary::default()).end, End::Succeeded, "nothing of the engine ran");
    }

    #[test]
    fn the_first_error_says_why() {
        let summary = Summary { errors: vec!["no room".to_owned()], ..summary(Some(Outcome::Failed), false) };
        let step = Judged {
            pulumi: Some(Operation::Up),
            summary: Some(&summary),
            cancel_carried_out: false,
            cancel_cause: None,
            timeout: Duration::ZERO,
        };
        assert_eq!(judge(&exited(1), step).reason.as_deref(), Some("exit code 1: no room"));
    }

    #[test]
    fn a_step_that_ended_stays_ended() {
        let events = [
            StepEvent::Confirmed,
            StepEvent::Silent,
            StepEvent::Back,
            StepEvent::Ended(End::Succeeded),
            StepEvent::JobEnded,
            StepEvent::TriedAgain,
            StepEvent::Asked,
            StepEvent::Opened,
            StepEvent::Skipped,
        ];
        for state in StepState::ALL.into_iter().filter(|state| state.is_terminal()) {
            assert!(events.iter().all(|event| state.after(*event).is_none()), "{state:?}");
        }
        assert_eq!(StepState::Unknown.after(StepEvent::Ended(End::Lost)), Some(StepState::Lost));
        assert_eq!(StepState::Queued.after(StepEvent::Skipped), Some(StepState::Skipped));
        assert_eq!(StepState::Running.after(StepEvent::TriedAgain), Some(StepState::Queued));
        assert_eq!(StepState::Running.after(StepEvent::Skipped), None, "what runs is not skipped");
        assert_eq!(StepState::Running.after(StepEvent::Opened), Some(StepState::Waiting), "its preview ended well");
    }

    #[test]
    fn people_decide_about_a_step_that_failed() {
        for state in [StepState::Queued, StepState::Running, StepState::Unknown] {
            assert_eq!(state.after(StepEvent::Asked), Some(StepState::Waiting));
        }
        assert_eq!(StepState::Waiting.after(StepEvent::Asked), None, "once");
        let after = |choice: Choice| StepState::Waiting.after(choice.event()).unwrap();
        assert_eq!(after(Choice::Retry), StepState::Queued);
        assert_eq!((after(Choice::Ignore), after(Choice::Fail)), (StepState::Succeeded, StepState::Failed));
        assert!(Choice::Ignore.reason("exit code 7", "ann", "known").starts_with("failed, ignored by ann: known"));
    }

    #[test]
    fn a_slot_names_step_and_try_and_keeps_their_order() {
        assert_eq!((slot(3, 0), slot(3, 2), index_of(slot(3, 2))), (3, 2_003, 3));
        let slots = [slot(0, 0), slot(0, 1), slot(1, 0), slot(2, 0), slot(2, 9)];
        assert!(slots.is_sorted_by_key(|slot| order_of(*slot)));
        let last_try = slot(999, crate::spec::MAX_RETRIES);
        assert!(!is_preview(last_try) && is_preview(preview_slot(0)), "no try is taken for a preview");
        assert_eq!(index_of(preview_slot(7)), 7);
    }
}
