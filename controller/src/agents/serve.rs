//! The agents' plane on the wire: HTTP/2 over verified connections.

use std::sync::Arc;
use std::time::Duration;

use longshore_proto::v1::agent_plane_server::{AgentPlane, AgentPlaneServer};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use super::Peer;
use super::gate::{Gate, Gated};
use crate::identity::{Connection, Incoming};

/// Bytes in flight on a stream and on a connection: a log must not wait for a round trip.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Between two pings on a connection, and how long their answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Longest message of a call that brings bytes or a result; frames of logs are shorter.
const MAX_REQUEST: usize = 8 << 20;
/// Longest message of all other calls; 10,000 attempts in a hello are half of it.
const MAX_MESSAGE: usize = 2 << 20;
/// Longest answer: a grant may hold a hand-over of up to 16 MiB.
const MAX_ANSWER: usize = 24 << 20;

/// Calls that one connection may have open: an agent has four for each slot at most.
const MAX_CALLS: u32 = 1_024;
/// Calls that a connection without a certificate may have open; enrolling is one.
const STRANGE_CALLS: usize = 64;
/// Bytes of a call's headers, unpacked.
const MAX_HEADERS: u32 = 16 << 10;
/// Calls that were taken back before they were looked at, and streams that broke the protocol, on one connection: with more
/// of them it is closed. An agent does neither.
const MAX_RESETS: usize = 32;
const MAX_MISTAKES: usize = 32;

/// Tells each request who calls.
impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        let identity = self.agent();
        Peer {
            agent: identity.map(|identity| identity.agent),
            serial: identity.map(|identity| identity.serial.clone()).unwrap_or_default(),
            strange_calls: Arc::new(Semaphore::new(STRANGE_CALLS)),
        }
    }
}

/// Serves the plane until `stop`; then no connection is accepted any more, and open calls are waited for.
///
/// # Errors
/// When the transport fails.
pub async fn serve<S: AgentPlane>(
    service: AgentPlaneServer<S>,
    gate: Gate,
    incoming: Incoming,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let service = service.max_encoding_message_size(MAX_ANSWER);
    let gated = Gated {
        gate,
        short: service.clone().max_decoding_message_size(MAX_MESSAGE),
        long: service.max_decoding_message_size(MAX_REQUEST),
    };
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .max_concurrent_streams(MAX_CALLS)
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_max_pending_accept_reset_streams(Some(MAX_RESETS))
        .http2_max_local_error_reset_streams(Some(MAX_MISTAKES))
        .add_service(gated)
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await
}
