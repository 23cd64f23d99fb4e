//! The log stream of one step: bytes up, durable offsets down.

use longshore_core::fence::Fence;
use longshore_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::call::Error;

/// Chunks that wait for HTTP/2's window: with 256 KiB each this bounds the memory.
const WAITING: usize = 2;

/// The way up.
#[derive(Debug)]
pub struct LogSender(mpsc::Sender<v1::ShipLogRequest>);

/// The way down.
#[derive(Debug)]
pub struct LogAcks(tonic::Streaming<v1::ShipLogResponse>);

/// A stream whose first message asks for the durable offset.
pub(super) fn up(fence: Fence, step: u32) -> (LogSender, ReceiverStream<v1::ShipLogRequest>) {
    let (chunks_tx, chunks_rx) = mpsc::channel(WAITING);
    let first = v1::ShipLogRequest { fence: Some(fence.into()), step, offset: 0, data: Vec::new() };
    // A new channel has room for it.
    let sent = chunks_tx.try_send(first).is_ok();
    debug_assert!(sent, "a new channel is full");
    (LogSender(chunks_tx), ReceiverStream::new(chunks_rx))
}

impl LogSender {
    /// Waits for room for one chunk; `false`: the stream has ended, the acks say why.
    pub async fn room(&self) -> bool {
        self.0.reserve().await.is_ok()
    }

    /// Sends bytes of the spool after [`LogSender::room`]. `false`: the stream has ended.
    #[must_use]
    pub fn put(&self, offset: u64, data: Vec<u8>) -> bool {
        self.0.try_send(v1::ShipLogRequest { fence: None, step: 0, offset, data }).is_ok()
    }
}

impl LogAcks {
    pub(super) fn new(down: tonic::Streaming<v1::ShipLogResponse>) -> Self {
        Self(down)
    }

    /// The next durable offset. Can be dropped and called again.
    ///
    /// # Errors
    /// [`Error`] when the stream ended, for whatever reason.
    pub async fn next(&mut self) -> Result<u64, Error> {
        match self.0.message().await {
            Ok(Some(ack)) => Ok(ack.durable_offset),
            Ok(None) => Err(Error::Unreached("the log stream was closed".to_owned())),
            Err(status) => Err(Error::from_status(&status)),
        }
    }
}
