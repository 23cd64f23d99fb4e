//! An agent that fails at its own work, again and again, gets no more jobs until a probe or a person says that it is well.
//!
//! Only failures of the agent count (its engine, its disk, its network to the registry), never how a job's own program ended. One job
//! that was started ends the count.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Failures in a row after which an agent is quarantined, if its pool does not say.
pub const DEFAULT_AFTER: u32 = 3;
/// Before the first probe, and at most between two.
const PROBE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3_600));
/// A probe that is not answered in this time has failed.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(120);
/// Reasons that are kept.
const KEPT: usize = 5;
/// Longest reason that is kept.
const LENGTH: usize = 500;

/// How an agent's own work went lately. Its JSON is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// Failures since the last job that it started.
    pub failures: u32,
    /// What the last of them said, the newest last.
    pub reasons: Vec<String>,
    /// Since when it gets no jobs.
    pub since: Option<Timestamp>,
    /// Probes that failed, or did not help, since it last ran a job.
    pub probes: u32,
    /// When it is probed next; while a probe runs, when that counts as failed.
    pub due: Option<Timestamp>,
    /// A probe runs.
    pub probing: bool,
}

impl Health {
    /// Whether it gets no jobs.
    #[must_use]
    pub const fn is_quarantined(&self) -> bool {
        self.since.is_some()
    }

    /// It failed at its own work. `after`: failures until it is quarantined; 0: it never is.
    #[must_use]
    pub fn failed(&self, reason: &str, after: u32, now: Timestamp) -> Self {
        let mut next = self.clone();
        next.failures = self.failures.saturating_add(1);
        next.note(reason);
        if !self.is_quarantined() && after > 0 && next.failures >= after {
            (next.since, next.due, next.probing) = (Some(now), Some(now.after(wait(self.probes))), false);
        }
        next
    }

    /// It started a job.
    #[must_use]
    pub fn worked(&self) -> Self {
        // What was begun before the quarantine is no proof that it is over.
        if self.is_quarantined() { self.clone() } else { Self::default() }
    }

    /// A probe is due.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.is_quarantined() && !self.probing && self.due.is_some_and(|at| at <= now)
    }

    /// A probe was not answered in its time.
    #[must_use]
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.probing && self.due.is_some_and(|at| at <= now)
    }

    /// A probe begins.
    #[must_use]
    pub fn probed(&self, now: Timestamp) -> Self {
        Self { probing: true, due: Some(now.after(PROBE_TIMEOUT)), ..self.clone() }
    }

    /// A probe failed: the next one comes later.
    #[must_use]
    pub fn probe_failed(&self, reason: &str, now: Timestamp) -> Self {
        let mut next = self.clone();
        next.probes = self.probes.saturating_add(1);
        (next.probing, next.due) = (false, Some(now.after(wait(next.probes))));
        next.note(&format!("probe: {reason}"));
        next
    }

    /// A probe passed. What a probe cannot see may still be wrong: until it has run a job, the next failure quarantines it again,
    /// and the next probe comes later.
    #[must_use]
    pub fn passed(&self) -> Self {
        let probes = self.probes.saturating_add(1);
        Self { since: None, due: None, probing: false, probes, ..self.clone() }
    }

    /// For people; `None` when it gets jobs.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        let since = self.since?;
        let last = self.reasons.last().map(|reason| format!(", the last: {reason}")).unwrap_or_default();
        let next = match self.due {
            Some(at) if self.probing => format!("a probe runs and is given up at {at}"),
            Some(at) => format!("it is probed at {at}"),
            None => "it is not probed".to_owned(),
        };
        Some(format!("is quarantined since {since} after {} failures of its own{last}; {next}", self.failures))
    }

    fn note(&mut self, reason: &str) {
        self.reasons.push(reason.chars().take(LENGTH).collect());
        let beyond = self.reasons.len().saturating_sub(KEPT);
        self.reasons.drain(..beyond);
    }
}

/// How long it is waited before a probe, after so many.
fn wait(probes: u32) -> Duration {
    PROBE.0.saturating_mul(1 << probes.min(16)).min(PROBE.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn quarantined() -> Health {
        (0..3).fold(Health::default(), |health, n| health.failed(&format!("no space {n}"), 3, at(n)))
    }

    #[test]
    fn failures_in_a_row_quarantine_and_a_start_between_them_does_not() {
        let two = Health::default().failed("a", 3, at(0)).failed("b", 3, at(1));
        assert!(!two.is_quarantined());
        assert!(!two.worked().failed("c", 3, at(2)).is_quarantined());
        let three = two.failed("c", 3, at(2));
        assert_eq!((three.since, three.failures, three.due), (Some(at(2)), 3, Some(at(62))));
        assert_eq!(three.reasons, ["a", "b", "c"]);
        assert!(three.worked().is_quarantined(), "a job that was begun before says nothing");
        assert!((0..99).fold(Health::default(), |h, n| h.failed("x", 0, at(n))).since.is_none(), "0 is never");
    }

    #[test]
    fn probes_come_ever_later_and_at_least_every_hour() {
        let mut health = quarantined();
        let mut waits = Vec::new();
        for _ in 0..9 {
            let due = health.due.unwrap();
            assert!(!health.is_due(at(0)) && health.is_due(due));
            let probing = health.probed(due);
            assert!(!probing.is_due(at(1_000_000)) && probing.is_overdue(due.after(PROBE_TIMEOUT)));
            health = probing.probe_failed("no engine", due);
            waits.push(health.due.unwrap().since(due).as_secs());
        }
        assert_eq!(waits, [120, 240, 480, 960, 1_920, 3_600, 3_600, 3_600, 3_600]);
        assert_eq!(health.reasons.len(), 5);
    }

    #[test]
    fn a_probe_that_passes_is_trusted_once() {
        let passed = quarantined().passed();
        assert!(!passed.is_quarantined());
        let again = passed.failed("the registry is away", 3, at(500));
        assert_eq!((again.since, again.due), (Some(at(500)), Some(at(620))), "at once, and probed later");
        assert_eq!(passed.worked(), Health::default());
    }

    #[test]
    fn the_words_say_why_and_what_comes() {
        let words = quarantined().words().unwrap();
        assert!(words.contains("after 3 failures of its own, the last: no space 2; it is probed at"), "{words}");
        assert_eq!(Health::default().words(), None);
        let json = serde_json::to_string(&quarantined()).unwrap();
        assert_eq!(serde_json::from_str::<Health>(&json).unwrap(), quarantined());
    }
}
