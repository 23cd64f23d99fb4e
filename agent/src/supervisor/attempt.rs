//! One attempt from its claim to its last trace: a step after the other, each prepared, confirmed, run and reported.
//!
//! Dropping the task at any await point leaves what `kill -9` leaves: the ledger and the containers, from which
//! [`Attempt::run`] goes on in the next process.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::id::AttemptId;
use longshore_core::offer::Offer;
use tokio::sync::watch;

use super::reporter::Reporter;
use super::times::Times;
use super::{Orders, Runtime, Shared};
use crate::executor::{Found, FoundState, Step};
use crate::ledger::{CancelMark, Claim, Entry, Ledger, Reached};
use crate::retry::Retry;
use crate::session::{Ending, Error as CallError, Held, Message, Report};

/// A container whose attempt is not ours any more gets this long between SIGINT and SIGKILL: enough to write a state file,
/// not enough to be a second writer for long.
const FENCED_GRACE: Duration = Duration::from_secs(30);

/// Why an attempt does not go on here.
#[derive(Debug)]
pub(super) enum Halt {
    /// It is not this agent's any more.
    Fenced(String),
    /// The controller has recorded its end itself.
    Recorded(String),
}

/// One attempt's task.
pub(super) struct Attempt<R: Runtime> {
    pub(super) shared: Arc<Shared<R>>,
    pub(super) offer: Offer,
    pub(super) orders: watch::Receiver<Orders>,
    pub(super) cancel: Option<CancelMark>,
    pub(super) times: Times,
}

impl<R: Runtime> Attempt<R> {
    pub(super) fn new(shared: Arc<Shared<R>>, offer: Offer, orders: watch::Receiver<Orders>) -> Self {
        Self { shared, offer, orders, cancel: None, times: Times::default() }
    }

    /// The span of all its lines.
    pub(super) fn span(&self) -> tracing::Span {
        let (attempt, deployment) = (self.id(), self.offer.deployment);
        tracing::error_span!("attempt", %attempt, %deployment, step = tracing::field::Empty)
    }

    pub(super) fn id(&self) -> AttemptId {
        self.offer.fence.attempt
    }

    /// Runs the attempt to its end: from its claim, or with `entry` from where an earlier process left it.
    pub(super) async fn run(mut self, entry: Option<Entry>) {
        let mut reached = None;
        match entry {
            Some(entry) => (self.cancel, reached) = (entry.cancel, entry.reached),
            None => {
                if !self.claim().await {
                    return;
                }
            }
        }
        let mut orders = self.orders.clone();
        let halt = tokio::select! {
            biased;
            reason = revoked(&mut orders) => Some(Halt::Fenced(reason)),
            result = self.drive(reached) => result.err(),
        };
        match halt {
            Some(Halt::Fenced(reason)) => {
                tracing::warn!(attempt = %self.id(), reason, "fenced: stopping what runs of it");
                self.stop().await;
            }
            Some(Halt::Recorded(reason)) => tracing::info!(attempt = %self.id(), reason, "the controller ended it"),
            None => tracing::info!(attempt = %self.id(), "reported to its end"),
        }
        self.clear_away().await;
    }

    /// Writes the claim down, then says so.
    async fn claim(&self) -> bool {
        let fence = self.offer.fence;
        let claim = Claim { offer: self.offer.clone(), at: crate::clock::now() };
        if let Err(error) = self.ledger(move |ledger| ledger.claim(&claim)).await {
            tracing::error!(attempt = %fence.attempt, %error, "an offer could not be written down, so it is declined");
            self.shared
                .outlet
                .say(Message::Answer { fence, declined: Some(format!("the agent's disk does not take it: {error}")) });
            return false;
        }
        self.hold(self.first_step(), None, false);
        self.shared.outlet.say(Message::Answer { fence, declined: None });
        tracing::info!(attempt = %fence.attempt, job = %self.offer.job, "claimed");
        true
    }

    pub(super) fn first_step(&self) -> u32 {
        self.offer.steps.first().map_or(0, |step| step.index)
    }

    async fn drive(&mut self, reached: Option<Reached>) -> Result<(), Halt> {
        let mut index = reached.as_ref().map_or_else(|| self.first_step(), |reached| reached.step);
        let mut reached = reached;
        loop {
            let Some(step) = Step::of(&self.offer, index) else {
                tracing::error!(attempt = %self.id(), index, "the controller names a step that was not offered");
                return Ok(());
            };
            tracing::Span::current().record("step", step.offer.name.as_str());
            let reporter = Reporter::new(&self.shared.outlet, &self.shared.board, self.offer.fence, index);
            let ending = self.step(&step, reached.take(), &reporter).await?;
            let next = self.complete(index, ending).await?;
            self.remove_containers().await;
            match next {
                Some(next) => index = next,
                None => return Ok(()),
            }
        }
    }

    /// One step, from where it stands to its end.
    async fn step(&mut self, step: &Step, reached: Option<Reached>, reporter: &Reporter) -> Result<Ending, Halt> {
        if let Some(Reached { intent, started: Some(started), .. }) = reached {
            // A grant that was written down without the container having been started is as good as none: its secrets
            // are lost, and the controller decides by the nonce.
            if !self.only_created(&intent.container).await {
                return self.follow(step.offer.index, &intent.container, &started, reporter).await;
            }
        }
        match self.prepare(step, reporter).await? {
            Ok(prepared) => self.start(step, prepared, reporter).await,
            Err(ending) => Ok(ending),
        }
    }

    /// Reports how a step ended until the controller has answered; its answer is the next step.
    async fn complete(&self, step: u32, ending: Ending) -> Result<Option<u32>, Halt> {
        let report = Report { fence: self.offer.fence, step, ending, took: self.times.take() };
        let mut retry = Retry::new(self.shared.retry);
        loop {
            match self.shared.client.complete(&report).await {
                Ok(next) => return Ok(next),
                Err(CallError::Fenced(reason)) => return Err(Halt::Fenced(reason)),
                Err(CallError::Refused(reason)) if matches!(report.ending, Ending::NotStarted { .. }) => {
                    return Err(Halt::Recorded(reason));
                }
                Err(error) => {
                    tracing::warn!(attempt = %self.id(), slot = step, %error, "the end of a step could not be reported, trying again");
                }
            }
            self.pause(&mut retry).await;
        }
    }

    /// Waits for the next try, less long when the controller is heard of again.
    pub(super) async fn pause(&self, retry: &mut Retry) {
        let mut contact = self.shared.contact.clone();
        let heard = async {
            if contact.wait_for(|contact| !contact.connected).await.is_ok()
                && contact.wait_for(|contact| contact.connected).await.is_ok()
            {
                return;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = retry.pause() => {}
            () = heard => retry.reset(),
        }
    }

    /// Says how the attempt is held from now on.
    pub(super) fn hold(&self, step: u32, container: Option<&str>, started: bool) {
        self.shared.board.hold(Held {
            fence: self.offer.fence,
            step,
            container: container.map(str::to_owned),
            started,
        });
    }

    /// Runs ledger work outside the event loop.
    pub(super) async fn ledger<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Ledger) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let ledger = self.shared.ledger.clone();
        crate::tasks::blocking(move || work(&ledger)).await
    }

    /// The containers of this attempt; asked for until the engine answers.
    async fn containers(&self) -> Vec<Found> {
        let mut retry = Retry::new(self.shared.retry);
        loop {
            match self.shared.runtime.list().await {
                Ok(found) => return found.into_iter().filter(|found| found.attempt == self.id()).collect(),
                Err(error) => {
                    tracing::warn!(error = error.full(), "the engine does not list its containers, trying again");
                }
            }
            retry.pause().await;
        }
    }

    async fn only_created(&self, container: &str) -> bool {
        self.containers().await.iter().any(|found| found.id == container && found.state == FoundState::Created)
    }

    /// Stops what runs of an attempt that is not ours any more: interrupt, grace, kill.
    async fn stop(&self) {
        let mark_sent = self.cancel.as_ref().is_some_and(|mark| mark.signalled);
        for found in
            self.containers().await.into_iter().filter(|found| found.state == FoundState::Running && !found.helper)
        {
            stop_container(&self.shared.runtime, self.id(), &found, mark_sent).await;
        }
    }

    async fn remove_containers(&self) {
        for found in self.containers().await {
            remove(&self.shared, &found.id).await;
        }
    }

    /// Removes containers, volume and ledger; then the attempt is held no more.
    async fn clear_away(&self) {
        self.remove_containers().await;
        remove_volume(&self.shared, self.id()).await;
        let attempt = self.id();
        let mut retry = Retry::new(self.shared.retry);
        while let Err(error) = self.ledger(move |ledger| ledger.forget(attempt)).await {
            tracing::warn!(%attempt, %error, "the ledger of an ended attempt cannot be removed, trying again");
            retry.pause().await;
        }
        self.shared.board.release(attempt);
    }
}

/// Interrupts a container once, waits, kills it.
pub(super) async fn stop_container<R: Runtime>(runtime: &R, attempt: AttemptId, found: &Found, interrupted: bool) {
    if !interrupted && let Err(error) = runtime.interrupt(&found.id).await {
        tracing::warn!(%attempt, error = error.full(), "a fenced container could not be interrupted");
    }
    let ended = runtime.wait_end(attempt, found.step, &found.id, 0);
    if tokio::time::timeout(FENCED_GRACE, ended).await.is_err()
        && let Err(error) = runtime.kill(&found.id).await
    {
        tracing::warn!(%attempt, error = error.full(), "a fenced container could not be killed, it is removed by force");
    }
}

/// Removes a container, tried until the engine has done it.
pub(super) async fn remove<R: Runtime>(shared: &Shared<R>, container: &str) {
    let mut retry = Retry::new(shared.retry);
    while let Err(error) = shared.runtime.remove(container).await {
        tracing::warn!(container, error = error.full(), "a container cannot be removed, trying again");
        retry.pause().await;
    }
}

async fn remove_volume<R: Runtime>(shared: &Shared<R>, attempt: AttemptId) {
    let mut retry = Retry::new(shared.retry);
    while let Err(error) = shared.runtime.remove_volume(attempt).await {
        tracing::warn!(%attempt, error = error.full(), "an attempt's volume cannot be removed, trying again");
        retry.pause().await;
    }
}

/// Waits until the attempt is not ours any more.
pub(super) async fn revoked(orders: &mut watch::Receiver<Orders>) -> String {
    let reason =
        orders.wait_for(|orders| orders.revoked.is_some()).await.ok().and_then(|orders| orders.revoked.clone());
    match reason {
        Some(reason) => reason,
        // The supervisor is gone, so the agent is ending: nobody gives orders any more.
        None => std::future::pending().await,
    }
}
