//! What systemd is told (`sd_notify(3)`); without it nothing happens.

use std::convert::Infallible;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::tasks::{OnError, Tasks};

/// Beyond the grace times: the database is closed after them.
const CLOSING: Duration = Duration::from_secs(10);

/// The service manager, if there is one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manager;

impl Manager {
    /// Both planes are served; from now on the watchdog, when there is one, is told that tasks get their turn.
    pub fn serving(self, tasks: &Tasks) {
        if let Some(limit) = sd_notify::watchdog_enabled() {
            tasks.spawn_until_stop::<Infallible>("watchdog", OnError::Log, beat(limit / 2));
        }
        tell(&[NotifyState::Ready]);
    }

    /// The controller ends: requests get `grace`, then tasks do.
    pub fn stopping(self, grace: Duration) {
        let within = grace.saturating_mul(2).saturating_add(CLOSING);
        let micros = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
        tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros)]);
    }
}

/// Never ends by itself.
async fn beat(every: Duration) -> Result<(), Infallible> {
    let mut beat = tokio::time::interval(every);
    loop {
        beat.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be told");
    }
}
