//! Approvals: listed, granted, rejected.

#![expect(unused_qualifications, reason = "utoipa writes paths out in full")]

use axum::Json;
use axum::extract::State;
use longshore_core::access::Permission;
use longshore_core::id::{ApprovalId, DeploymentId};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::auth::Who;
use super::extract::{Asked, Id, Strict};
use super::problem::{Problem, ProblemView};
use crate::engine::{Actor, ApprovalView, Need, Vote};

/// Which approvals.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ListApprovals {
    /// Of this deployment, `dep_...`; without one those that are pending.
    #[param(value_type = Option<String>)]
    deployment: Option<DeploymentId>,
}

/// A person's word.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Word {
    /// Why; kept with the decision.
    comment: String,
}

/// Approvals, oldest first.
#[utoipa::path(get, path = "/approvals", tag = "approvals", operation_id = "list_approvals", security(("token" = [])),
    params(ListApprovals), responses((status = 200, body = Vec<ApprovalView>)))]
pub(super) async fn list(
    State(api): State<Api>,
    Who(who): Who,
    Asked(asked): Asked<ListApprovals>,
) -> Result<Json<Vec<ApprovalView>>, Problem> {
    let all = api.engine.approvals(asked.deployment).await?;
    let seen = |view: &ApprovalView| who.may(Permission::View, Some(&view.project), Some(&view.environment));
    Ok(Json(all.into_iter().filter(seen).collect()))
}

/// One approval.
#[utoipa::path(get, path = "/approvals/{id}", tag = "approvals", operation_id = "show_approval", security(("token" = [])),
    params(("id" = String, Path, description = "`apr_...`")),
    responses((status = 200, body = ApprovalView), (status = 404, body = ProblemView)))]
pub(super) async fn show(
    State(api): State<Api>,
    Who(who): Who,
    Id(id): Id<ApprovalId>,
) -> Result<Json<ApprovalView>, Problem> {
    let view = api.engine.approval(id).await?;
    let need = Need::new(Permission::View, "approval.show", &format!("approval/{id}"));
    api.engine.authorize(&who, need.at(Some(&view.project), Some(&view.environment))).await?;
    Ok(Json(view))
}

/// Refuses who may not approve where the deployment goes.
async fn may(api: &Api, who: &Actor, id: ApprovalId) -> Result<(), Problem> {
    let view = api.engine.approval(id).await?;
    let need = Need::new(Permission::Approve, "approval.decide", &format!("approval/{id}"));
    Ok(api.engine.authorize(who, need.at(Some(&view.project), Some(&view.environment))).await?)
}

/// Agrees. When enough people did, the deployment goes on.
#[utoipa::path(post, path = "/approvals/{id}/grant", tag = "approvals", operation_id = "grant_approval", security(("token" = [])),
    params(("id" = String, Path, description = "`apr_...`")), request_body = Word,
    responses((status = 200, body = ApprovalView), (status = 403, body = ProblemView), (status = 404, body = ProblemView), (status = 409, body = ProblemView)))]
pub(super) async fn grant(
    State(api): State<Api>,
    Who(who): Who,
    Id(id): Id<ApprovalId>,
    Strict(body): Strict<Word>,
) -> Result<Json<ApprovalView>, Problem> {
    may(&api, &who, id).await?;
    let vote = Vote { granted: true, comment: body.comment, person: who.user, teams: who.teams };
    Ok(Json(api.engine.vote(id, vote).await?))
}

/// Refuses. The deployment ends there.
#[utoipa::path(post, path = "/approvals/{id}/reject", tag = "approvals", operation_id = "reject_approval", security(("token" = [])),
    params(("id" = String, Path, description = "`apr_...`")), request_body = Word,
    responses((status = 200, body = ApprovalView), (status = 403, body = ProblemView), (status = 404, body = ProblemView), (status = 409, body = ProblemView)))]
pub(super) async fn reject(
    State(api): State<Api>,
    Who(who): Who,
    Id(id): Id<ApprovalId>,
    Strict(body): Strict<Word>,
) -> Result<Json<ApprovalView>, Problem> {
    may(&api, &who, id).await?;
    let vote = Vote { granted: false, comment: body.comment, person: who.user, teams: who.teams };
    Ok(Json(api.engine.vote(id, vote).await?))
}
