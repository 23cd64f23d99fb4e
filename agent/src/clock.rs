//! The only place that reads clocks and draws random bytes.

use std::time::Duration;

use longshore_core::time::Timestamp;
use nix::time::{ClockId, clock_gettime};

/// Now, by the wall clock.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::from_micros(i64::try_from(micros(ClockId::CLOCK_REALTIME)).unwrap_or(i64::MAX))
}

/// Microseconds since the host was booted, time asleep included. The same for every process on the host, so a deadline
/// that the agent writes means the same to init in a container.
#[must_use]
pub fn boot_micros() -> u64 {
    micros(ClockId::CLOCK_BOOTTIME)
}

fn micros(clock: ClockId) -> u64 {
    // Linux always has these clocks: the call cannot fail with a known id.
    let time = clock_gettime(clock).map_or(Duration::ZERO, Duration::from);
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Random bytes from the cryptographic provider.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if let Err(error) = rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut bytes) {
        // Jitter and nonces would be predictable; nothing the agent does is safe then.
        panic!("the operating system gives no random bytes: {error:?}");
    }
    bytes
}

/// A number in `0.0..1.0`.
#[must_use]
pub fn fraction() -> f64 {
    f64::from(u32::from_le_bytes(random())) / (f64::from(u32::MAX) + 1.0)
}

/// A nonce: 32 hex digits that nobody guesses.
#[must_use]
pub fn nonce() -> String {
    uuid::Uuid::from_bytes(random()).simple().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonces_differ_and_fractions_stay_in_range() {
        assert_ne!(nonce(), nonce());
        for _ in 0..100 {
            assert!((0.0..1.0).contains(&fraction()));
        }
    }

    #[test]
    fn clocks_run_forward() {
        let (boot, wall) = (boot_micros(), now());
        assert!(boot > 0 && boot_micros() >= boot && now() >= wall);
    }
}
