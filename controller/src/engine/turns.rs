//! Whose turn it is: which jobs go to which agents now, by core's rules, and what the dispatcher remembers between two rounds.
//!
//! A round reads the first job of each line of a pool and what comes behind those it hands out, so the length of the queue does not
//! matter. What is remembered here can be lost: then every project counts as never served, and every key is looked at.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use longshore_core::fair::{Head, Served, Turns};
use longshore_core::id::{AgentId, DeploymentId};
use longshore_core::placement::{self, Candidate};
use longshore_core::pool::Pool;
use longshore_core::time::Timestamp;

use super::fleet::{Fleet, request};
use super::pools::{paused, settings};
use super::{Engine, Result};
use crate::store::Tx;
use crate::store::rows::JobRow;

/// Jobs that are handed out in one round; another one follows.
const ROUND: usize = 256;

/// What the dispatcher has to look at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// Everything.
    pub(super) all: bool,
    /// Who waits for these.
    pub(super) keys: BTreeSet<String>,
    /// These.
    pub(super) deployments: BTreeSet<DeploymentId>,
}

#[derive(Debug)]
struct State {
    look: Look,
    served: Served,
    kept: HashMap<AgentId, DeploymentId>,
    /// Times up to this one were looked at.
    looked: Timestamp,
}

/// What the dispatcher remembers.
#[derive(Debug)]
pub(super) struct Desk(Mutex<State>);

impl Desk {
    /// Everything is to be looked at.
    pub(super) fn new(now: Timestamp) -> Self {
        let look = Look { all: true, ..Look::default() };
        Self(Mutex::new(State { look, served: Served::default(), kept: HashMap::new(), looked: now }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn look(&self, more: Look) {
        let look = &mut self.lock().look;
        look.all |= more.all;
        look.keys.extend(more.keys);
        look.deployments.extend(more.deployments);
    }

    /// What is to be looked at, if anything is.
    pub(super) fn take_look(&self) -> Option<Look> {
        let look = std::mem::take(&mut self.lock().look);
        (look != Look::default()).then_some(look)
    }

    /// Moves the time up to which times were looked at; answers the one before.
    pub(super) fn looked(&self, now: Timestamp) -> Timestamp {
        std::mem::replace(&mut self.lock().looked, now)
    }

    /// What came due after a time was not looked at after all.
    pub(super) fn look_again(&self, since: Timestamp) {
        self.lock().looked = since;
    }

    pub(super) fn served(&self, row: &JobRow) {
        self.lock().served.note(&row.pool, &row.project);
    }

    /// Says of agents that are being emptied for a deployment that they are, to all others.
    pub(super) fn keep_apart(&self, candidates: &mut [Candidate], own: DeploymentId) {
        let state = self.lock();
        for candidate in candidates {
            let other = state.kept.get(&candidate.id).filter(|other| **other != own);
            candidate.kept_for = other.map(|other| format!("deployment `{other}`"));
        }
    }
}

/// What is to be done in a round.
#[derive(Debug, Default)]
struct Plan {
    jobs: Vec<(JobRow, AgentId)>,
    kept: HashMap<AgentId, DeploymentId>,
}

impl Engine {
    /// The jobs that are to be handed out now, in their order, and to whom.
    pub(super) async fn plan(&self) -> Result<Vec<(JobRow, AgentId)>> {
        let engine = self.clone();
        let served = self.0.desk.lock().served.clone();
        let plan = self.read(move |tx| Box::pin(async move { engine.plan_in(tx, &served).await })).await?;
        self.0.desk.lock().kept = plan.kept;
        Ok(plan.jobs)
    }

    async fn plan_in(&self, tx: &mut dyn Tx, served: &Served) -> Result<Plan> {
        let fleet = Fleet::read(tx).await?;
        let agents = self.0.sessions.candidates(&fleet);
        let pools: BTreeSet<String> =
            agents.iter().filter(|agent| agent.busy < agent.slots).map(|agent| agent.pool.clone()).collect();
        let mut plan = Plan::default();
        if pools.is_empty() {
            return Ok(plan);
        }
        let settings = settings(tx).await?;
        let mut taken = HashSet::new();
        let mut running = fleet.running("");
        for name in pools {
            if paused(&settings, &name).is_some() {
                continue;
            }
            running.here = fleet.running(&name).here;
            let rows: Vec<Option<JobRow>> = tx.heads(&name).await?.into_iter().map(Some).collect();
            let heads = rows.iter().flatten().map(head).collect();
            let pool = settings.get(&name).cloned().unwrap_or_default();
            let agents = agents.iter().filter(|agent| agent.pool == name).cloned().collect();
            let turns = Turns::new(&name, pool.placement(), heads, running, served);
            let mut round = Round { pool: &pool, agents, rows, turns };
            round.fill(tx, &mut taken, &mut plan).await?;
            running = round.turns.running().clone();
        }
        Ok(plan)
    }
}

/// One pool's part of a round.
struct Round<'a> {
    pool: &'a Pool,
    agents: Vec<Candidate>,
    /// The first job of each line.
    rows: Vec<Option<JobRow>>,
    turns: Turns<'a>,
}

impl Round<'_> {
    async fn fill(&mut self, tx: &mut dyn Tx, taken: &mut HashSet<String>, plan: &mut Plan) -> Result<()> {
        // A project has one agent emptied at a time.
        let mut keepers = HashSet::new();
        while plan.jobs.len() < ROUND && self.agents.iter().any(|agent| agent.busy < agent.slots) {
            let Some(line) = self.turns.next() else { break };
            let Some(row) = self.rows.get(line).cloned().flatten() else {
                self.turns.close(line);
                continue;
            };
            let waits = held(tx, &row.locks, taken).await?;
            // Jobs that wait keep what they will lock from those behind them, so that none waits for ever.
            taken.extend(row.locks.iter().cloned());
            if waits {
                let next = self.advance(tx, line, &row).await?;
                self.turns.skip(line, next);
                continue;
            }
            let found = placement::pick(&self.agents, &request(&row), self.pool.placement).map(|agent| agent.id);
            match found.and_then(|id| self.agents.iter_mut().find(|agent| agent.id == id)) {
                Some(agent) => {
                    agent.busy += 1;
                    agent.reserved = agent.reserved.plus(row.resources);
                    let agent = agent.id;
                    let next = self.advance(tx, line, &row).await?;
                    self.turns.started(line, next);
                    plan.jobs.push((row, agent));
                }
                None => {
                    self.turns.close(line);
                    if !keepers.contains(&row.project) && self.keep(&row, plan) {
                        keepers.insert(row.project);
                    }
                }
            }
        }
        Ok(())
    }

    /// Puts the job behind another in its place.
    async fn advance(&mut self, tx: &mut dyn Tx, line: usize, row: &JobRow) -> Result<Option<Head>> {
        let next = tx.behind(row).await?;
        let found = next.as_ref().map(head);
        if let Some(slot) = self.rows.get_mut(line) {
            *slot = next;
        }
        Ok(found)
    }

    /// Keeps an agent from those behind a job that will fit there once it is empty.
    fn keep(&mut self, row: &JobRow, plan: &mut Plan) -> bool {
        let Some(id) = placement::keep(&self.agents, &request(row)).map(|agent| agent.id) else { return false };
        plan.kept.insert(id, row.job.deployment);
        for agent in self.agents.iter_mut().filter(|agent| agent.id == id) {
            agent.kept_for = Some(format!("deployment `{}`", row.job.deployment));
        }
        true
    }
}

/// Whether one of these is held by a job, or kept by one that waits further ahead.
async fn held(tx: &mut dyn Tx, keys: &[String], kept: &HashSet<String>) -> Result<bool> {
    for key in keys {
        if kept.contains(key) || tx.is_locked(key).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn head(row: &JobRow) -> Head {
    Head { priority: row.priority, project: row.project.clone(), seq: row.seq, max_running: row.max_running }
}
