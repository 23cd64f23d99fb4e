//! Writes the file whenever something changes.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use longshore_core::time::Timestamp;
use tokio::sync::watch;

use super::{FILE, Job, Live};
use crate::session::{About, Contact, Snapshot};
use crate::supervisor::Phases;

/// Where the facts come from.
#[derive(Debug)]
pub struct Facts {
    /// Where the controller is.
    pub controller: String,
    /// The proxy on the way, without its password.
    pub proxy: Option<String>,
    /// What the agent says of itself.
    pub about: watch::Receiver<About>,
    /// What it holds.
    pub snapshot: watch::Receiver<Snapshot>,
    /// What its attempts are doing.
    pub phases: watch::Receiver<Phases>,
    /// When the controller was last heard of.
    pub contact: watch::Receiver<Contact>,
}

/// Forgets what an agent before said. Nothing is wrong when there is nothing.
pub fn clear(state_dir: &Path) {
    match std::fs::remove_file(state_dir.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, "the status of the agent before cannot be removed");
        }
        _ => {}
    }
}

/// Writes the file now and after each change, for as long as the agent runs.
pub async fn keep(state_dir: PathBuf, mut facts: Facts) {
    let started_at = crate::clock::now();
    let (mut connected, mut since) = (false, started_at);
    let mut said = false;
    loop {
        let now = crate::clock::now();
        let contact = *facts.contact.borrow_and_update();
        if contact.connected != connected {
            (connected, since) = (contact.connected, now);
        }
        let live = Live { started_at: Some(started_at), since: Some(since), ..facts.live(contact, now) };
        let dir = state_dir.clone();
        let written = crate::tasks::blocking(move || write(&dir, &serde_json::to_vec(&live)?)).await;
        if let Err(error) = written
            && !std::mem::replace(&mut said, true)
        {
            tracing::warn!(%error, "`longshore-agent status` will not know: its file cannot be written");
        }
        let more = tokio::select! {
            changed = facts.contact.changed() => changed,
            changed = facts.snapshot.changed() => changed,
            changed = facts.phases.changed() => changed,
            () = crate::tasks::changed(&mut facts.about) => Ok(()),
        };
        if more.is_err() {
            return;
        }
    }
}

impl Facts {
    fn live(&mut self, contact: Contact, now: Timestamp) -> Live {
        let snapshot = self.snapshot.borrow_and_update().clone();
        let phases = self.phases.borrow_and_update().clone();
        let jobs = snapshot.held.iter().map(|held| Job {
            attempt: held.fence.attempt,
            step: held.step,
            phase: phases.get(&held.fence.attempt).map(|phase| phase.as_str().to_owned()),
            started: held.started,
            container: held.container.clone(),
        });
        Live {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            controller: self.controller.clone(),
            proxy: self.proxy.clone(),
            connected: contact.connected,
            last_heard_at: heard_at(contact.last_micros, crate::clock::boot_micros(), now),
            draining: snapshot.draining.clone(),
            until: snapshot.until,
            told: snapshot.told.clone(),
            slots: self.about.borrow_and_update().slots,
            free_slots: snapshot.free_slots,
            engine: snapshot.engine.as_ref().map(|engine| engine.version.clone()),
            engine_root: snapshot.engine.and_then(|engine| engine.root),
            low: snapshot.low.iter().map(ToString::to_string).collect(),
            plugins: snapshot.plugins.clone(),
            images: snapshot.images,
            jobs: jobs.collect(),
            ..Live::default()
        }
    }
}

/// A time of the boot clock by the wall clock; 0 is never.
fn heard_at(heard: u64, boot: u64, now: Timestamp) -> Option<Timestamp> {
    let ago = i64::try_from(boot.saturating_sub(heard)).ok()?;
    (heard > 0).then(|| Timestamp::from_micros(now.as_micros().saturating_sub(ago)))
}

/// Replaces the file as a whole. Not durably: after a crash it means nothing.
fn write(state_dir: &Path, content: &[u8]) -> io::Result<()> {
    let unfinished = state_dir.join(format!("{FILE}{}", crate::durable::UNFINISHED));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(content)?;
    std::fs::rename(unfinished, state_dir.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_is_told_by_the_wall_clock() {
        let now = Timestamp::from_micros(1_000_000_000);
        assert_eq!(heard_at(0, 50, now), None);
        assert_eq!(heard_at(20_000_000, 50_000_000, now), Some(Timestamp::from_micros(970_000_000)));
    }
}
