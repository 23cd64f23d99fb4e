//! What an event makes of an attempt, and what that makes of its job, its deployment, its steps and its locks.
//!
//! Core decides each of them; here the decisions are put into rows in one transaction and passed on.

use std::collections::BTreeSet;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use longshore_core::attempt::{self, Attempt, Outcome};
use longshore_core::fence::Fence;
use longshore_core::id::DeploymentId;
use longshore_core::job;
use longshore_core::step::{End, SkippedBy, StepEvent, StepState, index_of};
use serde_json::json;

use super::cx::Cx;
use super::flow::{follow, settle, spec_of};
use super::{Error, Result, guide};
use crate::store;
use crate::store::Tx;
use crate::store::rows::{JobRow, StepRow, ToAgent};

pub(super) fn fence(attempt: &Attempt) -> Fence {
    Fence { attempt: attempt.id, epoch: attempt.epoch, incarnation: attempt.incarnation }
}

pub(super) fn stale(what: &(impl ToString + ?Sized)) -> Error {
    Error::Store(store::Error::Stale(what.to_string()))
}

/// Puts an event to an attempt.
///
/// # Errors
/// [`Error::Attempt`] when core rejects it; the change as a whole is undone then.
pub(super) async fn on_attempt(
    tx: &mut dyn Tx,
    cx: &mut Cx,
    from: &Attempt,
    event: &attempt::Event,
) -> Result<Attempt> {
    let decision = attempt::decide(from, event, cx.now).map_err(Error::Attempt)?;
    let next = decision.next;
    if next != *from && !tx.update_attempt(from, &next).await? {
        return Err(stale(&from.id));
    }
    if next.state != from.state {
        cx.after.timers = true;
        let detail = json!({ "attempt": next.id, "agent": next.agent, "epoch": next.epoch, "is": next.state });
        cx.event(tx, &format!("attempt.{}", next.state.name()), Some(next.deployment), detail).await?;
    }
    for effect in decision.effects {
        match effect {
            // Who asked for it gives the grant.
            attempt::Effect::Grant { .. } => {}
            attempt::Effect::TellCancel => {
                let message = cx.cancel(fence(&next));
                cx.tell(tx, next.agent, message).await?;
            }
            attempt::Effect::TellRevoke => {
                let reason = "the attempt was given up or canceled before anything was started".to_owned();
                cx.tell(tx, next.agent, ToAgent::Revoke { fence: fence(&next), reason }).await?;
            }
            attempt::Effect::Claimed => {
                let accepted = tx.deployment(next.deployment).await?.map(|row| row.created_at);
                cx.after.claimed_after.extend(accepted.map(|at| cx.now.since(at)));
                settled(tx, cx, next.deployment, None).await?;
            }
            attempt::Effect::BecameUnknown { .. } => {
                move_steps(tx, cx, &next, StepEvent::Silent).await?;
                settled(tx, cx, next.deployment, None).await?;
            }
            attempt::Effect::CameBack => {
                move_steps(tx, cx, &next, StepEvent::Back).await?;
                settled(tx, cx, next.deployment, None).await?;
            }
            attempt::Effect::Over(outcome) => {
                // What was brought and no end names is nobody's.
                tx.forget_uploads(next.id, None).await?;
                let row =
                    tx.job(next.job).await?.ok_or_else(|| Error::Internal(format!("job `{}` is missing", next.job)))?;
                on_job(tx, cx, &row, &job::Event::AttemptOver(outcome)).await?;
            }
        }
    }
    Ok(next)
}

/// Puts an event to a job. Boxed because a job passes a cancel on to its attempt, which may end the job.
pub(super) fn on_job<'a>(
    tx: &'a mut dyn Tx,
    cx: &'a mut Cx,
    row: &'a JobRow,
    event: &'a job::Event,
) -> BoxFuture<'a, Result<()>> {
    async move {
        let from = &row.job;
        let decision = job::decide(from, event, cx.now)
            .map_err(|rejected| Error::conflict("ended", rejected.to_string(), None))?;
        let next = decision.next;
        if next != *from && !tx.update_job(from, &next).await? {
            return Err(stale(&from.id));
        }
        for effect in decision.effects {
            match effect {
                job::Effect::Dispatch => cx.after.dispatch = true,
                job::Effect::CancelAttempt(id) => {
                    let row =
                        tx.attempt(id).await?.ok_or_else(|| Error::Internal(format!("attempt `{id}` is missing")))?;
                    on_attempt(tx, cx, &row.attempt, &attempt::Event::CancelAsked).await?;
                }
                job::Effect::FreeLocks => free_locks(tx, cx, row).await?,
                job::Effect::Requeued { reason } => settled(tx, cx, next.deployment, Some(&reason)).await?,
                job::Effect::Over(outcome) => {
                    end_steps(tx, cx, row, &outcome).await?;
                    follow(tx, cx, next.deployment).await?;
                }
            }
        }
        Ok(())
    }
    .boxed()
}

async fn free_locks(tx: &mut dyn Tx, cx: &mut Cx, row: &JobRow) -> Result<()> {
    let freed = tx.release_locks(row.job.id, cx.now).await?;
    // A slot may be free too.
    cx.after.dispatch = true;
    if !freed.is_empty() {
        cx.event(tx, "locks.released", Some(row.job.deployment), json!({ "keys": freed })).await?;
    }
    Ok(())
}

/// Puts a deployment where its parts stand.
async fn settled(tx: &mut dyn Tx, cx: &mut Cx, id: DeploymentId, requeued: Option<&str>) -> Result<()> {
    let row = tx.deployment(id).await?.ok_or_else(|| Error::not_found("deployment", &id))?;
    settle(tx, cx, &row, requeued).await
}

/// Puts an event to every step of an attempt's job that admits it, and to the starts of those steps.
async fn move_steps(tx: &mut dyn Tx, cx: &mut Cx, attempt: &Attempt, event: StepEvent) -> Result<()> {
    let job = tx.job(attempt.job).await?.ok_or_else(|| Error::not_found("job", &attempt.job))?;
    for mut step in steps_of(tx, &job).await? {
        if let Some(state) = step.state.after(event) {
            move_step(tx, cx, &mut step, state).await?;
        }
    }
    Ok(())
}

async fn steps_of(tx: &mut dyn Tx, job: &JobRow) -> Result<Vec<StepRow>> {
    let held: BTreeSet<u32> = job.steps.iter().map(|step| index_of(step.index)).collect();
    let steps = tx.steps(job.job.deployment).await?;
    Ok(steps.into_iter().filter(|step| held.contains(&step.index)).collect())
}

/// What becomes of steps that their job leaves behind: what ran ended as the job did, and those after it follow by their conditions.
/// When no step of the job ended badly, the first that was not started says why: else it would be queued anew for ever.
async fn end_steps(tx: &mut dyn Tx, cx: &mut Cx, job: &JobRow, outcome: &Outcome) -> Result<()> {
    let row =
        tx.deployment(job.job.deployment).await?.ok_or_else(|| Error::not_found("deployment", &job.job.deployment))?;
    let spec = spec_of(tx, &row).await?;
    let steps = steps_of(tx, job).await?;
    let mut first =
        !steps.iter().any(|step| step.state.is_bad() || (step.started_at.is_some() && !step.state.is_terminal()));
    for mut step in steps.into_iter().filter(|step| !step.state.is_terminal()) {
        // A person decides, and another job goes on from there.
        if guide::is_asked(&step) {
            return Ok(());
        }
        // Its preview has ended, and people are asked: that is no affair of the job any more.
        if step.state == StepState::Waiting {
            continue;
        }
        let begun = step.started_at.is_some();
        let event = match outcome {
            _ if !begun => StepEvent::Skipped,
            Outcome::Failed { .. } => match spec.steps.iter().find(|spec| spec.name == step.name) {
                Some(spec) => guide::failed(&row, spec, &mut step),
                None => StepEvent::Ended(End::Failed),
            },
            Outcome::Canceled { .. } => StepEvent::Ended(End::Canceled),
            _ => StepEvent::JobEnded,
        };
        if !begun && !std::mem::take(&mut first) {
            continue;
        }
        let ended = step.state.after(event).or_else(|| step.state.after(StepEvent::Ended(End::Lost)));
        let Some(state) = ended else { continue };
        let reason = outcome.reason().unwrap_or_default();
        if state == StepState::Skipped {
            let canceled = matches!(outcome, Outcome::Canceled { .. });
            step.skipped = Some(if canceled { SkippedBy::Cancel } else { SkippedBy::Failure });
            step.reason = Some(format!("not started: {reason}"));
        } else {
            step.reason = Some(reason.to_owned());
        }
        move_step(tx, cx, &mut step, state).await?;
    }
    Ok(())
}

/// Saves a step in its new state, together with the start of it that is not over.
pub(super) async fn move_step(tx: &mut dyn Tx, cx: &mut Cx, step: &mut StepRow, state: StepState) -> Result<()> {
    step.state = state;
    step.ended_at = state.is_terminal().then_some(cx.now);
    if !tx.update_step(step).await? {
        return Err(stale(&step.name));
    }
    cx.after.changed.insert(step.deployment);
    for mut start in tx.step_attempts(step.deployment).await? {
        if index_of(start.step) == step.index && !start.state.is_terminal() {
            // A step that is to be tried again, or that people are asked about, has failed this time.
            // A gate that waits for people had a preview that ended well.
            let over = match state {
                StepState::Queued => StepState::Failed,
                StepState::Waiting if step.guided => StepState::Failed,
                StepState::Waiting => StepState::Succeeded,
                other => other,
            };
            (start.state, start.ended_at) = (over, over.is_terminal().then_some(cx.now));
            tx.update_step_attempt(&start).await?;
            if over.is_terminal() {
                cx.after.seal.push((start.attempt, start.step));
            }
        }
    }
    Ok(())
}
