//! Carries a deployment on: what core says follows from the rows is put into rows, in the transaction of what made it follow.
//!
//! [`follow`] is called after every change of a deployment's parts and looks at rows alone, so it does not matter who calls it how
//! often, and a controller that was killed finds the way on.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use longshore_core::deployment::{self, Facts, JobFact, StepFact};
use longshore_core::id::{DeploymentId, JobId};
use longshore_core::job::{self, Job};
use longshore_core::offer::{OfferStep, Profile};
use longshore_core::process::{Graph, Move, StepNow};
use longshore_core::resources::Resources;
use longshore_core::spec::{Action, Project};
use longshore_core::step::{End, SkippedBy, StepEvent, StepState, index_of};
use longshore_core::time::Timestamp;
use serde_json::json;

use super::cascade::{move_step, stale};
use super::context::Values;
use super::cx::Cx;
use super::offers::offer_steps;
use super::{Error, Result, children, plans};
use crate::store::Tx;
use crate::store::rows::{DeploymentRow, JobRow, ReservationRow, StepRow};

/// The spec that a deployment goes by.
pub(super) async fn spec_of(tx: &mut dyn Tx, row: &DeploymentRow) -> Result<Arc<Project>> {
    // An operation may be on what a working tree left.
    let own = row.local.is_some() || row.operation.is_some();
    let held = if own { tx.release_by_id(row.release).await?.and_then(|release| release.local) } else { None };
    let spec = match held {
        Some(spec) => Some(Arc::new(spec)),
        None if row.local.is_some() => None,
        None => tx.revision(row.project, row.revision).await?.map(|revision| revision.spec),
    };
    let spec = spec.ok_or_else(|| {
        Error::Internal(format!(
            "the spec of `{}` {} (revision {}) is missing",
            row.project_name, row.version, row.revision
        ))
    })?;
    Ok(match &row.operation {
        Some(operation) => Arc::new(operation.what.process(&spec, &row.environment)),
        None => spec,
    })
}

/// Whether nobody keeps what the deployment needs, nor waits for it since earlier.
pub(super) async fn may_begin(tx: &mut dyn Tx, row: &DeploymentRow, now: Timestamp) -> Result<bool> {
    for key in &row.locks {
        if tx.reservation(key).await?.is_some() {
            return Ok(false);
        }
        // A child's parent keeps things while it waits, so it stands in no queue.
        let first = if row.parent.is_none() { tx.next_for(key, now).await? } else { None };
        if first.is_some_and(|first| first != row.deployment.id) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Takes what the deployment keeps to itself, all or nothing, and begins it.
pub(super) async fn begin(tx: &mut dyn Tx, cx: &mut Cx, row: &DeploymentRow) -> Result<()> {
    let id = row.deployment.id;
    for key in &row.locks {
        if !tx.reserve(&ReservationRow { key: key.clone(), deployment: id, taken_at: cx.now }).await? {
            return Err(stale(key));
        }
    }
    if !tx.begin_deployment(id, cx.now).await? {
        return Err(stale(&id));
    }
    cx.event(tx, "deployment.begun", Some(id), json!({ "locks": row.locks })).await?;
    follow(tx, cx, id).await
}

/// Works out what follows in a deployment and does it.
pub(super) async fn follow(tx: &mut dyn Tx, cx: &mut Cx, id: DeploymentId) -> Result<()> {
    let row = tx.deployment(id).await?.ok_or_else(|| Error::not_found("deployment", &id))?;
    if row.deployment.state.is_terminal() {
        return Ok(());
    }
    let spec = spec_of(tx, &row).await?;
    let mut steps = tx.steps(id).await?;
    let canceled = row.deployment.cancel_asked.is_some();
    if row.begun_at.is_some() || canceled {
        let graph = Graph::new(&spec.steps);
        let now = standing(tx, &row, &steps).await?;
        let values = values_for(tx, cx, &row, &spec, &steps).await?;
        let holds =
            |step: usize, failed: bool| match (spec.steps.get(step).and_then(|step| step.when.as_ref()), &values) {
                (Some(when), Some(values)) => when.holds(values, failed).map_err(|error| format!("`when`: {error}")),
                _ => Ok(!failed),
            };
        for next in graph.advance(&now, canceled, holds) {
            carry_on(tx, cx, &row, &spec, &mut steps, next).await?;
        }
    }
    settle(tx, cx, &row, None).await
}

async fn standing(tx: &mut dyn Tx, deployment: &DeploymentRow, steps: &[StepRow]) -> Result<Vec<StepNow>> {
    let jobs = tx.jobs_of(deployment.deployment.id).await?;
    let live = jobs.iter().filter(|row| !matches!(row.job.state, job::State::Ended { .. }));
    let held: BTreeSet<u32> = live.flat_map(|row| row.steps.iter().map(|step| index_of(step.index))).collect();
    let now = |row: &StepRow| StepNow {
        state: row.state,
        skipped: row.skipped,
        in_job: held.contains(&row.index),
        skip: deployment.skip.contains(&row.index),
    };
    Ok(steps.iter().map(now).collect())
}

/// Values for conditions; none where no step asks for any.
async fn values_for(
    tx: &mut dyn Tx,
    cx: &Cx,
    row: &DeploymentRow,
    spec: &Project,
    steps: &[StepRow],
) -> Result<Option<Values>> {
    let asked = spec.steps.iter().zip(steps).any(|(step, row)| step.when.is_some() && row.state == StepState::Queued);
    if asked { Ok(Some(Values::load(tx, &cx.vault, row, None, steps).await?)) } else { Ok(None) }
}

async fn carry_on(
    tx: &mut dyn Tx,
    cx: &mut Cx,
    row: &DeploymentRow,
    spec: &Project,
    steps: &mut [StepRow],
    next: Move,
) -> Result<()> {
    let missing = || Error::Internal(format!("a step of `{}` is missing", row.deployment.id));
    match next {
        Move::Skip { step, by } => {
            let step = steps.get_mut(step).ok_or_else(missing)?;
            step.skipped = Some(by);
            step.reason = Some(match by {
                SkippedBy::Condition => "not run: its condition did not hold".to_owned(),
                SkippedBy::Failure => "not started: a step before it did not end well".to_owned(),
                SkippedBy::Cancel => "not started: the deployment was canceled".to_owned(),
                SkippedBy::Person => format!("skipped by {}", row.created_by),
            });
            move_step(tx, cx, step, StepState::Skipped).await
        }
        Move::Fail { step, reason } => {
            let step = steps.get_mut(step).ok_or_else(missing)?;
            step.reason = Some(reason);
            move_step(tx, cx, step, StepState::Failed).await
        }
        Move::Open { step } => {
            let step = steps.get_mut(step).ok_or_else(missing)?;
            open(tx, cx, row, spec, step).await
        }
        Move::Job { steps: indices } => {
            let job = queued(cx, row, spec, &indices)?;
            let names: Vec<_> = indices.iter().filter_map(|index| Some(&spec.steps.get(*index)?.name)).collect();
            queue(tx, cx, &job, &names).await
        }
    }
}

async fn queue(tx: &mut dyn Tx, cx: &mut Cx, job: &JobRow, names: &[&String]) -> Result<()> {
    tx.insert_job(job).await?;
    cx.after.dispatch = true;
    cx.after.timers = true;
    let detail = json!({ "job": job.job.id, "steps": names, "locks": job.locks });
    cx.event(tx, "job.queued", Some(job.job.deployment), detail).await
}

fn queued(cx: &Cx, row: &DeploymentRow, spec: &Project, indices: &[usize]) -> Result<JobRow> {
    let steps = offer_steps(spec, row, indices)?;
    let index = |index: &usize| u32::try_from(*index).ok();
    let locks = indices.iter().filter_map(index).filter_map(|i| row.stacks.get(&i).cloned()).collect();
    job_row(cx.clock.job_id(), cx.now, (row, spec), steps, locks)
}

/// A job of these steps at the end of its line.
pub(super) fn job_row(
    id: JobId,
    now: Timestamp,
    (row, spec): (&DeploymentRow, &Project),
    steps: Vec<OfferStep>,
    locks: BTreeSet<String>,
) -> Result<JobRow> {
    let (pool, labels) = (spec.pool_of(&row.environment).to_owned(), spec.agents_of(&row.environment));
    let max_wait = spec.queue_wait_of(&row.environment).unwrap_or(job::MAX_QUEUED);
    let resources = steps.iter().map(|step| step.resources).fold(Resources::default(), Resources::max);
    let mounts: BTreeSet<&String> = steps.iter().flat_map(|step| &step.mounts).collect();
    let standard = steps.iter().any(|step| step.profile == Profile::Standard);
    let asks = json!([row.priority, labels, resources, mounts, standard, spec.max_running]);
    let asks = serde_json::to_vec(&asks).map_err(|error| Error::Internal(error.to_string()))?;
    let digest = crate::hex::encode(digest(&SHA256, &asks).as_ref());
    let line = format!("{}/{}", row.project_name, digest.get(..32).unwrap_or(&digest));
    Ok(JobRow {
        job: Job::new(id, row.deployment.id, max_wait, now),
        seq: 0,
        pool,
        labels,
        steps,
        locks: locks.into_iter().collect(),
        project: row.project_name.clone(),
        priority: row.priority,
        line,
        resources,
        max_running: spec.max_running,
    })
}

/// Begins a step that the controller does itself.
async fn open(tx: &mut dyn Tx, cx: &mut Cx, row: &DeploymentRow, spec: &Project, step: &mut StepRow) -> Result<()> {
    let own = usize::try_from(step.index).ok().and_then(|index| spec.steps.get(index));
    let own = own.ok_or_else(|| Error::Internal(format!("a step of `{}` is missing", row.deployment.id)))?;
    if let Some(planned) = plans::planned(spec, own) {
        // Queued until the preview is granted: the job holds it like a step of its own.
        let job = plans::preview(cx, row, spec, step.index, planned)?;
        return queue(tx, cx, &job, &[&step.name]).await;
    }
    step.started_at = Some(cx.now);
    cx.after.timers = true;
    match &own.action {
        Action::Approval(_) => {
            move_step(tx, cx, step, StepState::Waiting).await?;
            plans::ask(tx, cx, spec, step, None).await
        }
        // An address is asked, a child is begun: by a task, since neither belongs into this transaction.
        Action::Http(_) | Action::DeployRelease(_) => {
            step.due_at = Some(cx.now);
            move_step(tx, cx, step, StepState::Running).await
        }
        _ => {
            let state = step.state.after(StepEvent::Ended(End::Failed)).ok_or_else(|| stale(&step.name))?;
            step.reason = Some("this controller does not know what the step does".to_owned());
            move_step(tx, cx, step, state).await
        }
    }
}

/// Puts a deployment where its parts stand, and lets go of what it keeps when it has ended.
pub(super) async fn settle(tx: &mut dyn Tx, cx: &mut Cx, row: &DeploymentRow, requeued: Option<&str>) -> Result<()> {
    let id = row.deployment.id;
    let (steps, jobs, live) = (tx.steps(id).await?, tx.jobs_of(id).await?, tx.live_attempts_of(id).await?);
    let facts: Vec<StepFact<'_>> = steps.iter().map(fact).collect();
    let asked = |step: u32| steps.iter().any(|row| row.guided && row.index == index_of(step));
    let job = |row: JobRow| JobFact { guided: row.steps.iter().any(|step| asked(step.index)), state: row.job.state };
    let jobs: Vec<_> = jobs.into_iter().map(job).collect();
    let attempts: Vec<_> = live.into_iter().map(|row| row.attempt.state).collect();
    let from = &row.deployment;
    let mut next = deployment::settle(from, &Facts { steps: &facts, jobs: &jobs, attempts: &attempts }, cx.now);
    if let Some(reason) = requeued
        && next.state == deployment::DeploymentState::Queued
    {
        next.reason = Some(reason.to_owned());
    }
    if next == *from {
        return Ok(());
    }
    if !tx.update_deployment(from, &next).await? {
        return Err(stale(&id));
    }
    cx.after.changed.insert(id);
    if next.state.is_terminal() {
        cx.after.ended.insert(id, next.state);
        cx.after.dispatch = true;
        // Those behind it waited for it, also if it never began.
        cx.after.look.extend(row.locks.iter().cloned());
        if next.state == deployment::DeploymentState::Succeeded && row.operation.is_none() {
            cx.after.promote.insert(row.release);
        }
        let freed = tx.release_reservations(id, cx.now).await?;
        if !freed.is_empty() {
            cx.event(tx, "locks.released", Some(id), json!({ "keys": freed })).await?;
        }
    }
    if next.state != from.state {
        let action = format!("deployment.{}", next.state.as_str());
        cx.event(tx, &action, Some(id), json!({ "reason": next.reason })).await?;
    }
    children::ended(tx, cx, row, &next).await
}

fn fact(row: &StepRow) -> StepFact<'_> {
    StepFact {
        name: &row.name,
        state: row.state,
        skipped: row.skipped,
        reason: row.reason.as_deref(),
        begun: row.started_at.is_some() || row.guided,
    }
}
