//! Signals: the first SIGTERM or SIGINT drains, the second ends the agent at once; SIGHUP reads the configuration
//! again.

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

/// Counts the SIGHUPs, for as long as the tasks live. Those that come before somebody looks are not lost.
///
/// # Errors
/// When the operating system does not let this process listen.
pub fn watch_hangups(tasks: &Tasks) -> std::io::Result<watch::Receiver<u64>> {
    let (count_tx, count_rx) = watch::channel(0);
    let mut hangup = signal(SignalKind::hangup())?;
    tasks.spawn("hangups", async move {
        while hangup.recv().await.is_some() {
            count_tx.send_modify(|count| *count += 1);
        }
    });
    Ok(count_rx)
}

async fn either(term: &mut Signal, int: &mut Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
