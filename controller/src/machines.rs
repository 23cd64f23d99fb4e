//! Asks EC2 what became of the machines of agents that are silent: one that it says is terminated is no more, and that is proof.
//!
//! Invariants: asked is only where the controller has access, at most once a minute for each agent, by one task, never inside a
//! transaction. Only the one word `terminated`, of an instance of the account that was proven, is believed ([`Fate`]): one that is
//! stopped comes back, one that shuts down may still write. An instance that EC2 does not know proves nothing either. It forgets
//! terminated ones after an hour or so, but whoever asks with the credentials of another account, or in another region, gets
//! the same answer about a machine that runs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use longshore_cloud::Error;
use longshore_core::id::AgentId;

use crate::clock::Clock;
use crate::engine::{self, Engine, Silent};
use crate::identity::cloud::{Fate, Verifier};
use crate::tasks::{OnError, Tasks};

/// Between two looks at who is silent, or a lease if that is shorter.
const LOOK: Duration = Duration::from_secs(15);
/// Between two questions about one agent, and to a region that did not answer.
const AGAIN: Duration = Duration::from_secs(60);
/// What the credentials need.
const PERMISSION: &str = "ec2:DescribeInstances";

/// What was found out about an agent's machine.
#[derive(Debug, Default)]
struct Asked {
    /// When it was asked about last.
    at: Option<Duration>,
    /// The region that knows it.
    region: Option<String>,
    /// It was said that no region knows it.
    said: bool,
}

/// A region that did not answer.
#[derive(Debug)]
struct Failing {
    /// When it was asked last.
    at: Duration,
    /// HTTP's status, if there was one: each is logged once.
    status: Option<u16>,
}

/// Asks about machines.
#[derive(Debug)]
pub struct Machines {
    engine: Engine,
    verifier: Arc<Verifier>,
    clock: Clock,
    asked: HashMap<AgentId, Asked>,
    failing: BTreeMap<String, Failing>,
}

/// Starts asking.
pub fn start(engine: Engine, verifier: Arc<Verifier>, clock: Clock, tasks: &Tasks) {
    let mut machines = Machines::new(engine, verifier, clock);
    let pause = machines.engine.settings().lease.min(LOOK);
    tasks.spawn_until_stop("machines", OnError::Log, async move {
        loop {
            machines.look().await;
            machines.clock.sleep(pause).await;
        }
        // It never ends by itself.
        #[expect(unreachable_code, reason = "says of what kind the error is that never comes")]
        Ok::<(), std::convert::Infallible>(())
    });
}

impl Machines {
    /// Asks about the machines of an engine's agents.
    #[must_use]
    pub fn new(engine: Engine, verifier: Arc<Verifier>, clock: Clock) -> Self {
        Self { engine, verifier, clock, asked: HashMap::new(), failing: BTreeMap::new() }
    }

    /// Looks once who is silent, asks about those whose turn it is, and does what follows.
    pub async fn look(&mut self) {
        if let Err(error) = self.try_look().await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "it cannot be stored what became of machines; it is tried again");
        }
    }

    /// Of how many silent agents it asked lately.
    #[cfg(test)]
    pub(crate) fn asked_about(&self) -> usize {
        self.asked.len()
    }

    async fn try_look(&mut self) -> Result<(), engine::Error> {
        let silent = self.engine.silent_machines().await?;
        if !silent.networks && !self.verifier.may_ask_ec2() {
            return Ok(());
        }
        let all: BTreeSet<AgentId> = silent.agents.iter().map(|silent| silent.agent).collect();
        self.asked.retain(|agent, _| all.contains(agent));
        // Who waits longest is next, whatever becomes of the questions about others.
        let mut due: Vec<(Option<Duration>, Silent)> = silent
            .agents
            .into_iter()
            .map(|silent| (self.asked.get(&silent.agent).and_then(|asked| asked.at), silent))
            .collect();
        due.retain(|(at, _)| at.is_none_or(|at| self.clock.elapsed().saturating_sub(at) >= AGAIN));
        due.sort_by_key(|(at, silent)| (*at, silent.agent));
        for (_, silent) in due {
            self.one(&silent).await?;
        }
        Ok(())
    }

    /// Asks about one machine, in each region that it may be in.
    async fn one(&mut self, silent: &Silent) -> Result<(), engine::Error> {
        let mut parts = silent.machine.split('/').skip(1);
        let (Some(account), Some(instance)) = (parts.next(), parts.next()) else { return Ok(()) };
        let regions = self.regions(silent);
        let mut nowhere = !regions.is_empty();
        for region in regions {
            if self.failing.get(&region).is_some_and(|failing| self.clock.elapsed().saturating_sub(failing.at) < AGAIN)
            {
                nowhere = false;
                continue;
            }
            self.asked.entry(silent.agent).or_default().at = Some(self.clock.elapsed());
            match self.verifier.fate(&region, account, instance).await {
                Err(error) => {
                    self.failed(&region, &error);
                    nowhere = false;
                }
                Ok(fate) => {
                    self.answered(&region);
                    match fate {
                        Fate::NotKnown => continue,
                        Fate::There => {}
                        Fate::Terminated => self.terminated(silent).await?,
                    }
                    self.asked.entry(silent.agent).or_default().region = Some(region);
                    return Ok(());
                }
            }
        }
        if nowhere {
            self.not_known(silent);
        }
        Ok(())
    }

    /// The region that knows it, the one of its rule, or else all whose documents can be verified: its own is among them.
    fn regions(&self, silent: &Silent) -> Vec<String> {
        let known = self.asked.get(&silent.agent).and_then(|asked| asked.region.clone());
        known.or_else(|| silent.region.clone()).map_or_else(|| self.verifier.regions(), |region| vec![region])
    }

    async fn terminated(&self, silent: &Silent) -> Result<(), engine::Error> {
        let (agent, machine) = (silent.agent, silent.machine.as_str());
        if self.engine.terminated(agent, machine).await? {
            tracing::info!(%agent, machine, "EC2 says that the agent's machine is terminated; what it had is over, and it leaves the list");
        } else {
            tracing::warn!(%agent, machine, "EC2 says that the agent's machine is terminated, but the agent is heard; nothing is changed");
        }
        Ok(())
    }

    fn answered(&mut self, region: &str) {
        if self.failing.remove(region).is_some() {
            tracing::info!(region, "EC2 says again what became of machines");
        }
    }

    /// Logged once, until it answers or fails in another way.
    fn failed(&mut self, region: &str, error: &Error) {
        let status = if let Error::Refused { status, .. } = error { Some(*status) } else { None };
        let failing = Failing { at: self.clock.elapsed(), status };
        let before = self.failing.insert(region.to_owned(), failing);
        if before.is_some_and(|before| before.status == status) {
            return;
        }
        let reason = error.full();
        let hint = hint(error);
        tracing::warn!(
            region,
            reason,
            "EC2 does not say what became of machines of silent agents; nothing is changed, and it is asked again{hint}"
        );
    }

    fn not_known(&mut self, silent: &Silent) {
        let asked = self.asked.entry(silent.agent).or_default();
        if !std::mem::replace(&mut asked.said, true) {
            tracing::warn!(
                agent = %silent.agent,
                machine = silent.machine,
                "EC2 does not know the machine of a silent agent: that proves nothing, so what it had stays as it is; `longshore deployment resolve` \
                 ends it on a person's word"
            );
        }
    }
}

/// What would help.
fn hint(error: &Error) -> String {
    if matches!(error, Error::Refused { status: 403, .. }) {
        format!("; the controller's credentials need the permission `{PERMISSION}`")
    } else {
        String::new()
    }
}
