//! Runs steps in containers, through the Docker Engine API and never the `docker` command line (DESIGN section 5).
//!
//! The order for one step: [`Executor::prepare_image`], [`Executor::create`], [`Executor::prepare_workspace`], then the
//! caller writes its intent and confirms the start, then [`handover()`] and [`Executor::start`], [`Executor::wait_end`],
//! [`Executor::remove`]. After an agent restart [`Executor::list`] finds what is there and `wait_end` goes on.
//!
//! Invariants:
//! - A container's settings come from the allow-list in `settings` alone: never privileged, never the engine's socket.
//! - Nothing secret is in a container's settings, on a mount or on disk: it goes over the socket of `start` once.
//! - The exit record of init is the truth about a step's end. A container that is not running and left none is
//!   [`End::Gone`], which is never a success.
//! - Nothing here outlives its future: dropping one leaves the engine's objects, which are found again by label.

mod archive;
mod artifacts;
mod container;
mod control;
mod end;
mod engine;
mod error;
mod files;
mod handover;
mod image;
mod initbin;
mod kept;
pub mod metadata;
mod network;
mod owner;
mod plugins;
pub mod probe;
mod pull;
mod pulumi;
mod settings;
mod start;
mod watch;
mod workspace;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use bollard::Docker;
use longshore_core::fence::Fence;
use longshore_core::id::{AgentId, AttemptId, JobId};
use longshore_core::offer::{Offer, OfferStep, Profile};
use longshore_core::resources::Resources;
use tokio::sync::Mutex;

use crate::registry::{Logins, Registry};

pub use artifacts::Piece;
pub use control::{Found, FoundState, Signalled};
pub use end::End;
pub use error::{Class, Error};
pub use files::StepDir;
pub use handover::handover;
pub use image::{Image, PullProgress, Wanted};
pub use kept::{Collected, InUse, KeptImages};
pub use owner::Owner;
pub use plugins::NotReady;
pub use watch::SpoolWatch;

/// Longest that the engine may take to begin an answer.
const REQUEST_SECONDS: u64 = 120;
/// Docker 20.10.
const OLDEST_API: (usize, usize) = (1, 41);

/// What the executor has to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// The engine's unix socket.
    pub socket: PathBuf,
    /// The agent's state directory (0700). Holds `attempts/` and the verified copy of init.
    pub state_dir: PathBuf,
    /// Label `longshore.controller`.
    pub controller: String,
    /// Label `longshore.agent`, by which [`Executor::list`] finds its containers.
    pub agent: AgentId,
    /// Host directories that steps may mount by name.
    pub mounts: Vec<Mount>,
    /// Bounds of one step's container and of this host.
    pub limits: Limits,
    /// Weakest profile a step may ask for.
    pub weakest_profile: Profile,
    /// Logins at image registries; the first that is for a host counts.
    pub registries: Vec<Registry>,
}

/// A host directory that steps may mount by its name.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// What a step calls it.
    pub name: String,
    /// Directory on the host, absolute.
    pub source: PathBuf,
    /// Where it is in the container, absolute.
    pub target: String,
    /// Whether steps can only read it.
    #[serde(default)]
    pub read_only: bool,
}

/// Bounds of one step's container and of this host.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most processes and threads in a container.
    pub pids: u32,
    /// Bytes of memory of a container; `None`: nine tenths of the host's, so that a job cannot starve the host.
    pub memory_bytes: Option<u64>,
    /// CPUs of a container, such as 1.5; `None`: all.
    pub cpus: Option<f64>,
    /// Bytes that have to be free on the file systems of the state directory and of the engine before a step is prepared.
    pub disk_reserve_bytes: u64,
    /// Most bytes that a package may unpack to.
    pub package_bytes: u64,
    /// Most bytes of packages that are kept for later jobs; 0: none is.
    pub package_cache_bytes: u64,
    /// CPUs of the host that jobs do not get.
    pub reserve_cpus: f64,
    /// Bytes of the host's memory that jobs do not get; `None`: a tenth.
    pub reserve_memory_bytes: Option<u64>,
    /// Below so many free bytes no more jobs are taken; 0: it is not looked at.
    pub disk_low_water_bytes: u64,
    /// Below so many free inodes no more jobs are taken; 0: it is not looked at.
    pub inode_low_water: u64,
    /// Most bytes of images that this agent has pulled and keeps for later jobs; 0: none is kept.
    pub image_cache_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pids: 4096,
            memory_bytes: None,
            cpus: None,
            disk_reserve_bytes: 64 << 20,
            package_bytes: 16 << 30,
            package_cache_bytes: 2 << 30,
            reserve_cpus: 0.0,
            reserve_memory_bytes: None,
            disk_low_water_bytes: 512 << 20,
            inode_low_water: 1_000,
            image_cache_bytes: 20 << 30,
        }
    }
}

impl Limits {
    /// These for a step that asks for something itself: never more than they are.
    #[must_use]
    pub fn narrowed(&self, asked: Resources) -> Self {
        let asks = |amount: u64| Some(amount).filter(|amount| *amount > 0);
        let memory = asks(asked.memory.0).map(|asked| self.memory_bytes.map_or(asked, |own| own.min(asked)));
        let cpus = asks(asked.cpus.0).map(|asked| {
            let asked = u32::try_from(asked).map_or(f64::MAX, |millis| f64::from(millis) / 1_000.0);
            self.cpus.map_or(asked, |own| own.min(asked))
        });
        Self { memory_bytes: memory.or(self.memory_bytes), cpus: cpus.or(self.cpus), ..self.clone() }
    }
}

/// The container engine as it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// Its version, such as `20.10.24`.
    pub version: String,
    /// The API version that is spoken with it.
    pub api: String,
    /// Where it keeps images and containers, if it says.
    pub root: Option<PathBuf>,
}

/// One step of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The attempt.
    pub fence: Fence,
    /// Its job, which owns the volume.
    pub job: JobId,
    /// What the offer says of the step.
    pub offer: OfferStep,
}

impl Step {
    /// The step of an offer with this index (in the deployment's steps); `None` when there is none.
    #[must_use]
    pub fn of(offer: &Offer, index: u32) -> Option<Self> {
        let step = offer.steps.iter().find(|step| step.index == index)?;
        Some(Self { fence: offer.fence, job: offer.job, offer: step.clone() })
    }
}

/// A container that was created for a step and not started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The engine's id of it.
    pub id: String,
    /// User and group that the step runs as.
    pub owner: Owner,
}

/// The way to the container engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Executor {
    inner: Arc<Inner>,
}

struct Inner {
    docker: Docker,
    /// As at the start: where things are and whose they are never changes.
    config: Config,
    /// With the mounts, limits and the profile of now.
    current: RwLock<Arc<Config>>,
    host: settings::Host,
    /// Where the engine keeps images and containers, if it says.
    engine_root: Option<PathBuf>,
    /// The verified copy of init.
    init: PathBuf,
    /// Id of the network `longshore`, once known.
    network: Mutex<Option<String>>,
    /// Pulls that go on, by reference.
    pulls: Mutex<HashMap<String, pull::Pull>>,
    /// Logins at registries, as long as they may be used.
    logins: Logins,
    /// Images that this agent has pulled.
    kept: Mutex<kept::Record>,
    /// Images that jobs here need.
    in_use: kept::Uses,
    /// The pool's plugins, once they are ready.
    plugins: RwLock<Option<plugins::Set>>,
    /// Held while a probe's image is there.
    probing: Mutex<()>,
    /// Who images run as, by image id.
    owners: Mutex<HashMap<String, Owner>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Executor {
    /// Reaches the engine, agrees on an API version and lays out the verified copy of init.
    ///
    /// # Errors
    /// [`Error::EngineUnreachable`], [`Error::EngineTooOld`], [`Error::File`].
    pub async fn connect(config: Config) -> Result<Self, Error> {
        let init = initbin::lay_out(&config.state_dir)?;
        let kept = kept::Record::open(&config.state_dir);
        let socket = config.socket.to_string_lossy().into_owned();
        let failed = |error| engine::failed(&config.socket, "say its version".to_owned(), error);
        let docker =
            Docker::connect_with_unix(&socket, REQUEST_SECONDS, bollard::API_DEFAULT_VERSION).map_err(failed)?;
        let docker = docker.negotiate_version().await.map_err(failed)?;
        let api = docker.client_version();
        if (api.major_version, api.minor_version) < OLDEST_API {
            let found = format!("{}.{}", api.major_version, api.minor_version);
            return Err(Error::EngineTooOld {
                socket: config.socket,
                found,
                needed: format!("{}.{}", OLDEST_API.0, OLDEST_API.1),
            });
        }
        let info = docker.info().await.map_err(failed)?;
        let number = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
        let host = settings::Host { memory: number(info.mem_total), cpus: number(info.ncpu) };
        let inner = Inner {
            docker,
            current: RwLock::new(Arc::new(config.clone())),
            config,
            host,
            engine_root: info.docker_root_dir.filter(|root| !root.is_empty()).map(PathBuf::from),
            init,
            network: Mutex::default(),
            pulls: Mutex::default(),
            logins: Logins::default(),
            kept: Mutex::new(kept),
            in_use: kept::Uses::default(),
            plugins: RwLock::default(),
            probing: Mutex::default(),
            owners: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whose containers these are.
    #[must_use]
    pub fn agent(&self) -> AgentId {
        self.inner.config.agent
    }

    /// Uses other mounts, limits and registries for what is created from now on; containers that are there stay as they are.
    pub fn reconfigure(&self, mounts: Vec<Mount>, limits: Limits, weakest_profile: Profile, registries: Vec<Registry>) {
        let next = Config { mounts, limits, weakest_profile, registries, ..self.inner.config.clone() };
        self.inner.logins.forget();
        *self.inner.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }

    /// The configuration as it is now.
    fn current(&self) -> Arc<Config> {
        Arc::clone(&self.inner.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Refuses to go on when the disk has less than its reserve, or the engine's disk has.
    fn check_free(&self, limits: &Limits) -> Result<(), Error> {
        files::check_free(&self.inner.config.state_dir, limits.disk_reserve_bytes)?;
        match &self.inner.engine_root {
            Some(root) if root.exists() => files::check_free(root, limits.disk_reserve_bytes),
            // It is not on this host.
            _ => Ok(()),
        }
    }

    /// Directory of one step of one attempt: `attempts/<attempt id>/steps/<index>` in the state directory.
    #[must_use]
    pub fn step_dir(&self, attempt: AttemptId, index: u32) -> StepDir {
        StepDir::new(&self.attempt_dir(attempt), index)
    }

    /// Directory of one attempt. The caller removes it when the attempt is reported and its containers are removed.
    #[must_use]
    pub fn attempt_dir(&self, attempt: AttemptId) -> PathBuf {
        self.inner.config.state_dir.join("attempts").join(attempt.to_string())
    }
}
