//! How long to wait before trying again: exponential with full jitter.
//!
//! Full jitter (any point between nothing and a ceiling that doubles) spreads a fleet that lost its controller in the same
//! second over the whole time, see "Exponential Backoff And Jitter" of the AWS Architecture Blog.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// Bounds of the waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Ceiling of the first wait.
    pub first: Duration,
    /// Ceiling of all later ones.
    pub most: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), most: Duration::from_secs(30) }
    }
}

/// The waits of one thing that is tried again and again.
#[derive(Debug)]
pub struct Retry {
    policy: Policy,
    ceilings: ExponentialBackoff,
}

impl Retry {
    /// Begins with the first wait.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { policy, ceilings: ceilings(policy) }
    }

    /// Begins anew after a success.
    pub fn reset(&mut self) {
        self.ceilings = ceilings(self.policy);
    }

    /// The next wait; `fraction` is random, in `0.0..1.0`.
    pub fn wait(&mut self, fraction: f64) -> Duration {
        let ceiling = self.ceilings.next().unwrap_or(self.policy.most).min(self.policy.most);
        ceiling.mul_f64(fraction.clamp(0.0, 1.0))
    }

    /// Waits, with a fraction of the clock's randomness.
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.wait(crate::clock::fraction())).await;
    }
}

fn ceilings(policy: Policy) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_factor(2.0)
        .with_min_delay(policy.first)
        .with_max_delay(policy.most)
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ceilings_double_up_to_the_most_and_start_over_after_a_success() {
        let mut retry = Retry::new(Policy::default());
        let waits: Vec<_> = (0..11).map(|_| retry.wait(1.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
        retry.reset();
        assert_eq!(retry.wait(0.5).as_millis(), 50);
    }

    proptest! {
        #[test]
        fn never_ends_and_never_waits_longer_than_the_most(fraction in 0.0f64..1.0, tries in 0usize..500) {
            let mut retry = Retry::new(Policy::default());
            for _ in 0..tries {
                retry.wait(fraction);
            }
            prop_assert!(retry.wait(fraction) <= Policy::default().most);
        }
    }
}
