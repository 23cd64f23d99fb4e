//! Files of steps up.

use bytes::Bytes;
use futures_util::stream;
use longshore_core::id::AgentId;
use longshore_proto::convert::fence;
use longshore_proto::v1;
use tonic::{Code, Status, Streaming};

use super::status::{failed, invalid, status};
use crate::blobs;
use crate::engine::Engine;

/// Takes one file. What came is durable when this answers; a stream that breaks leaves nothing.
pub(super) async fn ship(
    engine: Engine,
    agent: AgentId,
    mut up: Streaming<v1::ShipArtifactRequest>,
) -> Result<v1::ShipArtifactResponse, Status> {
    let first =
        up.message().await?.ok_or_else(|| Status::new(Code::InvalidArgument, "the stream has no first message"))?;
    let said = fence(first.fence).map_err(|e| invalid(&e))?;
    let v1::ShipArtifactRequest { step, sha256, bytes, data, .. } = first;
    engine.may_bring(agent, said, step, &sha256, bytes).await.map_err(status)?;
    // One message at a time: what is not written yet waits in HTTP/2's window.
    let body = stream::unfold((Some(data), up), |(first, mut up)| async move {
        if let Some(data) = first {
            return Some((Ok(Bytes::from(data)), (None, up)));
        }
        let next = up.message().await.transpose()?;
        Some((next.map(|message| Bytes::from(message.data)).map_err(axum::Error::new), (None, up)))
    });
    let stored = engine.artifact_blobs().put_file(&sha256, bytes, Box::pin(body)).await;
    stored.map_err(|error| match error {
        blobs::Error::Digest(_) | blobs::Error::Mismatch { .. } | blobs::Error::Length { .. } => {
            Status::new(Code::InvalidArgument, error.to_string())
        }
        other => failed(&other),
    })?;
    engine.brought(agent, said, step, sha256, bytes).await.map_err(status)?;
    metrics::counter!("longshore_artifact_bytes_total").increment(bytes);
    Ok(v1::ShipArtifactResponse {})
}
