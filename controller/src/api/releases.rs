//! Releases: made, shown, blocked, promoted, rolled back.

#![expect(unused_qualifications, reason = "utoipa writes paths out in full")]

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use longshore_core::access::Permission;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::auth::{Actor, Who};
use super::deployments::children;
use super::extract::{Asked, Strict};
use super::problem::{Problem, ProblemView};
use crate::engine::{Need, NewRelease, Promoted, ReleaseView, RolledBack, Subject};
use crate::store::rows::ReleaseFilter;

/// A release to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateRelease {
    /// Its version, MAJOR.MINOR.PATCH; without one the next patch version.
    #[serde(default)]
    version: Option<String>,
    /// Its channel; without one the channel whose rules the version fits, of several the default one.
    #[serde(default)]
    channel: Option<String>,
    /// SHA-256 of a stored package; without one, and for a project that names a `source`, the package of that.
    #[serde(default)]
    package: Option<String>,
    /// Branch, tag or whole commit id of the project's `source`, instead of the one in its spec.
    #[serde(default, rename = "ref")]
    reference: Option<String>,
}

/// Which releases.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ListReleases {
    /// At most so many, from 1 to 500; 50 when it is not said.
    limit: Option<u32>,
    /// Only those of this channel.
    channel: Option<String>,
    /// What was made of working trees, instead of releases.
    local: Option<bool>,
    /// Only versions below this one.
    before: Option<String>,
}

/// Forbids deployments of a release.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Block {
    /// Why; shown to whoever tries.
    reason: String,
}

/// Takes a release to its next phase.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Promote {
    /// Made by the client, unique: a repeated request with the same one makes no second deployment.
    operation_id: String,
    /// Values of the variables that the spec asks for (`prompt`).
    #[serde(default)]
    variables: BTreeMap<String, String>,
}

/// Goes back to the release before.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    /// The environment.
    environment: String,
    /// Made by the client, unique: a repeated request with the same one makes no second deployment.
    operation_id: String,
}

/// Freezes a project as it is now.
#[utoipa::path(post, path = "/projects/{name}/releases", tag = "releases", operation_id = "create_release", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the project.")), request_body = CreateRelease,
    responses((status = 201, body = ReleaseView), (status = 404, body = ProblemView), (status = 409, body = ProblemView, description = "The version is taken."), (status = 422, body = ProblemView)))]
pub(super) async fn create(
    State(api): State<Api>,
    Actor(by): Actor,
    Who(who): Who,
    Path(project): Path<String>,
    Strict(body): Strict<CreateRelease>,
) -> Result<(StatusCode, Json<ReleaseView>), Problem> {
    let subject = Subject::New { channel: body.channel.clone(), version: body.version.clone() };
    let permitted = children(&api, &who, "release.create", (&project, &subject), &[]).await?;
    let CreateRelease { version, channel, package, reference } = body;
    let new = NewRelease { version, channel, package, reference, permitted: Some(permitted) };
    Ok((StatusCode::CREATED, Json(api.engine.create_release(&project, new, &by).await?)))
}

/// Releases of a project, newest version first, without what they hold.
#[utoipa::path(get, path = "/projects/{name}/releases", tag = "releases", operation_id = "list_releases", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the project."), ListReleases),
    responses((status = 200, body = Vec<ReleaseView>), (status = 404, body = ProblemView)))]
pub(super) async fn list(
    State(api): State<Api>,
    Path(project): Path<String>,
    Asked(asked): Asked<ListReleases>,
) -> Result<Json<Vec<ReleaseView>>, Problem> {
    let limit = asked.limit.unwrap_or_default();
    let which =
        ReleaseFilter { channel: asked.channel, before: asked.before, limit, local: asked.local.unwrap_or_default() };
    Ok(Json(api.engine.releases(&project, which).await?))
}

/// One release and what it holds.
#[utoipa::path(get, path = "/projects/{name}/releases/{version}", tag = "releases", operation_id = "show_release", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the project."), ("version" = String, Path, description = "Its version.")),
    responses((status = 200, body = ReleaseView), (status = 404, body = ProblemView)))]
pub(super) async fn show(
    State(api): State<Api>,
    Path((project, version)): Path<(String, String)>,
) -> Result<Json<ReleaseView>, Problem> {
    Ok(Json(api.engine.release(&project, &version).await?))
}

/// Forbids every further deployment of a release.
#[utoipa::path(post, path = "/projects/{name}/releases/{version}/block", tag = "releases", operation_id = "block_release", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the project."), ("version" = String, Path, description = "Its version.")), request_body = Block,
    responses((status = 200, body = ReleaseView), (status = 404, body = ProblemView), (status = 422, body = ProblemView)))]
pub(super) async fn block(
    State(api): State<Api>,
    Actor(by): Actor,
    Path((project, version)): Path<(String, String)>,
    Strict(body): Strict<Block>,
) -> Result<Json<ReleaseView>, Problem> {
    Ok(Json(api.engine.block_release(&project, &version, Some(body.reason), &by).await?))
}

/// Allows deployments of a release again.
#[utoipa::path(post, path = "/projects/{name}/releases/{version}/unblock", tag = "releases", operation_id = "unblock_release", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the project."), ("version" = String, Path, description = "Its version.")),
    responses((status = 200, body = ReleaseView), (status = 404, body = ProblemView)))]
pub(super) async fn unblock(
    State(api): State<Api>,
    Actor(by): Actor,
    Path((project, version)): Path<(String, String)>,
) -> Result<Json<ReleaseView>, Problem> {
    Ok(Json(api.engine.block_release(&project, &version, None, &by).await?))
}

/// Deploys a release to the environments of its next phase that do not have it.
#[utoipa::path(post, path = "/projects/{name}/releases/{version}/promote", tag = "releases", operation_id = "promote_release", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the project."), ("version" = String, Path, description = "Its version.")), request_body = Promote,
    responses((status = 202, body = Promoted), (status = 404, body = ProblemView), (status = 409, body = ProblemView), (status = 422, body = ProblemView)))]
pub(super) async fn promote(
    State(api): State<Api>,
    Actor(by): Actor,
    Who(who): Who,
    Path((project, version)): Path<(String, String)>,
    Strict(body): Strict<Promote>,
) -> Result<(StatusCode, Json<Promoted>), Problem> {
    if let Some(before) = api.engine.promoted_before(&project, &version, &body.operation_id).await? {
        return Ok((StatusCode::ACCEPTED, Json(before)));
    }
    let (_, environments) = api.engine.next_phase(&project, &version).await?;
    for environment in &environments {
        let need = Need::new(Permission::Deploy, "release.promote", &format!("release/{project}/{version}"));
        api.engine.authorize(&who, need.at(Some(&project), Some(environment))).await?;
    }
    let environments: Vec<&str> = environments.iter().map(String::as_str).collect();
    children(&api, &who, "release.promote", (&project, &Subject::Release(version.clone())), &environments).await?;
    let promoted = api.engine.promote(&project, &version, &body.operation_id, body.variables, &by).await?;
    Ok((StatusCode::ACCEPTED, Json(promoted)))
}

/// Deploys the release that last succeeded in an environment before the one that is there now.
#[utoipa::path(post, path = "/projects/{name}/rollback", tag = "releases", operation_id = "roll_back", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the project.")), request_body = Rollback,
    responses((status = 202, body = RolledBack), (status = 404, body = ProblemView), (status = 409, body = ProblemView, description = "There is nothing to go back to.")))]
pub(super) async fn rollback(
    State(api): State<Api>,
    Actor(by): Actor,
    Who(who): Who,
    Path(project): Path<String>,
    Strict(body): Strict<Rollback>,
) -> Result<(StatusCode, Json<RolledBack>), Problem> {
    let need = Need::new(Permission::Deploy, "release.roll_back", &format!("project/{project}"));
    api.engine.authorize(&who, need.at(Some(&project), Some(&body.environment))).await?;
    if let Some(before) = api.engine.rolled_back_before(&body.operation_id, &project, &body.environment).await? {
        return Ok((StatusCode::ACCEPTED, Json(before)));
    }
    let target = api.engine.rollback_target(&project, &body.environment).await?;
    children(&api, &who, "release.roll_back", (&project, &Subject::Release(target.clone())), &[&body.environment])
        .await?;
    let rolled = api.engine.rollback(&project, &body.environment, target, &body.operation_id, &by).await?;
    Ok((StatusCode::ACCEPTED, Json(rolled)))
}
