//! Agents and the locks that what runs on them holds.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use longshore_core::id::AgentId;

use super::Api;
use super::auth::Actor;
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

/// Held locks by key.
#[utoipa::path(get, path = "/locks", tag = "agents", operation_id = "list_locks", security(("token" = [])),
    responses((status = 200, body = Vec<LockView>)))]
pub(super) async fn locks(State(api): State<Api>) -> Result<Json<Vec<LockView>>, Problem> {
    Ok(Json(api.engine.locks().await?))
}
