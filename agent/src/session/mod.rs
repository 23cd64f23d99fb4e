//! Everything that goes over the wire: the control stream on its own thread, the calls, the log streams.
//!
//! tonic and the generated types stay in this folder; what leaves it is in core's words. Three connections, so that none
//! delays another: the control stream's (dialled by its thread), one for decisions, one for log and package bytes.

mod artifact;
mod call;
mod dial;
mod enroll;
mod greet;
mod hold;
mod link;
mod log;
mod proxy;
mod tls;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_core::fence::Fence;
use longshore_core::id::AttemptId;
use longshore_core::offer::{Offer, Profile, Pull};
use longshore_core::placement::LowWater;
use longshore_core::plugins::{Plugin, Readiness};
use longshore_core::resources::{Bytes, Cpus, Resources};
use longshore_core::time::Timestamp;

pub use call::{Client, Ending, Error, PackageStream, Report, Start, Verdict};
pub use enroll::{Challenge, Credential, Enrolled, Introduction, challenge, enroll};
pub use greet::{Greeting, Spoken, greet};
pub use link::{Ends, Link, Outlet, Setup, start};
pub use log::{LogAcks, LogSender};
pub use proxy::Error as ProxyError;
pub use tls::{DialError, Dialer, Error as TlsError};

use crate::executor::{Engine, KeptImages};
use crate::host::Facts;
use crate::water::Marks;

/// What the agent says of itself in each hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Boot id of the host.
    pub boot_id: String,
    /// Made anew by each agent process.
    pub instance_id: String,
    /// Jobs at once.
    pub slots: u32,
    /// Names of the host directories that jobs may mount.
    pub mounts: Vec<String>,
    /// For placement.
    pub labels: BTreeMap<String, String>,
    /// Weakest executor profile that is permitted.
    pub weakest_profile: Profile,
    /// What of the host jobs do not get.
    pub reserve: Resources,
    /// The most that one job gets; of what is 0, all there is.
    pub largest: Resources,
    /// At which it takes no more jobs.
    pub marks: Marks,
}

impl About {
    /// What the host has for all jobs together.
    #[must_use]
    pub fn room(&self, facts: &Facts) -> Resources {
        let (memory, disk) = (Bytes(facts.memory_total), Bytes(facts.disks.least().0));
        Resources { cpus: Cpus(u64::from(facts.cpus) * 1_000), memory, disk }.less(self.reserve)
    }
}

/// What the agent holds at this moment; the newest is said at each (re)connect and heartbeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Attempts on disk or as containers whose result is not acknowledged.
    pub held: Vec<Held>,
    /// Slots that are free.
    pub free_slots: u32,
    /// Why no more offers are taken; `None`: they are.
    pub draining: Option<String>,
    /// When this host will be gone, if that is known.
    pub until: Option<Timestamp>,
    /// Why the controller has no more jobs for this agent, if a person wants it so.
    pub told: Option<String>,
    /// The container engine, as far as known.
    pub engine: Option<Engine>,
    /// What the host has too little of, so that no more offers are taken.
    pub low: Vec<LowWater>,
    /// How far the agent is with its pool's plugins.
    pub plugins: Readiness,
    /// Images that are kept for later jobs, for `status`.
    pub images: KeptImages,
}

/// One attempt that the agent holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The attempt.
    pub fence: Fence,
    /// Index of the step that was last confirmed or is being prepared.
    pub step: u32,
    /// Its container, when one was created.
    pub container: Option<String>,
    /// Its start was granted.
    pub started: bool,
}

/// Controller to supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A control stream is up. Holds the word on each attempt that was reported.
    Welcome {
        /// In the order of the attempts that were reported.
        verdicts: Vec<HeldVerdict>,
        /// The plugins of the agent's pool; `None`: the controller does not know of them.
        plugins: Option<Vec<Plugin>>,
    },
    /// The plugins of the agent's pool are others now.
    Plugins(Vec<Plugin>),
    /// A job to claim.
    Offer(Box<Offer>),
    /// An offer that this agent cannot read.
    BadOffer {
        /// The attempt, as far as that could be read.
        fence: Fence,
        /// What is wrong.
        reason: String,
    },
    /// A person asked for a cancel.
    Cancel {
        /// The attempt.
        fence: Fence,
        /// Between the one SIGINT and SIGKILL.
        grace: Duration,
    },
    /// The controller wants to know which digest an image has.
    ResolveImage {
        /// Goes into the answer.
        request: u64,
        /// The image.
        reference: String,
        /// Whether its registry is to be asked.
        pull: Pull,
    },
    /// The controller wants to know whether a container can be run here.
    Probe {
        /// Goes into the answer.
        request: u64,
    },
    /// A person wants the agent to take no more jobs (why), or to take them again.
    Drain(Option<String>),
    /// The attempt is not the agent's any more.
    Revoke {
        /// The attempt.
        fence: Fence,
        /// For people.
        reason: String,
    },
}

/// The controller's word on one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldVerdict {
    /// The attempt.
    pub attempt: AttemptId,
    /// Go on with it; else stop and forget it.
    pub go_on: bool,
    /// A cancel that was asked for while the agent was away: its grace.
    pub cancel: Option<Duration>,
}

/// Supervisor to controller, lost when no stream is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Answer to an offer; with a reason it is declined.
    Answer {
        /// The attempt that was offered.
        fence: Fence,
        /// Why it is not taken.
        declined: Option<String>,
    },
    /// What an attempt is doing.
    Progress(Progress),
    /// An attempt is canceled by the agent itself.
    Canceling {
        /// The attempt.
        fence: Fence,
        /// For people.
        reason: String,
    },
    /// Answer to the question which digest an image has, or why that cannot be told.
    Image {
        /// Of the question.
        request: u64,
        /// As the engine has it.
        digest: Result<String, String>,
    },
    /// How a probe ended.
    Probed {
        /// Of the question.
        request: u64,
        /// Why not well, if so.
        error: Option<String>,
    },
}

/// What an attempt is doing, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The attempt.
    pub fence: Fence,
    /// Index of the step.
    pub step: u32,
    /// One word.
    pub phase: Phase,
    /// For people.
    pub message: String,
    /// Bytes done, 0 when not known.
    pub current: u64,
    /// Bytes to do, 0 when not known.
    pub total: u64,
}

/// What is done for a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The image is fetched.
    Pulling,
    /// The package is fetched or unpacked.
    Unpacking,
    /// The container is made.
    Creating,
    /// The step runs.
    Running,
    /// It has ended, its log is on its way.
    Shipping,
    /// Nothing that goes on: something for the deployment's timeline.
    Note,
}

impl Phase {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pulling => "pulling",
            Self::Unpacking => "unpacking",
            Self::Creating => "creating",
            Self::Running => "running",
            Self::Shipping => "shipping",
            Self::Note => "note",
        }
    }
}

/// When the controller was last heard of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contact {
    /// A control stream is up.
    pub connected: bool,
    /// Microseconds of `CLOCK_BOOTTIME`; 0: not since this process began.
    pub last_micros: u64,
    /// How long a started step may run without contact; `None`: not known yet.
    pub max_disconnected: Option<Duration>,
}
