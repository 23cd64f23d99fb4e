//! The control stream of one agent: what it says goes to the engine, what the engine has for it goes down.
//!
//! One task a stream. It ends when the agent goes, when a newer stream of the same agent comes, when the agent is cut off, and
//! when the controller stops.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use longshore_core::compat::lacks;
use longshore_core::id::AgentId;
use longshore_proto::v1::session_request::Message as Up;
use longshore_proto::{CAPABILITY_STEPS_V1, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};
use tracing::Instrument as _;

use super::flow::give;
use super::status::{invalid, status};
use super::wire;
use crate::engine::Engine;
use crate::engine::plane::{Error, Line};

/// Messages that wait for HTTP/2's window.
const AHEAD: usize = 32;
/// How long an agent may take none of them. It hears of nothing meanwhile, and must not pass for connected.
const STALLED: Duration = Duration::from_secs(30);

/// What is sent down. A channel keeps room for 32 of them or more as long as its stream is open, so they are small.
type Down = Result<Box<v1::SessionResponse>, Status>;

/// Opens a session: reads the hello, answers it, and leaves a task that carries on.
pub(super) async fn open(
    engine: Engine,
    agent: AgentId,
    cutoff: CancellationToken,
    mut up: Streaming<v1::SessionRequest>,
) -> Result<BoxStream<'static, Result<v1::SessionResponse, Status>>, Status> {
    let hello = match up.message().await?.and_then(|first| first.message) {
        Some(Up::Hello(hello)) => {
            capable(&hello).map_err(status)?;
            wire::hello(hello).map_err(|e| invalid(&e))?
        }
        _ => return Err(Status::new(Code::InvalidArgument, "the first message of a session is `hello`")),
    };
    let welcome = engine.hello(agent, hello).await.map_err(status)?;
    let (down_tx, down_rx) = mpsc::channel(AHEAD);
    // A new channel has room for it.
    let answered = down_tx.try_send(Ok(Box::new(wire::welcome(&welcome)))).is_ok();
    debug_assert!(answered, "a new channel is full");
    tracing::info!(%agent, held = welcome.verdicts.len(), "an agent is connected");
    let mut session = Session { engine: engine.clone(), agent, line: welcome.line, cutoff, down_tx };
    let carried = async move {
        let end = session.carry(&mut up).await;
        let said = end.err();
        tracing::info!(%agent, reason = said.as_ref().map_or("it ended the stream", Status::message), "an agent is disconnected");
        if let Some(status) = said {
            // The agent may be gone already.
            let _told = session.down_tx.try_send(Err(status)).is_ok();
        }
        Ok::<(), std::convert::Infallible>(())
    };
    engine.tasks().spawn_until_stop(
        "session",
        crate::tasks::OnError::Log,
        carried.instrument(tracing::Span::current()),
    );
    Ok(ReceiverStream::new(down_rx).map(|down| down.map(|message| *message)).boxed())
}

struct Session {
    engine: Engine,
    agent: AgentId,
    line: Line,
    /// Cancelled when the agent is cut off.
    cutoff: CancellationToken,
    /// session --messages in order--> the agent
    down_tx: mpsc::Sender<Down>,
}

impl Session {
    async fn carry(&mut self, up: &mut Streaming<v1::SessionRequest>) -> Result<(), Status> {
        let (cut, cutoff) = (self.line.cut.clone(), self.cutoff.clone());
        loop {
            tokio::select! {
                // First: nothing of an agent that was cut off is heard any more.
                biased;
                () = cutoff.cancelled() => return Err(status(Error::Unknown)),
                said = up.message() => match said {
                    Ok(None) => return Ok(()),
                    Ok(Some(said)) => self.hear(said).await?,
                    Err(error) => return Err(broken(&error)),
                },
                message = self.line.messages.recv() => match message {
                    Some(message) => self.send(wire::to_agent(message)).await?,
                    None => return Err(replaced()),
                },
                () = cut.cancelled() => return Err(replaced()),
            }
        }
    }

    async fn hear(&self, message: v1::SessionRequest) -> Result<(), Status> {
        let sequence = match &message.message {
            Some(Up::Heartbeat(beat)) => Some(beat.sequence),
            _ => None,
        };
        let Some(said) = wire::said(message).map_err(|e| invalid(&e))? else { return Ok(()) };
        // On the heap, and only while it is carried out: it is larger than all else that an idle stream keeps.
        match Box::pin(self.engine.said(self.agent, self.line.number(), said)).await {
            Ok(()) => {}
            Err(error @ Error::Unknown) => return Err(status(error)),
            // What it said is about rows that moved on: the stream itself is fine.
            Err(error) => tracing::warn!(agent = %self.agent, %error, "something an agent said was not taken"),
        }
        match sequence {
            Some(sequence) => self.send(wire::heard(sequence)).await,
            None => Ok(()),
        }
    }

    async fn send(&self, message: v1::SessionResponse) -> Result<(), Status> {
        tokio::select! {
            biased;
            () = self.cutoff.cancelled() => Err(status(Error::Unknown)),
            sent = give(&self.down_tx, Ok(Box::new(message)), STALLED) => sent,
            () = self.line.cut.cancelled() => Err(replaced()),
        }
    }
}

impl Drop for Session {
    /// However the task ends.
    fn drop(&mut self) {
        self.engine.goodbye(self.agent, self.line.number());
    }
}

/// Whether an agent can do the least that jobs need. What else it cannot do is not asked of it.
fn capable(hello: &v1::Hello) -> Result<(), Error> {
    let lacking = lacks(&hello.capabilities, &[CAPABILITY_STEPS_V1]);
    if lacking.is_empty() {
        return Ok(());
    }
    Err(Error::Version(format!(
        "this agent (version `{}`) lacks the capability `{}`, and this controller (version `{}`) works with no agent without it: \
         upgrade the agent; what it runs goes on meanwhile",
        hello.agent_version.chars().filter(|letter| !letter.is_control()).take(100).collect::<String>(),
        lacking.join("`, `"),
        env!("CARGO_PKG_VERSION")
    )))
}

/// A process that ends takes its connections with it, so this is nothing out of the ordinary.
fn broken(error: &Status) -> Status {
    tracing::debug!(%error, "a session's connection broke");
    Status::new(Code::Cancelled, "its connection broke")
}

fn replaced() -> Status {
    Status::new(Code::Aborted, "this session was ended: a newer one of the same agent came")
}
