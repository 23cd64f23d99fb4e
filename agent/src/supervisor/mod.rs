//! Takes offers, runs one task for each attempt, and does what the controller says about them.
//!
//! The supervisor routes and counts; what happens to an attempt is in `attempt`. It decides nothing: whether an attempt
//! goes on, is canceled or is given up is the controller's word, which reaches an attempt's task as [`Orders`].
//!
//! Invariants: one attempt is one task and one slot, and the slot is free when the task has ended, however it did; an
//! attempt is said to be held from before its offer is accepted until nothing of it is left here.

mod artifacts;
mod attempt;
mod board;
mod deadlines;
mod follow;
mod package;
mod plugins;
mod prepare;
mod recover;
mod reporter;
mod runtime;
mod times;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::fence::Fence;
use longshore_core::id::AttemptId;
use longshore_core::offer::Offer;
use longshore_core::plugins::Plugin;
use tokio::sync::{mpsc, watch};
use tracing::Instrument as _;

pub use board::{Board, Phases, Slot};
pub use deadlines::{deadlines, refresh_every};
pub use plugins::{keep_ready, wanted_before};
pub use runtime::Runtime;

use crate::cache::Packages;
use crate::executor::{InUse, Wanted};
use crate::ledger::{Entry, Ledger};
use crate::lifecycle::scalein::Leaving;
use crate::retry::Policy;
use crate::session::{Client, Contact, Event, HeldVerdict, Message, Outlet};
use crate::tasks::Tasks;
use attempt::Attempt;

/// What every attempt's task works with.
#[derive(Debug)]
pub struct Shared<R> {
    /// Runs containers.
    pub runtime: R,
    /// The controller's decisions.
    pub client: Client,
    /// What was promised.
    pub ledger: Ledger,
    /// What later jobs need not fetch again.
    pub packages: Packages,
    /// What is held.
    pub board: Board,
    /// The control stream.
    pub outlet: Outlet,
    /// When the controller was last heard of.
    pub contact: watch::Receiver<Contact>,
    /// Waits between tries.
    pub retry: Policy,
    /// Boot id of the host.
    pub boot_id: String,
    /// controller --plugins of the pool--> whoever makes them ready
    pub plugins: watch::Sender<Vec<Plugin>>,
}

/// What the controller wants of an attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orders {
    /// It is canceled.
    pub cancel: Option<CancelOrder>,
    /// It is given back if nothing of it was started yet; why.
    pub give_back: Option<String>,
    /// It is not this agent's any more; why.
    pub revoked: Option<String>,
}

/// A cancel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelOrder {
    /// When SIGKILL follows the SIGINT: microseconds of `CLOCK_BOOTTIME`.
    pub hard: u64,
    /// Why this agent itself cancels; `None`: a person asked the controller for it.
    pub cause: Option<String>,
}

impl CancelOrder {
    /// A person asked for it, or this agent does, for a reason of its own.
    fn new(grace: Duration, cause: Option<&str>) -> Self {
        let hard = crate::clock::boot_micros().saturating_add(deadlines::micros(grace));
        Self { hard, cause: cause.map(str::to_owned) }
    }
}

/// How the agent is to end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Not at all.
    #[default]
    Run,
    /// When the running jobs have ended.
    Drain,
    /// When they were canceled and have ended.
    Cancel,
    /// Now; containers run on.
    Now,
}

/// supervisor --what the controller wants--> attempt
type Handle = watch::Sender<Orders>;

/// The supervisor.
pub struct Supervisor<R: Runtime> {
    shared: Arc<Shared<R>>,
    tasks: Tasks,
    cancel_grace: Duration,
    handles: HashMap<AttemptId, Handle>,
    /// attempts --has ended--> supervisor
    ended_tx: mpsc::UnboundedSender<AttemptId>,
    ended_rx: mpsc::UnboundedReceiver<AttemptId>,
}

impl<R: Runtime> std::fmt::Debug for Supervisor<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor").field("attempts", &self.handles.len()).finish_non_exhaustive()
    }
}

impl<R: Runtime> Supervisor<R> {
    /// A supervisor of nothing.
    #[must_use]
    pub fn new(shared: Arc<Shared<R>>, tasks: Tasks, cancel_grace: Duration) -> Self {
        let (ended_tx, ended_rx) = mpsc::unbounded_channel();
        Self { shared, tasks, cancel_grace, handles: HashMap::new(), ended_tx, ended_rx }
    }

    /// Works until the agent is to end: at once, or when draining and no attempt is left, or when `drain_timeout` has passed.
    pub async fn run(
        &mut self,
        mut events: mpsc::UnboundedReceiver<Event>,
        mut stop: watch::Receiver<Stop>,
        drain_timeout: watch::Receiver<Duration>,
        mut leaving: watch::Receiver<Leaving>,
    ) {
        leaving.mark_changed();
        let give_up = tokio::time::sleep(Duration::MAX);
        tokio::pin!(give_up);
        let (mut draining, mut canceling) = (false, false);
        loop {
            let wanted = *stop.borrow_and_update();
            if wanted != Stop::Run && !draining {
                draining = true;
                let drain_timeout = *drain_timeout.borrow();
                give_up.set(tokio::time::sleep(drain_timeout));
                self.shared.board.drain("the agent was told to stop");
                tracing::info!(attempts = self.handles.len(), timeout = ?drain_timeout, "draining: no more offers are taken");
            }
            if wanted == Stop::Cancel && !canceling {
                canceling = true;
                // They end by themselves or are killed: whoever said it twice waits for that.
                give_up.set(tokio::time::sleep(Duration::MAX));
                self.cancel_all("the agent was told twice to stop", self.cancel_grace);
            }
            if wanted == Stop::Now || (draining && self.handles.is_empty()) {
                return;
            }
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.handle(event),
                    None => return,
                },
                Some(attempt) = self.ended_rx.recv() => {
                    self.handles.remove(&attempt);
                    self.collect_images();
                }
                changed = stop.changed() => if changed.is_err() { return },
                () = crate::tasks::changed(&mut leaving) => {
                    let leaving = leaving.borrow_and_update().clone();
                    self.leave(leaving);
                }
                () = &mut give_up, if draining => {
                    tracing::warn!(attempts = self.handles.len(), "jobs still run; they go on in their containers, and the next agent takes them over");
                    return;
                }
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Welcome { verdicts, plugins } => {
                // Said anew after it, if it still is so.
                self.shared.board.told(None);
                verdicts.into_iter().for_each(|verdict| self.verdict(verdict));
                if let Some(plugins) = plugins {
                    self.want_plugins(plugins);
                }
            }
            Event::Plugins(plugins) => self.want_plugins(plugins),
            Event::Offer(offer) => self.offer(*offer),
            Event::BadOffer { fence, reason } => self.decline(fence, format!("the offer cannot be read: {reason}")),
            Event::Cancel { fence, grace } => {
                self.order(fence.attempt, |orders| cancel(orders, CancelOrder::new(grace, None)));
            }
            Event::Drain(reason) => {
                tracing::info!(reason, "told by the controller whether jobs are to be taken");
                self.shared.board.told(reason);
            }
            Event::ResolveImage { request, reference, pull } => {
                self.resolve_image(request, Wanted { reference, pull, digest: None });
            }
            Event::Probe { request } => self.probe(request),
            Event::Revoke { fence, reason } => self.order(fence.attempt, |orders| orders.revoked = Some(reason)),
        }
    }

    /// Makes an image present and says which one it is.
    fn resolve_image(&self, request: u64, wanted: Wanted) {
        let shared = Arc::clone(&self.shared);
        self.tasks.spawn("image", async move {
            let image = shared.runtime.prepare_image(&wanted, |_| {}).await;
            let digest = image.map(|image| image.id).map_err(|error| error.full());
            shared.outlet.say(Message::Image { request, digest });
        });
    }

    /// Runs a container that does nothing and says how that went.
    fn probe(&self, request: u64) {
        let shared = Arc::clone(&self.shared);
        self.tasks.spawn("probe", async move {
            let error = shared.runtime.probe().await.err().map(|error| error.full());
            shared.outlet.say(Message::Probed { request, error });
        });
    }

    /// The pool's plugins are these from now on.
    fn want_plugins(&self, plugins: Vec<Plugin>) {
        self.shared.plugins.send_if_modified(|wanted| {
            let differs = *wanted != plugins;
            *wanted = plugins;
            differs
        });
    }

    /// Looks for images that can go: all over the budget when nothing runs, else only when the disk is short.
    pub(super) fn collect_images(&self) {
        let (shared, idle) = (Arc::clone(&self.shared), self.handles.is_empty());
        self.tasks.spawn("images", async move {
            let collected = shared.runtime.collect_images(idle).await;
            shared.board.kept_images(collected.kept);
        });
    }

    fn verdict(&self, verdict: HeldVerdict) {
        self.order(verdict.attempt, |orders| {
            if verdict.go_on {
                if let Some(grace) = verdict.cancel {
                    cancel(orders, CancelOrder::new(grace, None));
                }
            } else {
                orders.revoked = Some("the controller has given the attempt up".to_owned());
            }
        });
    }

    /// The machine is to go: first no more jobs are taken, what was not started is given back, and when it is time, what
    /// runs is canceled.
    fn leave(&self, Leaving { drain, cancel }: Leaving) {
        self.shared.board.leave(drain.clone());
        let Some((reason, until)) = drain else { return };
        if until.is_some() {
            for handle in self.handles.values() {
                handle.send_modify(|orders| orders.give_back = Some(reason.clone()));
            }
        }
        if let Some(kill_at) = cancel {
            self.cancel_all(&reason, kill_at.since(crate::clock::now()));
        }
    }

    fn cancel_all(&self, cause: &str, grace: Duration) {
        tracing::warn!(attempts = self.handles.len(), cause, ?grace, "canceling what runs here");
        for handle in self.handles.values() {
            let order = CancelOrder::new(grace, Some(cause));
            handle.send_modify(|orders| {
                orders.give_back = Some(cause.to_owned());
                cancel(orders, order);
            });
        }
    }

    fn order(&self, attempt: AttemptId, change: impl FnOnce(&mut Orders)) {
        match self.handles.get(&attempt) {
            Some(handle) => handle.send_modify(change),
            None => tracing::debug!(%attempt, "an order for an attempt that is not here (any more)"),
        }
    }

    fn decline(&self, fence: Fence, reason: String) {
        tracing::info!(attempt = %fence.attempt, reason, "offer declined");
        self.shared.outlet.say(Message::Answer { fence, declined: Some(reason) });
    }

    fn offer(&mut self, offer: Offer) {
        let fence = offer.fence;
        if self.handles.contains_key(&fence.attempt) {
            // The answer was lost; the claim stands.
            return self.shared.outlet.say(Message::Answer { fence, declined: None });
        }
        if let Some(reason) = self.shared.board.refuses() {
            return self.decline(fence, reason);
        }
        let Some(slot) = self.shared.board.take() else {
            return self.decline(fence, "no slot is free".to_owned());
        };
        self.begin(offer, slot, None);
    }

    /// Starts an attempt's task: a new one, or with `entry` one that was found on disk.
    fn begin(&mut self, offer: Offer, slot: Slot, entry: Option<Entry>) {
        let attempt = offer.fence.attempt;
        let (handle, orders) = watch::channel(Orders::default());
        self.handles.insert(attempt, handle);
        let uses = self.shared.runtime.uses(&offer.steps);
        let task = Attempt::new(Arc::clone(&self.shared), offer, orders);
        let end = EndOfAttempt { attempt, ended: self.ended_tx.clone(), _slot: slot, _uses: uses };
        // Every line of it says what it is of. The step is the one that is worked on.
        let span = task.span();
        let work = async move {
            let end = end;
            task.run(entry).await;
            drop(end);
        };
        self.tasks.spawn("attempt", work.instrument(span));
    }
}

/// The one that leaves less time counts; who was first has the cause.
fn cancel(orders: &mut Orders, order: CancelOrder) {
    let before = orders.cancel.take();
    orders.cancel = Some(match before {
        Some(before) => CancelOrder { hard: before.hard.min(order.hard), ..before },
        None => order,
    });
}

/// Dropped at the end of an attempt's task, however it ends: frees the slot and tells the supervisor.
struct EndOfAttempt {
    attempt: AttemptId,
    ended: mpsc::UnboundedSender<AttemptId>,
    _slot: Slot,
    _uses: InUse,
}

impl Drop for EndOfAttempt {
    fn drop(&mut self) {
        if self.ended.send(self.attempt).is_err() {
            tracing::debug!(attempt = %self.attempt, "the supervisor has ended before the attempt");
        }
    }
}
