//! Agents and the locks that what runs on them holds.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use longshore_core::access::Permission;
use longshore_core::id::{AgentId, DeploymentId};

use super::Api;
use super::auth::{Actor, Who};
use super::extract::Id;
use super::problem::{Problem, ProblemView};
use crate::engine::{AgentView, LockView};

/// All agents, oldest first.
#[utoipa::path(get, path = "/agents", tag = "agents", operation_id = "list_agents", security(("token" = [])),
    responses((status = 200, body = Vec<AgentView>)))]
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Vec<AgentView>>, Problem> {
    Ok(Json(api.engine.agents().await?))
}

/// Cuts an agent off: its certificate counts no more.
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
