//! How often one agent may do a thing, and how often it was refused one. Pure: the time is given.

use std::collections::HashMap;
use std::time::Duration;

use longshore_core::id::AgentId;

/// Agents that are remembered before those that have nothing to be remembered for are forgotten.
const MANY: usize = 10_000;

/// So many at once, and one more each `each`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    pub(super) burst: u32,
    pub(super) each: Duration,
}

/// One thing that agents do at a rate.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Rate,
    /// For each agent, when it would have done all it did had it done one each `each`.
    until: HashMap<AgentId, Duration>,
}

impl Pace {
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, until: HashMap::new() }
    }

    /// Takes one; else says after which time there is one.
    pub(super) fn take(&mut self, agent: AgentId, now: Duration) -> Result<(), Duration> {
        if self.until.len() >= MANY {
            self.until.retain(|_, until| *until > now);
        }
        let until = self.until.entry(agent).or_insert(now);
        let ahead = until.saturating_sub(now);
        let most = self.rate.each * self.rate.burst.saturating_sub(1);
        if ahead > most {
            return Err(ahead.saturating_sub(most));
        }
        *until = (*until).max(now) + self.rate.each;
        Ok(())
    }
}

/// Counts refusals of each agent within a span.
#[derive(Debug)]
pub(super) struct Alarm {
    many: u32,
    within: Duration,
    /// When an agent's span began, and how often since.
    spans: HashMap<AgentId, (Duration, u32)>,
}

impl Alarm {
    pub(super) fn new(many: u32, within: Duration) -> Self {
        Self { many, within, spans: HashMap::new() }
    }

    /// One more; whether that makes too many, which is said once in a span.
    pub(super) fn count(&mut self, agent: AgentId, now: Duration) -> bool {
        let within = self.within;
        if self.spans.len() >= MANY {
            self.spans.retain(|_, (began, _)| now.saturating_sub(*began) < within);
        }
        let (began, count) = self.spans.entry(agent).or_insert((now, 0));
        if now.saturating_sub(*began) >= within {
            (*began, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count == self.many
    }
}

#[cfg(test)]
mod tests {
    use longshore_core::time::Timestamp;

    use super::*;

    fn agent(number: u8) -> AgentId {
        AgentId::new(Timestamp::from_micros(1), [number; 10])
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_burst_passes_and_then_one_at_a_time() {
        let mut pace = Pace::new(Rate { burst: 3, each: s(10) });
        for _ in 0..3 {
            assert_eq!(pace.take(agent(1), s(5)), Ok(()));
        }
        assert_eq!(pace.take(agent(1), s(5)), Err(s(10)));
        assert_eq!(pace.take(agent(2), s(5)), Ok(()), "another agent has its own");
        assert_eq!(pace.take(agent(1), s(14)), Err(s(1)), "what was refused costs nothing");
        assert_eq!(pace.take(agent(1), s(15)), Ok(()));
        assert_eq!(pace.take(agent(1), s(15)), Err(s(10)));
        for _ in 0..3 {
            assert_eq!(pace.take(agent(1), s(1_000)), Ok(()), "after a rest the burst is there again");
        }
        assert!(pace.take(agent(1), s(1_000)).is_err());
    }

    #[test]
    fn who_has_rested_is_forgotten() {
        let mut pace = Pace::new(Rate { burst: 1, each: s(10) });
        for number in 0..=u16::try_from(MANY).unwrap() {
            let [high, low] = number.to_be_bytes();
            let agent = AgentId::new(Timestamp::from_micros(1), [0, 0, 0, 0, 0, 0, 0, 0, high, low]);
            pace.take(agent, s(u64::from(number))).unwrap();
        }
        assert!(pace.until.len() < 20, "{}", pace.until.len());
    }

    #[test]
    fn an_alarm_is_given_once_in_a_span() {
        let mut alarm = Alarm::new(3, s(60));
        let given: Vec<_> = (0..6).map(|at| alarm.count(agent(1), s(at))).collect();
        assert_eq!(given, [false, false, true, false, false, false]);
        assert!(!alarm.count(agent(2), s(6)));
        let given: Vec<_> = (0..3).map(|at| alarm.count(agent(1), s(100 + at))).collect();
        assert_eq!(given, [false, false, true]);
    }
}
