//! The scaler: looks at the pools that are scaled, decides (in core), and tells their groups.
//!
//! Invariants: what it is going to do is durable before a group hears of it, so a store that takes no changes stops
//! it; an agent whose machine goes is held before, and only while it has nothing ([`Engine::hold`]); what a group may
//! have done without saying so is asked for again and never undone on a guess.

mod command;
mod group;

pub(crate) use group::aws_environment;

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_cloud::Endpoint;
use longshore_core::scaling::{Decision, Doubt, Reason, Signals, decide};
use longshore_core::time::Timestamp;

use crate::clock::Clock;
use crate::engine::{self, Decided, Engine, Scaled};
use crate::store::scaling::{Action, ScaleInRow};
use crate::tasks::{OnError, Tasks};
use group::{Failed, Group, Order};

/// After a failure the group is left alone for this long.
const RETRY: Duration = Duration::from_secs(60);
/// A machine that the group took an order for and that is still at work after this time stays.
const STAYS: Duration = Duration::from_secs(30 * 60);
/// An agent that has been away for this long since its machine was ended is not waited for.
const GONE: Duration = Duration::from_secs(10 * 60);

/// What is set from outside. Groups and limits are settings of pools.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Between two looks.
    pub interval: Duration,
    /// Programs that scale a group, by name.
    pub commands: BTreeMap<String, Vec<String>>,
    /// How long such a program may take.
    pub command_timeout: Duration,
    /// Instead of the address of the region's Auto Scaling API.
    pub aws_endpoint: Option<Endpoint>,
    /// Instead of the address of the Compute Engine API.
    pub gcp_endpoint: Option<Endpoint>,
    /// Instead of the address of Azure's management API.
    pub azure_endpoint: Option<Endpoint>,
    /// Instead of the address of the metadata service.
    pub metadata_endpoint: Option<Endpoint>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(15),
            commands: BTreeMap::new(),
            command_timeout: Duration::from_secs(60),
            aws_endpoint: None,
            gcp_endpoint: None,
            azure_endpoint: None,
            metadata_endpoint: None,
        }
    }
}

/// Scales the pools that are to be scaled.
#[derive(Debug)]
pub struct Scaler {
    engine: Engine,
    settings: Settings,
    clock: Clock,
    /// The last change was not stored.
    unsure: bool,
    /// When a group last failed, by pool.
    failed: BTreeMap<String, Timestamp>,
}

/// Starts scaling.
pub fn start(engine: Engine, settings: Settings, clock: Clock, tasks: &Tasks) {
    let mut scaler = Scaler::new(engine, settings, clock);
    tasks.spawn_until_stop("scaler", OnError::Log, async move {
        loop {
            scaler.tick().await;
            scaler.clock.sleep(scaler.settings.interval).await;
        }
        // It never ends by itself.
        #[expect(unreachable_code, reason = "says of what kind the error is that never comes")]
        Ok::<(), std::convert::Infallible>(())
    });
}

impl Scaler {
    /// Scales the pools of an engine.
    #[must_use]
    pub fn new(engine: Engine, settings: Settings, clock: Clock) -> Self {
        Self { engine, settings, clock, unsure: false, failed: BTreeMap::new() }
    }

    /// Looks once, and does what follows.
    pub async fn tick(&mut self) {
        let pools = match self.engine.scaled().await {
            Ok(pools) => pools,
            Err(error) => {
                self.unsure = true;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the scaler cannot read rows; nothing is scaled"
                );
                return;
            }
        };
        for pool in pools {
            let name = pool.pool.clone();
            match self.scale(pool).await {
                Ok(()) => self.unsure = false,
                Err(error) => {
                    self.unsure = true;
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        pool = name,
                        error,
                        "the scaler cannot store what it is going to do; nothing is scaled"
                    );
                    self.note(&name, None, Reason::Unsure(Doubt::Store).word(), Doubt::Store.words().to_owned());
                }
            }
        }
    }

    /// One pool. An error is one of the store.
    async fn scale(&mut self, mut seen: Scaled) -> Result<(), engine::Error> {
        let (now, target) = (self.clock.now(), seen.settings.target.clone());
        if self.unsure {
            // What cannot be stored is not done: this is stored first.
            self.refuse(&seen.pool, 0, Reason::Unsure(Doubt::Store)).await?;
        }
        let settings = self.settings.clone();
        let group = match Group::of(&target, &settings, now).await {
            Ok(group) => group,
            Err(failed) => return self.unasked(&seen, failed).await,
        };
        let look = match group.look().await {
            Ok(look) => look,
            Err(failed) => return self.unasked(&seen, failed).await,
        };
        // Only the group knows which machines are its own.
        seen.instances.retain(|_, name| look.has(name));
        for machine in &mut seen.signals.machines {
            machine.member &= seen.instances.contains_key(&machine.id);
        }
        // Else what it was last told, or what is there: of an order that failed it is not known whether it was done.
        let told = || seen.last_set.unwrap_or(0).max(seen.members());
        seen.signals.capacity = look.capacity.unwrap_or_else(told);
        if self.finish(&group, &seen).await? {
            return Ok(());
        }
        let left = self.failed.get(&seen.pool).and_then(|at| RETRY.checked_sub(now.since(*at)));
        let decision = match left.filter(|left| !left.is_zero()) {
            Some(left) => Decision::Keep(Reason::Cooling { left }),
            None => decide(&seen.signals, &seen.settings, &seen.history, now),
        };
        self.act(&group, &seen, decision).await
    }

    async fn act(&mut self, group: &Group<'_>, seen: &Scaled, decision: Decision) -> Result<(), engine::Error> {
        let from = seen.signals.capacity;
        match decision {
            Decision::Keep(reason) => {
                let before = self.note(&seen.pool, Some(&seen.signals), reason.word(), reason.words());
                let said = matches!(reason, Reason::AtMost | Reason::Unsure(_));
                if said && before.is_none_or(|before| before != reason.word()) {
                    self.engine.scaling_did(&seen.pool, Action::Refused, (from, from), reason.words()).await?;
                }
                Ok(())
            }
            Decision::Grow { to } => {
                let message = format!(
                    "{} jobs wait for a machine, {} slots are free and {} machines are on their way",
                    seen.signals.helped,
                    seen.signals.free(),
                    seen.signals.absent()
                );
                self.engine.scaling_did(&seen.pool, Action::Grow, (from, to), message.clone()).await?;
                let order = Order { pool: seen.pool.clone(), from, to, remove: Vec::new() };
                match group.grow(&order).await {
                    Ok(()) => {
                        let grown = Signals { capacity: to, ..seen.signals.clone() };
                        self.note(&seen.pool, Some(&grown), "grow", format!("to {to} machines: {message}"));
                        Ok(())
                    }
                    Err(failed) => self.failed(seen, failed).await,
                }
            }
            Decision::Shrink { to: _, remove } => {
                let named = remove.into_iter().filter_map(|id| Some((id, seen.instances.get(&id)?.clone())));
                let named: Vec<_> = named.collect();
                let held = self.engine.hold(&seen.pool, named.clone(), from).await?;
                let rows = named.into_iter().filter(|(id, _)| held.contains(id)).map(|(agent, instance)| ScaleInRow {
                    agent,
                    pool: seen.pool.clone(),
                    instance,
                    since: self.clock.now(),
                    told_at: None,
                });
                self.remove(group, seen, &rows.collect::<Vec<_>>(), false).await
            }
        }
    }

    /// Machines whose end was decided before: orders that were not taken are given again, what is done is forgotten. `true` when the
    /// group was told something, so that it has to be looked at anew.
    async fn finish(&mut self, group: &Group<'_>, seen: &Scaled) -> Result<bool, engine::Error> {
        let now = self.clock.now();
        for row in &seen.leaving {
            let here = seen.signals.machines.iter().any(|machine| machine.id == row.agent);
            match row.told_at {
                Some(at) if !here && now.since(at) > GONE => self.engine.unhold(row, None).await?,
                Some(at) if here && now.since(at) > STAYS => {
                    let why = "the group took the order to end it, and it is still there".to_owned();
                    self.engine.unhold(row, Some(why)).await?;
                }
                _ => {}
            }
        }
        let open: Vec<ScaleInRow> = seen.leaving.iter().filter(|row| row.told_at.is_none()).cloned().collect();
        let waits = self.failed.get(&seen.pool).is_some_and(|at| now.since(*at) < RETRY);
        if open.is_empty() || waits || seen.signals.doubt.is_some() {
            return Ok(false);
        }
        self.remove(group, seen, &open, true).await?;
        Ok(true)
    }

    /// Tells the group to end machines of agents that are held. `again`: it may have been told before, and its answer was lost.
    async fn remove(
        &mut self,
        group: &Group<'_>,
        seen: &Scaled,
        rows: &[ScaleInRow],
        again: bool,
    ) -> Result<(), engine::Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let remove: Vec<String> = rows.iter().map(|row| row.instance.clone()).collect();
        let from = seen.signals.capacity;
        let to = from.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX));
        let mut shrunk = Signals { capacity: to, ..seen.signals.clone() };
        for machine in &mut shrunk.machines {
            machine.leaving |= rows.iter().any(|row| row.agent == machine.id);
        }
        self.note(&seen.pool, Some(&shrunk), "shrink", format!("to {to} machines: {} idle", remove.join(", ")));
        let order = Order { pool: seen.pool.clone(), from, to, remove };
        let (mut removed, mut failure) = (group.shrink(&order).await, None);
        for row in rows {
            match removed.remove(&row.instance) {
                Some(Ok(true)) => self.engine.told_group(row.agent).await?,
                // What is no more in it was ended, or is let go when it stays for long: no job is begun on it meanwhile.
                Some(Ok(false)) if again => self.engine.told_group(row.agent).await?,
                Some(Ok(false)) => {
                    let why = "the group has no machine of that name".to_owned();
                    self.engine.unhold(row, Some(why)).await?;
                    self.failed.insert(seen.pool.clone(), self.clock.now());
                }
                Some(Err(failed)) => {
                    if failed.surely_nothing {
                        self.engine.unhold(row, Some("it was not ended".to_owned())).await?;
                    }
                    failure = Some(failed);
                }
                None => {}
            }
        }
        match failure {
            Some(failed) => self.failed(seen, failed).await,
            None => Ok(()),
        }
    }

    /// The group cannot be asked.
    async fn unasked(&mut self, seen: &Scaled, failed: Failed) -> Result<(), engine::Error> {
        let reason = Reason::Unsure(Doubt::Group);
        let words = format!("{}: {}", reason.words(), failed.words);
        let before = self.note(&seen.pool, None, reason.word(), words.clone());
        if before.is_none_or(|before| before != reason.word()) {
            let last = seen.last_set.unwrap_or(0);
            self.engine.scaling_did(&seen.pool, Action::Refused, (last, last), words).await?;
        }
        Ok(())
    }

    async fn failed(&mut self, seen: &Scaled, failed: Failed) -> Result<(), engine::Error> {
        let (pool, from) = (seen.pool.as_str(), seen.signals.capacity);
        self.failed.insert(pool.to_owned(), self.clock.now());
        tracing::warn!(pool, reason = failed.words, "the group did not do what it was told");
        self.note(pool, Some(&seen.signals), "failed", failed.words.clone());
        self.engine.scaling_did(pool, Action::Failed, (from, from), failed.words).await
    }

    async fn refuse(&self, pool: &str, from: u32, reason: Reason) -> Result<(), engine::Error> {
        self.engine.scaling_did(pool, Action::Refused, (from, from), reason.words()).await
    }

    /// Notes what was decided, for whoever asks; answers the word that stood there.
    fn note(&self, pool: &str, seen: Option<&Signals>, word: &'static str, message: String) -> Option<&'static str> {
        let machines = seen.map(|seen| (seen.capacity, seen.absent()));
        let decided = Decided { at: self.clock.now(), machines, word, message };
        self.engine.decided(pool, decided).map(|before| before.word)
    }
}
