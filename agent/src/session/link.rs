//! The thread of the control stream: its own operating system thread, runtime and connection.
//!
//! So a heartbeat goes out whatever the rest of the agent is busy with, and the lease tells the truth about the
//! process, not about its work. The stream is opened again for ever, with full jitter.

use std::io;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::hold::{self, Ended};
use super::tls::Dialer;
use super::{About, Contact, Event, Message, Snapshot};
use crate::host::Probe;
use crate::retry::{Policy, Retry};

/// What the thread works with.
#[derive(Debug)]
pub struct Setup {
    /// Dials the controller.
    pub dialer: Dialer,
    /// What the agent says of itself; another is said in a new hello.
    pub about: watch::Receiver<About>,
    /// What it holds.
    pub snapshot: watch::Receiver<Snapshot>,
    /// Host facts.
    pub probe: Probe,
    /// Waits between connections.
    pub retry: Policy,
    /// Ends the thread.
    pub token: CancellationToken,
}

/// The supervisor's end.
#[derive(Debug)]
pub struct Link {
    /// What the controller says.
    pub events: mpsc::UnboundedReceiver<Event>,
    /// The way to say something.
    pub outlet: Outlet,
    /// When the controller was last heard of.
    pub contact: watch::Receiver<Contact>,
}

impl Link {
    /// Both ends; the thread's is for [`start`].
    #[must_use]
    pub fn new() -> (Self, Ends) {
        let (events_tx, events) = mpsc::unbounded_channel();
        let (outlet, messages) = Outlet::new();
        let (contact_tx, contact) = watch::channel(Contact::default());
        (Self { events, outlet, contact }, Ends { events: events_tx, messages, contact: contact_tx })
    }
}

/// Says something on the control stream; what is said while none is up is lost.
#[derive(Debug, Clone)]
pub struct Outlet(mpsc::UnboundedSender<Message>);

impl Outlet {
    /// An outlet and where it leads, for tests and for [`start`].
    #[must_use]
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Message>) {
        let (messages_tx, messages_rx) = mpsc::unbounded_channel();
        (Self(messages_tx), messages_rx)
    }

    /// Says it, or drops it when the agent is ending.
    pub fn say(&self, message: Message) {
        if self.0.send(message).is_err() {
            tracing::debug!("the control stream has ended for good, a message was dropped");
        }
    }
}

/// Starts the thread; it ends after the token was cancelled.
///
/// # Errors
/// When the operating system gives no thread or no event queue.
pub fn start(setup: Setup, ends: Ends) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let session = run(setup, ends).in_current_span();
    std::thread::Builder::new().name("session".to_owned()).spawn(move || runtime.block_on(session))
}

/// The thread's ends of the channels.
#[derive(Debug)]
pub struct Ends {
    /// session thread --what the controller says--> supervisor
    pub(super) events: mpsc::UnboundedSender<Event>,
    /// supervisor --answers and progress--> session thread
    pub(super) messages: mpsc::UnboundedReceiver<Message>,
    /// session thread --last contact--> attempts
    pub(super) contact: watch::Sender<Contact>,
}

async fn run(mut setup: Setup, mut ends: Ends) {
    let mut retry = Retry::new(setup.retry);
    let token = setup.token.clone();
    loop {
        let ended = token.run_until_cancelled(hold::once(&mut setup, &mut ends)).await;
        ends.contact.send_if_modified(|contact| std::mem::take(&mut contact.connected));
        match ended {
            None | Some(Ended::ForGood) => break,
            Some(Ended::Anew) => {
                tracing::info!("connecting anew to tell the controller what has changed");
                retry.reset();
                continue;
            }
            Some(Ended::Broken { reason, welcomed, lasted }) => {
                if lasted {
                    retry.reset();
                }
                if welcomed {
                    tracing::warn!(reason, "lost the controller; running jobs go on");
                } else {
                    tracing::info!(reason, "no control stream to the controller, trying again");
                }
            }
        }
        if token.run_until_cancelled(quiet(&mut ends, &mut retry)).await.is_none() {
            break;
        }
    }
}

/// Waits before the next try and drops what is said meanwhile: the next hello says how things are then.
async fn quiet(ends: &mut Ends, retry: &mut Retry) {
    let pause = retry.pause();
    tokio::pin!(pause);
    loop {
        tokio::select! {
            () = &mut pause => return,
            Some(message) = ends.messages.recv() => tracing::trace!(?message, "not said: no control stream"),
        }
    }
}
