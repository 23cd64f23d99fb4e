//! The one place that starts work beside the caller.

use std::io;

/// Runs blocking work (packing a folder) on a thread of its own and waits for its answer.
///
/// # Errors
/// When the work panicked or the runtime is going down.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}
