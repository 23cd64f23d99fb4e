//! Plans that approvals are bound to.
//!
//! An approval with a plan has a job of its own first: a preview of the step that it guards, in a slot that is known by its
//! number and belongs to the approval's step. What the preview says becomes the approval's plan, and the step that is guarded is
//! granted with that plan and the state that it started from. When anything of it has moved, the approval is void.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{SHA256, digest};
use longshore_core::approval::{Approval, ApprovalState, Event};
use longshore_core::engine_event::{Change, Summary};
use longshore_core::id::{ApprovalId, DeploymentId};
use longshore_core::init::{ExitRecord, MAX_PLAN, MAX_SETTINGS, PLAN};
use longshore_core::offer::{OfferStep, Plan};
use longshore_core::pack;
use longshore_core::secret::Secret;
use longshore_core::spec::{self, Action, DEFAULT_EXPIRY, Project, Step};
use longshore_core::step::{index_of, is_preview, preview_slot};
use serde_json::json;
use zeroize::Zeroizing;

use super::approve::decide;
use super::cascade::stale;
use super::context::text;
use super::cx::Cx;
use super::flow::job_row;
use super::offers::offer_steps;
use super::{Engine, Error};
use crate::hex;
use crate::secrets::Place;
use crate::secrets::Vault;
use crate::store::Tx;
use crate::store::rows::{ApprovalFilter, ApprovalRow, DeploymentRow, JobRow, PlanRow, StepAttemptRow, StepRow};

type Result<T, E = Error> = std::result::Result<T, E>;

fn plan_aad(approval: ApprovalId) -> String {
    Place::Plan { approval }.aad()
}

/// The step whose container a slot is: for a preview that of the plan, else the slot's own.
pub(super) fn worked(spec: &Project, slot: u32) -> Option<&Step> {
    let own = usize::try_from(index_of(slot)).ok().and_then(|index| spec.steps.get(index))?;
    if is_preview(slot) { planned(spec, own).and_then(|index| spec.steps.get(index)) } else { Some(own) }
}

/// Index of the step whose plan an approval shows.
pub(super) fn planned(spec: &Project, approval: &Step) -> Option<usize> {
    let Action::Approval(spec::Approval { plan: Some(name), .. }) = &approval.action else { return None };
    spec.steps.iter().position(|step| step.name == *name)
}

/// The job that makes the plan for an approval.
pub(super) fn preview(cx: &Cx, row: &DeploymentRow, spec: &Project, approval: u32, planned: usize) -> Result<JobRow> {
    let once = offer_steps(spec, row, &[planned])?.into_iter().next();
    let once = once.ok_or_else(|| Error::Internal(format!("step {planned} of `{}` is missing", row.deployment.id)))?;
    let stack = u32::try_from(planned).ok().and_then(|index| row.stacks.get(&index).cloned());
    let locks: BTreeSet<String> = stack.into_iter().collect();
    let steps = vec![OfferStep { index: preview_slot(approval), ..once }];
    job_row(cx.clock.job_id(), cx.now, (row, spec), steps, locks)
}

/// A plan that a preview left.
#[derive(Debug)]
pub(super) struct Made {
    /// As it came, and so as it is kept: packed where it is long.
    plan: Zeroizing<Vec<u8>>,
    digest: String,
    checkpoint: String,
    image: String,
    resources: BTreeMap<String, u64>,
    changes: Vec<Change>,
}

impl Engine {
    /// What a preview that ended well left, or why it is no plan to agree to.
    pub(super) fn made(
        &self,
        start: &StepAttemptRow,
        record: &ExitRecord,
        summary: Option<&Summary>,
        resources: BTreeMap<String, u64>,
    ) -> Result<Made, String> {
        let none = || "the preview left no plan; the agent may be too old: upgrade it, then deploy again".to_owned();
        let (sealed, checkpoint) = record.plan.as_ref().zip(record.checkpoint.clone()).ok_or_else(none)?;
        let opened = self.opened(start, PLAN, sealed).map_err(|error| error.to_string())?;
        let plan = unpacked(&opened).map_err(|error| error.to_string())?;
        Ok(Made {
            digest: hex::encode(digest(&SHA256, plan.expose().as_bytes()).as_ref()),
            plan: opened,
            checkpoint,
            image: start.image_digest.clone(),
            resources,
            changes: summary.map(|summary| summary.planned.clone()).unwrap_or_default(),
        })
    }
}

/// A plan with the stack's settings as text.
fn unpacked(kept: &Zeroizing<Vec<u8>>) -> Result<Secret> {
    let whole = pack::unpack(kept.clone(), MAX_PLAN + MAX_SETTINGS + 1);
    text("plan", &whole.map_err(|error| Error::Internal(format!("a plan cannot be read: {error}")))?)
}

/// Asks people, and keeps the plan that they are asked about.
pub(super) async fn ask(
    tx: &mut dyn Tx,
    cx: &mut Cx,
    spec: &Project,
    step: &StepRow,
    made: Option<Made>,
) -> Result<()> {
    let own =
        usize::try_from(step.index).ok().and_then(|index| spec.steps.get(index)).ok_or_else(|| stale(&step.name))?;
    let Action::Approval(asked) = &own.action else { return Err(stale(&step.name)) };
    let id = cx.clock.approval_id();
    let approval = Approval {
        id,
        state: ApprovalState::Pending,
        needs: asked.needs,
        teams: asked.teams.clone(),
        expires_at: cx.now.after(asked.expires.unwrap_or(DEFAULT_EXPIRY)),
        void_reason: None,
        decided_at: None,
    };
    let (deployment, step_name) = (step.deployment, step.name.clone());
    tx.insert_approval(&ApprovalRow { approval, deployment, step: step.index, step_name, created_at: cx.now }).await?;
    let mut detail = json!({ "approval": id, "step": step.name, "needs": asked.needs, "teams": asked.teams });
    if let (Some(made), Some(planned)) = (made, planned(spec, own).and_then(|index| u32::try_from(index).ok())) {
        compare(tx, cx, deployment, planned, &made).await?;
        let sealed = cx.vault.seal(&plan_aad(id), &made.plan)?;
        let Made { digest, checkpoint, image, resources, changes, .. } = made;
        detail["plan"] = json!({ "digest": digest, "checkpoint": checkpoint, "image": image, "resources": resources });
        let created_at = cx.now;
        let plan = PlanRow {
            approval: id,
            deployment,
            step: planned,
            digest,
            checkpoint,
            image,
            resources,
            changes,
            sealed,
            created_at,
        };
        tx.insert_plan(&plan).await?;
    }
    cx.event(tx, "approval.asked", Some(deployment), detail).await
}

/// The plan that people agreed to for a step, if there is one.
pub(super) async fn agreed(tx: &mut dyn Tx, deployment: DeploymentId, step: u32) -> Result<Option<PlanRow>> {
    let Some(plan) = tx.plan_for(deployment, step).await? else { return Ok(None) };
    let approval = tx.approval(plan.approval).await?;
    Ok(approval.filter(|row| row.approval.state == ApprovalState::Granted).map(|_| plan))
}

/// What a Pulumi step has to do with a plan; the inner error says why it may not be started.
pub(super) async fn order(
    tx: &mut dyn Tx,
    vault: &Vault,
    deployment: DeploymentId,
    slot: u32,
) -> Result<Result<Plan, String>> {
    if is_preview(slot) {
        return Ok(Ok(Plan::Save));
    }
    if let Some(row) = voided(tx, deployment, index_of(slot)).await? {
        let (id, why) = (row.approval.id, row.approval.void_reason.unwrap_or_default());
        return Ok(Err(format!("approval `{id}` is void: {why}; nothing was started; deploy again for a new plan")));
    }
    let Some(row) = agreed(tx, deployment, index_of(slot)).await? else { return Ok(Ok(Plan::None)) };
    let plan = unpacked(&vault.open(&plan_aad(row.approval), &row.sealed)?)?;
    Ok(Ok(Plan::Run { plan, checkpoint: row.checkpoint }))
}

/// What has moved, by the account of a step that was to run a plan and failed.
pub(super) fn moved(plan: &PlanRow, record: &ExitRecord, summary: Option<&Summary>) -> Option<String> {
    if let Some(found) = record.checkpoint.as_ref().filter(|found| **found != plan.checkpoint) {
        return Some(format!(
            "the stack's state has moved: the plan started from `{}`, and `{found}` was found; nothing was changed",
            plan.checkpoint
        ));
    }
    let refused = summary.filter(|summary| summary.violates_plan())?;
    let why = refused.errors.first().map(String::as_str).unwrap_or_default();
    Some(format!("the program or what it reads has moved: pulumi refused what is not in the plan: {why}"))
}

/// Voids what was agreed to before a step: every approval, or those alone that are bound to the step's plan.
pub(super) async fn void(
    tx: &mut dyn Tx,
    cx: &mut Cx,
    (deployment, spec): (DeploymentId, &Project),
    step: u32,
    (plans_only, reason): (bool, &str),
) -> Result<()> {
    let Ok(step) = usize::try_from(step) else { return Ok(()) };
    let before = spec.before(step);
    for row in tx.approvals(&ApprovalFilter { deployment: Some(deployment) }).await? {
        let Some(at) = usize::try_from(row.step).ok().filter(|at| before.contains(at)) else { continue };
        let bound = spec.steps.get(at).and_then(|own| planned(spec, own)) == Some(step);
        if row.approval.state != ApprovalState::Granted || (plans_only && !bound) {
            continue;
        }
        void_one(tx, cx, &row, reason).await?;
    }
    Ok(())
}

async fn void_one(tx: &mut dyn Tx, cx: &mut Cx, row: &ApprovalRow, reason: &str) -> Result<()> {
    let next = decide(&row.approval, &Event::Void(reason.to_owned()), cx.now)?;
    if !tx.update_approval(&row.approval, &next).await? {
        return Err(stale(&next.id));
    }
    cx.after.changed.insert(row.deployment);
    let detail = json!({ "approval": next.id, "step": row.step_name, "reason": reason });
    cx.event(tx, "approval.void", Some(row.deployment), detail).await
}

/// An earlier approval of the same step is void when the state is not what people saw then.
async fn compare(tx: &mut dyn Tx, cx: &mut Cx, deployment: DeploymentId, step: u32, made: &Made) -> Result<()> {
    let before = agreed(tx, deployment, step).await?.filter(|before| before.checkpoint != made.checkpoint);
    let Some(before) = before else { return Ok(()) };
    let row = tx.approval(before.approval).await?.ok_or_else(|| stale(&before.approval))?;
    let reason = format!(
        "the stack's state has moved: the plan started from `{}`, and a later preview found `{}`",
        before.checkpoint, made.checkpoint
    );
    void_one(tx, cx, &row, &reason).await
}

/// A void approval that is bound to a step's plan.
async fn voided(tx: &mut dyn Tx, deployment: DeploymentId, step: u32) -> Result<Option<ApprovalRow>> {
    for row in tx.approvals(&ApprovalFilter { deployment: Some(deployment) }).await? {
        if row.approval.state == ApprovalState::Void
            && tx.plan(row.approval.id).await?.is_some_and(|plan| plan.step == step)
        {
            return Ok(Some(row));
        }
    }
    Ok(None)
}
