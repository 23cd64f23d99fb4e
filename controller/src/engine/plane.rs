//! What the agent plane asks of the engine and is answered, in core's words.

use std::collections::BTreeSet;
use std::time::Duration;

use longshore_core::fence::Fence;
use longshore_core::id::{AgentId, AttemptId, ControllerId};
use longshore_core::offer::{Grant, Profile};
use longshore_core::placement::LowWater;
use longshore_core::plugins::{Plugin, Readiness};
use longshore_core::resources::Resources;
use longshore_core::time::Timestamp;
use longshore_core::trace::Took;
use serde_json::Value;

pub use super::sessions::Line;
use crate::store;

/// Why an agent is not given what it asks for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No certificate, or one of an agent that was cut off or is not known.
    #[error("this agent is not known here or was cut off; enroll it again")]
    Unknown,
    /// A newer stream of the same agent came, or this one was cut.
    #[error("this stream is not the agent's any more")]
    Replaced,
    /// Not the caller's own current attempt. The same answer whether there is such an attempt or not.
    #[error("this is no attempt of the caller")]
    Foreign,
    /// A newer attempt, a newer database or the attempt's end came between.
    #[error("{0}")]
    Fenced(String),
    /// The log has to be durable first.
    #[error("the log is durable up to byte {durable} of {needed}; ship the rest first")]
    NotDurable {
        /// Bytes of the spool that are stored.
        durable: u64,
        /// Bytes of the spool that there are.
        needed: u64,
    },
    /// The wait before the next try is not over.
    #[error("the wait before the next try is not over; ask again")]
    NotDue,
    /// The join token does not count.
    #[error("the join token is not known, was used or has ended; make a new one")]
    JoinToken,
    /// The versions of agent and controller do not fit.
    #[error("{0}")]
    Version(String),
    /// No rule lets the machine in.
    #[error("this machine may not join: {0}")]
    Proof(String),
    /// Whether the machine may join could not be found out.
    #[error("{0}")]
    Unverified(String),
    /// Another process with the same identity is connected.
    #[error(
        "another process with this agent's identity is connected, and it was heard a moment ago; if this machine was copied, remove its state \
         directory and enroll it; if the agent was only started anew, it is let in as soon as the former connection is silent"
    )]
    Twice,
    /// The signing request is refused.
    #[error(transparent)]
    Identity(#[from] crate::identity::Error),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The log.
    #[error(transparent)]
    Logs(#[from] crate::logs::Error),
    /// Everything else.
    #[error(transparent)]
    Engine(#[from] super::Error),
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Engine(error.into())
    }
}

/// What an agent says first on a stream.
#[derive(Debug, Clone)]
pub struct Hello {
    /// Boot id of its host.
    pub boot_id: String,
    /// Made anew by each process.
    pub instance: String,
    /// Jobs it runs at once.
    pub slots: u32,
    /// Attempts it still has.
    pub held: Vec<Fence>,
    /// Where it runs, for people.
    pub facts: Value,
    /// Host name, for people.
    pub hostname: String,
    /// Version of the program, for people.
    pub version: String,
    /// Names of its mounts.
    pub mounts: BTreeSet<String>,
    /// Weakest profile it permits.
    pub weakest: Profile,
    /// It takes no more jobs.
    pub draining: Option<Draining>,
    /// Its container engine answers.
    pub engine: bool,
    /// It tells digests of images.
    pub images: bool,
    /// It can make plans and run them.
    pub plans: bool,
    /// It can check for drift and unlock stacks.
    pub operations: bool,
    /// How far it is with its pool's plugins; `None`: it does not know of them.
    pub plugins: Option<Readiness>,
    /// It runs a container of its own when it is asked to.
    pub probes: bool,
    /// What it has for all jobs together.
    pub room: Resources,
    /// The most that one job gets; of what is 0, all there is.
    pub largest: Resources,
    /// Its disk.
    pub disk: Disk,
    /// It can be told that a person wants no more jobs there.
    pub leaving: bool,
}

/// What an agent says of its disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that are left beyond its reserve, if it said so.
    pub left: Option<u64>,
    /// What there is too little of.
    pub low: Vec<LowWater>,
}

/// That an agent takes no more jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draining {
    /// For people.
    pub reason: String,
    /// When its host will be gone, if that is known.
    pub until: Option<Timestamp>,
}

/// What becomes of an attempt that an agent still has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The attempt.
    pub attempt: AttemptId,
    /// It goes on with it; else it stops and forgets it.
    pub keep: bool,
    /// A cancel that was asked for while it was away, with the seconds between SIGINT and SIGKILL.
    pub cancel: Option<(Fence, u32)>,
}

/// The answer to a hello.
#[derive(Debug)]
pub struct Welcome {
    /// In the order of the hello.
    pub verdicts: Vec<Verdict>,
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// How long a started attempt may run without a controller.
    pub max_disconnected: Duration,
    /// This installation.
    pub controller: ControllerId,
    /// The plugins of its pool.
    pub plugins: Vec<Plugin>,
    /// The stream.
    pub line: Line,
}

/// What an agent says later on its stream.
#[derive(Debug, Clone)]
pub enum Said {
    /// Which digest an image has, or why that cannot be told.
    Image {
        /// Number of the question.
        request: u64,
        /// The answer.
        told: Result<String, String>,
    },
    /// It lives.
    Heartbeat {
        /// Slots that it counts as free.
        free: u32,
        /// Where it runs, if that was said.
        facts: Option<Value>,
        /// Its container engine answers; counts with `facts` only.
        engine: bool,
        /// Its disk; counts with `facts` only.
        disk: Disk,
    },
    /// How a probe ended.
    Probed {
        /// Number of the probe.
        request: u64,
        /// Why not well; `None`: well.
        error: Option<String>,
    },
    /// Answer to an offer.
    Answer {
        /// To which.
        fence: Fence,
        /// It takes the job.
        accepted: bool,
        /// Why not.
        reason: String,
    },
    /// What an attempt does.
    Progress {
        /// Which.
        fence: Fence,
        /// Index of the step.
        step: u32,
        /// Kind of work.
        phase: String,
        /// For people.
        message: String,
        /// Done.
        current: u64,
        /// To do.
        total: u64,
    },
    /// It takes no more jobs.
    Draining(Draining),
    /// It cancels an attempt by itself.
    Canceling {
        /// Which.
        fence: Fence,
        /// For people.
        cause: String,
    },
    /// How far it is with its pool's plugins.
    Plugins(Readiness),
}

/// A wish to start a step.
#[derive(Debug, Clone)]
pub struct Confirm {
    /// Who speaks.
    pub fence: Fence,
    /// Index of the step.
    pub step: u32,
    /// Engine id of the container that was created.
    pub container: String,
    /// Made by the agent process, kept in its memory only.
    pub nonce: String,
    /// Digest of the image.
    pub image_digest: String,
    /// What making it ready took.
    pub took: Vec<Took>,
}

/// The answer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confirmed {
    /// Start it.
    Granted(Box<Grant>),
    /// It was confirmed before with another nonce, so it is not known whether it was started.
    AlreadyStarted,
    /// A person asked for a cancel.
    Canceled,
    /// It cannot be started; the step is recorded as failed.
    Failed(String),
}

/// A request to join.
#[derive(Debug)]
pub struct Join<'a> {
    /// SHA-256 of the join token; `None` when it was no token at all.
    pub token: Option<[u8; 32]>,
    /// The signing request in PEM.
    pub csr: &'a str,
    /// Host name, for people.
    pub hostname: String,
    /// Boot id of the host.
    pub boot_id: String,
    /// Version of the program.
    pub version: String,
}

/// A request to join by proof of what the machine is.
#[derive(Debug)]
pub struct ProofJoin<'a> {
    /// What it brought.
    pub proof: crate::identity::cloud::Proof,
    /// The nonce that the proof is bound to.
    pub nonce: &'a str,
    /// The signing request in PEM.
    pub csr: &'a str,
    /// The certificate that it had, and a signature by its key.
    pub previous: Option<(&'a str, &'a [u8])>,
    /// Host name, for people.
    pub hostname: String,
    /// Boot id of the host.
    pub boot_id: String,
    /// Version of the program.
    pub version: String,
}

/// An agent that joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Its id.
    pub agent: AgentId,
    /// Its certificate in PEM.
    pub certificate_pem: String,
    /// This installation.
    pub controller: ControllerId,
    /// Its pool.
    pub pool: String,
}
