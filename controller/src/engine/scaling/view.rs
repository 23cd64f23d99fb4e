//! What is shown of pools, their waits and their scaling.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::store::scaling::ScalingRow;

/// Slots of the agents of a pool that are connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct SlotsView {
    /// All of them.
    pub total: u32,
    /// Those that a job has.
    pub busy: u32,
    /// Those that a job could have now: of agents that take jobs.
    pub free: u32,
}

/// Agents of a pool that are not revoked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct PoolAgentsView {
    /// Those that are connected, draining ones included.
    pub connected: u32,
    /// Those that are connected and take no more jobs.
    pub draining: u32,
    /// Those that are not connected.
    pub disconnected: u32,
}

/// What is seen of a pool, and what the scaler makes of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ScalingView {
    /// The pool.
    pub pool: String,
    /// Jobs that wait for an agent or a lock. A deployment that has not begun, because of its schedule, another deployment or
    /// an approval, has no job yet.
    pub queued: u32,
    /// How many of them wait for what; together they are `queued`. `docs/scaling.md` lists the reasons.
    pub waiting: BTreeMap<String, u32>,
    /// Those of them that a further agent would help.
    pub helped: u32,
    /// For how many seconds the oldest of them has waited; `null`: none waits.
    pub oldest_wait_seconds: Option<u64>,
    /// Slots.
    pub slots: SlotsView,
    /// Agents.
    pub agents: PoolAgentsView,
    /// Attempts on agents of the pool of which it is not known how they ended.
    pub unknown_attempts: u32,
    /// The scaler; `null`: the pool is not scaled.
    pub scaler: Option<ScalerView>,
    /// What the scaler did and refused, the newest first.
    pub events: Vec<ScalingEventView>,
}

/// What the scaler makes of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ScalerView {
    /// `aws`, `gcp`, `azure` or `command`.
    pub kind: String,
    /// Name of the group.
    pub group: String,
    /// Fewest machines.
    pub min: u32,
    /// Most machines.
    pub max: u32,
    /// Slots that are kept free.
    pub warm: u32,
    /// Machines that the group is set to have; `null`: it has not been asked yet, or does not say.
    pub capacity: Option<u32>,
    /// Those of them whose agents are not connected: they are coming, or did not come.
    pub absent: Option<u32>,
    /// What the scaler decided last: `grow`, `shrink`, `enough`, `at_most`, `cooling` or `unsure_...`; `null`: nothing yet.
    pub decision: Option<String>,
    /// The same for people.
    pub message: Option<String>,
    /// When; RFC 3339 in UTC, milliseconds.
    pub decided_at: Option<String>,
    /// Agents whose machines go.
    pub leaving: Vec<LeavingView>,
}

/// An agent whose machine goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LeavingView {
    /// `agt_...`.
    pub agent: String,
    /// The machine's name in the group.
    pub instance: String,
    /// Since when nothing is offered to it; RFC 3339 in UTC, milliseconds.
    pub since: String,
    /// Whether the group has taken the order to end it.
    pub told: bool,
}

/// Something that the scaler did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ScalingEventView {
    /// RFC 3339 in UTC, milliseconds.
    pub at: String,
    /// `grow`, `shrink`, `refused`, `failed` or `released`.
    pub action: String,
    /// Machines that the group was set to have.
    pub from: u32,
    /// Machines that it is set to have since.
    pub to: u32,
    /// For people.
    pub message: String,
}

/// A line of what was done.
pub(super) fn event(row: ScalingRow) -> ScalingEventView {
    ScalingEventView {
        at: row.at.to_string(),
        action: row.action.as_str().to_owned(),
        from: row.from,
        to: row.to,
        message: row.message,
    }
}
