//! Pools and their settings.

#![expect(unused_qualifications, reason = "utoipa writes paths out in full")]

use axum::Json;
use axum::extract::{Path, State};
use longshore_core::pool::Pool;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Api;
use super::auth::Actor;
use super::extract::{Asked, Strict};
use super::problem::{Problem, ProblemView};
use crate::engine::{PoolView, ScalingView};

/// How the settings of a pool are replaced.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct SetPool {
    /// Only if this is the newest revision of the settings; 0: only if nothing was ever set. The same settings again are never refused.
    if_revision: Option<u64>,
}

/// The pools by name: those that something was set for, and those that an agent belongs to.
#[utoipa::path(get, path = "/pools", tag = "agents", operation_id = "list_pools", security(("token" = [])),
    responses((status = 200, body = Vec<PoolView>), (status = 403, body = ProblemView)))]
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Vec<PoolView>>, Problem> {
    Ok(Json(api.engine.pools().await?))
}

/// A pool. One that nothing was set for has the defaults.
#[utoipa::path(get, path = "/pools/{pool}", tag = "agents", operation_id = "show_pool", security(("token" = [])),
    params(("pool" = String, Path, description = "Name of the pool")),
    responses((status = 200, body = PoolView), (status = 403, body = ProblemView), (status = 422, body = ProblemView)))]
pub(super) async fn show(State(api): State<Api>, Path(pool): Path<String>) -> Result<Json<PoolView>, Problem> {
    Ok(Json(api.engine.pool(&pool).await?))
}

/// Replaces the settings of a pool: what is left out has its default.
#[utoipa::path(put, path = "/pools/{pool}", tag = "agents", operation_id = "set_pool", security(("token" = [])),
    params(("pool" = String, Path, description = "Name of the pool"), SetPool),
    request_body(content = Object, description = "The settings; `docs/pools.md` lists the fields"),
    responses(
        (status = 200, body = PoolView),
        (status = 403, body = ProblemView),
        (status = 409, body = ProblemView, description = "`revision_moved`: the newest revision is not `if_revision`"),
        (status = 422, body = ProblemView),
    ))]
pub(super) async fn set(
    State(api): State<Api>,
    Actor(by): Actor,
    Path(pool): Path<String>,
    Asked(query): Asked<SetPool>,
    Strict(settings): Strict<Pool>,
) -> Result<Json<PoolView>, Problem> {
    Ok(Json(api.engine.set_pool(&pool, settings, query.if_revision, &by).await?))
}

/// What is seen of a pool: how many jobs wait for what, what its agents have, and what the scaler makes of it.
#[utoipa::path(get, path = "/pools/{pool}/scaling", tag = "agents", operation_id = "show_pool_scaling", security(("token" = [])),
    params(("pool" = String, Path, description = "Name of the pool")),
    responses((status = 200, body = ScalingView), (status = 403, body = ProblemView), (status = 422, body = ProblemView)))]
pub(super) async fn scaling(State(api): State<Api>, Path(pool): Path<String>) -> Result<Json<ScalingView>, Problem> {
    Ok(Json(api.engine.scaling(&pool).await?))
}
