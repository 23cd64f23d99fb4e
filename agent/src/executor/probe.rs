//! Looks at the container engine and changes nothing there, for `doctor` and `status`.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;

use bollard::Docker;
use bollard::models::{SystemInfo, SystemVersion};
use bollard::query_parameters::ListContainersOptionsBuilder;
use longshore_core::id::AgentId;

use super::OLDEST_API;
use super::error::Error;

/// An engine that does not answer in this time is said not to.
const ANSWER_SECONDS: u64 = 10;

/// What an engine says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineFacts {
    /// Its version, such as `20.10.24`.
    pub version: String,
    /// Newest API version it has.
    pub newest_api: String,
    /// Version that was agreed on.
    pub api: (usize, usize),
    /// `1` or `2`; empty: it does not say.
    pub cgroup_version: String,
    /// Its security options, such as `name=userns`.
    pub security: Vec<String>,
    /// Version of runc, if it says.
    pub runc: Option<String>,
    /// Directory of images and volumes.
    pub root: String,
    /// What it cannot limit of `memory`, `processes` and `processors`.
    pub unlimited: Vec<&'static str>,
    /// Other agents that have containers on it.
    pub other_agents: BTreeSet<String>,
}

/// Why an engine was not looked at.
#[derive(Debug)]
pub enum NoEngine {
    /// The socket does not take a connection.
    Socket(io::Error),
    /// It takes one, and no engine's answer came.
    Answer(String),
}

/// Asks the engine behind a socket; `own` is not counted among the other agents.
///
/// # Errors
/// [`NoEngine`].
pub async fn look(socket: &Path, own: Option<AgentId>) -> Result<EngineFacts, NoEngine> {
    drop(tokio::net::UnixStream::connect(socket).await.map_err(NoEngine::Socket)?);
    let answer = |error: bollard::errors::Error| {
        let failed = super::engine::failed(socket, "say what it is".to_owned(), error);
        NoEngine::Answer(match failed {
            Error::EngineUnreachable { source, .. } => source.to_string(),
            other => other.full(),
        })
    };
    let docker = connect(socket).await.map_err(answer)?;
    let api = docker.client_version();
    let version = docker.version().await.map_err(answer)?;
    let info = docker.info().await.map_err(answer)?;
    let labels = HashMap::from([("label", vec!["longshore.agent".to_owned()])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&labels).build();
    let containers = docker.list_containers(Some(options)).await.map_err(answer)?;
    let own = own.map(|agent| agent.to_string());
    let agents = containers.into_iter().filter_map(|container| container.labels?.remove("longshore.agent"));
    let other_agents = agents.filter(|agent| Some(agent) != own.as_ref()).collect();
    Ok(facts(version, info, (api.major_version, api.minor_version), other_agents))
}

async fn connect(socket: &Path) -> Result<Docker, bollard::errors::Error> {
    let docker = Docker::connect_with_unix(&socket.to_string_lossy(), ANSWER_SECONDS, bollard::API_DEFAULT_VERSION)?;
    docker.negotiate_version().await
}

fn facts(version: SystemVersion, info: SystemInfo, api: (usize, usize), other_agents: BTreeSet<String>) -> EngineFacts {
    let components = version.components.unwrap_or_default();
    let runc = components.into_iter().find(|component| component.name == "runc").map(|component| component.version);
    let limits = [(info.memory_limit, "memory"), (info.pids_limit, "processes"), (info.cpu_cfs_quota, "processors")];
    EngineFacts {
        version: version.version.unwrap_or_default(),
        newest_api: version.api_version.unwrap_or_default(),
        api,
        cgroup_version: info.cgroup_version.map(|version| version.to_string()).unwrap_or_default(),
        security: info.security_options.unwrap_or_default(),
        runc,
        root: info.docker_root_dir.unwrap_or_default(),
        unlimited: limits.into_iter().filter(|(can, _)| *can == Some(false)).map(|(_, what)| what).collect(),
        other_agents,
    }
}

/// A version of runc. A candidate comes before its release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Runc {
    numbers: (u64, u64, u64),
    /// Of the release itself: above all.
    candidate: u64,
}

impl Runc {
    /// A release.
    #[must_use]
    pub const fn release(major: u64, minor: u64, patch: u64) -> Self {
        Self { numbers: (major, minor, patch), candidate: u64::MAX }
    }

    /// A candidate of a release.
    #[must_use]
    pub const fn candidate(major: u64, minor: u64, patch: u64, candidate: u64) -> Self {
        Self { numbers: (major, minor, patch), candidate }
    }

    /// Major and minor number.
    #[must_use]
    pub const fn line(self) -> (u64, u64) {
        (self.numbers.0, self.numbers.1)
    }
}

impl std::fmt::Display for Runc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (major, minor, patch) = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        if self.candidate == u64::MAX { Ok(()) } else { write!(f, "-rc.{}", self.candidate) }
    }
}

impl std::str::FromStr for Runc {
    type Err = ();

    /// What a distribution puts behind the numbers is passed over.
    fn from_str(version: &str) -> Result<Self, ()> {
        let (numbers, rest) =
            version.split_at(version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len()));
        let mut parts = numbers.trim_end_matches('.').split('.').map(|part| part.parse::<u64>().ok());
        let mut next = || parts.next().flatten();
        let (major, minor) = next().zip(next()).ok_or(())?;
        let patch = parts.next().unwrap_or(Some(0)).ok_or(())?;
        let candidate = match rest.strip_prefix("-rc.") {
            None => u64::MAX,
            Some(rest) => rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).ok_or(())?,
        };
        Ok(Self { numbers: (major, minor, patch), candidate })
    }
}

impl EngineFacts {
    /// Whether an API version that the agent can work with was agreed on.
    #[must_use]
    pub fn is_new_enough(&self) -> bool {
        self.api >= OLDEST_API
    }

    /// Whether a security option is on, such as `userns`.
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        self.security.iter().any(|entry| entry.split(',').any(|part| part.strip_prefix("name=") == Some(option)))
    }
}

/// One container of an agent, as the engine has it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Present {
    /// Its name.
    pub name: String,
    /// Attempt that it is of.
    pub attempt: String,
    /// As in `running` or `exited`.
    pub state: String,
}

/// The containers of an agent that are there, running or not.
///
/// # Errors
/// What the engine, or its socket, says.
pub async fn present(socket: &Path, agent: AgentId) -> Result<Vec<Present>, String> {
    let docker = connect(socket).await.map_err(|error| error.to_string())?;
    let labels = HashMap::from([("label", vec![format!("longshore.agent={agent}")])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&labels).build();
    let found = docker.list_containers(Some(options)).await.map_err(|error| error.to_string())?;
    let mut present: Vec<Present> = found
        .into_iter()
        .map(|container| Present {
            name: container
                .names
                .unwrap_or_default()
                .first()
                .map(|name| name.trim_start_matches('/').to_owned())
                .unwrap_or_default(),
            attempt: container.labels.unwrap_or_default().remove("longshore.attempt").unwrap_or_default(),
            state: container.state.map(|state| state.to_string()).unwrap_or_default(),
        })
        .collect();
    present.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(present)
}
