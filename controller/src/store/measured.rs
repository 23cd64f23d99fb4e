//! A store whose operations are timed.

use async_trait::async_trait;

use super::{Error, Operation, Store};
use crate::clock::Clock;

/// Measures how long writes take, from when they are handed in until they are durable.
#[derive(Debug)]
pub struct Measured<S> {
    inner: S,
    clock: Clock,
}

impl<S> Measured<S> {
    /// Times the operations of `inner`.
    #[must_use]
    pub fn new(inner: S, clock: Clock) -> Self {
        Self { inner, clock }
    }
}

#[async_trait]
impl<S: Store> Store for Measured<S> {
    async fn run_write(&self, operation: Operation) -> Result<(), Error> {
        let began = self.clock.elapsed();
        let done = self.inner.run_write(operation).await;
        let took = self.clock.elapsed().saturating_sub(began);
        metrics::histogram!("longshore_commit_duration_seconds").record(took.as_secs_f64());
        if done.is_err() {
            metrics::counter!("longshore_commit_failures_total").increment(1);
        }
        done
    }

    async fn run_read(&self, operation: Operation) -> Result<(), Error> {
        self.inner.run_read(operation).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
