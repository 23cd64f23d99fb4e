//! Follows a started step to its end: ships its log, renews its deadline, carries out a cancel.

use std::time::Duration;

use longshore_core::init::control::Deadlines;
use tokio::sync::watch;

use super::attempt::{Attempt, Halt};
use super::deadlines::{deadlines, micros, refresh_every};
use super::reporter::Reporter;
use super::{CancelOrder, Runtime};
use crate::executor::{End, Signalled};
use crate::ledger::{CancelMark, Shipped, Started};
use crate::retry::Policy;
use crate::session::{Ending, Message, Phase};
use crate::shipper::{self, Delivered, Reader, StepLog};

/// A signal that the engine does not take is tried again after this.
const SIGNAL_AGAIN: Duration = Duration::from_secs(1);
/// The engine may take this long to take a signal.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(10);
/// People watch the log, so its stream comes back sooner than the control stream of a whole fleet has to.
const SHIP_AGAIN: Duration = Duration::from_secs(5);
/// init kills at the hard deadline; when it has not so long after, the agent does.
const BACKSTOP: Duration = Duration::from_secs(30);

impl<R: Runtime> Attempt<R> {
    /// Follows a step that was started, by this process or one before, and says how it ended.
    pub(super) async fn follow(
        &mut self,
        step: u32,
        container: &str,
        started: &Started,
        reporter: &Reporter,
    ) -> Result<Ending, Halt> {
        self.hold(step, Some(container), true);
        let attempt = self.id();
        let shipped = self.ledger(move |ledger| ledger.shipped(attempt, step)).await.unwrap_or_else(|error| {
            tracing::error!(%attempt, %error, "how far the log was read is not known; it is read from the front");
            None
        });
        let shipped = shipped.unwrap_or_default();
        let boundary = shipped.boundary;
        let (end_tx, end_rx) = watch::channel(None);
        let ship = self.ship(step, shipped, end_rx);
        let mut cancel = self.cancel.clone();
        let oversee = async {
            let end = self.oversee(step, (container, boundary), started, &mut cancel).await;
            reporter.say(Phase::Shipping, "", 0, 0);
            end_tx.send_replace(Some(self.spool_length(step)));
            Ok(end)
        };
        let (delivered, end) = tokio::try_join!(ship, oversee)?;
        self.cancel = cancel;
        if let (Ok(_), End::Exit(record)) = (&delivered, &end) {
            self.deliver(step, container, record, reporter).await?;
        }
        let ending = self.ending(delivered, end, started);
        if let Ending::Exited { ended_at, .. } = &ending {
            self.times.note("ship", *ended_at);
        }
        Ok(ending)
    }

    fn spool_length(&self, step: u32) -> u64 {
        std::fs::metadata(self.shared.ledger.spool(self.id(), step)).map_or(0, |spool| spool.len())
    }

    /// Ships the log; only a fence ends the step for it.
    async fn ship(
        &self,
        step: u32,
        shipped: Shipped,
        mut end: watch::Receiver<Option<u64>>,
    ) -> Result<Result<Delivered, String>, Halt> {
        let dir = self.shared.ledger.step_dir(self.id(), step);
        let opened = Reader::open(&dir, &self.shared.ledger.spool(self.id(), step), shipped).map_err(|err| said(&err));
        let watched = self.shared.runtime.watch(self.id(), step).map_err(|err| err.full());
        let (reader, mut growth) = match (opened, watched) {
            (Ok(reader), Ok(growth)) => (reader, growth),
            (Err(error), _) | (_, Err(error)) => return Ok(Err(error)),
        };
        let uplink = StepLog { client: self.shared.client.clone(), fence: self.offer.fence, step };
        let retry = Policy { most: self.shared.retry.most.min(SHIP_AGAIN), ..self.shared.retry };
        match shipper::ship(&uplink, reader, &mut growth, &mut end, retry).await {
            Ok(delivered) => Ok(Ok(delivered)),
            Err(shipper::Error::Fenced(reason)) => Err(Halt::Fenced(reason)),
            Err(error) => {
                tracing::error!(attempt = %self.id(), error = said(&error), "the log cannot be shipped to its end");
                Ok(Err(said(&error)))
            }
        }
    }

    /// Waits for the end of the container; meanwhile the deadline is renewed and a cancel carried out.
    async fn oversee(
        &self,
        step: u32,
        (container, boundary): (&str, u64),
        started: &Started,
        cancel: &mut Option<CancelMark>,
    ) -> End {
        let runtime = &self.shared.runtime;
        let end = runtime.wait_end(self.id(), step, container, boundary);
        tokio::pin!(end);
        let mut orders = self.orders.clone();
        loop {
            let wanted = orders.borrow_and_update().cancel.clone();
            self.carry_out(container, wanted, cancel).await;
            let hard = self.renew(step, started, cancel.as_ref());
            if crate::clock::boot_micros() > hard.saturating_add(micros(BACKSTOP)) {
                tracing::warn!(attempt = %self.id(), "the hard deadline passed and the container is still there: killing it");
                if let Err(error) = runtime.kill(container).await {
                    tracing::warn!(error = error.full(), "it cannot be killed");
                }
            }
            let signal_due = cancel.as_ref().is_some_and(|mark| !mark.signalled);
            let contact_due = self.shared.contact.borrow().last_micros == 0;
            let look_again =
                if signal_due || contact_due { SIGNAL_AGAIN } else { refresh_every(&self.shared.contact.borrow()) };
            tokio::select! {
                end = &mut end => return end,
                () = tokio::time::sleep(look_again) => {}
                changed = orders.changed() => if changed.is_err() { return end.await },
            }
        }
    }

    /// Writes the deadlines that hold now; returns the hard one.
    fn renew(&self, step: u32, started: &Started, cancel: Option<&CancelMark>) -> u64 {
        let runtime = &self.shared.runtime;
        if started.boot_id != self.shared.boot_id {
            return u64::MAX;
        }
        let standing = runtime.deadlines(self.id(), step).unwrap_or_default();
        let contact = *self.shared.contact.borrow();
        let due = deadlines(started, &contact, cancel, standing);
        if due != standing
            && let Err(error) = runtime.set_deadlines(self.id(), step, due)
        {
            tracing::warn!(attempt = %self.id(), error = error.full(), "the deadline cannot be renewed");
        }
        if due == Deadlines::default() { u64::MAX } else { due.hard }
    }

    /// Sends the one SIGINT of a cancel: written down before and after, so that it is sent again only when it is not
    /// known to have been sent; init passes on the first alone.
    async fn carry_out(&self, container: &str, wanted: Option<CancelOrder>, cancel: &mut Option<CancelMark>) {
        let attempt = self.id();
        match (&*cancel, wanted) {
            (None, None) => return,
            (None, Some(CancelOrder { hard, cause })) => {
                tracing::info!(%attempt, cause, "canceling: one interrupt, then the grace period");
                let boot_id = self.shared.boot_id.clone();
                self.note(cancel, CancelMark { boot_id, hard, signalled: false, cause }).await;
            }
            // There is less time now than there was.
            (Some(mark), Some(order)) if order.hard < mark.hard && mark.boot_id == self.shared.boot_id => {
                let mark = CancelMark { hard: order.hard, ..mark.clone() };
                self.note(cancel, mark).await;
            }
            _ => {}
        }
        if let Some(reason) = cancel.as_ref().and_then(|mark| mark.cause.clone()) {
            // Each time: what is said while no stream is up is lost.
            self.shared.outlet.say(Message::Canceling { fence: self.offer.fence, reason });
        }
        let Some(mark) = cancel.clone().filter(|mark| !mark.signalled) else { return };
        match tokio::time::timeout(SIGNAL_TIMEOUT, self.shared.runtime.interrupt(container)).await {
            Ok(Ok(Signalled::Sent)) => self.note(cancel, CancelMark { signalled: true, ..mark }).await,
            // It has ended by itself; there is nothing to cancel.
            Ok(Ok(Signalled::NotRunning)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%attempt, error = error.full(), "the interrupt was not taken, trying again");
            }
            Err(_) => tracing::warn!(%attempt, "the engine does not take the interrupt, trying again"),
        }
    }

    async fn note(&self, cancel: &mut Option<CancelMark>, mark: CancelMark) {
        let (attempt, written) = (self.id(), mark.clone());
        if let Err(error) = self.ledger(move |ledger| ledger.cancel(attempt, &written)).await {
            tracing::error!(%attempt, %error, "a cancel could not be written down; it is carried out all the same");
        }
        *cancel = Some(mark);
    }

    fn ending(&self, delivered: Result<Delivered, String>, end: End, started: &Started) -> Ending {
        let canceled = self.cancel.as_ref().is_some_and(|mark| mark.signalled);
        match (delivered, end) {
            (Ok(delivered), End::Exit(record)) => Ending::Exited {
                record,
                spool_bytes: delivered.bytes,
                summary: delivered.summary,
                started_at: started.at,
                ended_at: delivered.exit_at.unwrap_or_else(crate::clock::now),
                canceled,
            },
            (Ok(delivered), End::Gone { detail }) => {
                Ending::Lost { reason: detail, spool_bytes: delivered.bytes, canceled }
            }
            (Err(error), _) => Ending::Lost {
                reason: format!("the step ended, but its log is lost: {error}"),
                spool_bytes: 0,
                canceled,
            },
        }
    }
}

fn said(error: &shipper::Error) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}
