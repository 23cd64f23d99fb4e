//! What the agent holds at this moment, for the control stream to say; and the slots.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use longshore_core::id::AttemptId;
use longshore_core::placement::LowWater;
use longshore_core::plugins::Readiness;
use longshore_core::time::Timestamp;
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
    reasons: Mutex<Reasons>,
    /// attempts --what is held--> session thread
    snapshot: watch::Sender<Snapshot>,
    /// attempts --what they are doing--> status
    phases: watch::Sender<Phases>,
}

/// Why no offers are taken. The first that is there is said.
#[derive(Debug, Default)]
struct Reasons {
    /// The machine is to go: why, and when.
    leaving: Option<(String, Option<Timestamp>)>,
    /// The agent is to end; nothing takes that back.
    ending: Option<String>,
    held_back: Option<String>,
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
                reasons: Mutex::default(),
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
        self.because(|reasons| reasons.held_back = reason);
    }

    /// What the host has too little of.
    pub fn low(&self, low: Vec<LowWater>) {
        self.inner.snapshot.send_if_modified(|snapshot| {
            let differs = snapshot.low != low;
            snapshot.low = low;
            differs
        });
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
        self.because(|reasons| reasons.ending = Some(reason.to_owned()));
    }

    /// The machine is to go, at a time that may be known; or it is to stay.
    pub fn leave(&self, leaving: Option<(String, Option<Timestamp>)>) {
        self.because(|reasons| reasons.leaving = leaving);
    }

    /// The controller has no more jobs for this agent because a person wants it so, or has some again.
    pub fn told(&self, reason: Option<String>) {
        self.inner.snapshot.send_modify(|snapshot| snapshot.told = reason);
    }

    fn because(&self, change: impl FnOnce(&mut Reasons)) {
        let mut reasons = self.inner.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut reasons);
        let reason = reasons.leaving.as_ref().map(|(reason, _)| reason);
        let reason = reason.or(reasons.ending.as_ref()).or(reasons.held_back.as_ref()).cloned();
        let until = reasons.leaving.as_ref().and_then(|(_, until)| *until);
        self.inner.snapshot.send_modify(|snapshot| (snapshot.draining, snapshot.until) = (reason, until));
    }

    /// Why no offers are taken, if so.
    #[must_use]
    pub fn refuses(&self) -> Option<String> {
        let snapshot = self.inner.snapshot.borrow();
        snapshot.draining.clone().or_else(|| snapshot.low.first().map(ToString::to_string))
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
        assert_eq!(board.refuses().as_deref(), Some("not yet"));
        board.hold_back(None);
        assert_eq!(board.refuses(), None);
        board.drain("the end");
        board.hold_back(None);
        assert_eq!(board.refuses().as_deref(), Some("the end"));
        let until = Timestamp::from_micros(7);
        board.leave(Some(("spot".to_owned(), Some(until))));
        assert_eq!((board.refuses().as_deref(), board.subscribe().borrow().until), (Some("spot"), Some(until)));
        board.leave(None);
        assert_eq!((board.refuses().as_deref(), board.subscribe().borrow().until), (Some("the end"), None));
    }

    #[test]
    fn too_little_disk_refuses_until_there_is_more() {
        let board = Board::new(1, None);
        let what = longshore_core::placement::Scarce::Disk;
        board.low(vec![LowWater { what, engine_root: None, left: 1 << 20, low: 2 << 20, again: 3 << 20 }]);
        assert_eq!(board.refuses().unwrap(), "its disk has 1MiB left, below 2MiB; it takes jobs again at 3MiB");
        board.low(vec![]);
        assert_eq!(board.refuses(), None);
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
