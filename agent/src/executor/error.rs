//! What can go wrong between an offer and a running step, in words for people.

use std::path::PathBuf;

/// Whose failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It would fail on every agent: the image, the package or the step is wrong.
    Permanent,
    /// It lies with this agent: its disk or its engine. Another agent may do better.
    AgentFault,
}

/// Why a step could not be prepared, started or cleaned up. Each message says what failed, what was left untouched and
/// what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine does not answer at all.
    #[error(
        "the container engine does not answer on `{socket}`, so nothing was started; start it (`systemctl start docker`) or give the agent its socket"
    )]
    EngineUnreachable {
        /// The engine's socket.
        socket: PathBuf,
        /// What happened.
        #[source]
        source: Box<bollard::errors::Error>,
    },
    /// The engine speaks a version that is too old.
    #[error(
        "the container engine on `{socket}` speaks API {found}, {needed} or newer is needed; upgrade Docker to 20.10 or newer"
    )]
    EngineTooOld {
        /// The engine's socket.
        socket: PathBuf,
        /// What it speaks.
        found: String,
        /// What is needed.
        needed: String,
    },
    /// The engine refused a request.
    #[error("the container engine failed to {what}: {detail}")]
    Engine {
        /// What was asked for, such as "create container `att-...`".
        what: String,
        /// The engine's own words.
        detail: String,
    },
    /// The engine has no space left.
    #[error(
        "full disk: the container engine failed to {what} ({detail}), so nothing was started; free some space on the agent's host"
    )]
    EngineDiskFull {
        /// What was asked for.
        what: String,
        /// The engine's own words.
        detail: String,
    },
    /// The network `longshore` cannot be used.
    #[error(
        "network `longshore` {cause}; nothing was started, remove it (`docker network rm longshore`) and it is made anew"
    )]
    Network {
        /// What is wrong with it.
        cause: String,
    },
    /// The image could not be had.
    #[error("image `{image}` {cause}; nothing was started")]
    Image {
        /// Reference as the user wrote it.
        image: String,
        /// What is wrong and what to do.
        cause: String,
        /// Whose failure it is.
        class: Class,
    },
    /// The step asks for something this agent does not have or permit.
    #[error("step `{step}` {cause}; nothing was started")]
    Step {
        /// Name of the step.
        step: String,
        /// What is wrong and what to do.
        cause: String,
    },
    /// The package cannot be unpacked.
    #[error("the package cannot be unpacked: {cause}; nothing was started")]
    Package {
        /// Which entry and why.
        cause: String,
    },
    /// The state directory's disk is full.
    #[error(
        "full disk: `{path}` has {free} bytes free and {needed} are needed before a step starts, so nothing was started; free some space on the agent's host"
    )]
    DiskFull {
        /// The directory.
        path: PathBuf,
        /// Bytes free.
        free: u64,
        /// Bytes that have to be free.
        needed: u64,
    },
    /// A file of the agent could not be written or read.
    #[error("failed to {what} `{path}`")]
    File {
        /// What was tried.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A container of that name is there and cannot be taken over.
    #[error(
        "container `{name}` exists already and {cause}; it was left as it is, remove it by hand if it is not needed"
    )]
    NameTaken {
        /// Its name.
        name: String,
        /// Why it cannot be taken over.
        cause: String,
    },
    /// The container was started, but init did not get its orders. Nothing of the step ran; the container was killed.
    #[error(
        "the step was not run: its container was started but did not take over its orders ({cause}); it was killed"
    )]
    Handover {
        /// What happened.
        cause: String,
    },
    /// The orders were sent, but init did not confirm them: the step may have run. The container was killed.
    #[error(
        "the step may have begun: its orders were sent to the container and not confirmed ({cause}); it was killed"
    )]
    Unconfirmed {
        /// What happened.
        cause: String,
    },
}

impl Error {
    /// Whose failure it is.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Image { class, .. } => *class,
            Self::Step { .. } | Self::Package { .. } => Class::Permanent,
            Self::EngineUnreachable { .. }
            | Self::EngineTooOld { .. }
            | Self::Engine { .. }
            | Self::EngineDiskFull { .. }
            | Self::Network { .. }
            | Self::DiskFull { .. }
            | Self::File { .. }
            | Self::NameTaken { .. }
            | Self::Handover { .. }
            | Self::Unconfirmed { .. } => Class::AgentFault,
        }
    }

    /// Whether something of the step may have run, so that it must be reported as lost and not as never started.
    #[must_use]
    pub fn may_have_run(&self) -> bool {
        matches!(self, Self::Unconfirmed { .. })
    }

    /// The message with the messages of its causes behind it.
    #[must_use]
    pub fn full(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
