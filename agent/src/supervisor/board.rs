//! What the agent holds at this moment, for the control stream to say; and the slots.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use longshore_core::id::AttemptId;
use longshore_core::plugins::Readiness;
use tokio::sync::watch;

use crate::executor::{Engine, KeptImages};
use crate::session::{Held, Phase, Snapshot};

/// The board. Clones share it.
#[derive(Debug, Clone)]
pub struct Board {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    slots: AtomicU32,
    used: AtomicU32,
    /// The agent is to end; nothing takes that back.
    ending: AtomicBool,
    /// attempts --what is held--> session thread
    snapshot: watch::Sender<Snapshot>,
    /// attempts --what they are doing--> status
    phases: watch::Sender<Phases>,
}

/// What attempts are doing, for people on this host.
pub type Phases = BTreeMap<AttemptId, Phase>;

/// One slot in use; it is free again when this is dropped, however the attempt's task ends.
#[derive(Debug)]
pub struct Slot {
    board: Board,
}

impl Board {
    /// An agent of so many slots that holds nothing.
    #[must_use]
    pub fn new(slots: u32, engine: Option<Engine>) -> Self {
        let snapshot = watch::Sender::new(Snapshot { free_slots: slots, engine, ..Snapshot::default() });
        Self {
            inner: Arc::new(Inner {
                slots: AtomicU32::new(slots),
                used: AtomicU32::new(0),
                ending: AtomicBool::new(false),
                snapshot,
                phases: watch::Sender::default(),
            }),
        }
    }

    /// To be told of changes.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Snapshot> {
        self.inner.snapshot.subscribe()
    }

    /// To be told what attempts are doing.
    #[must_use]
    pub fn phases(&self) -> watch::Receiver<Phases> {
        self.inner.phases.subscribe()
    }

    /// An attempt has come to a phase.
    pub fn reach(&self, attempt: AttemptId, phase: Phase) {
        self.inner.phases.send_if_modified(|phases| phases.insert(attempt, phase) != Some(phase));
    }

    /// Takes a free slot.
    #[must_use]
    pub fn take(&self) -> Option<Slot> {
        let full = self.inner.used.load(Ordering::Relaxed) >= self.inner.slots.load(Ordering::Relaxed);
        (!full).then(|| self.occupy())
    }

    /// Takes a slot for what runs already, also when there are not enough.
    #[must_use]
    pub fn occupy(&self) -> Slot {
        self.inner.used.fetch_add(1, Ordering::Relaxed);
        self.count();
        Slot { board: self.clone() }
    }

    /// Sets how many slots there are. What runs goes on, also when it is more than that.
    pub fn set_slots(&self, slots: u32) {
        self.inner.slots.store(slots, Ordering::Relaxed);
        self.count();
    }

    fn count(&self) {
        let free_slots =
            self.inner.slots.load(Ordering::Relaxed).saturating_sub(self.inner.used.load(Ordering::Relaxed));
        self.inner.snapshot.send_modify(|snapshot| snapshot.free_slots = free_slots);
    }

    /// The agent holds an attempt, or holds it in another way than before.
    pub fn hold(&self, held: Held) {
        self.inner.snapshot.send_modify(|snapshot| {
            match snapshot.held.iter_mut().find(|other| other.fence.attempt == held.fence.attempt) {
                Some(there) => *there = held,
                None => snapshot.held.push(held),
            }
        });
    }

    /// The agent has nothing of an attempt any more.
    pub fn release(&self, attempt: AttemptId) {
        self.inner.snapshot.send_modify(|snapshot| snapshot.held.retain(|held| held.fence.attempt != attempt));
        self.inner.phases.send_if_modified(|phases| phases.remove(&attempt).is_some());
    }

    /// The agent takes no offers for now, or takes them again.
    pub fn hold_back(&self, reason: Option<String>) {
        if !self.inner.ending.load(Ordering::Relaxed) {
            self.inner.snapshot.send_modify(|snapshot| snapshot.draining = reason);
        }
    }

    /// So many images are kept for later jobs.
    pub fn kept_images(&self, kept: KeptImages) {
        self.inner.snapshot.send_if_modified(|snapshot| {
            let differs = snapshot.images != kept;
            snapshot.images = kept;
            differs
        });
    }

    /// The agent is so far with its pool's plugins.
    pub fn plugins(&self, readiness: Readiness) {
        self.inner.snapshot.send_if_modified(|snapshot| {
            let differs = snapshot.plugins != readiness;
            snapshot.plugins = readiness;
            differs
        });
    }

    /// The agent takes no more offers.
    pub fn drain(&self, reason: &str) {
        self.inner.ending.store(true, Ordering::Relaxed);
        self.inner.snapshot.send_modify(|snapshot| snapshot.draining = Some(reason.to_owned()));
    }

    /// Why no offers are taken, if so.
    #[must_use]
    pub fn draining(&self) -> Option<String> {
        self.inner.snapshot.borrow().draining.clone()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.board.inner.used.fetch_sub(1, Ordering::Relaxed);
        self.board.count();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_back_comes_again_unless_the_agent_ends() {
        let board = Board::new(1, None);
        board.hold_back(Some("not yet".to_owned()));
        assert_eq!(board.draining().as_deref(), Some("not yet"));
        board.hold_back(None);
        assert_eq!(board.draining(), None);
        board.drain("the end");
        board.hold_back(None);
        assert_eq!(board.draining().as_deref(), Some("the end"));
    }

    #[test]
    fn slots_come_back_and_what_runs_already_may_take_too_many() {
        let board = Board::new(1, None);
        let free = || board.subscribe().borrow().free_slots;
        let first = board.take().unwrap();
        assert!(board.take().is_none());
        let more = board.occupy();
        assert_eq!(free(), 0);
        drop(first);
        assert!(board.take().is_none());
        drop(more);
        assert_eq!(free(), 1);
        board.set_slots(3);
        let taken: Vec<_> = (0..3).map(|_| board.take().unwrap()).collect();
        board.set_slots(2);
        assert!(free() == 0 && board.take().is_none());
        drop(taken);
        assert_eq!(free(), 2);
    }
}
