//! Down to agents that need not read.
//!
//! What is sent waits in a channel for HTTP/2's window, which the other side opens. One that never does must hold nothing but that
//! channel: no task, no file and no place among the connected agents.

use std::time::Duration;

use tokio::sync::mpsc;
use tonic::{Code, Status};

/// Hands something to a stream that goes down, and waits as long for room as an agent may take nothing.
pub(super) async fn give<T>(to: &mpsc::Sender<T>, what: T, stalled: Duration) -> Result<(), Status> {
    match tokio::time::timeout(stalled, to.send(what)).await {
        Ok(sent) => sent.map_err(|_| Status::new(Code::Cancelled, "the agent went away")),
        Err(_) => Err(Status::new(Code::DeadlineExceeded, "the agent takes nothing of what it is sent")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_that_stays_full_ends_and_one_that_moves_on_does_not() {
        let (to, mut from) = mpsc::channel(1);
        let stalled = Duration::from_secs(60);
        give(&to, 1, stalled).await.unwrap();
        let refused = give(&to, 2, Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(refused.code(), Code::DeadlineExceeded);
        let (given, taken) = tokio::join!(give(&to, 3, stalled), from.recv());
        assert!(given.is_ok() && taken == Some(1));
        drop(from);
        assert_eq!(give(&to, 4, stalled).await.unwrap_err().code(), Code::Cancelled);
    }
}
