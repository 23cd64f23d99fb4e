//! What follows from what the cloud says. Pure: no I/O, and the time is an argument.
//!
//! Rules: no more jobs are claimed from the first word on. Jobs go on for as long as the machine certainly does; then they are
//! canceled, early enough that a tool has `save_time` and log and result have `ship_time` after it, or as much of that as there is.
//! The hook is kept alive until nothing is held here any more, and only then completed. Nothing follows from an error, not
//! even the end of something that was said before.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_core::time::Timestamp;

use super::notice::{Look, Notice, Source, When};

/// A protection is taken away when there was no job for so long: jobs come in rows.
const REST: Duration = Duration::from_secs(30);
/// A call that failed is tried again after this.
const AGAIN: Duration = Duration::from_secs(5);
/// The hook's timeouts are asked for again after this: from the start on, because a call may fail when it is needed.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// What is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) save_time: Duration,
    pub(crate) ship_time: Duration,
    /// The hook is this agent's to keep alive.
    pub(crate) hook: bool,
    pub(crate) protect: bool,
}

/// What the supervisor is to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leaving {
    /// Why no more jobs are claimed, and when the machine is gone as far as that is known; `None`: jobs are claimed.
    pub drain: Option<(String, Option<Timestamp>)>,
    /// Jobs are canceled now, and what is left of them is killed then.
    pub cancel: Option<Timestamp>,
}

/// What the cloud is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    /// The hook's timeouts are asked for.
    AskHook,
    /// The hook is kept alive.
    Heartbeat,
    /// The hook is done.
    Complete,
    /// The instance is protected from scale-in, or not any more.
    Protect(bool),
    /// An event may begin.
    Acknowledge(String),
}

/// The hook's timeouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timeouts {
    pub(crate) heartbeat: Duration,
    pub(crate) global: Duration,
}

impl Timeouts {
    /// Without a word of the group: it ends a hook after a hundred times its heartbeat timeout, or two days.
    pub(crate) fn of(heartbeat: Duration) -> Self {
        Self { heartbeat, global: (heartbeat * 100).min(Duration::from_secs(48 * 3_600)) }
    }
}

/// Something that was said.
#[derive(Debug, Clone)]
struct Said {
    notice: Notice,
    first: Timestamp,
}

/// The hook while it holds the machine.
#[derive(Debug, Clone, Default)]
struct Hook {
    tried: Option<Timestamp>,
    kept: Option<Timestamp>,
    /// The last call was not taken.
    failed: bool,
    completed: bool,
}

/// Everything that is known.
#[derive(Debug, Clone)]
pub(crate) struct State {
    rules: Rules,
    said: BTreeMap<Source, Said>,
    hook: Hook,
    timeouts: Timeouts,
    /// The group has told them.
    told: bool,
    ask_tried: Option<Timestamp>,
    acknowledged: Option<String>,
    protected: Option<bool>,
    protect_tried: Option<Timestamp>,
    idle_since: Option<Timestamp>,
}

impl State {
    /// Nothing was said yet. `timeouts` are the configured ones.
    pub(crate) fn new(rules: Rules, timeouts: Timeouts) -> Self {
        Self {
            rules,
            said: BTreeMap::new(),
            hook: Hook::default(),
            timeouts,
            told: false,
            ask_tried: None,
            acknowledged: None,
            protected: None,
            protect_tried: None,
            idle_since: None,
        }
    }

    /// A source was looked at.
    pub(crate) fn saw(&mut self, (source, found): Look, now: Timestamp) {
        match found {
            // Not known is not the same as nothing.
            Err(_) => {}
            Ok(None) => {
                if self.said.remove(&source).is_some_and(|said| said.notice.when == When::Hook) {
                    self.hook = Hook::default();
                }
            }
            Ok(Some(notice)) => {
                let first = self.said.get(&source).map_or(now, |said| said.first);
                self.said.insert(source, Said { notice, first });
            }
        }
    }

    /// What the supervisor is to do now.
    pub(crate) fn leaving(&self, now: Timestamp) -> Leaving {
        let order = |said: &&Said| (self.deadline(said).is_none(), self.deadline(said), said.first);
        let Some(first) = self.said.values().min_by_key(order) else { return Leaving::default() };
        let deadline = self.deadline(first);
        let due = self.said.values().filter(|said| self.cancel_at(said).is_some_and(|at| now >= at));
        Leaving {
            drain: Some((first.notice.reason.clone(), deadline)),
            cancel: due.filter_map(|said| self.kill_at(said)).min(),
        }
    }

    /// When [`Self::leaving`] says something else by itself.
    pub(crate) fn due(&self, now: Timestamp) -> Option<Timestamp> {
        self.said.values().filter_map(|said| self.cancel_at(said)).filter(|at| *at > now).min()
    }

    /// What the cloud is to be told now.
    pub(crate) fn calls(&mut self, busy: bool, now: Timestamp) -> Vec<Call> {
        let mut calls = Vec::new();
        self.idle_since = if busy { None } else { self.idle_since.or(Some(now)) };
        if self.holds() {
            self.hook_calls(busy, now, &mut calls);
        }
        if self.rules.hook && !self.told && self.ask_tried.is_none_or(|tried| now.since(tried) >= ASK_AGAIN) {
            self.ask_tried = Some(now);
            calls.push(Call::AskHook);
        }
        let waits = self.said.values().find_map(|said| said.notice.acknowledge.clone());
        if let Some(event) = waits.filter(|event| !busy && self.acknowledged.as_ref() != Some(event)) {
            calls.push(Call::Acknowledge(event));
        }
        let wanted = match self.idle_since {
            None => Some(true),
            Some(since) => (now.since(since) >= REST).then_some(false),
        };
        let due = self.protect_tried.is_none_or(|tried| now.since(tried) >= AGAIN);
        // What the group has chosen already it does not choose again.
        let of_use = self.rules.protect && due && !self.said.contains_key(&Source::Group);
        if let Some(protect) = wanted.filter(|wanted| of_use && self.protected != Some(*wanted)) {
            self.protect_tried = Some(now);
            calls.push(Call::Protect(protect));
        }
        calls
    }

    fn hook_calls(&mut self, busy: bool, now: Timestamp, calls: &mut Vec<Call>) {
        let due = |tried: Option<Timestamp>, after: Duration| tried.is_none_or(|tried| now.since(tried) >= after);
        let again = AGAIN.min(self.timeouts.heartbeat / 12);
        let (call, wait) = match (busy, self.hook.failed) {
            (true, false) => (Call::Heartbeat, self.timeouts.heartbeat / 2),
            (true, true) => (Call::Heartbeat, again),
            (false, false) => (Call::Complete, Duration::ZERO),
            (false, true) => (Call::Complete, again),
        };
        if due(self.hook.tried, wait) {
            self.hook.tried = Some(now);
            calls.push(call);
        }
    }

    /// A call had this outcome; `at` is the time that it was decided at.
    pub(crate) fn called(&mut self, call: &Call, done: bool, at: Timestamp) {
        if matches!(call, Call::Heartbeat | Call::Complete) {
            self.hook.failed = !done;
        }
        match call {
            Call::AskHook => self.told = done,
            Call::Heartbeat if done => self.hook.kept = Some(at),
            Call::Complete if done => self.hook.completed = true,
            Call::Protect(protected) if done => self.protected = Some(*protected),
            Call::Acknowledge(event) if done => self.acknowledged = Some(event.clone()),
            Call::Heartbeat | Call::Complete | Call::Protect(_) | Call::Acknowledge(_) => {}
        }
    }

    /// The group has told the hook's timeouts.
    pub(crate) fn told(&mut self, timeouts: Timeouts) {
        self.timeouts = timeouts;
    }

    /// The hook holds the machine, for this agent.
    fn holds(&self) -> bool {
        self.rules.hook && !self.hook.completed && self.said.values().any(|said| said.notice.when == When::Hook)
    }

    /// When the machine is gone because of this.
    fn deadline(&self, said: &Said) -> Option<Timestamp> {
        match said.notice.when {
            When::Open => None,
            When::At(at) => Some(at),
            When::After(after) => Some(said.first.after(after)),
            When::Hook => {
                let bound = said.first.after(self.timeouts.global);
                // While heartbeats are taken it is the next one that counts, and not the last.
                Some(if self.hook.failed { bound.min(self.silent(said)) } else { bound })
            }
        }
    }

    /// When the hook times out if no heartbeat is taken any more.
    fn silent(&self, said: &Said) -> Timestamp {
        self.hook.kept.unwrap_or(said.first).after(self.timeouts.heartbeat)
    }

    /// When jobs are canceled because of this.
    fn cancel_at(&self, said: &Said) -> Option<Timestamp> {
        let lead = self.rules.save_time + self.rules.ship_time;
        // Until then it is tried again to keep the hook alive, so a call that fails once cancels nothing.
        let most = if self.holds() && self.hook.failed { self.timeouts.heartbeat * 3 / 8 } else { lead };
        self.deadline(said).map(|deadline| before(deadline, lead.min(most)))
    }

    /// When what is left of canceled jobs is killed: log and result need the rest, or half of what there ever was.
    fn kill_at(&self, said: &Said) -> Option<Timestamp> {
        let deadline = self.deadline(said)?;
        Some(before(deadline, self.rules.ship_time.min(deadline.since(said.first) / 2)))
    }
}

fn before(at: Timestamp, lead: Duration) -> Timestamp {
    Timestamp::from_micros(at.as_micros().saturating_sub(i64::try_from(lead.as_micros()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
