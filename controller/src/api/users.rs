//! Users and teams.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Api;
use super::auth::Actor;
use super::extract::Strict;
use super::problem::{Problem, ProblemView};
use crate::engine::{TeamView, UserView};
use crate::store::people::UserKind;

/// A user to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateUser {
    /// The name, unique for ever.
    name: String,
    /// Not a person but something such as a CI server.
    #[serde(default)]
    service: bool,
}

/// A team to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateTeam {
    /// The name, unique for ever.
    name: String,
    /// Names of its first members.
    #[serde(default)]
    members: Vec<String>,
}

/// All users by name.
#[utoipa::path(get, path = "/users", tag = "people", operation_id = "list_users", security(("token" = [])),
    responses((status = 200, body = Vec<UserView>), (status = 403, body = ProblemView)))]
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Vec<UserView>>, Problem> {
    Ok(Json(api.engine.users().await?))
}

/// Makes a user. It may do nothing until it has a role.
#[utoipa::path(post, path = "/users", tag = "people", operation_id = "create_user", security(("token" = [])),
    request_body = CreateUser,
    responses((status = 201, body = UserView), (status = 403, body = ProblemView), (status = 409, body = ProblemView), (status = 422, body = ProblemView)))]
pub(super) async fn create(
    State(api): State<Api>,
    Actor(by): Actor,
    Strict(body): Strict<CreateUser>,
) -> Result<(StatusCode, Json<UserView>), Problem> {
    let kind = if body.service { UserKind::Service } else { UserKind::Person };
    Ok((StatusCode::CREATED, Json(api.engine.create_user(&body.name, kind, &by).await?)))
}

/// Lets a user's tokens count no more. What it asked for before goes on.
#[utoipa::path(post, path = "/users/{name}/disable", tag = "people", operation_id = "disable_user", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the user")),
    responses((status = 200, body = UserView), (status = 403, body = ProblemView), (status = 404, body = ProblemView), (status = 409, body = ProblemView)))]
pub(super) async fn disable(
    State(api): State<Api>,
    Actor(by): Actor,
    Path(name): Path<String>,
) -> Result<Json<UserView>, Problem> {
    Ok(Json(api.engine.enable_user(&name, false, &by).await?))
}

/// Lets a user's tokens count again.
#[utoipa::path(post, path = "/users/{name}/enable", tag = "people", operation_id = "enable_user", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the user")),
    responses((status = 200, body = UserView), (status = 403, body = ProblemView), (status = 404, body = ProblemView)))]
pub(super) async fn enable(
    State(api): State<Api>,
    Actor(by): Actor,
    Path(name): Path<String>,
) -> Result<Json<UserView>, Problem> {
    Ok(Json(api.engine.enable_user(&name, true, &by).await?))
}

/// All teams by name.
#[utoipa::path(get, path = "/teams", tag = "people", operation_id = "list_teams", security(("token" = [])),
    responses((status = 200, body = Vec<TeamView>), (status = 403, body = ProblemView)))]
pub(super) async fn list_teams(State(api): State<Api>) -> Result<Json<Vec<TeamView>>, Problem> {
    Ok(Json(api.engine.teams().await?))
}

/// Makes a team.
#[utoipa::path(post, path = "/teams", tag = "people", operation_id = "create_team", security(("token" = [])),
    request_body = CreateTeam,
    responses((status = 201, body = TeamView), (status = 403, body = ProblemView), (status = 404, body = ProblemView, description = "A member is no user."), (status = 409, body = ProblemView), (status = 422, body = ProblemView)))]
pub(super) async fn create_team(
    State(api): State<Api>,
    Actor(by): Actor,
    Strict(body): Strict<CreateTeam>,
) -> Result<(StatusCode, Json<TeamView>), Problem> {
    Ok((StatusCode::CREATED, Json(api.engine.create_team(&body.name, body.members, &by).await?)))
}

/// Puts a user into a team; one that is in stays in.
#[utoipa::path(put, path = "/teams/{team}/members/{user}", tag = "people", operation_id = "add_member", security(("token" = [])),
    params(("team" = String, Path, description = "Name of the team"), ("user" = String, Path, description = "Name of the user")),
    responses((status = 200, body = TeamView), (status = 403, body = ProblemView), (status = 404, body = ProblemView)))]
pub(super) async fn add_member(
    State(api): State<Api>,
    Actor(by): Actor,
    Path((team, user)): Path<(String, String)>,
) -> Result<Json<TeamView>, Problem> {
    Ok(Json(api.engine.set_member(&team, &user, true, &by).await?))
}

/// Takes a user out of a team; one that is out stays out.
#[utoipa::path(delete, path = "/teams/{team}/members/{user}", tag = "people", operation_id = "remove_member", security(("token" = [])),
    params(("team" = String, Path, description = "Name of the team"), ("user" = String, Path, description = "Name of the user")),
    responses((status = 200, body = TeamView), (status = 403, body = ProblemView), (status = 404, body = ProblemView), (status = 409, body = ProblemView)))]
pub(super) async fn remove_member(
    State(api): State<Api>,
    Actor(by): Actor,
    Path((team, user)): Path<(String, String)>,
) -> Result<Json<TeamView>, Problem> {
    Ok(Json(api.engine.set_member(&team, &user, false, &by).await?))
}
