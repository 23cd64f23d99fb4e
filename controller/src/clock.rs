//! The one place of the controller that reads clocks and makes random bytes.
//!
//! Everything else gets a [`Clock`]: the real one, or in tests one that stands still until it is moved. Wall time
//! is for people and rows; what lasts how long is measured by [`Clock::elapsed`], which never runs backwards.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use longshore_core::id::{
    AgentId, ApprovalId, AttemptId, ControllerId, DeploymentId, GrantId, JobId, JoinRuleId, ProjectId, ReleaseId,
    TokenId,
};
use longshore_core::time::Timestamp;
use tokio::sync::watch;

/// Time and randomness. A cheap handle.
#[derive(Clone)]
pub struct Clock(Arc<Kind>);

enum Kind {
    System { origin: Instant },
    Manual { start: Timestamp, elapsed: watch::Sender<Duration> },
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("now", &self.now()).finish()
    }
}

impl Clock {
    /// The machine's own clocks.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads clocks")]
    pub fn system() -> Self {
        Self(Arc::new(Kind::System { origin: Instant::now() }))
    }

    /// A clock that stands at `start` until [`Clock::advance`] moves it. For tests.
    #[must_use]
    pub fn manual(start: Timestamp) -> Self {
        Self(Arc::new(Kind::Manual { start, elapsed: watch::Sender::new(Duration::ZERO) }))
    }

    /// Wall time, UTC.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads clocks")]
    pub fn now(&self) -> Timestamp {
        match &*self.0 {
            Kind::System { .. } => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
            }
            Kind::Manual { start, elapsed } => start.after(*elapsed.borrow()),
        }
    }

    /// Time since this clock was made; never runs backwards.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        match &*self.0 {
            Kind::System { origin } => origin.elapsed(),
            Kind::Manual { elapsed, .. } => *elapsed.borrow(),
        }
    }

    /// Waits. A manual clock's sleepers wake when it is moved far enough.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.elapsed().saturating_add(duration)).await;
    }

    /// Waits until [`Clock::elapsed`] is `until`; does not wait when it is already.
    pub async fn sleep_until(&self, until: Duration) {
        match &*self.0 {
            Kind::System { origin } => tokio::time::sleep(until.saturating_sub(origin.elapsed())).await,
            Kind::Manual { elapsed, .. } => {
                // The sender lives as long as `self`, so this ends only by reaching the time.
                let _reached = elapsed.subscribe().wait_for(|now| *now >= until).await.is_ok();
            }
        }
    }

    /// Rests after work that is repeated: `times` as long as it has taken since `began`, at most `longest`. Work takes no time by a manual
    /// clock, so there is no rest by it.
    pub async fn rest(&self, began: Duration, times: u32, longest: Duration) {
        if let Kind::System { origin } = &*self.0 {
            let took = origin.elapsed().saturating_sub(began);
            tokio::time::sleep(took.saturating_mul(times).min(longest)).await;
        }
    }

    /// Moves a manual clock forward; the machine's clock is not moved.
    pub fn advance(&self, by: Duration) {
        if let Kind::Manual { elapsed, .. } = &*self.0 {
            elapsed.send_modify(|now| *now = now.saturating_add(by));
        }
    }

    /// Random bytes fit for keys and tokens.
    ///
    /// # Panics
    /// When the kernel gives no random bytes; nothing safe can be done then.
    #[must_use]
    #[expect(clippy::expect_used, reason = "without randomness there are no keys, and no way to go on")]
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        aws_lc_rs::rand::fill(&mut bytes).expect("the kernel gives random bytes");
        bytes
    }

    /// A new agent id.
    #[must_use]
    pub fn agent_id(&self) -> AgentId {
        AgentId::new(self.now(), self.random())
    }

    /// A new attempt id.
    #[must_use]
    pub fn attempt_id(&self) -> AttemptId {
        AttemptId::new(self.now(), self.random())
    }

    /// A new controller id.
    #[must_use]
    pub fn controller_id(&self) -> ControllerId {
        ControllerId::new(self.now(), self.random())
    }

    /// A new deployment id.
    #[must_use]
    pub fn deployment_id(&self) -> DeploymentId {
        DeploymentId::new(self.now(), self.random())
    }

    /// A new id for a role that is given.
    #[must_use]
    pub fn grant_id(&self) -> GrantId {
        GrantId::new(self.now(), self.random())
    }

    /// A new job id.
    #[must_use]
    pub fn job_id(&self) -> JobId {
        JobId::new(self.now(), self.random())
    }

    /// A new release id.
    #[must_use]
    pub fn release_id(&self) -> ReleaseId {
        ReleaseId::new(self.now(), self.random())
    }

    /// A new approval id.
    #[must_use]
    pub fn approval_id(&self) -> ApprovalId {
        ApprovalId::new(self.now(), self.random())
    }

    /// A new project id.
    #[must_use]
    pub fn project_id(&self) -> ProjectId {
        ProjectId::new(self.now(), self.random())
    }

    /// A new join rule id.
    #[must_use]
    pub fn join_rule_id(&self) -> JoinRuleId {
        JoinRuleId::new(self.now(), self.random())
    }

    /// A new token id.
    #[must_use]
    pub fn token_id(&self) -> TokenId {
        TokenId::new(self.now(), self.random())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_wakes_its_sleepers_when_it_is_moved() {
        let clock = Clock::manual(Timestamp::from_micros(5));
        let sleeper = clock.clone();
        let slept = async move {
            sleeper.sleep(Duration::from_secs(3)).await;
            sleeper.now()
        };
        let move_it = async {
            clock.advance(Duration::from_secs(2));
            tokio::task::yield_now().await;
            clock.advance(Duration::from_secs(1));
        };
        let (at, ()) = tokio::join!(slept, move_it);
        assert_eq!(at, Timestamp::from_micros(3_000_005));
        assert_eq!(clock.elapsed(), Duration::from_secs(3));
    }

    #[test]
    fn random_bytes_differ() {
        let clock = Clock::system();
        assert_ne!(clock.random::<16>(), clock.random::<16>());
    }
}
