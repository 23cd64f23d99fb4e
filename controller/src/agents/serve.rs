//! The agents' plane on the wire: HTTP/2 over verified connections.

use std::time::Duration;

use longshore_proto::v1::agent_plane_server::{AgentPlane, AgentPlaneServer};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use super::Peer;
use crate::identity::{Incoming, TlsConnection};

/// Bytes in flight on a stream and on a connection: a log must not wait for a round trip.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Between two pings on a connection, and how long their answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Longest request; frames of logs are shorter.
const MAX_REQUEST: usize = 8 << 20;
/// Longest answer: a grant may hold a hand-over of up to 16 MiB.
const MAX_ANSWER: usize = 24 << 20;

/// Tells each request who calls.
impl Connected for TlsConnection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        let identity = self.agent();
        Peer {
            agent: identity.map(|identity| identity.agent),
            serial: identity.map(|identity| identity.serial.clone()).unwrap_or_default(),
        }
    }
}

/// Serves the plane until `stop`; then no connection is accepted any more, and open calls are waited for.
///
/// # Errors
/// When the transport fails.
pub async fn serve<S: AgentPlane>(
    service: AgentPlaneServer<S>,
    incoming: Incoming,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let service = service.max_decoding_message_size(MAX_REQUEST).max_encoding_message_size(MAX_ANSWER);
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await
}
