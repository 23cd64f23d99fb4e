//! Signals: the first SIGTERM or SIGINT drains, the second ends the agent at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::supervisor::Stop;
use crate::tasks::Tasks;

/// Listens for as long as the tasks live.
///
/// # Errors
/// When the operating system does not let this process listen.
pub fn watch_signals(tasks: &Tasks) -> std::io::Result<watch::Receiver<Stop>> {
    let (stop_tx, stop_rx) = watch::channel(Stop::Run);
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tasks.spawn("signals", async move {
        for stop in [Stop::Drain, Stop::Now] {
            either(&mut term, &mut int).await;
            tracing::info!(?stop, "told to stop");
            stop_tx.send_replace(stop);
        }
        std::future::pending::<()>().await;
    });
    Ok(stop_rx)
}

async fn either(term: &mut Signal, int: &mut Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
