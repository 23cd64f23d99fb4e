//! What is seen of pools for scaling: how many jobs wait and why, what the agents have, and what the scaler did.
//!
//! Counted from rows and sessions when it is asked for, so it is never stale; every queued job is counted once, under one reason.

mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::view::event;
use super::fleet::{Fleet, request};
use super::pools::{check_name, paused, settings};
use super::{Engine, Result};
use crate::store::Tx;
use crate::store::rows::{AgentRow, AttemptRow, JobRow, LockRow};
use crate::store::scaling::{Action, ScaleInRow};
use longshore_core::attempt;
use longshore_core::id::AgentId;
use longshore_core::lease;
use longshore_core::placement::Candidate;
use longshore_core::pool::Pool;
use longshore_core::scaling::{Doubt, History, Machine, Settings, Signals, Waits, helped, waits};
use longshore_core::time::Timestamp;

pub use self::view::{LeavingView, PoolAgentsView, ScalerView, ScalingEventView, ScalingView, SlotsView};

/// Lines of what was done that are shown.
const SHOWN: u32 = 20;

/// What the scaler decided last in a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) at: Timestamp,
    /// What the group is set to, and how many of those are not connected.
    pub(crate) machines: Option<(u32, u32)>,
    pub(crate) word: &'static str,
    pub(crate) message: String,
}

/// A pool that is scaled, as the scaler sees it.
#[derive(Debug, Clone)]
pub(crate) struct Scaled {
    pub(crate) pool: String,
    pub(crate) settings: Settings,
    /// Without what the group says.
    pub(crate) signals: Signals,
    pub(crate) history: History,
    /// Machines that the group was last set to have.
    pub(crate) last_set: Option<u32>,
    /// Names of machines by agent, of those that are known.
    pub(crate) instances: BTreeMap<AgentId, String>,
    /// Agents of it whose machines go.
    pub(crate) leaving: Vec<ScaleInRow>,
}

impl Scaled {
    /// Machines of the group whose agents are connected.
    pub(crate) fn members(&self) -> u32 {
        number(self.signals.machines.iter().filter(|machine| machine.member && !machine.leaving).count())
    }
}

/// What is kept in memory; after a restart it is worked out anew, and no agent counts as idle for longer than that.
#[derive(Debug, Default)]
pub(super) struct Memory {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When each agent was last known to work, or was first seen; and whether it has not been seen idle since.
    worked: HashMap<AgentId, (Duration, bool)>,
    decided: BTreeMap<String, Decided>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A job was given to the agent.
    pub(super) fn worked(&self, agent: AgentId, now: Duration) {
        self.lock().worked.insert(agent, (now, true));
    }
}

/// Jobs of a pool that are looked at one by one. What is behind them is counted; a group is rarely as large.
const LOOKED_AT: u32 = 2_000;

/// Rows that are counted.
struct Rows {
    /// How many jobs each pool has in the queue.
    queued: BTreeMap<String, u32>,
    /// The first of them, of the pools that were asked for.
    jobs: BTreeMap<String, Vec<JobRow>>,
    locks: Vec<LockRow>,
    live: Vec<AttemptRow>,
    agents: Vec<AgentRow>,
    /// What each agent's machine is, where it was proven.
    machines: HashMap<AgentId, String>,
    pools: BTreeMap<String, Pool>,
    leaving: Vec<ScaleInRow>,
    fleet: Fleet,
}

/// `pool`: whether its jobs are looked at.
async fn rows(tx: &mut dyn Tx, pool: impl Fn(&str, Option<&Pool>) -> bool + Send) -> Result<Rows> {
    let (pools, queued) = (settings(tx).await?, tx.queued_by_pool().await?);
    let mut jobs = BTreeMap::new();
    for name in queued.keys().filter(|name| pool(name, pools.get(*name))) {
        jobs.insert(name.clone(), tx.first_queued(name, LOOKED_AT).await?);
    }
    Ok(Rows {
        queued,
        jobs,
        locks: tx.locks().await?,
        live: tx.live_attempts().await?,
        agents: tx.agents().await?.into_iter().filter(|row| row.revoked_at.is_none()).collect(),
        machines: tx.origins().await?.into_iter().filter_map(|row| Some((row.agent, row.machine?))).collect(),
        pools,
        leaving: tx.scale_ins().await?,
        fleet: Fleet::read(tx).await?,
    })
}

impl Engine {
    /// What is seen of a pool.
    ///
    /// # Errors
    /// When the name is none, or rows cannot be read.
    pub async fn scaling(&self, pool: &str) -> Result<ScalingView> {
        check_name(pool)?;
        let name = pool.to_owned();
        let (rows, events) = self
            .read(move |tx| {
                Box::pin(async move {
                    let own = |other: &str, _: Option<&Pool>| other == name;
                    Ok((rows(tx, own).await?, tx.scalings(&name, SHOWN).await?))
                })
            })
            .await?;
        let mut view = self.counted(&rows, pool, self.clock().now());
        view.scaler =
            rows.pools.get(pool).and_then(|set| set.scaling.as_ref()).map(|set| self.scaler(pool, set, &rows));
        view.events = events.into_iter().map(event).collect();
        Ok(view)
    }

    /// What is seen of every pool that has settings, an agent or a job; without what was done.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn scaling_of_all(&self) -> Result<Vec<ScalingView>> {
        let rows = self.read(|tx| Box::pin(async move { rows(tx, |_, _| true).await })).await?;
        let mut names: BTreeSet<&str> = rows.pools.keys().map(String::as_str).collect();
        names.extend(rows.agents.iter().map(|row| row.pool.as_str()));
        names.extend(rows.queued.keys().map(String::as_str));
        let now = self.clock().now();
        let view = |name: &str| {
            let scaling = rows.pools.get(name).and_then(|set| set.scaling.as_ref());
            let scaler = scaling.map(|set| self.scaler(name, set, &rows));
            ScalingView { scaler, ..self.counted(&rows, name, now) }
        };
        Ok(names.into_iter().map(view).collect())
    }

    fn counted(&self, rows: &Rows, pool: &str, now: Timestamp) -> ScalingView {
        let mut view = ScalingView { pool: pool.to_owned(), ..ScalingView::default() };
        view.queued = rows.queued.get(pool).copied().unwrap_or(0);
        let mut candidates = self.0.sessions.candidates(&rows.fleet);
        self.count_jobs(rows, &mut view, &mut candidates, now);
        let own: Vec<&Candidate> = candidates.iter().filter(|agent| agent.pool == pool).collect();
        for agent in &own {
            view.slots.total += agent.slots;
            view.slots.busy += agent.busy.min(agent.slots);
            view.slots.free += if agent.draining.is_some() { 0 } else { agent.slots.saturating_sub(agent.busy) };
            view.agents.connected += 1;
            view.agents.draining += u32::from(agent.draining.is_some());
        }
        let here: HashSet<AgentId> = own.iter().map(|agent| agent.id).collect();
        let members: HashSet<AgentId> = rows.agents.iter().filter(|row| row.pool == pool).map(|row| row.id).collect();
        view.agents.disconnected = number(members.iter().filter(|id| !here.contains(id)).count());
        let lost = |row: &&AttemptRow| {
            matches!(row.attempt.state, attempt::State::Unknown { .. }) && members.contains(&row.attempt.agent)
        };
        view.unknown_attempts = number(rows.live.iter().filter(lost).count());
        view
    }

    /// Each job under one reason, as the dispatcher looks at them.
    fn count_jobs(&self, rows: &Rows, view: &mut ScalingView, candidates: &mut [Candidate], now: Timestamp) {
        let set = rows.pools.get(&view.pool).cloned().unwrap_or_default();
        let labels = set.scaling.as_ref().map(|scaling| scaling.labels.clone()).unwrap_or_default();
        let (jobs, pause) = (rows.jobs.get(&view.pool), paused(&rows.pools, &view.pool).is_some());
        let mut running = rows.fleet.running(&view.pool);
        let mut taken: HashSet<&str> = rows.locks.iter().map(|lock| lock.key.as_str()).collect();
        let mut add = |why: Waits, count| *view.waiting.entry(why.word().to_owned()).or_insert(0) += count;
        for row in jobs.into_iter().flatten() {
            // What waits keeps its locks from those behind it.
            let lock = row.locks.iter().any(|key| taken.contains(key.as_str()));
            taken.extend(row.locks.iter().map(String::as_str));
            self.0.desk.keep_apart(candidates, row.job.deployment);
            let request = request(row);
            let why = if lock {
                Waits::Lock
            } else if pause {
                Waits::Paused
            } else if running.limit(&row.project, row.max_running, &set.placement()).is_some() {
                Waits::Limit
            } else {
                // It counts against the limits of those behind it.
                running.add(&row.project, true);
                waits(candidates, &request)
            };
            add(why, 1);
            view.helped += u32::from(helped(why, candidates, &request, &labels));
            let waited = now.since(row.job.waits_since).as_secs();
            view.oldest_wait_seconds = Some(view.oldest_wait_seconds.map_or(waited, |oldest| oldest.max(waited)));
        }
        let behind = view.queued.saturating_sub(number(jobs.map_or(0, Vec::len)));
        if behind > 0 {
            add(Waits::Behind, behind);
        }
    }

    fn scaler(&self, pool: &str, set: &Settings, rows: &Rows) -> ScalerView {
        let decided = self.0.scaling.lock().decided.get(pool).cloned();
        let machines = decided.as_ref().and_then(|decided| decided.machines);
        let leaving = rows.leaving.iter().filter(|row| row.pool == pool);
        ScalerView {
            kind: set.target.kind().to_owned(),
            group: set.target.name().to_owned(),
            min: set.min,
            max: set.max,
            warm: set.warm,
            capacity: machines.map(|(capacity, _)| capacity),
            absent: machines.map(|(_, absent)| absent),
            decision: decided.as_ref().map(|decided| decided.word.to_owned()),
            decided_at: decided.as_ref().map(|decided| decided.at.to_string()),
            message: decided.map(|decided| decided.message),
            leaving: leaving
                .map(|row| LeavingView {
                    agent: row.agent.to_string(),
                    instance: row.instance.clone(),
                    since: row.since.to_string(),
                    told: row.told_at.is_some(),
                })
                .collect(),
        }
    }

    /// Every pool that is scaled.
    pub(crate) async fn scaled(&self) -> Result<Vec<Scaled>> {
        let (rows, past) = self
            .read(|tx| {
                Box::pin(async move {
                    let rows = rows(tx, |_, set| set.is_some_and(|set| set.scaling.is_some())).await?;
                    let mut past = BTreeMap::new();
                    for (name, _) in rows.pools.iter().filter(|(_, set)| set.scaling.is_some()) {
                        let grown = tx.last_scaling(name, Action::Grow).await?;
                        let shrunk = tx.last_scaling(name, Action::Shrink).await?;
                        // What failed left the group as it was.
                        let set = tx.scalings(name, SHOWN).await?.into_iter();
                        let set =
                            set.filter(|row| matches!(row.action, Action::Grow | Action::Shrink | Action::Failed));
                        past.insert(name.clone(), (grown, shrunk, set.map(|row| row.to).next()));
                    }
                    Ok((rows, past))
                })
            })
            .await?;
        self.remember(&rows);
        let (now, mut all) = (self.clock().now(), Vec::new());
        for (pool, (grown, shrunk, last_set)) in past {
            let Some(settings) = rows.pools.get(&pool).and_then(|set| set.scaling.clone()) else { continue };
            let view = self.counted(&rows, &pool, now);
            let instances = instances(self.there(&rows, &pool), &rows.machines, &settings);
            let mut signals = self.signals(&pool, &rows, &instances);
            (signals.helped, signals.doubt) = (view.helped, self.doubt(&pool, &rows));
            let history = History { grown: grown.map(|row| row.at), shrunk: shrunk.map(|row| row.at) };
            let leaving = rows.leaving.iter().filter(|row| row.pool == pool).cloned().collect();
            all.push(Scaled { pool, settings, signals, history, last_set, instances, leaving });
        }
        Ok(all)
    }

    /// Agents of a pool that are connected or may be at work. Who is neither left nothing but a row, maybe of a machine that has
    /// joined anew.
    fn there<'a>(&'a self, rows: &'a Rows, pool: &'a str) -> impl Iterator<Item = &'a AgentRow> {
        let there = move |row: &&AgentRow| self.0.sessions.ability(row.id).is_some() || rows.fleet.load(row.id).0 > 0;
        rows.agents.iter().filter(move |row| row.pool == pool).filter(there)
    }

    /// Notes who works now, and forgets who is not connected.
    fn remember(&self, rows: &Rows) {
        let (now, candidates) = (self.clock().elapsed(), self.0.sessions.candidates(&rows.fleet));
        let here: HashSet<AgentId> = candidates.iter().map(|agent| agent.id).collect();
        let mut state = self.0.scaling.lock();
        state.worked.retain(|id, _| here.contains(id));
        for agent in candidates {
            let (at, works) = state.worked.entry(agent.id).or_insert((now, true));
            // It is idle from the first look on that finds it so, whenever its job ended before.
            if *works {
                *at = now;
            }
            *works = agent.busy > 0;
            if *works {
                *at = now;
            }
        }
    }

    /// Machines and what may still run where nobody sees it.
    fn signals(&self, pool: &str, rows: &Rows, instances: &BTreeMap<AgentId, String>) -> Signals {
        let (now, candidates) = (self.clock().elapsed(), self.0.sessions.candidates(&rows.fleet));
        let leaving: HashSet<AgentId> = rows.leaving.iter().map(|row| row.agent).collect();
        let worked = self.0.scaling.lock().worked.clone();
        let machine = |agent: &Candidate| Machine {
            id: agent.id,
            slots: agent.slots,
            busy: agent.busy,
            idle: match (agent.busy, worked.get(&agent.id)) {
                (0, Some((at, _))) => now.saturating_sub(*at),
                _ => Duration::ZERO,
            },
            draining: agent.draining.is_some(),
            member: instances.contains_key(&agent.id),
            leaving: leaving.contains(&agent.id),
        };
        let own: Vec<Machine> = candidates.iter().filter(|agent| agent.pool == pool).map(machine).collect();
        let unreached = rows.agents.iter().filter(|row| {
            row.pool == pool && rows.fleet.load(row.id).0 > 0 && !own.iter().any(|machine| machine.id == row.id)
        });
        Signals { unreached: number(unreached.count()), machines: own, ..Signals::default() }
    }

    /// Why it is not known what is there, if so.
    fn doubt(&self, pool: &str, rows: &Rows) -> Option<Doubt> {
        let (now, lease) = (self.clock().elapsed(), self.settings().lease);
        let leaving: HashSet<AgentId> = rows.leaving.iter().map(|row| row.agent).collect();
        let members = rows.agents.iter().filter(|row| row.pool == pool && !leaving.contains(&row.id));
        let (here, away): (Vec<_>, Vec<_>) = members.partition(|row| self.0.sessions.ability(row.id).is_some());
        let serving = now.saturating_sub(self.0.began);
        // Agents that look for the controller come back within a lease, one after the other.
        if serving < lease.saturating_mul(2) && !away.is_empty() {
            return Some(Doubt::Returning);
        }
        let seen = self.0.sessions.seen();
        let silent = away
            .iter()
            .filter(|row| seen.get(&row.id).is_some_and(|at| now.saturating_sub(*at) < lease.saturating_mul(4)));
        lease::frozen(here.len(), silent.count()).then_some(Doubt::Silent)
    }

    /// Notes what was decided, for whoever asks.
    pub(crate) fn decided(&self, pool: &str, decided: Decided) -> Option<Decided> {
        self.0.scaling.lock().decided.insert(pool.to_owned(), decided)
    }
}

/// The machine of each agent, by the group's own name for it. A name that two agents have says nothing of either.
fn instances<'a>(
    agents: impl Iterator<Item = &'a AgentRow>,
    machines: &HashMap<AgentId, String>,
    set: &Settings,
) -> BTreeMap<AgentId, String> {
    let known = |row: &AgentRow| machines.get(&row.id).and_then(|machine| proven(machine, set));
    let mut found: BTreeMap<AgentId, String> =
        agents.filter_map(|row| Some((row.id, known(row).or_else(|| instance(row, set))?))).collect();
    let mut times: HashMap<String, u32> = HashMap::new();
    for name in found.values() {
        *times.entry(name.clone()).or_insert(0) += 1;
    }
    found.retain(|_, name| times.get(name) == Some(&1));
    found
}

/// By what its machine has proven to be, as in `aws/111122223333/i-0123456789abcdef0`. The groups of the other clouds know their
/// machines by other names than the documents of these have.
fn proven(machine: &str, set: &Settings) -> Option<String> {
    let instance = machine.strip_prefix("aws/")?.rsplit('/').next()?;
    (set.target.kind() == "aws").then(|| instance.to_owned())
}

/// By its label `instance-id`, which its join token gave it; else by its host name where that is the machine's name in the group.
fn instance(row: &AgentRow, set: &Settings) -> Option<String> {
    if let Some(name) = row.labels.get("instance-id") {
        return Some(name.clone());
    }
    let host = row.hostname.split('.').next().unwrap_or_default();
    let ec2 = |name: &str| {
        name.strip_prefix("i-").is_some_and(|rest| rest.len() >= 8 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    let fits = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    (fits && (set.target.kind() != "aws" || ec2(host))).then(|| host.to_owned())
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
