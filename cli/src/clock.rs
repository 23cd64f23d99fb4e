//! The one place that reads a clock or makes randomness.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use longshore_core::time::Timestamp;

/// The wall clock, UTC.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the crate's one place for wall-clock reads")]
pub fn now() -> Timestamp {
    Timestamp::from_micros(jiff::Timestamp::now().as_microsecond())
}

/// The monotonic clock, for measuring.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the crate's one place for clock reads")]
pub fn instant() -> Instant {
    Instant::now()
}

/// A fresh operation id: the server answers a repeated request with the same id as it answered the first.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the crate's one place for randomness")]
pub fn operation_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A duration anywhere between zero and `limit`, so that many clients do not come back at the same moment.
#[must_use]
pub fn jitter(limit: Duration) -> Duration {
    // Each `RandomState` is seeded by the operating system; that is plenty for spreading retries.
    let random = RandomState::new().hash_one(0_u8);
    let nanos = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(nanos.checked_add(1).map_or(random, |range| random % range))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_its_limit() {
        let limit = Duration::from_millis(5);
        assert!((0..1000).all(|_| jitter(limit) <= limit));
        assert_eq!(jitter(Duration::ZERO), Duration::ZERO);
    }
}
