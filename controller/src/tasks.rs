//! Every task of the controller is spawned here, has a name and an owner, and ends with its owner's token.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What follows when a task ends with an error or panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// It is logged; the rest goes on.
    Log,
    /// The controller cannot do without it: everything is told to stop.
    Stop,
}

/// Owner of tasks. A cheap handle; clones own the same tasks.
#[derive(Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    token: CancellationToken,
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("running", &self.tracker.len()).finish_non_exhaustive()
    }
}

impl Tasks {
    /// An owner without tasks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when everything has to stop.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Tasks running now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Runs `future` to its end, or until the owner's token is cancelled and the future itself heeds it.
    pub fn spawn<E: fmt::Display>(
        &self,
        name: &'static str,
        on_error: OnError,
        future: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let token = self.token.clone();
        // Boxed first: what wraps a future by value holds it twice, as what it is given and as what it waits for.
        let future = Box::pin(AssertUnwindSafe(future).catch_unwind());
        self.tracker.spawn(async move {
            let failed = match future.await {
                Ok(Ok(())) => false,
                Ok(Err(error)) => {
                    tracing::error!(task = name, %error, "task failed");
                    true
                }
                Err(_) => {
                    tracing::error!(task = name, "task panicked");
                    true
                }
            };
            if failed && on_error == OnError::Stop {
                token.cancel();
            }
        });
    }

    /// As [`Tasks::spawn`], and drops the future when the owner's token is cancelled: for tasks whose every await may be the last.
    pub fn spawn_until_stop<E: fmt::Display + Send>(
        &self,
        name: &'static str,
        on_error: OnError,
        future: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let (token, future) = (self.token.clone(), Box::pin(future));
        self.spawn(name, on_error, async move { token.run_until_cancelled(future).await.unwrap_or(Ok(())) });
    }

    /// Runs blocking work (files, compression) off the async threads.
    ///
    /// # Errors
    /// When the work panicked, or the runtime is going down.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, tokio::task::JoinError> {
        self.tracker.spawn_blocking(work).await
    }

    /// Tells all tasks to stop and waits for their end; `false` when some still run after `within`.
    pub async fn shut_down(&self, within: Duration) -> bool {
        self.token.cancel();
        self.tracker.close();
        tokio::time::timeout(within, self.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_task_that_is_needed_stops_everything() {
        let tasks = Tasks::new();
        tasks.spawn("loses", OnError::Log, async { Err("not needed") });
        tasks.spawn_until_stop("waits", OnError::Log, std::future::pending::<Result<(), String>>());
        tasks.spawn("needed", OnError::Stop, async { Err("broken") });
        tasks.token().cancelled().await;
        assert!(tasks.shut_down(Duration::from_secs(5)).await);
        assert_eq!(tasks.running(), 0);
    }

    #[tokio::test]
    async fn a_panic_is_a_failure() {
        let tasks = Tasks::new();
        tasks.spawn("panics", OnError::Stop, async {
            assert!(tasks_are_sound(), "boom");
            Ok::<(), String>(())
        });
        tasks.token().cancelled().await;
    }

    fn tasks_are_sound() -> bool {
        false
    }
}
