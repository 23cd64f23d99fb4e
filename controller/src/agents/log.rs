//! Logs up, durable offsets down; packages down.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use longshore_core::fence::Fence;
use longshore_core::id::AgentId;
use longshore_proto::convert::fence;
use longshore_proto::v1;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};
use tracing::Instrument as _;

use super::flow::give;
use super::service::about;
use super::status::{failed, invalid, status};
use crate::engine::Engine;
use crate::engine::plane::Error;
use crate::logs::{self, Log};
use crate::tasks::OnError;

/// Bytes that are gathered for one write, while more have come.
const GATHER: usize = 4 << 20;
/// Acknowledgements that wait for a slow agent.
const ACKS: usize = 16;
/// Bytes of a package in one message, and messages that wait.
const PIECE: usize = 256 << 10;
const PIECES: usize = 4;
/// How long an agent may take nothing of what it asked for.
const STALLED: Duration = Duration::from_secs(120);

type Ack = Result<v1::ShipLogResponse, Status>;
type Piece = Result<v1::FetchPackageResponse, Status>;

/// Takes one step's log.
pub(super) async fn ship(
    engine: Engine,
    agent: AgentId,
    cutoff: CancellationToken,
    mut up: Streaming<v1::ShipLogRequest>,
) -> Result<mpsc::Receiver<Ack>, Status> {
    let first =
        up.message().await?.ok_or_else(|| Status::new(Code::InvalidArgument, "the stream has no first message"))?;
    let said = fence(first.fence.clone()).map_err(|e| invalid(&e))?;
    about(&said, Some(first.step));
    let log = engine.log_of(agent, said, first.step).await.map_err(status)?;
    let (acks_tx, acks_rx) = mpsc::channel(ACKS);
    // A new channel has room for it.
    let told = acks_tx.try_send(Ok(ack(log.digest().durable))).is_ok();
    debug_assert!(told, "a new channel is full");
    let shipment = Shipment { engine: engine.clone(), agent, said, step: first.step, log, acks_tx };
    let carried = async move {
        let carried = cutoff.run_until_cancelled(shipment.carry(first, &mut up)).await;
        if let Err(end) = carried.unwrap_or_else(|| Err(status(Error::Unknown))) {
            // The agent may be gone already.
            let _told = shipment.acks_tx.try_send(Err(end)).is_ok();
        }
        Ok::<(), std::convert::Infallible>(())
    };
    engine.tasks().spawn_until_stop("ship-log", OnError::Log, carried.instrument(tracing::Span::current()));
    Ok(acks_rx)
}

fn ack(durable_offset: u64) -> v1::ShipLogResponse {
    v1::ShipLogResponse { durable_offset }
}

struct Shipment {
    engine: Engine,
    agent: AgentId,
    said: Fence,
    step: u32,
    log: std::sync::Arc<Log>,
    /// shipment --durable offsets--> the agent
    acks_tx: mpsc::Sender<Ack>,
}

impl Shipment {
    async fn carry(&self, first: v1::ShipLogRequest, up: &mut Streaming<v1::ShipLogRequest>) -> Result<(), Status> {
        let mut next = Some(first);
        while let Some(message) = next {
            let mut bytes = message.data.len();
            let mut chunks = Vec::new();
            add(&mut chunks, message);
            // What has come meanwhile shares one write and one sync.
            let mut ended = false;
            while bytes < GATHER && !ended {
                match up.message().now_or_never() {
                    Some(more) => match more? {
                        Some(more) => {
                            bytes += more.data.len();
                            add(&mut chunks, more);
                        }
                        None => ended = true,
                    },
                    None => break,
                }
            }
            if !chunks.is_empty() {
                self.keep(chunks).await?;
            }
            next = if ended { None } else { up.message().await? };
        }
        Ok(())
    }

    async fn keep(&self, chunks: Vec<(u64, Bytes)>) -> Result<(), Status> {
        // Fenced while the stream was open: nothing of a stale agent is kept.
        self.engine.log_of(self.agent, self.said, self.step).await.map_err(status)?;
        let bytes: usize = chunks.iter().map(|(_, data)| data.len()).sum();
        let durable = self.log.append(chunks).await.map_err(|error| match error {
            logs::Error::Sealed | logs::Error::Gap { .. } => Status::new(Code::OutOfRange, error.to_string()),
            other => failed(&other),
        })?;
        metrics::counter!("longshore_log_bytes_total").increment(bytes as u64);
        give(&self.acks_tx, Ok(ack(durable)), STALLED).await
    }
}

fn add(chunks: &mut Vec<(u64, Bytes)>, message: v1::ShipLogRequest) {
    if !message.data.is_empty() {
        chunks.push((message.offset, Bytes::from(message.data)));
    }
}

/// Sends the package of the caller's attempt.
pub(super) async fn fetch(
    engine: Engine,
    agent: AgentId,
    cutoff: CancellationToken,
    request: v1::FetchPackageRequest,
) -> Result<mpsc::Receiver<Piece>, Status> {
    let said = fence(request.fence).map_err(|e| invalid(&e))?;
    engine.package_of(agent, said, &request.sha256).await.map_err(status)?;
    let opened = engine.blobs().open_file(&request.sha256).await.map_err(|e| failed(&e))?;
    let mut file = opened.ok_or_else(|| status(Error::Invalid("the package is not stored any more".to_owned())))?;
    let (pieces_tx, pieces_rx) = mpsc::channel(PIECES);
    engine.tasks().spawn_until_stop("fetch-package", OnError::Log, async move {
        loop {
            let mut data = Vec::with_capacity(PIECE);
            let piece = match (&mut file).take(PIECE as u64).read_to_end(&mut data).await {
                Ok(0) => return Ok::<(), std::convert::Infallible>(()),
                Ok(_) => Ok(v1::FetchPackageResponse { data }),
                Err(error) => Err(failed(&error)),
            };
            let last = piece.is_err();
            let piece = if cutoff.is_cancelled() { Err(status(Error::Unknown)) } else { piece };
            let last = last || piece.is_err();
            let sent = cutoff.run_until_cancelled(give(&pieces_tx, piece, STALLED)).await;
            if !matches!(sent, Some(Ok(()))) || last {
                return Ok(());
            }
        }
    });
    Ok(pieces_rx)
}
