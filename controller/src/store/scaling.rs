//! What the scaler did, and agents whose machines it lets go.

use std::collections::BTreeMap;

use async_trait::async_trait;
use longshore_core::id::AgentId;
use longshore_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::Error;
use super::rows::JobRow;

type Result<T> = std::result::Result<T, Error>;

/// What the scaler did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It asked for more machines.
    Grow,
    /// It let machines go.
    Shrink,
    /// It did nothing, though something was to be done.
    Refused,
    /// The group did not do what it was told.
    Failed,
    /// A machine that was to go stays: its agent takes jobs again.
    Released,
}

impl Action {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grow => "grow",
            Self::Shrink => "shrink",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Released => "released",
        }
    }
}

/// One thing that the scaler did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalingRow {
    /// The pool.
    pub pool: String,
    /// When.
    pub at: Timestamp,
    /// What.
    pub action: Action,
    /// Machines that the group was set to have.
    pub from: u32,
    /// Machines that it is set to have since.
    pub to: u32,
    /// For people.
    pub message: String,
}

/// An agent whose machine goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScaleInRow {
    /// The agent.
    pub agent: AgentId,
    /// Its pool.
    pub pool: String,
    /// The machine's name in the group.
    pub instance: String,
    /// Since when nothing is offered to it.
    pub since: Timestamp,
    /// When the group took the order to end it.
    pub told_at: Option<Timestamp>,
}

/// The part of a transaction that is about scaling.
#[async_trait]
pub trait Scaling: Send {
    /// How many jobs each pool has in the queue; pools without any are left out.
    async fn queued_by_pool(&mut self) -> Result<BTreeMap<String, u32>>;
    /// The jobs of a pool that have been in the queue for longest, in order, at most so many.
    async fn first_queued(&mut self, pool: &str, limit: u32) -> Result<Vec<JobRow>>;
    /// Records what was done. Only the newest of a pool are kept.
    async fn insert_scaling(&mut self, row: &ScalingRow) -> Result<()>;
    /// What was done in a pool, the newest first, at most so many.
    async fn scalings(&mut self, pool: &str, limit: u32) -> Result<Vec<ScalingRow>>;
    /// What of a kind was done last in a pool.
    async fn last_scaling(&mut self, pool: &str, action: Action) -> Result<Option<ScalingRow>>;
    /// Agents whose machines go, by id.
    async fn scale_ins(&mut self) -> Result<Vec<ScaleInRow>>;
    /// Whether the machine of an agent goes.
    async fn scaled_in(&mut self, agent: AgentId) -> Result<bool>;
    /// From here on nothing is offered to the agent; `false` when that was so already.
    async fn insert_scale_in(&mut self, row: &ScaleInRow) -> Result<bool>;
    /// The group took the order.
    async fn told_scale_in(&mut self, agent: AgentId, at: Timestamp) -> Result<()>;
    /// The agent takes jobs again, or is gone; `false` when there is no such row.
    async fn remove_scale_in(&mut self, agent: AgentId) -> Result<bool>;
}
