//! What systemd is told (`sd_notify(3)`); without it nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::tasks::Tasks;

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

    /// The agent ends, and needs at most this long for it.
    pub fn stopping(self, within: Duration) {
        let micros = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
        tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros)]);
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

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
