//! Every task of the controller is spawned here, has a name and an owner, and ends with its owner's token.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::runtime::Handle;
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
        self.tracker.spawn(self.watched(name, on_error, future));
    }

    /// As [`Tasks::spawn`], on a thread of its own: for what blocks at every step.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub fn spawn_thread<E: fmt::Display>(
        &self,
        name: &'static str,
        on_error: OnError,
        future: impl Future<Output = Result<(), E>> + Send + 'static,
    ) -> std::io::Result<()> {
        let (future, owned) = (self.watched(name, on_error, future), self.tracker.token());
        let runtime = Handle::current();
        let run = move || {
            runtime.block_on(future);
            drop(owned);
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
    }

    /// Carries out `future` and what follows when it fails.
    fn watched<E: fmt::Display, F: Future<Output = Result<(), E>> + Send + 'static>(
        &self,
        name: &'static str,
        on_error: OnError,
        future: F,
    ) -> impl Future<Output = ()> + Send + 'static + use<E, F> {
        let token = self.token.clone();
        // Boxed first: what wraps a future by value holds it twice, as what it is given and as what it waits for.
        let future = Box::pin(AssertUnwindSafe(future).catch_unwind());
        async move {
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
        }
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
        // Its lines have the ids of what it is done for.
        let span = tracing::Span::current();
        self.tracker.spawn_blocking(move || span.in_scope(work)).await
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

    #[tokio::test]
    async fn a_thread_is_owned_as_a_task_is() {
        let tasks = Tasks::new();
        let (release, held) = tokio::sync::oneshot::channel();
        let run = async move { held.await.map_err(|_| "nobody released it") };
        tasks.spawn_thread("thread", OnError::Stop, run).unwrap();
        assert_eq!(tasks.running(), 1);
        release.send(()).unwrap();
        assert!(tasks.shut_down(Duration::from_secs(5)).await);

        let tasks = Tasks::new();
        let panics = async {
            assert!(tasks_are_sound(), "boom");
            Ok::<(), String>(())
        };
        tasks.spawn_thread("panics", OnError::Stop, panics).unwrap();
        tasks.token().cancelled().await;
        assert!(tasks.shut_down(Duration::from_secs(5)).await);
    }

    fn tasks_are_sound() -> bool {
        false
    }
}
