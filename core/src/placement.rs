//! Which agent gets a job, and for every other one the exact predicate that rejected it (promise P11).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::AgentId;
use crate::offer::{OfferStep, Profile};
use crate::resources::{Bytes, Cpus, Resources};

/// Which of several agents that could take a job gets it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// The one with the most free slots: jobs are as far apart as they can be.
    #[default]
    Spread,
    /// The one with the fewest free slots: whole agents become idle, and can go.
    Pack,
}

/// What a pool says about its jobs' places.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Placement {
    /// Which agent.
    pub strategy: Strategy,
    /// Most jobs of one project at once.
    pub max_per_project: Option<u32>,
}

/// Too little of something is left on a host, so that it takes no more jobs. The agent says it, and when that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LowWater {
    /// What.
    pub what: Scarce,
    /// Directory of the container engine whose file system it is; `None`: the one of the agent's own directory.
    #[serde(default)]
    pub engine_root: Option<String>,
    /// What is left.
    pub left: u64,
    /// Below this it stops.
    pub low: u64,
    /// From this on it takes jobs again.
    pub again: u64,
}

/// What a host may have too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scarce {
    /// Free bytes.
    Disk,
    /// Free inodes.
    Inodes,
}

impl Scarce {
    /// The word, which is also the predicate's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Inodes => "inodes",
        }
    }
}

/// An agent as placement sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: AgentId,
    /// The pool it belongs to.
    pub pool: String,
    /// Labels by its join token.
    pub labels: BTreeMap<String, String>,
    /// A stream to it is open.
    pub connected: bool,
    /// Why it takes no more jobs, if so.
    pub draining: Option<String>,
    /// Why its version gets no new jobs.
    pub ahead: Option<String>,
    /// Jobs it runs at once.
    pub slots: u32,
    /// Jobs that are offered to it, run there or are being cleared away there.
    pub busy: u32,
    /// Names of the host directories jobs may mount.
    pub mounts: BTreeSet<String>,
    /// Weakest profile it permits.
    pub weakest_profile: Profile,
    /// Container engine answers.
    pub engine: bool,
    /// Why it has not the pool's plugins ready; none: it has.
    pub plugins: Option<String>,
    /// Why it declined the last offer; it is asked again when it has said how it is since.
    pub declined: Option<String>,
    /// What it has for all its jobs together.
    pub room: Resources,
    /// What jobs that are there have asked for.
    pub reserved: Resources,
    /// The most that one job gets; of what is 0 as much as there is.
    pub largest: Resources,
    /// Bytes that its disk has left now, beyond its reserve, or its engine's disk if that is less; `None`: it has not said.
    pub disk_left: Option<u64>,
    /// What it has too little of.
    pub low: Vec<LowWater>,
    /// Why it gets no jobs after failures of its own, with the last of them.
    pub quarantined: Option<String>,
    /// It is being emptied for this job, which has waited for its turn and fits nowhere else: for people.
    pub kept_for: Option<String>,
}

/// What a job asks of an agent.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The pool it must run in.
    pub pool: &'a str,
    /// Labels that the agent has to have.
    pub labels: &'a BTreeMap<String, String>,
    /// Its steps.
    pub steps: &'a [OfferStep],
    /// What it asks of the host.
    pub resources: Resources,
}

/// Why an agent does not get a job: the predicate's name and the words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// `pool`, `label`, `connected`, `draining`, `version`, `engine`, `quarantined`, `mount`, `profile`, `plugins`, `slots`, `cpus`,
    /// `memory`, `disk`, `inodes`, `kept` or `declined`.
    pub predicate: &'static str,
    /// For people.
    pub message: String,
    /// It passes when jobs that run there have ended, and only then.
    pub until_idle: bool,
}

/// Every predicate that rejects `agent` for the job; none when it may have it.
#[must_use]
pub fn rejections(agent: &Candidate, request: &Request<'_>) -> Vec<Rejection> {
    let mut found = Found::default();
    if agent.pool != request.pool {
        found.add("pool", format!("is in pool `{}`, the job asks for `{}`", agent.pool, request.pool));
    }
    for (name, value) in request.labels {
        match agent.labels.get(name) {
            Some(own) if own == value => {}
            Some(own) => found.add("label", format!("has the label `{name}={own}`, the job asks for `{name}={value}`")),
            None => found.add("label", format!("has no label `{name}`, the job asks for `{name}={value}`")),
        }
    }
    if !agent.connected {
        found.add("connected", "is not connected".to_owned());
    }
    if let Some(reason) = &agent.draining {
        found.add("draining", format!("is draining and takes no more jobs: {reason}"));
    }
    if let Some(why) = &agent.ahead {
        found.add("version", why.clone());
    }
    if agent.connected && !agent.engine {
        found.add("engine", "its container engine does not answer".to_owned());
    }
    if let Some(why) = &agent.quarantined {
        found.add("quarantined", why.clone());
    }
    if let Some(why) = &agent.plugins {
        found.add("plugins", why.clone());
    }
    steps(agent, request, &mut found);
    if agent.busy >= agent.slots {
        found.until_idle("slots", format!("all {} slots are taken", agent.slots));
    }
    resources(agent, &request.resources, &mut found);
    for low in &agent.low {
        found.add(low.what.as_str(), low.to_string());
    }
    if let Some(job) = &agent.kept_for {
        found.add("kept", format!("is being emptied for {job}, whose turn it is and which needs more room"));
    }
    if let Some(reason) = &agent.declined {
        found.add("declined", format!("declined the last offer ({reason}); it is asked again at its next heartbeat"));
    }
    found.0
}

fn steps(agent: &Candidate, request: &Request<'_>, found: &mut Found) {
    for step in request.steps {
        for mount in step.mounts.iter().filter(|mount| !agent.mounts.contains(*mount)) {
            found.add("mount", format!("has no mount `{mount}`, which step `{}` asks for", step.name));
        }
        if !step.profile.permitted_by(agent.weakest_profile) {
            found.add(
                "profile",
                format!(
                    "permits no profile weaker than `{}`, step `{}` asks for `{}`",
                    agent.weakest_profile.as_str(),
                    step.name,
                    step.profile.as_str()
                ),
            );
        }
    }
}

fn resources(agent: &Candidate, asked: &Resources, found: &mut Found) {
    let free = agent.room.less(agent.reserved);
    let cpus = [asked.cpus, agent.room.cpus, free.cpus, agent.largest.cpus].map(|Cpus(millis)| millis);
    let memory = [asked.memory, agent.room.memory, free.memory, agent.largest.memory].map(|Bytes(bytes)| bytes);
    let disk = [asked.disk, agent.room.disk, free.disk, agent.largest.disk].map(|Bytes(bytes)| bytes);
    amount("cpus", cpus, |millis| Cpus(millis).to_string(), found);
    amount("memory", memory, |bytes| Bytes(bytes).to_string(), found);
    let fits = amount("disk", disk, |bytes| Bytes(bytes).to_string(), found);
    if let Some(left) = agent.disk_left.filter(|left| fits && asked.disk.0 > *left) {
        found.add(
            "disk",
            format!("its disk has {} left beyond its reserve, the job asks for {}", Bytes(left), asked.disk),
        );
    }
}

/// One amount: what is asked for, all there is, what is free, and the most for one job. Whether it fits.
fn amount(
    name: &'static str,
    [asked, all, free, largest]: [u64; 4],
    words: impl Fn(u64) -> String,
    found: &mut Found,
) -> bool {
    let most = if largest == 0 { all } else { largest.min(all) };
    if asked == 0 || asked <= free.min(most) {
        return true;
    }
    if asked > most {
        found.add(name, format!("gives a job at most {} {name}, the job asks for {}", words(most), words(asked)));
    } else {
        let message = format!("has {} of {} {name} free, the job asks for {}", words(free), words(all), words(asked));
        found.until_idle(name, message);
    }
    false
}

#[derive(Default)]
struct Found(Vec<Rejection>);

impl Found {
    fn add(&mut self, predicate: &'static str, message: String) {
        self.0.push(Rejection { predicate, message, until_idle: false });
    }

    fn until_idle(&mut self, predicate: &'static str, message: String) {
        self.0.push(Rejection { predicate, message, until_idle: true });
    }
}

impl std::fmt::Display for LowWater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = |amount: u64| match self.what {
            Scarce::Disk => Bytes(amount).to_string(),
            Scarce::Inodes => amount.to_string(),
        };
        let (place, has) = match self.what {
            Scarce::Disk => ("disk", "has"),
            Scarce::Inodes => ("file system", "has inodes"),
        };
        match &self.engine_root {
            None => write!(f, "its {place} {has}")?,
            Some(root) => write!(f, "the {place} of its engine (`{root}`) {has}")?,
        }
        write!(f, " {} left, below {}; it takes jobs again at {}", words(self.left), words(self.low), words(self.again))
    }
}

/// Picks the agent for a job: by the pool's strategy, then the smallest id.
#[must_use]
pub fn pick<'a>(
    agents: impl IntoIterator<Item = &'a Candidate>,
    request: &Request<'_>,
    strategy: Strategy,
) -> Option<&'a Candidate> {
    agents.into_iter().filter(|agent| rejections(agent, request).is_empty()).min_by_key(|agent| {
        let free = agent.slots - agent.busy;
        (if strategy == Strategy::Pack { free } else { u32::MAX - free }, agent.id)
    })
}

/// The agent that is to be emptied for a job that no agent has room for now: the first that will have it once it is idle.
///
/// Always the same one as long as agents do not come and go, so that it does get empty. `None` when only slots are missing, since
/// then there is nothing to keep from others: each slot that becomes free is enough.
#[must_use]
pub fn keep<'a>(agents: impl IntoIterator<Item = &'a Candidate>, request: &Request<'_>) -> Option<&'a Candidate> {
    let waits = |agent: &&Candidate| {
        let found = rejections(agent, request);
        found.iter().all(|one| one.until_idle) && found.iter().any(|one| one.predicate != "slots")
    };
    agents.into_iter().filter(waits).min_by_key(|agent| agent.id)
}

/// Whether an agent could ever have the job, as it is now set up: what passes by itself or by a person's word does not count.
#[must_use]
pub fn could_ever(agent: &Candidate, request: &Request<'_>) -> bool {
    let lasting = |one: &Rejection| {
        matches!(one.predicate, "pool" | "label" | "mount" | "profile")
            || (matches!(one.predicate, "cpus" | "memory") && !one.until_idle)
    };
    let disk = request.resources.disk <= agent.room.disk
        && (agent.largest.disk.0 == 0 || request.resources.disk <= agent.largest.disk);
    disk && !rejections(agent, request).iter().any(lasting)
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
