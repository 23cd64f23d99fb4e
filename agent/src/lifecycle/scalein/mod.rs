//! Watches what the cloud is going to do to this machine, so that its jobs end before it does.
//!
//! Three tasks over one state, so that none waits for another: one asks the metadata, one tells the cloud, which may take long, and one
//! carries what follows to the supervisor at the moment it is due. What follows is decided in `decide`, without any of them.

mod cloud;
mod decide;
mod notice;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

pub use decide::Leaving;

use crate::config;
use crate::session::Snapshot;
use crate::tasks::Tasks;
use cloud::Cloud;
use decide::{Call, Rules, State, Timeouts};
use notice::{Look, Source};

/// The watch over one machine, not yet begun.
#[derive(Debug)]
pub struct Watcher {
    cloud: Cloud,
    poll: Duration,
    state: State,
}

/// What the tasks work with.
struct Shared {
    cloud: Cloud,
    state: Mutex<State>,
    /// each task --the state may be another one--> the others
    said: watch::Sender<()>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    /// `None`: there is nothing to watch.
    #[must_use]
    pub fn of(config: &config::Cloud) -> Option<Self> {
        let cloud = Cloud::of(config)?;
        let rules = Rules {
            save_time: config.save_time,
            ship_time: config.ship_time,
            hook: config.lifecycle_hook.is_some(),
            protect: config.scale_in_protection,
        };
        let state = State::new(rules, Timeouts::of(config.hook_timeout));
        Some(Self { cloud, poll: config.poll_interval, state })
    }

    /// Begins. What follows is sent to `leaving`; `snapshot` tells whether anything is held here.
    pub fn start(self, tasks: &Tasks, snapshot: watch::Receiver<Snapshot>, leaving: watch::Sender<Leaving>) {
        let shared =
            Arc::new(Shared { cloud: self.cloud, state: Mutex::new(self.state), said: watch::Sender::new(()) });
        tasks.spawn("leaving", carry(Arc::clone(&shared), leaving));
        tasks.spawn("cloud", tell(Arc::clone(&shared), snapshot));
        tasks.spawn("metadata of the cloud", ask(shared, self.poll));
    }
}

/// Carries what follows to the supervisor.
async fn carry(shared: Arc<Shared>, leaving: watch::Sender<Leaving>) {
    let mut said = shared.said.subscribe();
    loop {
        let now = crate::clock::now();
        let (next, due) = {
            let state = shared.lock();
            (state.leaving(now), state.due(now))
        };
        leaving.send_if_modified(|last| {
            let differs = *last != next;
            *last = next;
            differs
        });
        let wait = async {
            match due {
                Some(due) => tokio::time::sleep(due.since(now)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = crate::tasks::changed(&mut said) => {}
            () = wait => {}
        }
    }
}

/// Asks the metadata again and again.
async fn ask(shared: Arc<Shared>, poll: Duration) {
    let mut beat = tokio::time::interval(poll);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut log = Log::default();
    loop {
        beat.tick().await;
        for look in shared.cloud.look().await {
            log.looked(&look);
            shared.lock().saw(look, crate::clock::now());
        }
        shared.said.send_replace(());
    }
}

/// Tells the cloud what follows, looked at after each word of it and each change of what is held.
async fn tell(shared: Arc<Shared>, mut snapshot: watch::Receiver<Snapshot>) {
    let mut said = shared.said.subscribe();
    let mut log = Log::default();
    loop {
        let busy = !snapshot.borrow_and_update().held.is_empty();
        let calls = shared.lock().calls(busy, crate::clock::now());
        for call in &calls {
            let at = crate::clock::now();
            let outcome = shared.cloud.call(call, at).await;
            log.called(call, &outcome);
            let mut state = shared.lock();
            state.called(call, outcome.is_ok(), at);
            if let Ok(Some(timeouts)) = outcome {
                state.told(timeouts);
            }
        }
        if !calls.is_empty() {
            shared.said.send_replace(());
        }
        tokio::select! {
            () = crate::tasks::changed(&mut said) => {}
            () = crate::tasks::changed(&mut snapshot) => {}
        }
    }
}

/// Says each change once: a service that is away for a day is one line.
#[derive(Debug, Default)]
struct Log {
    sources: BTreeMap<Source, Result<Option<String>, String>>,
    calls: BTreeMap<&'static str, String>,
}

impl Log {
    fn looked(&mut self, (source, found): &Look) {
        let found =
            found.as_ref().map(|found| found.as_ref().map(|notice| notice.reason.clone())).map_err(Clone::clone);
        let before = self.sources.insert(*source, found.clone());
        if before.as_ref() == Some(&found) {
            return;
        }
        match (&found, before) {
            (Ok(Some(reason)), _) => tracing::warn!(reason, "the cloud announces the end of this machine"),
            (Ok(None), Some(Ok(Some(reason)))) => tracing::info!(reason, "the cloud has taken it back"),
            (Ok(None), Some(Err(_))) => tracing::info!(?source, "the cloud's metadata answers again"),
            (Ok(None), _) => {}
            (Err(error), _) => {
                tracing::warn!(
                    ?source,
                    error,
                    "the cloud's metadata does not say what becomes of this machine; nothing follows from that"
                );
            }
        }
    }

    fn called(&mut self, call: &Call, outcome: &cloud::Outcome) {
        let name = match call {
            Call::AskHook => "ask for the hook's timeouts",
            Call::Heartbeat => "keep the lifecycle hook alive",
            Call::Complete => "complete the lifecycle hook",
            Call::Protect(true) => "protect the instance from scale-in",
            Call::Protect(false) => "take the instance's protection from scale-in away",
            Call::Acknowledge(_) => "acknowledge the scheduled event",
        };
        match outcome {
            Ok(_) => {
                self.calls.remove(name);
                tracing::info!(call = name, "told the cloud");
            }
            Err(error) => {
                if self.calls.insert(name, error.clone()).as_ref() != Some(error) {
                    tracing::error!(call = name, error, "the cloud was not told, trying again");
                }
            }
        }
    }
}
