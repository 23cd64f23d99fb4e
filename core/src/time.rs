//! Points in time, as values.
//!
//! Nothing here reads a clock: whoever calls a decision passes the time in.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Microseconds since the UNIX epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since the UNIX epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the UNIX epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// This point plus a duration; saturates at the end of time.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// RFC 3339 in UTC with milliseconds, as in `2026-11-21T10:00:00.000Z`.
impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(at) => write!(f, "{at:.3}"),
            Err(_) => write!(f, "{} µs", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_shown_in_utc_with_milliseconds() {
        assert_eq!(Timestamp::from_micros(1_795_255_200_000_000).to_string(), "2026-11-21T10:00:00.000Z");
        assert_eq!(Timestamp::from_micros(1_795_255_200_123_999).to_string(), "2026-11-21T10:00:00.123Z");
    }

    #[test]
    fn differences_never_run_backwards() {
        let (early, late) = (Timestamp::from_micros(1_000_000), Timestamp::from_micros(3_500_000));
        assert_eq!(late.since(early), Duration::from_millis(2_500));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(early.after(Duration::from_millis(2_500)), late);
    }
}
