//! What jobs take of each agent and of each limit, and how the agents' own work went: what placement needs beside what agents say.

use std::collections::{BTreeMap, HashMap};

use longshore_core::fair::Running;
use longshore_core::id::AgentId;
use longshore_core::placement::Request;
use longshore_core::quarantine::Health;
use longshore_core::resources::Resources;

use super::Result;
use crate::store::Tx;
use crate::store::rows::JobRow;

/// What the rows say of all agents.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    load: HashMap<AgentId, (u32, Resources)>,
    health: BTreeMap<AgentId, Health>,
    /// By project.
    all: BTreeMap<String, u32>,
    /// By pool and project.
    pools: BTreeMap<String, BTreeMap<String, u32>>,
}

impl Fleet {
    pub(super) async fn read(tx: &mut dyn Tx) -> Result<Self> {
        let mut fleet = Self { health: tx.healths().await?, ..Self::default() };
        for job in tx.occupied().await? {
            let (busy, reserved) = fleet.load.entry(job.agent).or_default();
            *busy += 1;
            *reserved = reserved.plus(job.resources);
            *fleet.all.entry(job.project.clone()).or_default() += 1;
            *fleet.pools.entry(job.pool).or_default().entry(job.project).or_default() += 1;
        }
        Ok(fleet)
    }

    /// Jobs that an agent has, and what they have asked for.
    pub(super) fn load(&self, agent: AgentId) -> (u32, Resources) {
        self.load.get(&agent).copied().unwrap_or_default()
    }

    /// Why an agent gets no jobs after failures of its own.
    pub(super) fn quarantined(&self, agent: AgentId) -> Option<String> {
        self.health.get(&agent).and_then(Health::words)
    }

    /// Jobs that count against limits in a pool.
    pub(super) fn running(&self, pool: &str) -> Running {
        Running { all: self.all.clone(), here: self.pools.get(pool).cloned().unwrap_or_default() }
    }
}

/// What a job asks of an agent.
pub(super) fn request(row: &JobRow) -> Request<'_> {
    Request { pool: &row.pool, labels: &row.labels, steps: &row.steps, resources: row.resources }
}
