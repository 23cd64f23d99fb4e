//! Who waits, and whose turn it is: read so that the length of a queue does not matter.

use std::collections::BTreeMap;

use async_trait::async_trait;
use longshore_core::id::{AgentId, DeploymentId};
use longshore_core::quarantine::Health;
use longshore_core::resources::Resources;
use longshore_core::time::Timestamp;

use super::Error;
use super::rows::{JobRow, ReservationRow};

type Result<T> = std::result::Result<T, Error>;

/// A job that an agent has: offered, running, or of unknown fate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occupied {
    /// The agent.
    pub agent: AgentId,
    /// Pool of the job.
    pub pool: String,
    /// Project of the job.
    pub project: String,
    /// What it has asked for.
    pub resources: Resources,
}

/// Deployments whose time has come, and when the next one's will.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schedule {
    /// They may begin since, or are not to begin any more.
    pub due: Vec<DeploymentId>,
    /// The next of those times.
    pub next: Option<Timestamp>,
}

/// The part of a transaction that is about waiting.
#[async_trait]
pub trait Waits: Send {
    /// How many jobs are in the queue.
    async fn queued_count(&mut self) -> Result<u64>;
    /// The first job of each line of a pool.
    async fn heads(&mut self, pool: &str) -> Result<Vec<JobRow>>;
    /// The job behind another in its line.
    async fn behind(&mut self, row: &JobRow) -> Result<Option<JobRow>>;
    /// Every job that an agent has.
    async fn occupied(&mut self) -> Result<Vec<Occupied>>;
    /// Queued jobs that have waited as long as they may, at most so many; before `began` nobody waited.
    async fn waited_too_long(&mut self, began: Timestamp, now: Timestamp, limit: u32) -> Result<Vec<JobRow>>;
    /// When the next queued job will have waited as long as it may.
    async fn next_to_give_up(&mut self, began: Timestamp, now: Timestamp) -> Result<Option<Timestamp>>;

    /// Everything that a deployment which has not begun waits for.
    async fn waited_for(&mut self) -> Result<Vec<String>>;
    /// The deployment that gets a key next, of those whose time has come; children before all others.
    async fn next_for(&mut self, key: &str, now: Timestamp) -> Result<Option<DeploymentId>>;
    /// Children that wait for a key.
    async fn children_for(&mut self, key: &str) -> Result<Vec<DeploymentId>>;
    /// Who keeps something.
    async fn reservation(&mut self, key: &str) -> Result<Option<ReservationRow>>;
    /// Deployments whose time came after `since`, or whose time is over; and when the next one's will.
    async fn schedule(&mut self, since: Timestamp, now: Timestamp) -> Result<Schedule>;
    /// The greatest priority among deployments that have not begun, but for this one and for children.
    async fn top_priority(&mut self, but: DeploymentId) -> Result<Option<i64>>;

    /// How the work of agents went that was not all well.
    async fn healths(&mut self) -> Result<BTreeMap<AgentId, Health>>;
    /// How an agent's own work went.
    async fn health(&mut self, agent: AgentId) -> Result<Health>;
    /// Saves it.
    async fn save_health(&mut self, agent: AgentId, health: &Health) -> Result<()>;
}
