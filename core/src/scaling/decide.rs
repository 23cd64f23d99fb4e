//! The decision itself.

use std::time::Duration;

use super::{Decision, History, Machine, Settings, Signals};
use crate::time::Timestamp;

/// Why it is not known what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// The last change could not be made durable, so what is read may be older than what runs.
    Store,
    /// The controller has just started, and not every agent that was there is back.
    Returning,
    /// Too many agents fell silent at once: the fault is likely on this side.
    Silent,
    /// The group does not say how many machines it has.
    Group,
}

impl Doubt {
    /// The words for people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Store => "the last change could not be stored, so what is read may not be what runs",
            Self::Returning => "the controller has just started, and not every agent that was there is back",
            Self::Silent => {
                "many agents fell silent at once, which is more likely a fault of the network than of theirs"
            }
            Self::Group => "the group does not say how many machines it has",
        }
    }
}

/// Why a group stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It has what it needs.
    Enough,
    /// It needs more and has as many as it may.
    AtMost,
    /// It would be changed, but was a moment ago.
    Cooling {
        /// How long to wait.
        left: Duration,
    },
    /// It is not known what is there.
    Unsure(Doubt),
}

impl Reason {
    /// A stable word: `enough`, `at_most`, `cooling`, `unsure_store`, `unsure_returning`, `unsure_silent`, `unsure_group`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Enough => "enough",
            Self::AtMost => "at_most",
            Self::Cooling { .. } => "cooling",
            Self::Unsure(Doubt::Store) => "unsure_store",
            Self::Unsure(Doubt::Returning) => "unsure_returning",
            Self::Unsure(Doubt::Silent) => "unsure_silent",
            Self::Unsure(Doubt::Group) => "unsure_group",
        }
    }

    /// The words for people.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Self::Enough => "it has the machines that it needs".to_owned(),
            Self::AtMost => "more machines are needed, and it has as many as `max` allows".to_owned(),
            Self::Cooling { left } => {
                format!("it was changed a moment ago; it may be changed again in {} s", left.as_secs().max(1))
            }
            Self::Unsure(doubt) => doubt.words().to_owned(),
        }
    }
}

/// What follows from what is seen, set and done before.
#[must_use]
pub fn decide(signals: &Signals, settings: &Settings, history: &History, now: Timestamp) -> Decision {
    if let Some(doubt) = signals.doubt {
        return Decision::Keep(Reason::Unsure(doubt));
    }
    let wanted = signals.capacity.saturating_add(lacking(signals, settings)).max(settings.min);
    if wanted > signals.capacity {
        return grow(wanted, signals, settings, history, now);
    }
    shrink(signals, settings, history, now)
}

/// Machines that are needed beyond those that are there or on their way.
fn lacking(signals: &Signals, settings: &Settings) -> u32 {
    // A job that is helped by a further machine fits on no slot that is free now, so free slots only keep warm.
    let cold = settings.warm.saturating_sub(signals.free());
    let wanted = signals.helped.saturating_add(cold);
    let coming = signals.absent().saturating_mul(settings.slots_per_agent);
    wanted.saturating_sub(coming).div_ceil(settings.slots_per_agent.max(1))
}

fn grow(wanted: u32, signals: &Signals, settings: &Settings, history: &History, now: Timestamp) -> Decision {
    // What was set by hand beyond `max` is not grown, and not cut either but for idle machines.
    if signals.capacity >= settings.max {
        return Decision::Keep(Reason::AtMost);
    }
    if let Some(left) = left(history.grown, settings.cooldown_up, now) {
        return Decision::Keep(Reason::Cooling { left });
    }
    let step = if settings.max_step_up == 0 { u32::MAX } else { settings.max_step_up };
    // Below `min` there is nothing to weigh.
    let to = wanted.min(signals.capacity.saturating_add(step)).max(settings.min).min(settings.max);
    Decision::Grow { to }
}

fn shrink(signals: &Signals, settings: &Settings, history: &History, now: Timestamp) -> Decision {
    // Who waits may get what becomes free.
    if signals.helped > 0 {
        return Decision::Keep(Reason::Enough);
    }
    let step = if settings.max_step_down == 0 { u32::MAX } else { settings.max_step_down };
    // A group that has more machines than it is set to ends some by itself: it is never set to fewer than are at work.
    let most = step.min(signals.capacity.saturating_sub(settings.min.max(signals.working())));
    let mut idle: Vec<&Machine> = signals.machines.iter().filter(|machine| may_go(machine, settings)).collect();
    idle.sort_by_key(|machine| (std::cmp::Reverse(machine.idle), machine.id));
    let (mut free, mut to, mut remove) = (signals.free(), signals.capacity, Vec::new());
    for machine in idle {
        if remove.len() >= usize::try_from(most).unwrap_or(usize::MAX) {
            break;
        }
        let rest = free.saturating_sub(machine.slots);
        if rest < settings.warm && to <= settings.max {
            continue;
        }
        (free, to) = (rest, to - 1);
        remove.push(machine.id);
    }
    if remove.is_empty() {
        return Decision::Keep(Reason::Enough);
    }
    let cooling = [history.shrunk, history.grown].into_iter().filter_map(|at| left(at, settings.cooldown_down, now));
    if let Some(left) = cooling.max() {
        return Decision::Keep(Reason::Cooling { left });
    }
    Decision::Shrink { to, remove }
}

fn may_go(machine: &Machine, settings: &Settings) -> bool {
    machine.member
        && !machine.leaving
        && !machine.draining
        && machine.busy == 0
        && machine.idle >= settings.idle
        && machine.idle > Duration::ZERO
}

/// What is left of a cool-down that began then.
fn left(at: Option<Timestamp>, cooldown: Duration, now: Timestamp) -> Option<Duration> {
    cooldown.checked_sub(now.since(at?)).filter(|left| !left.is_zero())
}
