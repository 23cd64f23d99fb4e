//! Signals: the first SIGTERM drains, the second cancels the jobs by the protocol, the third ends the agent at once. A SIGINT
//! before or after any of them ends it at once, with its jobs running on in their containers: that is how it is replaced.
//! SIGHUP reads the configuration again.

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
        let mut told = Told::default();
        loop {
            let interrupt = either(&mut term, &mut int).await;
            let stop = told.by(interrupt);
            tracing::info!(?stop, "told to stop");
            stop_tx.send_replace(stop);
        }
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

/// What was told so far.
#[derive(Debug, Default)]
struct Told {
    signals: u32,
    interrupted: bool,
}

impl Told {
    fn by(&mut self, interrupt: bool) -> Stop {
        self.signals += 1;
        self.interrupted |= interrupt;
        match (self.signals, self.interrupted) {
            (1, _) => Stop::Drain,
            (2, false) => Stop::Cancel,
            _ => Stop::Now,
        }
    }
}

/// Whether it was SIGINT.
async fn either(term: &mut Signal, int: &mut Signal) -> bool {
    tokio::select! {
        _ = term.recv() => false,
        _ = int.recv() => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_of_a_kind_cancel_and_two_kinds_replace() {
        let stops = |signals: &[bool]| {
            let mut told = Told::default();
            signals.iter().map(|interrupt| told.by(*interrupt)).collect::<Vec<_>>()
        };
        assert_eq!(stops(&[false, false, false]), [Stop::Drain, Stop::Cancel, Stop::Now]);
        for replaced in [[true, false], [false, true], [true, true]] {
            assert_eq!(stops(&replaced), [Stop::Drain, Stop::Now], "{replaced:?}");
        }
    }
}
