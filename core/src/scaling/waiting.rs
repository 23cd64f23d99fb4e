//! Why a queued job waits: one reason for each, so that the reasons add up to the queue.

use std::collections::BTreeMap;

use crate::placement::{Candidate, Request, could_ever, rejections};

/// The one reason why a queued job waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Waits {
    /// An agent may have it: it is being handed out.
    Offer,
    /// Something that it must hold is held by another one, or is kept for one before it.
    Lock,
    /// As many jobs of its project run as may.
    Limit,
    /// Nothing starts in its pool.
    Paused,
    /// No agent of its pool is connected.
    NoAgent,
    /// The predicate that rejects the agent that came closest.
    Predicate(&'static str),
    /// So many jobs are before it that it was not looked at.
    Behind,
}

/// Predicates that can be the reason, other than `pool` and `connected`: an agent for which one of those holds is not looked at.
/// From what stands in the way for longest to what passes soonest.
pub const PREDICATES: [&str; 15] = [
    "label",
    "mount",
    "profile",
    "cpus",
    "memory",
    "disk",
    "inodes",
    "version",
    "plugins",
    "quarantined",
    "slots",
    "kept",
    "draining",
    "engine",
    "declined",
];

impl Waits {
    /// A stable word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Offer => "offer",
            Self::Lock => "lock",
            Self::Limit => "limit",
            Self::Paused => "paused",
            Self::NoAgent => "no_agent",
            Self::Predicate(name) => name,
            Self::Behind => "behind",
        }
    }
}

/// Why a job waits that may start as far as its locks, its limits and its pool go. `agents`: all that are connected.
#[must_use]
pub fn waits(agents: &[Candidate], request: &Request<'_>) -> Waits {
    let mut nearest: Option<(usize, &'static str)> = None;
    for agent in agents.iter().filter(|agent| agent.connected && agent.pool == request.pool) {
        let found = rejections(agent, request);
        // The predicate that takes longest to pass says what is in the way.
        let Some(first) = found.iter().min_by_key(|found| rank(found.predicate)) else { return Waits::Offer };
        if nearest.is_none_or(|(rank_of, _)| rank(first.predicate) > rank_of) {
            nearest = Some((rank(first.predicate), first.predicate));
        }
    }
    nearest.map_or(Waits::NoAgent, |(_, predicate)| Waits::Predicate(predicate))
}

/// Whether a further machine of the group would take the job. `labels`: those that its agents have.
#[must_use]
pub fn helped(why: Waits, agents: &[Candidate], request: &Request<'_>, labels: &BTreeMap<String, String>) -> bool {
    // Machines whose agents are of a later release than the controller stay so until that is upgraded.
    if !matches!(why, Waits::NoAgent | Waits::Predicate(_)) || why == Waits::Predicate("version") {
        return false;
    }
    let has = |of: &BTreeMap<String, String>| request.labels.iter().all(|(name, value)| of.get(name) == Some(value));
    let mut peers = agents.iter().filter(|agent| agent.pool == request.pool && has(&agent.labels)).peekable();
    // What the machines that are there could never run, a further one of them cannot either.
    if peers.peek().is_some() { peers.any(|agent| could_ever(agent, request)) } else { has(labels) }
}

/// A predicate that is not in the list stands before those that pass by themselves.
fn rank(predicate: &str) -> usize {
    PREDICATES.iter().position(|known| *known == predicate).unwrap_or(3)
}
