//! The API on the wire: HTTP/1.1 alone, over TLS or not.
//!
//! A connection that says nothing, or says it slowly, is closed; one whose request is being answered is left alone.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::identity::{Connection, Incoming};
use crate::tasks::{OnError, Tasks};

/// Serves the API until `stop`; then no connection is accepted any more, and open requests are waited for. `head`: how long the
/// head of a request may take, from the connection's begin or the answer before.
pub async fn serve(tasks: &Tasks, mut incoming: Incoming, router: Router, head: Duration, stop: &CancellationToken) {
    let open = TaskTracker::new();
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(head);
    while let Some(connection) = stop.run_until_cancelled(incoming.accept()).await {
        let (builder, router, stop, token) = (builder.clone(), router.clone(), stop.clone(), open.token());
        tasks.spawn_until_stop("api-connection", OnError::Log, hold(builder, connection, router, stop, token));
    }
    open.close();
    open.wait().await;
}

async fn hold(
    builder: Builder<TokioExecutor>,
    connection: Connection,
    router: Router,
    stop: CancellationToken,
    _open: TaskTrackerToken,
) -> Result<(), Infallible> {
    let served = builder.serve_connection(TokioIo::new(connection), TowerToHyperService::new(router));
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of the API broke");
    }
    Ok(())
}
