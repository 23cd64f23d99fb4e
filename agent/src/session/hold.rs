//! One control stream from its hello to its end.

use std::time::Duration;

use longshore_core::placement::Scarce;
use longshore_core::plugins::Readiness;
use longshore_core::time::Timestamp;
use longshore_proto::v1;
use longshore_proto::v1::session_request::Message as Up;
use longshore_proto::v1::session_response::Message as Down;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::call::Error;
use super::dial;
use super::link::{Ends, Setup};
use super::wire::{self, Terms};
use super::{Message, Snapshot};

/// Hello has to be answered within this.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(15);
/// Heartbeats that may go unanswered before the stream is given up.
const SILENT_BEATS: u32 = 3;
/// Messages that wait for HTTP/2's window; more means that the stream is stuck.
const WAITING: usize = 256;

/// Why a stream is over.
pub(super) enum Ended {
    /// Try again.
    Broken {
        /// For people.
        reason: String,
        /// It had been up.
        welcomed: bool,
        /// It had been up for longer than a heartbeat, so this is no quarrel over the place with another process.
        lasted: bool,
    },
    /// Slots, mounts, labels, and that an agent takes jobs again, stand in a hello, so
    /// a change needs a new one; it takes up held attempts as ever.
    Anew,
    /// The rest of the agent is gone.
    ForGood,
}

/// A stream that is up.
struct Stream {
    up: mpsc::Sender<v1::SessionRequest>,
    down: Streaming<v1::SessionResponse>,
    terms: Terms,
    sequence: u64,
    heard: Instant,
    /// Why and until when it drains, as the controller knows it.
    said_draining: Option<(String, Option<Timestamp>)>,
    /// Free slots as the controller knows them.
    said_free: u32,
    /// What there is too little of, as the controller knows it.
    said_low: Vec<Scarce>,
    /// How far the agent is with plugins, as the controller knows it.
    said_plugins: Readiness,
}

/// Opens a stream and holds it to its end.
pub(super) async fn once(setup: &mut Setup, ends: &mut Ends) -> Ended {
    match tokio::time::timeout(WELCOME_TIMEOUT, open(setup, ends)).await {
        Ok(Ok(stream)) => stream.hold(setup, ends).await,
        Ok(Err(reason)) => Ended::Broken { reason, welcomed: false, lasted: false },
        Err(_) => Ended::Broken {
            reason: format!("no welcome within {} s", WELCOME_TIMEOUT.as_secs()),
            welcomed: false,
            lasted: false,
        },
    }
}

async fn open(setup: &mut Setup, ends: &Ends) -> Result<Stream, String> {
    let mut plane = dial::now(&setup.dialer).await.map_err(|err| Error::unreached(&err).to_string())?;
    let (up, up_rx) = mpsc::channel(WAITING);
    let snapshot = setup.snapshot.borrow_and_update().clone();
    let said_draining = draining(&snapshot);
    let about = setup.about.borrow_and_update().clone();
    // As the controller counts from a hello.
    let said_free = about.slots.saturating_sub(u32::try_from(snapshot.held.len()).unwrap_or(u32::MAX));
    let said_low = scarce(&snapshot);
    let hello = wire::hello(&about, &snapshot, setup.probe.read());
    up.send(wire::up(hello)).await.map_err(|err| err.to_string())?;
    let said = |status: tonic::Status| Error::from_status(&status).to_string();
    let mut down = plane.session(ReceiverStream::new(up_rx)).await.map_err(said)?.into_inner();
    let first = down.message().await.map_err(said)?.and_then(|response| response.message);
    let Some(Down::Welcome(welcome)) = first else {
        return Err("the controller's first message is no welcome".to_owned());
    };
    let (terms, event) = wire::welcome(welcome).map_err(|err| err.to_string())?;
    tracing::info!(heartbeat = ?terms.heartbeat, "connected to the controller");
    heard(ends, terms);
    if ends.events.send(event).is_err() {
        return Err("the agent is ending".to_owned());
    }
    let said_plugins = snapshot.plugins;
    Ok(Stream { up, down, terms, sequence: 0, heard: Instant::now(), said_draining, said_free, said_low, said_plugins })
}

fn scarce(snapshot: &Snapshot) -> Vec<Scarce> {
    snapshot.low.iter().map(|low| low.what).collect()
}

fn draining(snapshot: &Snapshot) -> Option<(String, Option<Timestamp>)> {
    snapshot.draining.clone().map(|reason| (reason, snapshot.until))
}

fn heard(ends: &Ends, terms: Terms) {
    ends.contact.send_modify(|contact| {
        contact.connected = true;
        contact.last_micros = crate::clock::boot_micros();
        contact.max_disconnected = Some(terms.max_disconnected);
    });
}

impl Stream {
    async fn hold(mut self, setup: &mut Setup, ends: &mut Ends) -> Ended {
        let (began, heartbeat) = (Instant::now(), self.terms.heartbeat);
        let broken = |reason: String| Ended::Broken { reason, welcomed: true, lasted: began.elapsed() > heartbeat };
        let mut beat = tokio::time::interval(self.terms.heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let result = tokio::select! {
                message = self.down.message() => match message {
                    Ok(Some(response)) => self.take(response, ends),
                    Ok(None) => Err("the controller closed the stream".to_owned()),
                    Err(status) => Err(Error::from_status(&status).to_string()),
                },
                _ = beat.tick() => self.beat(setup),
                message = ends.messages.recv() => match message {
                    Some(Message::Canceling { .. }) if !self.terms.leaving => Ok(()),
                    Some(message) => self.say(wire::message(message)),
                    None => return Ended::ForGood,
                },
                () = crate::tasks::changed(&mut setup.about) => return Ended::Anew,
                changed = setup.snapshot.changed() => match changed {
                    // That it takes jobs again stands in a hello alone.
                    Ok(()) if self.said_draining.is_some() && setup.snapshot.borrow().draining.is_none() => return Ended::Anew,
                    Ok(()) => self.announce(setup),
                    Err(_) => return Ended::ForGood,
                },
            };
            if let Err(reason) = result {
                return broken(reason);
            }
        }
    }

    fn take(&mut self, response: v1::SessionResponse, ends: &Ends) -> Result<(), String> {
        self.heard = Instant::now();
        heard(ends, self.terms);
        match wire::down(response.message) {
            Ok(None) => Ok(()),
            Ok(Some(event)) => ends.events.send(event).map_err(|_| "the agent is ending".to_owned()),
            // What cannot be read cannot be acted on; the controller's own limits deal with the silence.
            Err(error) => {
                tracing::error!(%error, "a message of the controller was not understood");
                Ok(())
            }
        }
    }

    fn beat(&mut self, setup: &mut Setup) -> Result<(), String> {
        if self.heard.elapsed() > self.terms.heartbeat * SILENT_BEATS {
            return Err(format!("nothing was heard for {} heartbeats", SILENT_BEATS));
        }
        self.sequence += 1;
        let snapshot = setup.snapshot.borrow().clone();
        (self.said_free, self.said_low) = (snapshot.free_slots, scarce(&snapshot));
        let beat = wire::heartbeat(self.sequence, &setup.about.borrow(), &snapshot, setup.probe.read());
        self.say(beat)
    }

    /// Says at once that the agent drains, that there is too little disk, and when its free slots are others than the controller
    /// knows of: the next job waits for a slot, and is offered in vain to one that is still being cleared.
    fn announce(&mut self, setup: &mut Setup) -> Result<(), String> {
        let (draining, free, low, plugins) = {
            let snapshot = setup.snapshot.borrow_and_update();
            (draining(&snapshot), snapshot.free_slots, scarce(&snapshot), snapshot.plugins.clone())
        };
        if plugins != self.said_plugins {
            self.said_plugins = plugins.clone();
            self.say(Up::Plugins(plugins.into()))?;
        }
        if draining != self.said_draining
            && let Some((reason, until)) = draining.clone()
        {
            self.said_draining = draining;
            self.say(wire::draining(reason, until))?;
        }
        if free == self.said_free && low == self.said_low { Ok(()) } else { self.beat(setup) }
    }

    fn say(&self, message: Up) -> Result<(), String> {
        self.up.try_send(wire::up(message)).map_err(|_| "the controller does not take messages any more".to_owned())
    }
}
