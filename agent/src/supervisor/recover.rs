//! What an agent finds when it starts: attempts in the ledger, containers and volumes at the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_core::fence::Fence;
use longshore_core::id::{AttemptId, JobId};

use super::orphan::Orphan;
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
                Err(error) => tracing::error!(error = error.full(), "the container engine has to say what it has before this agent reports to its controller; trying again"),
            }
            retry.pause().await;
        }
    }

    /// Goes on with everything that was found; what belongs to nothing is removed.
    pub async fn resume(&mut self, inventory: Inventory) {
        let known: BTreeSet<AttemptId> = inventory.entries.iter().map(|entry| entry.offer.fence.attempt).collect();
        let mut jobs: BTreeSet<_> = inventory.entries.iter().map(|entry| entry.offer.job).collect();
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
        let mut orphans: BTreeMap<AttemptId, Vec<Found>> = BTreeMap::new();
        for found in containers.into_iter().filter(|found| !known.contains(&found.attempt)) {
            jobs.insert(found.job);
            orphans.entry(found.attempt).or_default().push(found);
        }
        for (attempt, containers) in orphans {
            self.adopt(attempt, containers);
        }
        self.remove_stray_volumes(&jobs).await;
    }

    /// Says that an attempt is held before its task has run for the first time.
    fn board_entry(&self, entry: &Entry) {
        let reached = entry.reached.as_ref();
        self.shared.board.hold(Held {
            fence: entry.offer.fence,
            step: reached.map_or_else(|| entry.offer.steps.first().map_or(0, |step| step.index), |reached| reached.step),
            container: reached.map(|reached| reached.intent.container.clone()),
            started: reached.is_some_and(|reached| reached.started.is_some()),
        });
    }

    fn adopt(&mut self, attempt: AttemptId, containers: Vec<Found>) {
        let Some((job, epoch)) = containers.first().map(|found| (found.job, found.epoch)) else { return };
        let orders = self.register(attempt, job);
        let end = self.end_of(attempt, self.shared.board.occupy());
        // No label says the incarnation; the controller knows the attempt by its id.
        let fence = Fence { attempt, epoch, incarnation: 0 };
        // Said before the controller is reached, as with what the ledger has.
        if let Some(newest) = containers.iter().max_by_key(|found| found.step) {
            let started = newest.state != FoundState::Created;
            self.shared.board.hold(Held { fence, step: newest.step, container: Some(newest.id.clone()), started });
        }
        let orphan = Orphan { shared: Arc::clone(&self.shared), fence, job, containers, orders };
        self.tasks.spawn("orphan", async move {
            let end = end;
            orphan.run().await;
            drop(end);
        });
    }

    async fn remove_stray_volumes(&self, jobs: &BTreeSet<JobId>) {
        let found = match self.shared.runtime.list_jobs().await {
            Ok(found) => found,
            Err(error) => return tracing::warn!(error = error.full(), "volumes that belong to nothing may be left"),
        };
        for job in found.into_iter().filter(|job| !jobs.contains(job)) {
            match self.shared.runtime.remove_job(job).await {
                Ok(()) => tracing::info!(%job, "removed a volume that belonged to nothing"),
                Err(error) => tracing::warn!(%job, error = error.full(), "a volume that belongs to nothing stays"),
            }
        }
    }
}
