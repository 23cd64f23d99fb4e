//! What an agent is offered and what a grant lets it start, in core's own words.

use std::time::Duration;

use crate::artifacts::Limits;
use crate::fence::Fence;
use crate::id::{DeploymentId, JobId};
use crate::resources::Resources;
use crate::secret::Secret;

/// A job as it is offered to an agent. Holds nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Offer {
    /// The attempt that the offer makes.
    pub fence: Fence,
    /// The job.
    pub job: JobId,
    /// Its deployment.
    pub deployment: DeploymentId,
    /// Project name, for labels and `PULUMI_CI_PROJECT`.
    pub project: String,
    /// Environment name.
    pub environment: String,
    /// Where people find the deployment; may be empty.
    pub url: String,
    /// Steps in the order they run.
    pub steps: Vec<OfferStep>,
    /// What to unpack into the workspace.
    pub package: Option<PackageRef>,
}

/// A package by content.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PackageRef {
    /// SHA-256 in lowercase hex.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
}

/// What must be known of a step to prepare its container.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OfferStep {
    /// Index in the deployment's steps.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Image reference as the user wrote it.
    pub image: String,
    /// Executor profile.
    pub profile: Profile,
    /// Network of the container.
    pub network: Network,
    /// Names of the pool's mounts.
    pub mounts: Vec<String>,
    /// The step runs Pulumi.
    pub pulumi: bool,
    /// What its container may take of the host.
    #[serde(default, skip_serializing_if = "Resources::is_none")]
    pub resources: Resources,
    /// When the image is asked of its registry.
    #[serde(default)]
    pub pull: Pull,
    /// Digest of the image that the release holds, as an agent's engine has it; `None`: it holds none yet.
    #[serde(default)]
    pub digest: Option<String>,
}

/// When an image is asked of its registry. A reference by digest never is once it is there: it cannot be another image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pull {
    /// Only when the agent's host does not have it.
    #[default]
    IfNotPresent,
    /// Each time, so that a tag that moved is seen and the registry says each time that this agent may have it.
    Always,
}

impl Pull {
    /// The word in files and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IfNotPresent => "if-not-present",
            Self::Always => "always",
        }
    }
}

/// Executor profile (DESIGN section 5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// What works under plain `docker run` works unchanged.
    #[default]
    Standard,
    /// No capabilities, read-only root, tmpfs for `/tmp`.
    Locked,
}

impl Profile {
    /// The word in files and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Locked => "locked",
        }
    }

    /// Whether an agent whose weakest profile is `weakest` runs a step of this one.
    #[must_use]
    pub const fn permitted_by(self, weakest: Self) -> bool {
        matches!((weakest, self), (Self::Standard, _) | (Self::Locked, Self::Locked))
    }
}

/// Network of a step's container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// The bridge `longshore`, without traffic between containers.
    #[default]
    Longshore,
    /// None.
    None,
}

impl Network {
    /// The word in files and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Longshore => "longshore",
            Self::None => "none",
        }
    }
}

/// The right to start a step, and what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Environment of the step, resolved.
    pub env: Vec<(String, Secret)>,
    /// Every value that may not appear in a log.
    pub secrets: Vec<Secret>,
    /// What the step may take.
    pub timeout: Duration,
    /// Between SIGINT and SIGKILL at the timeout.
    pub grace: Duration,
    /// What to run.
    pub action: Action,
    /// 32 bytes that init encrypts secret outputs with.
    pub outputs_key: OutputsKey,
    /// How much is kept of what the step leaves as files; `None`: nothing.
    pub artifacts: Option<Limits>,
}

/// Key for secret outputs. Not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct OutputsKey(pub [u8; 32]);

impl std::fmt::Debug for OutputsKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

/// What a step runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A program of the user, in exec form.
    Run {
        /// Program and arguments.
        argv: Vec<String>,
    },
    /// A Pulumi operation.
    Pulumi(PulumiAction),
}

/// A Pulumi operation with everything resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulumiAction {
    /// The operation.
    pub operation: Operation,
    /// Stack name.
    pub stack: String,
    /// Folder of `Pulumi.yaml` in the workspace, relative; `.` for its root.
    pub dir: String,
    /// Backend URL; `None`: what the program or the environment says.
    pub backend: Option<String>,
    /// Run `pulumi install` first.
    pub install: bool,
    /// What it has to do with a plan.
    pub plan: Plan,
    /// For an unlock: host names of attempts at the stack that are proven to be over.
    pub over: Vec<String>,
}

/// What a Pulumi operation has to do with a plan. A plan holds values of the program, so it is a secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Plan {
    /// Nothing.
    #[default]
    None,
    /// A preview: it says what state it started from, and leaves its plan.
    Save,
    /// Runs what was approved, and nothing when the state is another one.
    Run {
        /// The plan as the preview left it, with the stack's settings.
        plan: Secret,
        /// The state that it started from, as its preview said.
        checkpoint: String,
    },
}

/// What Pulumi is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Show what would change; writes nothing.
    Preview,
    /// Apply the program.
    Up,
    /// Read the real state back.
    Refresh,
    /// Remove everything.
    Destroy,
    /// Say how the real state differs from the stack's; writes nothing.
    Drift,
    /// Remove a lock of Pulumi's own, if whoever holds it is known to be over.
    Unlock,
}

impl Operation {
    /// The word in files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Preview => "preview",
            Self::Up => "up",
            Self::Refresh => "refresh",
            Self::Destroy => "destroy",
            Self::Drift => "drift",
            Self::Unlock => "unlock",
        }
    }

    /// Whether it may write to the stack.
    #[must_use]
    pub const fn writes(self) -> bool {
        !matches!(self, Self::Preview | Self::Drift)
    }

    /// Whether only agents know it that say so (`operations-v1`).
    #[must_use]
    pub const fn is_asked_for(self) -> bool {
        matches!(self, Self::Drift | Self::Unlock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weakest_profile_bounds_what_runs() {
        assert!(Profile::Standard.permitted_by(Profile::Standard));
        assert!(Profile::Locked.permitted_by(Profile::Standard));
        assert!(Profile::Locked.permitted_by(Profile::Locked));
        assert!(!Profile::Standard.permitted_by(Profile::Locked));
    }

    #[test]
    fn a_grant_shows_none_of_its_secrets() {
        let grant = Grant {
            env: vec![("TOKEN".to_owned(), Secret::new("hunter2".to_owned()))],
            secrets: vec![Secret::new("hunter2".to_owned())],
            timeout: Duration::from_secs(1),
            grace: Duration::from_secs(1),
            action: Action::Run { argv: vec![] },
            outputs_key: OutputsKey([7; 32]),
            artifacts: None,
        };
        let shown = format!("{grant:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("7, 7"), "{shown}");
    }
}
