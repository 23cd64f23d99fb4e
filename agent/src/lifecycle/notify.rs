//! What systemd is told (`sd_notify(3)`); without it nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;

use crate::supervisor::Stop;
use crate::tasks::Tasks;

/// How much more time is asked for at once while jobs are waited for.
const MORE_TIME: Duration = Duration::from_secs(60);

/// The service manager, if there is one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manager;

impl Manager {
    /// The agent works.
    pub fn ready(self) {
        tell(&[NotifyState::Ready, NotifyState::Status("takes jobs")]);
    }

    /// The agent does not take jobs yet, and says why; the manager hears of it again within this time.
    pub fn waiting(self, reason: &str, within: Duration) {
        let micros = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
        tell(&[NotifyState::Status(reason), NotifyState::ExtendTimeoutUsec(micros)]);
    }

    /// While the agent waits for its jobs, systemd waits with it, however long `drain_timeout` is. `STOPPING=1` comes later:
    /// after it systemd would not pass the second SIGTERM on, which ends the waiting.
    pub fn watch_drain(self, tasks: &Tasks, mut stop: watch::Receiver<Stop>) {
        tasks.spawn("drain", async move {
            if stop.wait_for(|stop| *stop != Stop::Run).await.is_err() {
                return;
            }
            let mut beat = tokio::time::interval(MORE_TIME / 2);
            loop {
                beat.tick().await;
                tell(&[extend(MORE_TIME)]);
            }
        });
    }

    /// The agent ends, and needs at most this long for it.
    pub fn stopping(self, within: Duration) {
        tell(&[NotifyState::Stopping, extend(within)]);
    }

    /// Tells the watchdog, when it wants to be told, that the event loop turns.
    pub fn watch(self, tasks: &Tasks) {
        let Some(limit) = sd_notify::watchdog_enabled() else { return };
        tasks.spawn("watchdog", async move {
            let mut beat = tokio::time::interval(limit / 2);
            loop {
                beat.tick().await;
                tell(&[NotifyState::Watchdog]);
            }
        });
    }
}

/// Asks for more time to stop in than the unit gives.
fn extend(within: Duration) -> NotifyState<'static> {
    NotifyState::ExtendTimeoutUsec(u32::try_from(within.as_micros()).unwrap_or(u32::MAX))
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
