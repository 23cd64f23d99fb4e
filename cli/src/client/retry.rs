//! How long and how often the server is tried again.
//!
//! Full jitter: each pause is anywhere between zero and a limit that doubles, so that clients that lost the same server do not
//! come back in step. See [`crate::clock::jitter`].

use std::time::{Duration, Instant};

use crate::clock;

/// How long to go on trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience(Duration);

impl Patience {
    /// For a command's first contact: a wrong address is reported soon, a restarting server is still met.
    pub const SHORT: Self = Self(Duration::from_secs(5));
    /// For what follows a deployment: long enough for the server to be restarted or upgraded.
    pub const LONG: Self = Self(Duration::from_secs(120));
    /// No second try.
    pub const NONE: Self = Self(Duration::ZERO);
}

/// Limit of the first pause.
const FIRST: Duration = Duration::from_millis(100);
/// Limit that pauses grow to.
const LAST: Duration = Duration::from_secs(2);

/// One series of tries.
#[derive(Debug)]
pub struct Retry {
    began: Instant,
    patience: Patience,
    limit: Duration,
}

impl Retry {
    /// Begins a series now.
    #[must_use]
    pub fn begin(patience: Patience) -> Self {
        Self { began: clock::instant(), patience, limit: FIRST }
    }

    /// How long the series has gone on.
    #[must_use]
    pub fn waited(&self) -> Duration {
        clock::instant().saturating_duration_since(self.began)
    }

    /// The pause before the next try, at least `at_least` (what the server asked for); `None` when the time is up.
    pub fn pause(&mut self, at_least: Option<Duration>) -> Option<Duration> {
        let pause = clock::jitter(self.limit).max(at_least.unwrap_or_default());
        self.limit = (self.limit * 2).min(LAST);
        (self.waited() + pause < self.patience.0).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        let mut retry = Retry::begin(Patience::LONG);
        for limit in [100, 200, 400, 800, 1600, 2000, 2000] {
            assert_eq!(retry.limit, Duration::from_millis(limit));
            assert!(retry.pause(None).unwrap() <= Duration::from_millis(limit));
        }
    }

    #[test]
    fn the_time_is_bounded() {
        assert_eq!(Retry::begin(Patience::NONE).pause(None), None);
        assert_eq!(Retry::begin(Patience::SHORT).pause(Some(Duration::from_secs(6))), None);
        assert_eq!(Retry::begin(Patience::LONG).pause(Some(Duration::from_secs(6))), Some(Duration::from_secs(6)));
    }
}
