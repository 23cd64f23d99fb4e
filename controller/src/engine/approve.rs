//! Approvals: people decide, time passes, and what was asked for goes on or does not.

use longshore_core::approval::{self, Approval, ApprovalState, Event, Voter};
use longshore_core::id::{ApprovalId, DeploymentId};
use longshore_core::job;
use longshore_core::spec::{Action, Environment};
use longshore_core::step::{End, StepEvent, StepState, index_of};
use longshore_core::time::Timestamp;
use serde_json::json;

use super::cascade::{move_step, stale};
use super::cx::Cx;
use super::flow::{follow, spec_of};
use super::view::{ApprovalView, PlanView};
use super::{Engine, Error, Result, guide};
use crate::store::Tx;
use crate::store::rows::{ApprovalFilter, ApprovalRow, StepRow, VoteRow};

/// Longest comment.
const MAX_COMMENT: usize = 4_000;

/// A person's word on an approval.
#[derive(Debug, Clone)]
pub struct Vote {
    /// Agrees, or refuses.
    pub granted: bool,
    /// Why.
    pub comment: String,
    /// Who.
    pub person: String,
    /// The person's teams.
    pub teams: Vec<String>,
}

impl Engine {
    /// Takes a person's word. Enough of them let the deployment go on; one refusal ends it.
    ///
    /// # Errors
    /// When the approval is decided, the person has spoken, is in no team that is asked, or started the deployment to a protected
    /// environment. Nothing changes then.
    pub async fn vote(&self, id: ApprovalId, vote: Vote) -> Result<ApprovalView> {
        let comment = vote.comment.trim().to_owned();
        if comment.is_empty() || comment.len() > MAX_COMMENT {
            let message = format!("say why in 1 to {MAX_COMMENT} bytes; it is kept with the decision");
            return Err(Error::invalid("comment", message, None));
        }
        let person = vote.person.clone();
        self.change(&person, move |tx, cx| {
            Box::pin(async move {
                let row = tx.approval(id).await?.ok_or_else(|| Error::not_found("approval", &id))?;
                may_vote(tx, &row, &vote).await?;
                let before = tx.votes(id).await?;
                let agreed = u32::try_from(before.iter().filter(|vote| vote.granted).count()).unwrap_or(u32::MAX);
                let event = if vote.granted { Event::Grant { before: agreed } } else { Event::Reject };
                let next = decide(&row.approval, &event, cx.now)?;
                let (person, granted) = (vote.person, vote.granted);
                let said = VoteRow { approval: id, person, granted, comment: comment.clone(), at: cx.now };
                if !tx.insert_vote(&said).await? {
                    let message = format!("`{}` has said something to approval `{id}` already", said.person);
                    return Err(Error::conflict(
                        "already_voted",
                        message,
                        "a word is not taken back; cancel the deployment if it must not go on".to_owned(),
                    ));
                }
                let action = if granted { "approval.granted" } else { "approval.rejected" };
                let detail = json!({ "approval": id, "step": row.step_name, "comment": comment, "state": next.state });
                cx.event(tx, action, Some(row.deployment), detail).await?;
                save(tx, cx, &row, &next).await?;
                view(tx, ApprovalRow { approval: next, ..row }).await
            })
        })
        .await
    }

    /// Approvals of a deployment, or those that are pending.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn approvals(&self, deployment: Option<DeploymentId>) -> Result<Vec<ApprovalView>> {
        self.read(move |tx| {
            Box::pin(async move {
                let mut views = Vec::new();
                for row in tx.approvals(&ApprovalFilter { deployment }).await? {
                    views.push(view(tx, row).await?);
                }
                Ok(views)
            })
        })
        .await
    }

    /// One approval.
    ///
    /// # Errors
    /// When there is none of that id.
    pub async fn approval(&self, id: ApprovalId) -> Result<ApprovalView> {
        self.read(move |tx| {
            Box::pin(async move {
                let row = tx.approval(id).await?.ok_or_else(|| Error::not_found("approval", &id))?;
                view(tx, row).await
            })
        })
        .await
    }

    /// Expires what nobody decided in time; answers when the next one is due.
    pub(super) async fn expire_approvals(&self) -> Result<Option<Timestamp>> {
        let pending =
            self.read(|tx| Box::pin(async move { Ok(tx.approvals(&ApprovalFilter::default()).await?) })).await?;
        let now = self.clock().now();
        let mut next = None;
        for row in pending {
            if row.approval.expires_at > now {
                next = Some(next.map_or(row.approval.expires_at, |next: Timestamp| next.min(row.approval.expires_at)));
                continue;
            }
            let done = self
                .change("controller", move |tx, cx| {
                    Box::pin(async move {
                        let row = tx.approval(row.approval.id).await?.ok_or_else(|| stale(&row.approval.id))?;
                        let next = decide(&row.approval, &Event::TimePassed, cx.now)?;
                        let detail = json!({ "approval": next.id, "step": row.step_name });
                        cx.event(tx, "approval.expired", Some(row.deployment), detail).await?;
                        save(tx, cx, &row, &next).await
                    })
                })
                .await;
            match done {
                // Somebody was faster.
                Ok(()) | Err(Error::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(next)
    }
}

pub(super) fn decide(approval: &Approval, event: &Event, now: Timestamp) -> Result<Approval> {
    let hint = || "`longshore approvals` lists what can be decided".to_owned();
    approval::decide(approval, event, now)
        .map_err(|rejected| Error::conflict("approval_decided", rejected.to_string(), hint()))
}

async fn may_vote(tx: &mut dyn Tx, row: &ApprovalRow, vote: &Vote) -> Result<()> {
    let deployment =
        tx.deployment(row.deployment).await?.ok_or_else(|| Error::not_found("deployment", &row.deployment))?;
    let spec = spec_of(tx, &deployment).await?;
    let protected =
        spec.environment(&deployment.environment).is_some_and(|environment: &Environment| environment.protected);
    let voter = Voter { name: &vote.person, teams: &vote.teams, deployer: &deployment.created_by, protected };
    approval::may_vote(&row.approval, &voter).map_err(|rejected| {
        let (code, hint) = match &rejected {
            approval::Rejected::OwnDeployment(_) => {
                ("own_deployment", "ask a colleague who may approve there".to_owned())
            }
            _ => (
                "not_in_team",
                "ask a member, or have an administrator add you: `longshore team add TEAM USER`".to_owned(),
            ),
        };
        Error::refused(code, rejected.to_string(), hint)
    })
}

/// Saves an approval; a decided one ends its step, and the deployment goes on from there.
async fn save(tx: &mut dyn Tx, cx: &mut Cx, row: &ApprovalRow, next: &Approval) -> Result<()> {
    if next.state == ApprovalState::Pending {
        cx.after.changed.insert(row.deployment);
        return Ok(());
    }
    if !tx.update_approval(&row.approval, next).await? {
        return Err(stale(&next.id));
    }
    let (end, reason) = match next.state {
        ApprovalState::Granted => (End::Succeeded, None),
        ApprovalState::Expired => (End::Failed, Some("nobody decided in time".to_owned())),
        ApprovalState::Void => (End::Canceled, next.void_reason.clone()),
        _ => (End::Failed, Some(format!("rejected by `{}`", cx.actor))),
    };
    end_gate(tx, cx, row.deployment, row.step, end, reason).await?;
    follow(tx, cx, row.deployment).await
}

/// Ends a step that the controller does itself; one that has ended is left alone.
pub(super) async fn end_gate(
    tx: &mut dyn Tx,
    cx: &mut Cx,
    deployment: DeploymentId,
    index: u32,
    end: End,
    reason: Option<String>,
) -> Result<()> {
    let steps = tx.steps(deployment).await?;
    let Some(mut step) = steps.into_iter().find(|step| step.index == index) else { return Err(stale(&index)) };
    let Some(state) = step.state.after(StepEvent::Ended(end)) else { return Ok(()) };
    (step.reason, step.due_at) = (reason, None);
    move_step(tx, cx, &mut step, state).await?;
    let detail = json!({ "step": step.name, "state": state, "reason": step.reason });
    cx.event(tx, "step.ended", Some(deployment), detail).await
}

/// Ends what is open of a deployment that is canceled and runs on no agent.
pub(super) async fn close_gates(tx: &mut dyn Tx, cx: &mut Cx, id: DeploymentId) -> Result<()> {
    for row in tx.approvals(&ApprovalFilter { deployment: Some(id) }).await? {
        if row.approval.state != ApprovalState::Pending {
            continue;
        }
        let next = decide(&row.approval, &Event::Void("the deployment was canceled".to_owned()), cx.now)?;
        if !tx.update_approval(&row.approval, &next).await? {
            return Err(stale(&next.id));
        }
        end_gate(tx, cx, id, row.step, End::Canceled, Some("the deployment was canceled".to_owned())).await?;
    }
    let row = tx.deployment(id).await?.ok_or_else(|| Error::not_found("deployment", &id))?;
    let spec = spec_of(tx, &row).await?;
    let steps: Vec<StepRow> = tx.steps(id).await?;
    // A preview that runs ends by its own agent's report.
    let jobs = tx.jobs_of(id).await?;
    let live = jobs.iter().filter(|row| !matches!(row.job.state, job::State::Ended { .. }));
    let held: Vec<u32> = live.flat_map(|row| row.steps.iter().map(|step| index_of(step.index))).collect();
    for (step, spec) in steps.into_iter().zip(&spec.steps) {
        if guide::is_asked(&step) {
            end_gate(tx, cx, id, step.index, End::Failed, step.reason.clone()).await?;
            continue;
        }
        // A step whose child is there ends with the child, which is canceled too.
        let has_child = matches!(spec.action, Action::DeployRelease(_)) && step.due_at.is_none();
        let own = !spec.in_container() && !has_child && !held.contains(&step.index);
        if step.state == StepState::Running && own {
            end_gate(tx, cx, id, step.index, End::Canceled, Some("the deployment was canceled".to_owned())).await?;
        }
    }
    Ok(())
}

async fn view(tx: &mut dyn Tx, row: ApprovalRow) -> Result<ApprovalView> {
    let votes = tx.votes(row.approval.id).await?;
    let deployment = tx.deployment(row.deployment).await?;
    let named =
        |granted: bool| votes.iter().filter(|vote| vote.granted == granted).map(|vote| vote.person.clone()).collect();
    Ok(ApprovalView {
        id: row.approval.id.to_string(),
        deployment: row.deployment.to_string(),
        project: deployment.as_ref().map(|row| row.project_name.clone()).unwrap_or_default(),
        environment: deployment.as_ref().map(|row| row.environment.clone()).unwrap_or_default(),
        release: deployment.map(|row| row.version).unwrap_or_default(),
        step: row.step_name,
        state: row.approval.state.as_str().to_owned(),
        needs: row.approval.needs,
        teams: row.approval.teams,
        granted_by: named(true),
        rejected_by: named(false),
        comments: votes.iter().map(|vote| format!("{}: {}", vote.person, vote.comment)).collect(),
        plan: tx.plan(row.approval.id).await?.map(PlanView::of),
        void_reason: row.approval.void_reason,
        created_at: row.created_at.to_string(),
        expires_at: row.approval.expires_at.to_string(),
    })
}
