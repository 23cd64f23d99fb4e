//! When an agent counts as gone.
//!
//! A lease lapses only while a controller serves: after a start every agent has a full lease. When many lapse
//! at once the fault is ours (network, clock, overload) and not theirs, so nothing expires then.

use std::time::Duration;

/// Agents below which the mass-expiry guard does not look at shares: one lost agent of two is no mass.
pub const GUARD_FROM: usize = 5;

/// Whether an agent's lease has lapsed.
#[must_use]
pub fn lapsed(silent_for: Duration, serving_for: Duration, lease: Duration) -> bool {
    silent_for.min(serving_for) > lease
}

/// Whether expiry is frozen because more than a fifth of the agents lapsed in one window.
///
/// `alive` counts agents that hold work and are within their lease, `lapsing` those that would expire now.
#[must_use]
pub fn frozen(alive: usize, lapsing: usize) -> bool {
    let all = alive + lapsing;
    all >= GUARD_FROM && lapsing * 5 > all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_of_the_controller_is_not_charged_to_agents() {
        let second = Duration::from_secs;
        assert!(!lapsed(second(3_600), second(10), second(30)));
        assert!(lapsed(second(31), second(3_600), second(30)));
        assert!(!lapsed(second(30), second(3_600), second(30)));
    }

    #[test]
    fn many_at_once_freeze_expiry() {
        assert!(frozen(7, 2));
        assert!(!frozen(8, 2));
        assert!(!frozen(0, 1), "a single agent that is gone is gone");
        assert!(frozen(0, 5));
    }
}
