//! Whether the controller lives, whether it can work, and its numbers (listed in `docs/metrics.md`).

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use longshore_core::deployment::DeploymentState;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::problem::{Problem, chain};
use crate::store;

/// Whether the controller can work.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ready {
    /// It can.
    ready: bool,
    /// Why not, for people.
    problems: Vec<String>,
}

/// The process lives.
#[utoipa::path(get, path = "/healthz", tag = "server", operation_id = "healthz", responses((status = 200, body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The controller can accept work.
#[utoipa::path(get, path = "/readyz", tag = "server", operation_id = "readyz",
    responses((status = 200, body = Ready), (status = 503, body = Ready, description = "`problems` says why not.")))]
pub(super) async fn readyz(State(api): State<Api>) -> (StatusCode, Json<Ready>) {
    let mut problems = api.engine.health();
    let installed = api.store.read(|tx| tx.meta()).await;
    match installed {
        Ok(Some(_)) => {}
        Ok(None) => problems.push("the database has no installation".to_owned()),
        Err::<_, store::Error>(error) => problems.push(chain(&error)),
    }
    if api.accepting.is_cancelled() {
        problems.push("the controller is stopping".to_owned());
    }
    let ready = problems.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Ready { ready, problems }))
}

/// The controller's numbers in the Prometheus text format.
#[utoipa::path(get, path = "/metrics", tag = "server", operation_id = "metrics", responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn metrics(State(api): State<Api>) -> Result<Response, Problem> {
    let agents = api.engine.agents().await?;
    let connected = agents.iter().filter(|agent| matches!(agent.state.as_str(), "connected" | "draining")).count();
    gauge("longshore_agents_connected", connected);
    gauge("longshore_agents", agents.len());
    let Rows { queued, live, locks, deployments } = rows(&api).await?;
    gauge("longshore_queue_depth", queued);
    gauge("longshore_locks_held", locks);
    for state in DeploymentState::ALL {
        let count = deployments.iter().find(|(found, _)| *found == state).map_or(0, |(_, count)| *count);
        metrics::gauge!("longshore_deployments", "state" => state.as_str()).set(number(count));
    }
    for state in ["offered", "preparing", "running", "unknown"] {
        let count = live.iter().filter(|name| **name == state).count();
        metrics::gauge!("longshore_attempts", "state" => state).set(number(count as u64));
    }
    api.1.set(&api.engine.scaling_of_all().await?);
    api.metrics.run_upkeep();
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, api.metrics.render()).into_response())
}

/// What is counted when it is asked for, since the rows are the truth.
struct Rows {
    queued: usize,
    live: Vec<&'static str>,
    locks: usize,
    deployments: Vec<(DeploymentState, u64)>,
}

async fn rows(api: &Api) -> Result<Rows, store::Error> {
    api.store
        .read(|tx| {
            Box::pin(async move {
                let queued = usize::try_from(tx.queued_count().await?).unwrap_or(usize::MAX);
                let live = tx.live_attempts().await?.iter().map(|row| row.attempt.state.name()).collect();
                let locks = tx.locks().await?.len();
                Ok(Rows { queued, live, locks, deployments: tx.deployment_counts().await? })
            })
        })
        .await
}

fn gauge(name: &'static str, value: usize) {
    metrics::gauge!(name).set(number(value as u64));
}

/// Counts of rows are far below where a float becomes inexact.
fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
