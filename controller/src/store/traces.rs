//! What traces are made of: the timeline in the order of its lines, and how far it was sent.

use async_trait::async_trait;
use longshore_core::id::DeploymentId;
use longshore_core::time::Timestamp;

use super::Error;
use super::rows::{AttemptRow, EventRow};

type Result<T> = std::result::Result<T, Error>;

/// The part of a transaction that is about traces.
#[async_trait]
pub trait Traces: Send {
    /// The last line of the timeline that was sent; `None` before anything was.
    async fn trace_position(&mut self) -> Result<Option<i64>>;
    /// Notes the last line that was sent.
    async fn set_trace_position(&mut self, event: i64) -> Result<()>;
    /// Lines about deployments that come after this one, oldest first, at most so many.
    async fn events_after(&mut self, event: i64, limit: u32) -> Result<Vec<EventRow>>;
    /// The last line that is older than a time, whatever it is about; 0 without one.
    async fn last_event_before(&mut self, at: Timestamp) -> Result<i64>;
    /// Attempts of a deployment, oldest first.
    async fn attempts(&mut self, deployment: DeploymentId) -> Result<Vec<AttemptRow>>;
}
