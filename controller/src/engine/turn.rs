//! Whose turn it is within a job. Worked out from rows, so a repeated report gets the same answer.

use std::collections::BTreeSet;

use longshore_core::id::AttemptId;
use longshore_core::step::{End, StepState, Verdict, index_of, is_preview, slot};

use crate::store::rows::{JobRow, StepAttemptRow, StepRow};

/// Indices of a job's steps, in order.
pub(super) fn indices(job: &JobRow) -> BTreeSet<u32> {
    job.steps.iter().map(|step| index_of(step.index)).collect()
}

/// The slot that an attempt is at, or goes on with: the first step of the job that is not over, in the try that is due.
pub(super) fn current(job: &JobRow, steps: &[StepRow], starts: &[StepAttemptRow], attempt: AttemptId) -> Option<u32> {
    if let Some(preview) = job.steps.iter().map(|step| step.index).find(|slot| is_preview(*slot)) {
        let over = |start: &StepAttemptRow| start.attempt == attempt && start.state.is_terminal();
        return Some(preview).filter(|_| !starts.iter().any(over));
    }
    let held = indices(job);
    let step = steps.iter().find(|step| held.contains(&step.index) && !step.state.is_terminal())?;
    // A person decides, and another job goes on.
    if step.state == StepState::Waiting {
        return None;
    }
    let mine = |start: &&StepAttemptRow| start.attempt == attempt && index_of(start.step) == step.index;
    let tries = u32::try_from(starts.iter().filter(mine).count()).ok()?;
    let before = if step.state == StepState::Queued { tries } else { tries.saturating_sub(1) };
    Some(slot(step.index, before))
}

/// How a job stands: as the step that just ended, unless an earlier one ended worse.
pub(super) fn worst(job: &JobRow, steps: &[StepRow], last: Verdict) -> Verdict {
    if last.end != End::Succeeded {
        return last;
    }
    let held = indices(job);
    let bad = steps.iter().find(|step| held.contains(&step.index) && step.state == StepState::Failed);
    match bad {
        Some(step) => {
            let why = step.reason.as_deref().unwrap_or("failed");
            Verdict { end: End::Failed, reason: Some(format!("step `{}`: {why}", step.name)) }
        }
        None => last,
    }
}
