//! One file of a step on its way up.

use std::time::Duration;

use bytes::Bytes;
use longshore_core::artifacts::Artifact;
use longshore_core::fence::Fence;
use longshore_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};

use super::call::{Client, Error};

/// What an upload may take beside its bytes: the controller makes it durable before it answers.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes a second; an upload that is slower is taken for one that hangs.
const SLOWEST: u64 = 32 << 10;

impl Client {
    /// Brings one file to the controller, durably; safe to repeat. `data` is its content and ends with it.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Refused`] when what came is not what was announced, or is not taken at all.
    pub async fn ship_artifact(
        &self,
        fence: Fence,
        step: u32,
        artifact: &Artifact,
        data: mpsc::Receiver<Bytes>,
    ) -> Result<(), Error> {
        let call = async { self.bulk().ship_artifact(messages(fence, step, artifact, data)).await };
        match tokio::time::timeout(PATIENCE + Duration::from_secs(artifact.bytes / SLOWEST), call).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(Error::from_status(&status)),
            Err(_) => Err(Error::Unreached("a file was not taken in time".to_owned())),
        }
    }
}

fn messages(
    fence: Fence,
    step: u32,
    artifact: &Artifact,
    data: mpsc::Receiver<Bytes>,
) -> impl Stream<Item = v1::ShipArtifactRequest> + use<> {
    let first = v1::ShipArtifactRequest {
        fence: Some(fence.into()),
        step,
        sha256: artifact.sha256.clone(),
        bytes: artifact.bytes,
        data: Vec::new(),
    };
    let rest = ReceiverStream::new(data)
        .map(|data| v1::ShipArtifactRequest { data: data.into(), ..v1::ShipArtifactRequest::default() });
    tokio_stream::once(first).chain(rest)
}
