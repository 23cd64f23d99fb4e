//! HTTP/2 channels over dialled connections.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use longshore_proto::v1::agent_plane_client::AgentPlaneClient;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::tls::Dialer;

pub(super) type Plane = AgentPlaneClient<Channel>;

/// HTTP/2 keep-alive of connections with something open on them.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A keep-alive that is not answered in this time ends the connection.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Room for 1 MiB in flight on a stream at a round trip of many milliseconds.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// A grant may hold a hand-over of up to 16 MiB.
const MAX_MESSAGE: usize = 24 << 20;

pub(super) fn endpoint() -> Endpoint {
    // The authority is a formality here: TLS and the address are the connector's.
    Endpoint::from_static("http://longshore-controller")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
}

fn plane(channel: Channel) -> Plane {
    AgentPlaneClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
}

/// A channel that connects when it is used and again when its connection broke.
pub(super) fn lazy(dialer: &Dialer) -> Plane {
    let dialer = dialer.clone();
    plane(endpoint().connect_with_connector_lazy(service_fn(move |_| {
        let dialer = dialer.clone();
        async move { dialer.dial().await.map(TokioIo::new) }
    })))
}

/// One connection, opened now.
pub(super) async fn now(dialer: &Dialer) -> Result<Plane, tonic::transport::Error> {
    let dialer = dialer.clone();
    let connector = service_fn(move |_| {
        let dialer = dialer.clone();
        async move { dialer.dial().await.map(TokioIo::new) }
    });
    endpoint().keep_alive_while_idle(true).connect_with_connector(connector).await.map(plane)
}
