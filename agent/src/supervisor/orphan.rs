//! Containers of this agent that its ledger knows nothing of: the state directory was lost or set aside.
//!
//! They are said to be held, because the absence of a container is a proof that nothing runs (promise P3). The
//! controller says what becomes of them: stopped and removed, or waited for and reported as lost.

use std::sync::Arc;

use longshore_core::fence::Fence;
use longshore_core::id::JobId;
use tokio::sync::watch;

use super::attempt::{remove, revoked, stop_container};
use super::{Orders, Runtime, Shared};
use crate::executor::{Found, FoundState};
use crate::retry::Retry;
use crate::session::{Ending, Error as CallError, Report};

/// The containers of one attempt without a ledger.
pub(super) struct Orphan<R: Runtime> {
    pub(super) shared: Arc<Shared<R>>,
    pub(super) fence: Fence,
    pub(super) job: JobId,
    pub(super) containers: Vec<Found>,
    pub(super) orders: watch::Receiver<Orders>,
}

impl<R: Runtime> Orphan<R> {
    /// Does what the controller says and leaves nothing behind.
    pub(super) async fn run(mut self) {
        let attempt = self.fence.attempt;
        let newest = self.containers.iter().max_by_key(|found| found.step).cloned();
        tracing::error!(%attempt, containers = self.containers.len(), "containers without a ledger: the state directory was lost or set aside");
        let mut orders = self.orders.clone();
        let given_up = tokio::select! {
            biased;
            reason = revoked(&mut orders) => Some(reason),
            () = self.report(newest.as_ref()) => None,
        };
        if let Some(reason) = given_up {
            tracing::warn!(%attempt, reason, "stopping containers without a ledger");
            for found in self.containers.iter().filter(|found| found.state == FoundState::Running) {
                stop_container(&self.shared.runtime, attempt, found, false).await;
            }
        }
        for found in &self.containers {
            remove(&self.shared, &found.id).await;
        }
        if let Err(error) = self.shared.runtime.remove_job(self.job).await {
            tracing::warn!(job = %self.job, error = error.full(), "a job's volume stays");
        }
        self.shared.board.release(attempt);
    }

    /// Waits until the controller wants it, then for the end, and reports the step as lost.
    async fn report(&mut self, newest: Option<&Found>) {
        if self.orders.wait_for(|orders| orders.confirmed).await.is_err() {
            std::future::pending::<()>().await;
        }
        let Some(newest) = newest else { return };
        if newest.state == FoundState::Running {
            let _ = self.shared.runtime.wait_end(self.fence.attempt, newest.step, &newest.id, 0).await;
        }
        let ending = Ending::Lost {
            reason: "the agent's record of the attempt is lost, so how the step ended is not known; what it had done stays done".to_owned(),
            spool_bytes: 0,
            canceled: false,
        };
        let report = Report { fence: self.fence, step: newest.step, ending };
        let mut retry = Retry::new(self.shared.retry);
        loop {
            match self.shared.client.complete(&report).await {
                Ok(_) | Err(CallError::Fenced(_)) => return,
                Err(error) => tracing::warn!(%error, "a lost step could not be reported, trying again"),
            }
            retry.pause().await;
        }
    }
}
