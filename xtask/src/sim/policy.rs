//! What sets a group's size: the scaler's own decision, plain target tracking, or nothing.

use std::collections::VecDeque;
use std::time::Duration;

use longshore_core::id::AgentId;
use longshore_core::scaling::{Decision, History, Machine, Settings, Signals, decide};
use longshore_core::time::Timestamp;

use super::group::Group;
use super::trace::Scenario;

/// Seconds between two decisions of ours, as the controller makes them.
const EVERY: u64 = 15;
/// What target tracking aims at: busy and waiting jobs per slot.
const TARGET: f64 = 0.7;

/// What a policy sees.
pub(super) struct View<'a> {
    pub(super) now: u64,
    /// Jobs that wait for a machine only.
    pub(super) helped: u32,
    pub(super) group: &'a Group,
    pub(super) slots: u32,
}

/// What it does.
pub(super) enum Act {
    Nothing,
    /// More machines, or fewer, whichever go.
    Set(u32),
    /// These go.
    Remove(Vec<u8>, u32),
}

impl Act {
    pub(super) fn apply(self, group: &mut Group) {
        match self {
            Self::Nothing => {}
            Self::Set(capacity) => group.set(capacity),
            Self::Remove(numbers, capacity) => group.remove(&numbers, capacity),
        }
    }
}

pub(super) trait Policy {
    fn step(&mut self, view: &View<'_>) -> Act;
}

/// As many machines all the time.
pub(super) struct Fixed(u32);

impl Fixed {
    pub(super) fn new(machines: f64) -> Self {
        Self((0..=10_000u32).find(|n| f64::from(*n) >= machines).unwrap_or(10_000))
    }
}

impl Policy for Fixed {
    fn step(&mut self, _: &View<'_>) -> Act {
        Act::Set(self.0)
    }
}

/// The scaler's decision.
pub(super) struct Ours {
    settings: Settings,
    history: History,
}

impl Ours {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, history: History::default() }
    }
}

fn id(number: u8) -> AgentId {
    AgentId::new(Timestamp::from_micros(0), [number; 10])
}

impl Policy for Ours {
    fn step(&mut self, view: &View<'_>) -> Act {
        if !view.now.is_multiple_of(EVERY) {
            return Act::Nothing;
        }
        let connected = view.group.machines.iter().filter(|machine| machine.ready <= view.now);
        let seen = connected.map(|machine| Machine {
            id: id(machine.number),
            slots: view.slots,
            busy: machine.busy(),
            idle: match machine.busy() {
                0 => Duration::from_secs(view.now - machine.idle_since),
                _ => Duration::ZERO,
            },
            draining: machine.draining(view.now),
            member: true,
            leaving: machine.leaving,
        });
        let machines = seen.collect();
        let signals = Signals { helped: view.helped, machines, capacity: view.group.capacity, ..Signals::default() };
        let now = Timestamp::from_micros(0).after(Duration::from_secs(view.now));
        match decide(&signals, &self.settings, &self.history, now) {
            Decision::Keep(_) => Act::Nothing,
            Decision::Grow { to } => {
                self.history.grown = Some(now);
                Act::Set(to)
            }
            Decision::Shrink { to, remove } => {
                self.history.shrunk = Some(now);
                let numbers = view.group.machines.iter().map(|machine| machine.number);
                Act::Remove(numbers.filter(|number| remove.contains(&id(*number))).collect(), to)
            }
        }
    }
}

/// Target tracking as clouds offer it, by a metric that even knows the queue: one value a minute; three values above the target
/// set the group to what would meet it, fifteen well below it do the same downwards. Which machines go is the group's affair; they
/// end their jobs first, which a plain group would not even wait for.
pub(super) struct Tracking {
    min: u32,
    max: u32,
    values: VecDeque<f64>,
}

impl Tracking {
    pub(super) fn new(scenario: &Scenario) -> Self {
        Self { min: scenario.min, max: scenario.max, values: VecDeque::new() }
    }
}

impl Policy for Tracking {
    fn step(&mut self, view: &View<'_>) -> Act {
        if !view.now.is_multiple_of(60) {
            return Act::Nothing;
        }
        let ready = view.group.machines.iter().filter(|machine| machine.ready <= view.now && !machine.leaving);
        let busy: u32 = ready.map(super::group::Machine::busy).sum();
        let capacity = view.group.capacity;
        // Machines that are on their way count: clouds leave out the values of their warm-up, which comes to the same.
        let value = f64::from(busy + view.helped) / f64::from((capacity * view.slots).max(1));
        self.values.push_back(value);
        if self.values.len() > 15 {
            self.values.pop_front();
        }
        let wanted = || {
            let machines = f64::from(capacity) * value / TARGET;
            (0..=self.max).find(|n| f64::from(*n) >= machines).unwrap_or(self.max).max(self.min)
        };
        let high = self.values.len() >= 3 && self.values.iter().rev().take(3).all(|value| *value > TARGET);
        let low = self.values.len() == 15 && self.values.iter().all(|value| *value < 0.9 * TARGET);
        let to = if high || low { wanted() } else { capacity };
        if to == capacity {
            return Act::Nothing;
        }
        self.values.clear();
        Act::Set(to)
    }
}
