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

/// A text that is no point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no time: write it as in `2026-11-21T10:00:00Z`")]
pub struct InvalidTime(String);

/// Reads RFC 3339, with any offset.
impl std::str::FromStr for Timestamp {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        let at: jiff::Timestamp = text.parse().map_err(|_| InvalidTime(text.chars().take(80).collect()))?;
        Ok(Self(at.as_microsecond()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_it_is_written() {
        let at = Timestamp::from_micros(1_795_255_200_123_000);
        assert_eq!(at.to_string().parse(), Ok(at));
        assert_eq!("2026-11-21T11:00:00.123+01:00".parse(), Ok(at));
        for bad in ["", "1h", "2026-11-21", "2026-11-21T10:00:00"] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }

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
