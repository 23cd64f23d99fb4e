//! How many machines a pool should have, and which idle ones may go.
//!
//! Pure: what is seen ([`Signals`]), what is set ([`Settings`]) and what was done before ([`History`]) come in, a
//! [`Decision`] comes out. Invariants: more machines are asked for only because of jobs that a further machine would
//! help, or to keep slots warm; machines go only by name, and only ones that have been idle for long enough; never
//! more than `max`, never fewer than `min`; nothing at all while it is not sure what is there.

mod decide;
mod settings;
#[cfg(test)]
mod tests;
mod waiting;

use std::time::Duration;

use crate::id::AgentId;
use crate::time::Timestamp;

pub use decide::{Doubt, Reason, decide};
pub use settings::{Settings, Target};
pub use waiting::{PREDICATES, Waits, helped, waits};

/// An agent of the pool that is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its id.
    pub id: AgentId,
    /// Jobs it runs at once.
    pub slots: u32,
    /// Jobs that are offered to it, run there or are being cleared away there.
    pub busy: u32,
    /// For how long it has had nothing to do; zero while it is busy.
    pub idle: Duration,
    /// It takes no more jobs, for whatever reason.
    pub draining: bool,
    /// It is of the group that is scaled: its name there is known.
    pub member: bool,
    /// The group was already told to end it; it no longer counts there.
    pub leaving: bool,
}

/// What is seen of a pool and its group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signals {
    /// Jobs that wait only for a machine more: one slot each.
    pub helped: u32,
    /// Connected agents of the pool.
    pub machines: Vec<Machine>,
    /// Machines that the group is set to have.
    pub capacity: u32,
    /// Agents that are not connected and may still be at work.
    pub unreached: u32,
    /// Why it is not known what is there; nothing is done then.
    pub doubt: Option<Doubt>,
}

/// What was done before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct History {
    /// When machines were last asked for.
    pub grown: Option<Timestamp>,
    /// When machines were last let go.
    pub shrunk: Option<Timestamp>,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The group stays as it is.
    Keep(Reason),
    /// The group is set to more machines.
    Grow {
        /// How many it shall have.
        to: u32,
    },
    /// These machines go, and the group is that much smaller.
    Shrink {
        /// How many it shall have.
        to: u32,
        /// Agents that are idle; the longest idle first.
        remove: Vec<AgentId>,
    },
}

impl Signals {
    /// Slots of agents that take jobs, taken ones included.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.staying().map(|machine| machine.slots).sum()
    }

    /// Slots that a job could have now.
    #[must_use]
    pub fn free(&self) -> u32 {
        self.staying().map(|machine| machine.slots.saturating_sub(machine.busy)).sum()
    }

    /// Machines that the group has or is making and that are not connected.
    #[must_use]
    pub fn absent(&self) -> u32 {
        let here = self.machines.iter().filter(|machine| machine.member && !machine.leaving).count();
        self.capacity.saturating_sub(u32::try_from(here).unwrap_or(u32::MAX))
    }

    /// Machines of the group that work on something, or may.
    fn working(&self) -> u32 {
        let busy =
            self.machines.iter().filter(|machine| machine.member && !machine.leaving && machine.busy > 0).count();
        self.unreached.saturating_add(u32::try_from(busy).unwrap_or(u32::MAX))
    }

    fn staying(&self) -> impl Iterator<Item = &Machine> {
        self.machines.iter().filter(|machine| !machine.draining && !machine.leaving)
    }
}
