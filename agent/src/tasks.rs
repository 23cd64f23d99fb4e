//! The only place that starts tasks.
//!
//! Every task has a name, is tracked, and ends with the agent: when [`Tasks::end`] returns, none is left. A task may
//! be dropped at any of its await points, which is nothing new for it: the agent may be killed there too.

use std::future::Future;
use std::io;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

/// The tasks of one agent. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    token: CancellationToken,
}

impl Tasks {
    /// No tasks yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task that is dropped when [`Tasks::end`] is called.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let token = self.token.clone();
        let task = async move {
            if token.run_until_cancelled(future).await.is_none() {
                tracing::debug!(task = name, "task dropped");
            }
        };
        // At the level of errors, so that lines of every level say where they come from; the ids of what starts it stay.
        drop(self.tracker.spawn(task.instrument(tracing::error_span!("task", task = name))));
    }

    /// Says that the agent ends, for code outside the tasks (the session's thread).
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.child_token()
    }

    /// Tasks that have not ended.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether every task has ended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Drops every task at its next await point and returns when none is left.
    pub async fn end(&self) {
        self.token.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Runs work that waits for the disk outside the event loop.
///
/// # Errors
/// Those of the work, and one when it panicked.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work)).await.map_err(io::Error::other)?
}

/// Waits for the next value; for ever when nobody can send one any more.
pub async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_leaves_no_task() {
        let tasks = Tasks::new();
        let (done_tx, done_rx) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn("for ever", async move {
            std::future::pending::<()>().await;
            drop(done_tx);
        });
        tasks.spawn("short", async {});
        tasks.end().await;
        assert!(tasks.is_empty());
        assert!(done_rx.await.is_err());
    }
}
