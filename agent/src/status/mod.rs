//! What a running agent says of itself, in a file of its state directory; and what can be told when none runs.
//!
//! A file and no socket: a socket's address may be shorter than a path, and a file needs nobody to answer. It means
//! something only while the directory is locked ([`is_running`]), and is 0600 like everything there. Nothing secret is in it.

mod keep;
mod look;

use std::path::PathBuf;

use longshore_core::id::AttemptId;
use longshore_core::plugins::Readiness;
use longshore_core::time::Timestamp;
use serde::{Deserialize, Serialize};

pub use keep::{Facts, clear, keep};
pub use look::{Disk, Promised, Status, look, said};

pub use crate::lifecycle::is_running;

use crate::executor::KeptImages;

/// Name of the file in the state directory.
pub const FILE: &str = "status.json";

/// What a running agent says. Fields are only ever added, with a default: another version may read it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Live {
    /// Version of the agent that runs.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// Where its controller is.
    pub controller: String,
    /// The proxy on the way.
    pub proxy: Option<String>,
    /// Whether the control stream is up.
    pub connected: bool,
    /// Since when that is so.
    pub since: Option<Timestamp>,
    /// When the controller was last heard of.
    pub last_heard_at: Option<Timestamp>,
    /// Why it takes no more jobs; none: it takes them.
    pub draining: Option<String>,
    /// When this host will be gone, if that is known.
    pub until: Option<Timestamp>,
    /// Why the controller has no more jobs for it, if a person wants it so.
    pub told: Option<String>,
    /// Jobs at once.
    pub slots: u32,
    /// How many more it takes now.
    pub free_slots: u32,
    /// Version of the container engine.
    pub engine: Option<String>,
    /// Where the engine says that it keeps images and containers.
    pub engine_root: Option<PathBuf>,
    /// What there is too little of, so that it takes no more jobs.
    pub low: Vec<String>,
    /// How far it is with its pool's plugins.
    pub plugins: Readiness,
    /// Images that it has pulled and keeps for later jobs.
    pub images: KeptImages,
    /// What it works on.
    pub jobs: Vec<Job>,
}

/// One attempt that a running agent works on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The attempt.
    pub attempt: AttemptId,
    /// Index of the step.
    pub step: u32,
    /// One word: `pulling`, `unpacking`, `creating`, `running`, `shipping`.
    #[serde(default)]
    pub phase: Option<String>,
    /// Its start was granted.
    #[serde(default)]
    pub started: bool,
    /// Its container, when one was created.
    #[serde(default)]
    pub container: Option<String>,
}
