//! Reads what a running agent says; when none runs, the ledger and the engine say what is still there.

use std::fmt::{self, Formatter};
use std::io;
use std::path::Path;

use longshore_core::time::Timestamp;
use serde::Serialize;

use super::{FILE, Live, is_running};
use crate::config::Config;
use crate::executor::probe::{Present, present};
use crate::identity::{Error, Identity};
use crate::ledger::{Entry, Ledger};
use crate::water::{Disks, Left};

/// A running agent without a file.
const STARTING: &str =
    "the agent is starting, and has said nothing of itself yet (it may wait for the engine: see its log)";

/// How an agent is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Version of this program, which need not be that of the agent that runs.
    pub version: &'static str,
    /// An agent works on the state directory.
    pub running: bool,
    /// Name in the configuration.
    pub name: String,
    /// Its id, when it is enrolled.
    pub agent: Option<String>,
    /// Its pool, when it is enrolled.
    pub pool: Option<String>,
    /// When its certificate ends.
    pub certificate_until: Option<Timestamp>,
    /// What it says of itself; none: it does not run, or is still starting.
    pub live: Option<Live>,
    /// Attempts that it has promised something of and not reported to the end, by its ledger.
    pub attempts: Vec<Promised>,
    /// Names of attempts in the ledger that cannot be read.
    pub unreadable: Vec<String>,
    /// Its containers, running or not; none: the engine was not asked or did not answer.
    pub containers: Option<Vec<Present>>,
    /// What is left of the file system that holds the agent's state, and of the engine's where that is another one. Of the engine's
    /// only a running agent knows where it is.
    pub disks: Vec<Disk>,
    /// What could not be found out, and why.
    pub unknown: Vec<String>,
}

/// A file system that jobs need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// `state` or `engine`.
    pub of: &'static str,
    /// The directory on it.
    pub path: String,
    /// What is left.
    #[serde(flatten)]
    pub left: Left,
}

/// An attempt in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Promised {
    /// The attempt.
    pub attempt: String,
    /// Its job.
    pub job: String,
    /// Project of the deployment.
    pub project: String,
    /// Its environment.
    pub environment: String,
    /// Index of the step that was reached; none: none was to start yet.
    pub step: Option<u32>,
    /// Container of that step.
    pub container: Option<String>,
    /// When its start was granted.
    pub started_at: Option<Timestamp>,
    /// A cancel was asked for.
    pub canceled: bool,
}

/// Looks, and changes nothing.
///
/// # Errors
/// When the state directory may not be looked at.
pub async fn look(config: &Config) -> io::Result<Status> {
    let dir = &config.state_dir;
    let running = is_running(dir)?;
    let mut unknown = Vec::new();
    let identity = match Identity::load(dir) {
        Ok(identity) => Some(identity),
        Err(Error::NotEnrolled { .. }) => None,
        Err(error) => {
            unknown.push(error.to_string());
            None
        }
    };
    let live = if running { said(dir).unwrap_or_else(|error| note(dir, &error, &mut unknown)) } else { None };
    if running && live.is_none() && unknown.is_empty() {
        unknown.push(STARTING.to_owned());
    }
    let (entries, unreadable) = Ledger::peek(dir)?;
    let containers = match &identity {
        Some(identity) => match present(&config.docker_socket, identity.agent).await {
            Ok(containers) => Some(containers),
            Err(error) => {
                unknown.push(format!("the engine on `{}` was not asked: {error}", config.docker_socket.display()));
                None
            }
        },
        None => None,
    };
    let disks = disks(dir, live.as_ref(), &mut unknown);
    Ok(Status {
        version: env!("CARGO_PKG_VERSION"),
        running,
        name: config.name.clone(),
        agent: identity.as_ref().map(|identity| identity.agent.to_string()),
        pool: identity.as_ref().map(|identity| identity.pool.clone()),
        certificate_until: identity.and_then(|identity| Some(identity.validity().ok()?.until)),
        live,
        attempts: entries.into_iter().map(promised).collect(),
        unreadable,
        containers,
        disks,
        unknown,
    })
}

/// What the agent that works on a state directory says of itself; `None`: nothing yet.
///
/// # Errors
/// When that cannot be read.
pub fn said(state_dir: &Path) -> io::Result<Option<Live>> {
    match std::fs::read(state_dir.join(FILE)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn note(state_dir: &Path, error: &io::Error, unknown: &mut Vec<String>) -> Option<Live> {
    unknown.push(format!("`{}` cannot be read: {error}", state_dir.join(FILE).display()));
    None
}

fn disks(state_dir: &Path, live: Option<&Live>, unknown: &mut Vec<String>) -> Vec<Disk> {
    let root = live.and_then(|live| live.engine_root.clone());
    match Disks::new(state_dir.to_owned(), root).look() {
        Ok(found) => {
            let engine = found.engine.map(|(path, left)| Disk { of: "engine", path, left });
            let state = Disk { of: "state", path: state_dir.display().to_string(), left: found.state };
            std::iter::once(state).chain(engine).collect()
        }
        Err(error) => {
            unknown.push(format!("what is left of the disk of `{}`: {error}", state_dir.display()));
            Vec::new()
        }
    }
}

fn promised(entry: Entry) -> Promised {
    let (step, intent, started) = match entry.reached {
        Some(reached) => (Some(reached.step), Some(reached.intent), reached.started),
        None => (None, None, None),
    };
    Promised {
        attempt: entry.offer.fence.attempt.to_string(),
        job: entry.offer.job.to_string(),
        project: entry.offer.project,
        environment: entry.offer.environment,
        step,
        container: intent.map(|intent| intent.container),
        started_at: started.map(|started| started.at),
        canceled: entry.cancel.is_some(),
    }
}

/// For people.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let who = match (&self.agent, &self.pool) {
            (Some(agent), Some(pool)) => format!("agent {agent} (`{}`) of pool {pool}", self.name),
            _ => format!("agent `{}`, not enrolled", self.name),
        };
        match (&self.live, self.running) {
            (Some(live), _) => self.running(f, &who, live)?,
            (None, true) => writeln!(f, "{who}: starting")?,
            (None, false) => self.ended(f, &who)?,
        }
        for Disk { of, path, left } in &self.disks {
            let name = if *of == "engine" { "engine disk" } else { "disk" };
            let inodes = if left.inodes_total == 0 { String::new() } else { format!(" and {} inodes", left.inodes) };
            writeln!(f, "{name:<14}`{path}` has {} MiB{inodes} free", left.bytes >> 20)?;
        }
        if let Some(until) = self.certificate_until {
            writeln!(f, "certificate   to {until}")?;
        }
        for name in &self.unreadable {
            writeln!(f, "unreadable    attempt {name} in the ledger")?;
        }
        for unknown in &self.unknown {
            writeln!(f, "not known     {unknown}")?;
        }
        Ok(())
    }
}

impl Status {
    fn running(&self, f: &mut Formatter<'_>, who: &str, live: &Live) -> fmt::Result {
        let at = |at: Option<Timestamp>| at.map_or_else(|| "never".to_owned(), |at| at.to_string());
        writeln!(f, "{who}: running since {}, process {}, version {}", at(live.started_at), live.pid, live.version)?;
        let state = if live.connected { "connected to" } else { "not connected to" };
        let proxy = live.proxy.as_ref().map(|proxy| format!(" through {proxy}")).unwrap_or_default();
        writeln!(f, "controller    {state} {}{proxy} since {}", live.controller, at(live.since))?;
        writeln!(f, "last heard    {}", at(live.last_heard_at))?;
        writeln!(f, "slots         {}, {} free", live.slots, live.free_slots)?;
        if live.images.images > 0 {
            writeln!(f, "images        {} pulled and kept, {} MiB", live.images.images, live.images.bytes >> 20)?;
        }
        if !live.plugins.digest.is_empty() {
            let state = if live.plugins.ready { "ready" } else { "not ready, so no job is taken" };
            writeln!(f, "plugins       {state}: {}", live.plugins.message)?;
        }
        if let Some(reason) = &live.draining {
            let until = live.until.map(|until| format!("; this host goes at {until}")).unwrap_or_default();
            writeln!(f, "draining      takes no more jobs: {reason}{until}")?;
        }
        if let Some(reason) = &live.told {
            writeln!(f, "draining      the controller has no more jobs for it: {reason}")?;
        }
        for low in &live.low {
            writeln!(f, "low           takes no more jobs: {low}")?;
        }
        for job in &live.jobs {
            let left = self.attempts.iter().find(|left| left.attempt == job.attempt.to_string());
            let of = left.map(|left| format!(" of {}/{}", left.project, left.environment)).unwrap_or_default();
            let phase = job.phase.as_deref().unwrap_or("taken over");
            writeln!(f, "job           {}{of}: step {}, {phase}", job.attempt, job.step)?;
        }
        Ok(())
    }

    fn ended(&self, f: &mut Formatter<'_>, who: &str) -> fmt::Result {
        writeln!(f, "{who}: not running")?;
        for left in &self.attempts {
            let how = match (left.step, left.started_at) {
                (Some(step), Some(at)) => format!("step {step} started at {at}"),
                (Some(step), None) => format!("step {step} was about to start"),
                (None, _) => "claimed, nothing started".to_owned(),
            };
            writeln!(
                f,
                "job           {} of {}/{}: {how}; the next start takes it over",
                left.attempt, left.project, left.environment
            )?;
        }
        for container in self.containers.iter().flatten() {
            writeln!(f, "container     {} of attempt {}: {}", container.name, container.attempt, container.state)?;
        }
        if self.attempts.is_empty() && self.containers.as_ref().is_none_or(Vec::is_empty) {
            writeln!(f, "jobs          nothing is left of any")?;
        }
        Ok(())
    }
}
