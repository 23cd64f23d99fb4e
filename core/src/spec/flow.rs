//! How a release goes through environments, and when a step of a process runs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::expression::{Condition, Template};

/// Most times that a step is tried again.
pub const MAX_RETRIES: u32 = 100;
/// Longest wait before a retry.
pub const MAX_BACKOFF: Duration = Duration::from_secs(3_600);
/// How long an approval waits when it does not say.
pub const DEFAULT_EXPIRY: Duration = Duration::from_secs(7 * 24 * 3_600);

/// A phase of the lifecycle: a release gets to the next one when enough environments of this one have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Its name (`phase:` in the file), unique.
    pub name: String,
    /// Names of its environments; at least one, each in one phase only.
    pub environments: Vec<String>,
    /// Who starts its deployments.
    #[serde(default)]
    pub mode: Mode,
    /// How many environments have to have the release before the next phase may.
    #[serde(default)]
    pub require: Require,
}

/// Who starts the deployments of a phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// People.
    #[default]
    Manual,
    /// The controller, as soon as the release may enter the phase. An optional phase is never entered by itself.
    Automatic,
}

/// How many environments of a phase have to have a release before it may enter the next one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Require {
    /// Every one.
    #[default]
    All,
    /// So many, at least one.
    AtLeast(u32),
    /// None: the phase may be left out.
    Optional,
}

/// Tries a step again that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retries {
    /// Tries after the first, at most [`MAX_RETRIES`].
    pub max: u32,
    /// Wait before the first retry; it doubles each time, up to [`MAX_BACKOFF`].
    #[serde(with = "super::duration::text_required")]
    pub backoff: Duration,
}

impl Retries {
    /// Wait before a retry, which counts from 1.
    #[must_use]
    pub fn wait(&self, retry: u32) -> Duration {
        let doubled = 1_u32.checked_shl(retry.saturating_sub(1)).unwrap_or(u32::MAX);
        self.backoff.saturating_mul(doubled).min(MAX_BACKOFF)
    }
}

/// Waits for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// Teams whose members may decide; none: whoever has the role `approver` here.
    #[serde(default)]
    pub teams: Vec<String>,
    /// How many people have to agree, at least one.
    pub needs: u32,
    /// A later `pulumi` step whose plan is shown and bound.
    #[serde(default)]
    pub plan: Option<String>,
    /// How long it waits; `None`: [`DEFAULT_EXPIRY`].
    #[serde(default, with = "super::duration::text")]
    pub expires: Option<Duration>,
}

/// Asks an address whether what was deployed is well. Done by the controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// `http://` or `https://`. Names no secret; an output it may. Check it with [`check_url`](super::check_url) once it is rendered.
    pub url: Template,
    /// The status that is good.
    pub status: u16,
    /// Text that the body holds when it is good.
    #[serde(default)]
    pub body: Option<String>,
}

/// Deploys another project's release to the same environment and waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployRelease {
    /// The other project.
    pub project: String,
    /// Channel of that project whose newest release it is, if no version is named; `None`: its default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Version of its release; `None`: its newest one when the release of this project is created. Names no secret and no output.
    /// Check it with [`check_version`](super::check_version) once it is rendered.
    #[serde(default)]
    pub version: Option<Template>,
}

/// When a step runs.
pub type When = Condition;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit() {
        let retries = Retries { max: 20, backoff: Duration::from_secs(2) };
        let waits: Vec<_> = [1, 2, 3, 12, 40, 100].iter().map(|retry| retries.wait(*retry).as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 3_600, 3_600, 3_600]);
    }
}
