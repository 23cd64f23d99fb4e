//! Ships the log of a step from its spool to the controller, from the acknowledged offset on.
//!
//! The bytes that go up are the spool's own, addressed by offset. The controller says first how far it has them on disk;
//! from there chunks go up, at most [`WINDOW`] bytes ahead of what is acknowledged, as soon as they are there.
//! A broken stream is opened again and goes on from the durable offset: no hole, no duplicate (promise P4).
//!
//! Everything is read by [`reader::Reader`] on its way up, which sums up the engine events and gives ranges back to the disk
//! once they are durable on the controller *and* what they say is durable here.

mod reader;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use longshore_core::engine_event::Summary;
use longshore_core::fence::Fence;
use longshore_core::time::Timestamp;
use tokio::sync::watch;

pub use reader::Reader;

use crate::retry::{Policy, Retry};
use crate::session::{Client, Error as CallError, LogAcks, LogSender};

/// Bytes that may be on their way without being acknowledged.
pub const WINDOW: u64 = 8 << 20;
/// Longest chunk.
const CHUNK: usize = 256 << 10;
/// The first durable offset has to come within this.
const FIRST_ACK: Duration = Duration::from_secs(20);

/// Wakes when a spool has grown.
pub trait Growth: Send {
    /// Waits until the spool is longer than `seen` and returns its length. Can be dropped and called again.
    fn longer_than(&mut self, seen: u64) -> impl Future<Output = std::io::Result<u64>> + Send;
}

/// Where the bytes go.
pub trait Uplink: Send + Sync {
    /// The way up of one stream.
    type Up: Up;
    /// The way down of one stream.
    type Down: Down;
    /// Opens a stream.
    fn open(&self) -> impl Future<Output = Result<(Self::Up, Self::Down), CallError>> + Send;
}

/// Bytes up.
pub trait Up: Send + Sync {
    /// Waits for room for one chunk; `false` when the stream has ended.
    fn room(&self) -> impl Future<Output = bool> + Send;
    /// Puts one chunk in after [`Up::room`].
    fn put(&self, offset: u64, data: Vec<u8>) -> bool;
}

/// Durable offsets down.
pub trait Down: Send {
    /// The next one. Can be dropped and called again.
    fn next(&mut self) -> impl Future<Output = Result<u64, CallError>> + Send;
}

/// The log stream of one step at the controller.
#[derive(Debug, Clone)]
pub struct StepLog {
    /// The way to the controller.
    pub client: Client,
    /// The attempt.
    pub fence: Fence,
    /// Index of the step.
    pub step: u32,
}

impl Uplink for StepLog {
    type Up = LogSender;
    type Down = LogAcks;
    async fn open(&self) -> Result<(LogSender, LogAcks), CallError> {
        self.client.ship_log(self.fence, self.step).await
    }
}

impl Up for LogSender {
    async fn room(&self) -> bool {
        Self::room(self).await
    }
    fn put(&self, offset: u64, data: Vec<u8>) -> bool {
        Self::put(self, offset, data)
    }
}

impl Down for LogAcks {
    async fn next(&mut self) -> Result<u64, CallError> {
        Self::next(self).await
    }
}

/// Why a log cannot be shipped to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The attempt is not this agent's any more.
    #[error("fenced by the controller: {0}")]
    Fenced(String),
    /// The spool cannot be read.
    #[error("the spool `{}` cannot be read", path.display())]
    Spool {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The controller lost what it had acknowledged.
    #[error(
        "the controller asks for the log from byte {asked}, but it had acknowledged {given_back} bytes, which were given back to the disk"
    )]
    GivenBack {
        /// From where.
        asked: u64,
        /// Bytes that are not there any more.
        given_back: u64,
    },
}

/// A log that is on the controller as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivered {
    /// Length of the spool.
    pub bytes: u64,
    /// What the engine events said; `None`: there were none.
    pub summary: Option<Box<Summary>>,
    /// When the exit record was written.
    pub exit_at: Option<Timestamp>,
}

/// Ships until everything before the spool's end is durable on the controller. `end` holds the spool's length once
/// nobody writes to it any more.
///
/// # Errors
/// [`Error`]; a controller that does not answer is none, it is tried for ever.
pub async fn ship(
    uplink: &impl Uplink,
    mut reader: Reader,
    growth: &mut impl Growth,
    end: &mut watch::Receiver<Option<u64>>,
    policy: Policy,
) -> Result<Delivered, Error> {
    let mut retry = Retry::new(policy);
    loop {
        match stream(uplink, &mut reader, growth, end, &mut retry).await {
            Ok(last) => return Ok(reader.delivered(last)),
            Err(Broken::Call(CallError::Fenced(reason))) => return Err(Error::Fenced(reason)),
            Err(Broken::Call(error)) => tracing::debug!(%error, "log stream broken, trying again"),
            Err(Broken::ForGood(error)) => return Err(error),
        }
        retry.pause().await;
    }
}

enum Broken {
    Call(CallError),
    ForGood(Error),
}

/// One stream, to the end of the spool or to its own.
async fn stream(
    uplink: &impl Uplink,
    reader: &mut Reader,
    growth: &mut impl Growth,
    end: &mut watch::Receiver<Option<u64>>,
    retry: &mut Retry,
) -> Result<u64, Broken> {
    let (up, mut down) = uplink.open().await.map_err(Broken::Call)?;
    let late = |_| Broken::Call(CallError::Unreached("no durable offset came".to_owned()));
    let mut durable = tokio::time::timeout(FIRST_ACK, down.next()).await.map_err(late)?.map_err(Broken::Call)?;
    retry.reset();
    reader.seek(durable).await.map_err(Broken::ForGood)?;
    let (mut sent, mut known) = (durable, durable);
    loop {
        let last = *end.borrow_and_update();
        if let Some(last) = last {
            known = known.max(last);
            if durable >= last {
                return Ok(last);
            }
        }
        let window_open = sent < durable.saturating_add(WINDOW);
        tokio::select! {
            ack = down.next() => {
                durable = durable.max(ack.map_err(Broken::Call)?);
                reader.give_back(durable).await.map_err(Broken::ForGood)?;
            }
            room = up.room(), if sent < known && window_open => {
                let data = reader.read(sent, CHUNK).map_err(Broken::ForGood)?;
                let next = sent + data.len() as u64;
                if !room || !up.put(sent, data) {
                    // The way down says why.
                    durable = durable.max(down.next().await.map_err(Broken::Call)?);
                    continue;
                }
                sent = next;
            }
            longer = growth.longer_than(known), if last.is_none() => {
                known = longer.map_err(|source| Broken::ForGood(reader.fault(source)))?;
            }
            _ = end.changed(), if last.is_none() => {}
        }
    }
}
