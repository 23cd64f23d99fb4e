//! Agents and the locks that what runs on them holds.

#![expect(unused_qualifications, reason = "utoipa writes paths out in full")]

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use longshore_core::access::Permission;
use longshore_core::id::{AgentId, DeploymentId};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::auth::{Actor, Who};
use super::extract::{Asked, Id, Strict};
use super::problem::{Problem, ProblemView};
use crate::engine::{AgentView, LockView};

/// Most characters of a reason.
const MAX_REASON: usize = 500;

/// Which agents.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct AskAgents {
    /// Ephemeral ones that are gone as well.
    #[serde(default)]
    all: bool,
}

/// Agents, oldest first; ephemeral ones that are gone are left out unless all are asked for.
#[utoipa::path(get, path = "/agents", tag = "agents", operation_id = "list_agents", security(("token" = [])),
    params(AskAgents), responses((status = 200, body = Vec<AgentView>), (status = 400, body = ProblemView)))]
pub(super) async fn list(
    State(api): State<Api>,
    Asked(asked): Asked<AskAgents>,
) -> Result<Json<Vec<AgentView>>, Problem> {
    Ok(Json(if asked.all { api.engine.all_agents().await? } else { api.engine.agents().await? }))
}

/// Cuts an agent off: its certificate counts no more, and its streams end.
#[utoipa::path(post, path = "/agents/{id}/revoke", tag = "agents", operation_id = "revoke_agent", security(("token" = [])),
    params(("id" = String, Path, description = "`agt_...`")),
    responses((status = 204), (status = 404, body = ProblemView), (status = 409, body = ProblemView)))]
pub(super) async fn revoke(
    State(api): State<Api>,
    Actor(by): Actor,
    Id(id): Id<AgentId>,
) -> Result<StatusCode, Problem> {
    api.engine.revoke_agent(id, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets an agent that was quarantined have jobs again. One that was not has its failures forgotten.
#[utoipa::path(post, path = "/agents/{id}/release", tag = "agents", operation_id = "release_agent", security(("token" = [])),
    params(("id" = String, Path, description = "`agt_...`")),
    responses((status = 204), (status = 404, body = ProblemView)))]
pub(super) async fn release(
    State(api): State<Api>,
    Actor(by): Actor,
    Id(id): Id<AgentId>,
) -> Result<StatusCode, Problem> {
    api.engine.release_agent(id, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets the machine of an agent that joined by a rule join again, as another agent.
#[utoipa::path(post, path = "/agents/{id}/readmit", tag = "agents", operation_id = "readmit_agent", security(("token" = [])),
    params(("id" = String, Path, description = "`agt_...`")),
    responses((status = 204), (status = 404, body = ProblemView), (status = 409, body = ProblemView)))]
pub(super) async fn readmit(
    State(api): State<Api>,
    Actor(by): Actor,
    Id(id): Id<AgentId>,
) -> Result<StatusCode, Problem> {
    api.engine.readmit(id, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Why an agent is to take no more jobs.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DrainBody {
    /// For people.
    reason: Option<String>,
}

/// Offers an agent no more jobs; what it has goes on. Until it is taken back, over restarts of both.
#[utoipa::path(post, path = "/agents/{id}/drain", tag = "agents", operation_id = "drain_agent", security(("token" = [])),
    params(("id" = String, Path, description = "`agt_...`")), request_body = DrainBody,
    responses((status = 204), (status = 404, body = ProblemView), (status = 409, body = ProblemView), (status = 422, body = ProblemView)))]
pub(super) async fn drain(
    State(api): State<Api>,
    Actor(by): Actor,
    Id(id): Id<AgentId>,
    Strict(body): Strict<DrainBody>,
) -> Result<StatusCode, Problem> {
    let reason = body.reason.map(|reason| reason.trim().to_owned()).filter(|reason| !reason.is_empty());
    let reason = reason.unwrap_or_else(|| "no reason was given".to_owned());
    if reason.chars().count() > MAX_REASON {
        let detail = format!("`reason`: it is longer than {MAX_REASON} characters; nothing was changed");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail));
    }
    api.engine.drain_agent(id, reason, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Offers an agent jobs again, unless it drains by itself.
#[utoipa::path(post, path = "/agents/{id}/undrain", tag = "agents", operation_id = "undrain_agent", security(("token" = [])),
    params(("id" = String, Path, description = "`agt_...`")),
    responses((status = 204), (status = 404, body = ProblemView), (status = 409, body = ProblemView)))]
pub(super) async fn undrain(
    State(api): State<Api>,
    Actor(by): Actor,
    Id(id): Id<AgentId>,
) -> Result<StatusCode, Problem> {
    api.engine.undrain_agent(id, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Held locks by key, of deployments that the caller may see.
#[utoipa::path(get, path = "/locks", tag = "agents", operation_id = "list_locks", security(("token" = [])),
    responses((status = 200, body = Vec<LockView>)))]
pub(super) async fn locks(State(api): State<Api>, Who(who): Who) -> Result<Json<Vec<LockView>>, Problem> {
    let locks = api.engine.locks().await?;
    if who.places(Permission::View).is_none() {
        return Ok(Json(locks));
    }
    let mut seen = Vec::new();
    for lock in locks {
        let Ok(id) = lock.deployment.parse::<DeploymentId>() else { continue };
        let place = api.engine.place_of(id).await?;
        if who.may(Permission::View, place.project.as_deref(), place.environment.as_deref()) {
            seen.push(lock);
        }
    }
    Ok(Json(seen))
}
