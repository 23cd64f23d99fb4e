//! What an agent finds when it starts: attempts in the ledger, containers and volumes at the engine.

use std::collections::BTreeSet;

use longshore_core::id::AttemptId;

use super::{Runtime, Supervisor};
use crate::executor::{Found, FoundState};
use crate::ledger::Entry;
use crate::retry::Retry;
use crate::session::Held;

/// Everything that was found.
#[derive(Debug)]
pub struct Inventory {
    /// From the ledger.
    pub entries: Vec<Entry>,
    /// From the engine.
    pub containers: Vec<Found>,
}

impl<R: Runtime> Supervisor<R> {
    /// Looks at ledger and engine. Waits for the engine: what it has must be known before the controller hears a word,
    /// because the absence of a container counts as proof.
    ///
    /// # Errors
    /// When the ledger's directory cannot be read.
    pub async fn take_stock(&self) -> std::io::Result<Inventory> {
        let ledger = self.shared.ledger.clone();
        let entries = crate::tasks::blocking(move || ledger.load()).await?;
        let mut retry = Retry::new(self.shared.retry);
        loop {
            match self.shared.runtime.list().await {
                Ok(containers) => return Ok(Inventory { entries, containers }),
                Err(error) => tracing::error!(
                    error = error.full(),
                    "the container engine has to say what it has before this agent reports to its controller; trying again"
                ),
            }
            retry.pause().await;
        }
    }

    /// Goes on with everything that was found; what belongs to nothing is removed.
    pub async fn resume(&mut self, inventory: Inventory) {
        let known: BTreeSet<AttemptId> = inventory.entries.iter().map(|entry| entry.offer.fence.attempt).collect();
        let (helpers, containers): (Vec<_>, Vec<_>) = inventory.containers.into_iter().partition(|found| found.helper);
        for helper in helpers {
            super::attempt::remove(&self.shared, &helper.id).await;
        }
        for entry in inventory.entries {
            tracing::info!(attempt = %entry.offer.fence.attempt, reached = ?entry.reached.as_ref().map(|reached| reached.step), "going on with an attempt");
            self.board_entry(&entry);
            let slot = self.shared.board.occupy();
            self.begin(entry.offer.clone(), slot, Some(entry));
        }
        let strays: Vec<_> = containers.into_iter().filter(|found| !known.contains(&found.attempt)).collect();
        self.stop_strays(&strays).await;
        self.remove_stray_volumes(&known).await;
        self.collect_images();
    }

    /// Stops containers that the ledger knows nothing of: the state directory was lost or set aside, and with it their log
    /// and result. It is done before the controller is reached, because it takes the absence of an attempt from the hello as
    /// proof that nothing of it runs (promise P3).
    async fn stop_strays(&self, strays: &[Found]) {
        for found in strays {
            tracing::error!(attempt = %found.attempt, container = found.id, "a container without a ledger: it is stopped, and its step is lost");
            if found.state == FoundState::Running {
                super::attempt::stop_container(&self.shared.runtime, found.attempt, found, false).await;
            }
            super::attempt::remove(&self.shared, &found.id).await;
        }
    }

    /// Says that an attempt is held before its task has run for the first time.
    fn board_entry(&self, entry: &Entry) {
        let reached = entry.reached.as_ref();
        self.shared.board.hold(Held {
            fence: entry.offer.fence,
            step: reached
                .map_or_else(|| entry.offer.steps.first().map_or(0, |step| step.index), |reached| reached.step),
            container: reached.map(|reached| reached.intent.container.clone()),
            started: reached.is_some_and(|reached| reached.started.is_some()),
        });
    }

    async fn remove_stray_volumes(&self, known: &BTreeSet<AttemptId>) {
        let found = match self.shared.runtime.list_volumes().await {
            Ok(found) => found,
            Err(error) => return tracing::warn!(error = error.full(), "volumes that belong to nothing may be left"),
        };
        for attempt in found.into_iter().filter(|attempt| !known.contains(attempt)) {
            match self.shared.runtime.remove_volume(attempt).await {
                Ok(()) => tracing::info!(%attempt, "removed a volume that belonged to nothing"),
                Err(error) => tracing::warn!(%attempt, error = error.full(), "a volume that belongs to nothing stays"),
            }
        }
    }
}
