//! Roles that users and teams are given. Who administers a place gives roles in it, and nowhere else.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use longshore_core::access::{Grant, Permission, Role};
use longshore_core::id::GrantId;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Api;
use super::auth::{Actor, Who};
use super::extract::{Id, Strict};
use super::problem::{Problem, ProblemView};
use crate::engine::{GrantView, Need};
use crate::store::people::Subject;

/// A role to give, to a user or to a team.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantRole {
    /// Name of the user.
    #[serde(default)]
    user: Option<String>,
    /// Name of the team.
    #[serde(default)]
    team: Option<String>,
    /// `viewer`, `deployer`, `approver` or `admin`.
    role: String,
    /// In this project only; all when it is not said.
    #[serde(default)]
    project: Option<String>,
    /// In this environment only; all when it is not said.
    #[serde(default)]
    environment: Option<String>,
}

/// A role as it was written.
pub(super) fn role(text: &str) -> Result<Role, Problem> {
    text.parse().map_err(|error: longshore_core::access::InvalidRole| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", format!("`role`: {error}"))
    })
}

/// Roles that were given in places that the caller administers, oldest first.
#[utoipa::path(get, path = "/role-grants", tag = "people", operation_id = "list_role_grants", security(("token" = [])),
    responses((status = 200, body = Vec<GrantView>), (status = 403, body = ProblemView)))]
pub(super) async fn list(State(api): State<Api>, Who(who): Who) -> Result<Json<Vec<GrantView>>, Problem> {
    let seen = |grant: &Grant| who.may(Permission::Administer, grant.project.as_deref(), grant.environment.as_deref());
    let rows = api.engine.grants().await?;
    Ok(Json(rows.into_iter().filter(|row| seen(&row.grant)).map(GrantView::of).collect()))
}

/// Gives a role. The same one again answers with the one there is.
#[utoipa::path(post, path = "/role-grants", tag = "people", operation_id = "grant_role", security(("token" = [])),
    request_body = GrantRole,
    responses((status = 201, body = GrantView), (status = 200, body = GrantView, description = "It was given before."), (status = 403, body = ProblemView), (status = 404, body = ProblemView), (status = 422, body = ProblemView)))]
pub(super) async fn grant(
    State(api): State<Api>,
    Actor(by): Actor,
    Who(who): Who,
    Strict(body): Strict<GrantRole>,
) -> Result<(StatusCode, Json<GrantView>), Problem> {
    let GrantRole { user, team, role: text, project, environment } = body;
    let (subject, object) = match (user, team) {
        (Some(user), None) => (Subject::User(user.clone()), format!("user/{user}")),
        (None, Some(team)) => (Subject::Team(team.clone()), format!("team/{team}")),
        _ => {
            let detail = "`user`, `team`: name one of both";
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail));
        }
    };
    let need = Need::new(Permission::Administer, "role.grant", &object);
    api.engine.authorize(&who, need.at(project.as_deref(), environment.as_deref())).await?;
    let grant = Grant { role: role(&text)?, project, environment };
    let (view, new) = api.engine.grant_role(subject, grant, &by).await?;
    Ok((if new { StatusCode::CREATED } else { StatusCode::OK }, Json(view)))
}

/// Takes a role back.
#[utoipa::path(delete, path = "/role-grants/{id}", tag = "people", operation_id = "revoke_role", security(("token" = [])),
    params(("id" = String, Path, description = "`grn_...`")),
    responses((status = 200, body = GrantView), (status = 403, body = ProblemView), (status = 404, body = ProblemView), (status = 409, body = ProblemView, description = "Nobody could administer the server any more.")))]
pub(super) async fn revoke(
    State(api): State<Api>,
    Actor(by): Actor,
    Who(who): Who,
    Id(id): Id<GrantId>,
) -> Result<Json<GrantView>, Problem> {
    let need = Need::new(Permission::Administer, "role.revoke", &format!("role/{id}"));
    // Where there is none, only who administers the server learns so.
    let row = api.engine.grants().await?.into_iter().find(|row| row.id == id);
    let need = match &row {
        Some(row) => need.at(row.grant.project.as_deref(), row.grant.environment.as_deref()),
        None => need,
    };
    api.engine.authorize(&who, need).await?;
    Ok(Json(api.engine.revoke_role(id, &by).await?))
}
