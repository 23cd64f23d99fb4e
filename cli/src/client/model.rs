//! What the server tells, as far as people are shown it.
//!
//! Scripts get the server's JSON as it came; these types only feed the tables. So every field may be missing and unknown
//! ones are ignored: a newer server works with an older command.

use serde::Deserialize;
use serde_json::{Map, Value};

/// `deployment show`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Deployment {
    /// Its id.
    pub id: String,
    /// The project.
    pub project: String,
    /// The environment.
    pub environment: String,
    /// State, as in the contract.
    pub state: String,
    /// Why it stands there.
    pub reason: Option<String>,
    /// What it waits for; text, or an object with a `message`.
    pub waiting_for: Value,
    /// RFC 3339.
    pub created_at: Option<String>,
    /// RFC 3339.
    pub ended_at: Option<String>,
    /// The deployment whose step began it.
    pub parent: Option<String>,
    /// Version of the release.
    pub release: Option<String>,
    /// What is done to a stack, if it is no way of a release to the environment.
    pub operation: Option<Operation>,
    /// The working tree that it is of.
    pub local: Option<Local>,
    /// The commit that its package was made of.
    pub source: Option<Value>,
    /// Its steps, in order.
    pub steps: Vec<Step>,
}

/// An operation on a stack.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Operation {
    /// Its name.
    pub kind: String,
    /// The step whose stack it is on.
    pub step: String,
}

/// The working tree that a deployment is of.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Local {
    /// Digest of its spec.
    pub spec: String,
    /// The commit that was checked out.
    pub commit: Option<String>,
    /// Whether something differed from it.
    pub dirty: Option<bool>,
}

/// One step of a deployment.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// State, as in the contract.
    pub state: String,
    /// Why, when there is more to say than its state.
    pub reason: Option<String>,
    /// Exit code of its tool.
    pub exit_code: Option<i64>,
    /// Signal that ended its tool.
    pub signal: Option<i64>,
    /// Its outputs, secret ones as `[secret]`.
    pub outputs: Option<Map<String, Value>>,
    /// Resource counts by operation.
    pub resources: Option<Map<String, Value>>,
    /// Plugins its tool had to download.
    pub plugin_downloads: Option<u64>,
    /// Providers that were used and had not to be fetched.
    #[serde(default)]
    pub plugin_hits: Option<u64>,
    /// The deployment that it began.
    pub child: Option<String>,
    /// What it left as files.
    pub artifacts: Option<Artifacts>,
    /// Its log.
    pub log: Option<Log>,
    /// Tries, in order.
    pub attempts: Vec<Attempt>,
}

/// How many files a step left.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Artifacts {
    /// Those that are kept.
    pub kept: u64,
    /// Those that are not.
    pub left_out: u64,
}

/// How long a step's log is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Log {
    /// Bytes of stdout and stderr.
    pub bytes: Option<u64>,
    /// Whether something of it was cut.
    pub truncated: bool,
}

/// One try of a step.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Attempt {
    /// Its id.
    pub id: String,
    /// The agent.
    pub agent: String,
    /// State.
    pub state: String,
    /// RFC 3339.
    pub started_at: Option<String>,
    /// RFC 3339.
    pub ended_at: Option<String>,
}

impl Deployment {
    /// Reads what the server sent; `None` when it is something else.
    #[must_use]
    pub fn read(value: &Value) -> Option<Self> {
        Self::deserialize(value).ok().filter(|deployment: &Self| !deployment.state.is_empty())
    }

    /// Whether nothing follows.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state.as_str(), "succeeded" | "failed" | "canceled" | "lost")
    }

    /// What it waits for, in words.
    #[must_use]
    pub fn waits_for(&self) -> Option<String> {
        match &self.waiting_for {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => {
                Some(other.get("message").and_then(Value::as_str).map_or_else(|| other.to_string(), str::to_owned))
            }
        }
    }
}

/// A piece of log: an event of the stream, a line of the log as JSON.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct LogPiece {
    /// The step.
    pub step: String,
    /// The text, with replacement characters where it is not UTF-8.
    pub text: String,
    /// The exact bytes in base64, when `text` is not exact.
    pub bytes: Option<String>,
}

impl LogPiece {
    /// Exactly what was written.
    #[must_use]
    pub fn exact(&self) -> Vec<u8> {
        use base64::Engine as _;
        let decoded = self.bytes.as_ref().and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok());
        decoded.unwrap_or_else(|| self.text.clone().into_bytes())
    }
}

/// A `progress` event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// The step.
    pub step: Option<String>,
    /// Word for what goes on, such as `pull`.
    pub phase: String,
    /// For people.
    pub message: String,
    /// How much is done.
    pub current: Option<u64>,
    /// Of how much.
    pub total: Option<u64>,
}
