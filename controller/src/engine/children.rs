//! `deploy-release` steps: the controller deploys the release of another project that the parent's release holds, and the step is
//! running until that child has ended.
//!
//! Invariants:
//! - A child is a deployment like any other: it comes through [`Engine::create_deployment`] and so through the one gate.
//! - The child's row and the note that its step has begun it are one transaction, and its operation id names parent and step: a
//!   controller that is killed at any line makes no second one, and finds the first by its row.
//! - A child's end and the end of its step are one transaction.
//! - A cancel of the parent is a cancel of its children.
//!
//! Why nothing waits for ever: a parent keeps its locks while its child waits for others. So a child stands in no queue, it waits
//! only for what is kept by somebody (others queue behind it), and before it waits it is made sure that no holder waits, through
//! children of its own, for this child. If one does, the step fails and nothing was begun. Only making a child adds such a wait to
//! a deployment that keeps something; the check is in the same transaction, and there is one writer.

use std::collections::BTreeSet;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use longshore_core::circle::{self, Waits};
use longshore_core::deployment::{self, Deployment};
use longshore_core::id::DeploymentId;
use longshore_core::job;
use longshore_core::step::{End, StepState};
use serde_json::json;

use super::approve::{close_gates, end_gate};
use super::cascade::{on_job, stale};
use super::cx::Cx;
use super::flow::follow;
use super::pins::pinned;
use super::{Engine, Error, NewDeployment, Result};
use crate::store;
use crate::store::Tx;
use crate::store::rows::{DeploymentRow, ReleaseRow, StepRow};

/// What a step is to begin.
struct Due {
    parent: DeploymentRow,
    release: Option<ReleaseRow>,
}

impl Engine {
    /// Begins the child of a step that is due. What the gate or anything else refuses ends the step with its words.
    pub(super) async fn begin_child(&self, id: DeploymentId, index: u32) -> Result<()> {
        let due = self
            .read(move |tx| {
                Box::pin(async move {
                    let parent = tx.deployment(id).await?.ok_or_else(|| Error::not_found("deployment", &id))?;
                    let held = tx.release_by_id(parent.release).await?;
                    let held = held.ok_or_else(|| Error::not_found("release", &parent.release))?;
                    Ok(Due { release: pinned(tx, &held, index).await?, parent })
                })
            })
            .await?;
        let Due { parent, release } = due;
        let Some(release) = release else {
            let why = format!(
                "release `{}` is from before releases held those of other projects; nothing was begun; make a new release",
                parent.version
            );
            return self.end_child_step(id, index, why).await;
        };
        let trace_parent = crate::trace::under_step(&parent, index, self.settings().traced);
        let new = NewDeployment {
            project: release.project_name,
            environment: parent.environment,
            release: Some(release.version),
            priority: parent.priority,
            operation_id: format!("child/{id}/{index}"),
            parent: Some((id, index)),
            trace_parent,
            guided: parent.guided,
            ..NewDeployment::default()
        };
        match self.create_deployment(new, &parent.created_by).await {
            Ok(_) => Ok(()),
            // Somebody was faster: it is still due, or not any more.
            Err(Error::Store(store::Error::Stale(_))) => Ok(()),
            Err(error) if error.is_refusal() => self.end_child_step(id, index, error.told()).await,
            Err(error) => Err(error),
        }
    }

    async fn end_child_step(&self, id: DeploymentId, index: u32, why: String) -> Result<()> {
        self.change("controller", move |tx, cx| {
            Box::pin(async move {
                let step = due_step(tx, id, index).await?;
                // A cancel was faster.
                if step.is_none() {
                    return Ok(());
                }
                end_gate(tx, cx, id, index, End::Failed, Some(why)).await?;
                follow(tx, cx, id).await
            })
        })
        .await
    }
}

/// The step, if it is still to begin its child.
async fn due_step(tx: &mut dyn Tx, id: DeploymentId, index: u32) -> Result<Option<StepRow>> {
    let steps = tx.steps(id).await?;
    let due = |step: &StepRow| step.index == index && step.state == StepState::Running && step.due_at.is_some();
    Ok(steps.into_iter().find(due))
}

/// Notes at the parent's step that its child is there.
pub(super) async fn begun_by(tx: &mut dyn Tx, cx: &mut Cx, child: &DeploymentRow) -> Result<()> {
    let Some((parent, index)) = child.parent else { return Ok(()) };
    let mut step = due_step(tx, parent, index).await?.ok_or_else(|| stale(&parent))?;
    step.due_at = None;
    if !tx.update_step(&step).await? {
        return Err(stale(&step.name));
    }
    let (id, project, release) = (child.deployment.id, &child.project_name, &child.version);
    let detail = json!({ "step": step.name, "child": id, "project": project, "release": release });
    cx.event(tx, "child.created", Some(parent), detail).await
}

/// Refuses a child that would wait for what waits for it.
pub(super) async fn check_waits(tx: &mut dyn Tx, row: &DeploymentRow) -> Result<()> {
    if row.parent.is_none() {
        return Ok(());
    }
    let (kept, children) = (tx.reservations().await?, tx.live_children().await?);
    let mut waits = Waits::new();
    for child in &children {
        let id = child.deployment.id;
        if let Some((parent, _)) = child.parent {
            waits.entry(parent).or_default().insert(id);
        }
        if child.begun_at.is_none() {
            let holders = kept.iter().filter(|kept| child.locks.contains(&kept.key)).map(|kept| kept.deployment);
            waits.entry(id).or_default().extend(holders);
        }
    }
    let Some(holder) = circle::through(&waits, row.deployment.id) else { return Ok(()) };
    let keys: BTreeSet<&str> = kept
        .iter()
        .filter(|kept| kept.deployment == holder && row.locks.contains(&kept.key))
        .map(|kept| kept.key.as_str())
        .collect();
    let message = format!(
        "it would wait for ever: deployment `{holder}` keeps `{}` and waits for this one in turn; nothing was begun",
        keys.into_iter().collect::<Vec<_>>().join("`, `")
    );
    let hint = "let the projects share no stack and deploy each other in one direction only".to_owned();
    Err(Error::refused("waits_for_ever", message, hint))
}

/// Passes the end of a child on to the step that began it. Boxed: the parent may end by it, and be a child itself.
pub(super) fn ended<'a>(
    tx: &'a mut dyn Tx,
    cx: &'a mut Cx,
    row: &'a DeploymentRow,
    over: &'a Deployment,
) -> BoxFuture<'a, Result<()>> {
    async move {
        let (Some((parent, index)), Some(end)) = (row.parent, over.state.end()) else { return Ok(()) };
        let reason = over.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let words =
            format!("deployment `{}` of project `{}` is {}{reason}", over.id, row.project_name, over.state.as_str());
        end_gate(tx, cx, parent, index, end, (end != End::Succeeded).then_some(words)).await?;
        follow(tx, cx, parent).await
    }
    .boxed()
}

/// Asks for a deployment's end, and for that of its children. Boxed for them.
pub(super) fn cancel<'a>(tx: &'a mut dyn Tx, cx: &'a mut Cx, id: DeploymentId) -> BoxFuture<'a, Result<()>> {
    async move {
        let row = tx.deployment(id).await?.ok_or_else(|| Error::not_found("deployment", &id))?;
        let from = row.deployment;
        if from.cancel_asked.is_some() && !from.state.is_terminal() {
            return Ok(());
        }
        let next = deployment::ask_cancel(&from, cx.now)
            .map_err(|rejected| Error::conflict("ended", rejected.to_string(), None))?;
        if !tx.update_deployment(&from, &next).await? {
            return Err(stale(&id));
        }
        cx.after.changed.insert(id);
        cx.event(tx, "deployment.cancel_asked", Some(id), json!({})).await?;
        for job in tx.jobs_of(id).await? {
            if !matches!(job.job.state, job::State::Ended { .. }) {
                on_job(tx, cx, &job, &job::Event::CancelAsked).await?;
            }
        }
        close_gates(tx, cx, id).await?;
        for child in tx.children_of(id).await? {
            if !child.deployment.state.is_terminal() {
                cancel(tx, cx, child.deployment.id).await?;
            }
        }
        follow(tx, cx, id).await
    }
    .boxed()
}
