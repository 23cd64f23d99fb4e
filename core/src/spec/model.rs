//! The project as the spec describes it, after every check.
//!
//! These types are stored as JSON (the snapshot of a project's revision), so fields are only ever added, with a
//! default. Expressions are checked against the project, but not yet replaced: that needs an environment.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::flow::{Approval, DeployRelease, Http, Phase, Retries, When};
use crate::channel::Channel;
use crate::expression::{Reference, Template};
use crate::resources::Resources;

/// Time a step may take when it does not say.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// Pool that jobs run in when the project does not say.
pub const DEFAULT_POOL: &str = "default";

/// A whole `longshore.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// Version of the format; 1.
    pub version: u32,
    /// Name of the project (`project:` in the file).
    pub name: String,
    /// Pool whose agents may run its jobs.
    pub pool: String,
    /// Labels that the agents which run its jobs have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub agents: BTreeMap<String, String>,
    /// What steps ask of their host that do not say it themselves.
    #[serde(default, skip_serializing_if = "Resources::is_none")]
    pub resources: Resources,
    /// Most jobs of it that run at once, in all pools; `None`: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running: Option<u32>,
    /// How long a job of it may wait for an agent; `None`: [`MAX_QUEUED`](crate::job::MAX_QUEUED).
    #[serde(default, with = "super::duration::text", skip_serializing_if = "Option::is_none")]
    pub max_queue_wait: Option<Duration>,
    /// Targets of its deployments, in the file's order; at least one, names unique.
    pub environments: Vec<Environment>,
    /// Phases in the order a release passes them; empty: any environment, any order.
    #[serde(default)]
    pub lifecycle: Vec<Phase>,
    /// Lines of releases, in the file's order, which does not count; names unique, at most one is the default. Empty: there is one
    /// without rules; see [`all_channels`](Self::all_channels).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<Channel>,
    /// Libraries whose variables it may use, in the file's order; a later one counts before an earlier one. Names unique.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub libraries: Vec<String>,
    /// The repository that its packages are made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Values for expressions, in the file's order; names unique.
    pub variables: Vec<(String, Variable)>,
    /// What a deployment does, in the file's order, members of groups one by one; at least one, at most 999, names unique.
    /// What waits for what: [`predecessors`](super::predecessors).
    pub steps: Vec<Step>,
}

/// A git repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its address; see [`Address`](crate::source::Address). Whether its protocol is spoken is for the server to say.
    pub git: String,
    /// Branch, tag, or commit id, when nothing else is asked for.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The folder of the repository that becomes the package; `None`: all of it.
    #[serde(default)]
    pub dir: Option<String>,
    /// What opens it.
    #[serde(default)]
    pub credentials: Option<SourceCredentials>,
}

/// What opens a repository, by the names of secrets of the project or of its libraries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceCredentials {
    /// For https.
    Password {
        /// Who asks.
        user: String,
        /// Secret that holds the password or the token.
        password: String,
    },
    /// For ssh.
    Key {
        /// Secret that holds the private key.
        key: String,
        /// Keys that the host may show, in the form of ssh's own list.
        known_hosts: String,
    },
}

/// A target of deployments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Its name, also the default name of Pulumi stacks in it.
    pub name: String,
    /// Deployments to it need more than the right to deploy.
    #[serde(default)]
    pub protected: bool,
    /// Pool of the agents that run its jobs; `None`: the project's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Labels that those agents have, beside the project's; of one name these count.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub agents: BTreeMap<String, String>,
    /// How long a job for it may wait for an agent; `None`: as the project says.
    #[serde(default, with = "super::duration::text", skip_serializing_if = "Option::is_none")]
    pub max_queue_wait: Option<Duration>,
}

/// Where a variable's value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Variable {
    /// The value itself, as it was written.
    Plain(String),
    /// Set on the server, never in the file.
    Secret,
    /// Other values where it is narrower.
    Scoped(Scoped),
    /// Asked for when a deployment is started.
    Prompt(Prompt),
}

/// A plain variable with values for narrower scopes.
///
/// The narrowest scope that fits wins: step, then environment, then channel, then pool, then the value for everything. At the same scope a value
/// that was set on the server beats the one in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scoped {
    /// For everything; `None`: there is none outside the scopes below.
    #[serde(default)]
    pub value: Option<String>,
    /// By environment, in the file's order.
    #[serde(default)]
    pub environments: Vec<(String, String)>,
    /// By step.
    #[serde(default)]
    pub steps: Vec<(String, String)>,
    /// By channel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<(String, String)>,
    /// By pool.
    #[serde(default)]
    pub pools: Vec<(String, String)>,
}

/// A variable whose value comes with each deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    /// What is asked.
    pub prompt: String,
    /// A deployment without it is refused.
    #[serde(default)]
    pub required: bool,
    /// The value when none is given.
    #[serde(default)]
    pub value: Option<String>,
    /// What a value has to be.
    #[serde(default, rename = "type", skip_serializing_if = "PromptType::is_text")]
    pub kind: PromptType,
    /// The values that there are to choose from; empty: any of the type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// What the value of a variable that is asked for has to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptType {
    /// Any text.
    #[default]
    Text,
    /// A number in decimal, as `-2.5`.
    Number,
    /// `true` or `false`.
    Boolean,
}

impl PromptType {
    // The signature is serde's.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    fn is_text(&self) -> bool {
        *self == Self::Text
    }
}

impl Prompt {
    /// Whether a value may be given; the error says what may be.
    ///
    /// # Errors
    /// A value of another type, or none of the options. An empty one is no value.
    pub fn check(&self, value: &str) -> Result<(), String> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = |text: &str| {
            let text = text.strip_prefix('-').unwrap_or(text);
            text.split_once('.').map_or_else(|| digits(text), |(whole, part)| digits(whole) && digits(part))
        };
        match self.kind {
            _ if value.is_empty() => return Ok(()),
            PromptType::Number if !number(value) => return Err("a number is wanted, such as `3` or `-2.5`".to_owned()),
            PromptType::Boolean if !matches!(value, "true" | "false") => {
                return Err("`true` or `false` is wanted".to_owned());
            }
            _ => {}
        }
        if self.options.is_empty() || self.options.iter().any(|option| option == value) {
            return Ok(());
        }
        let options: Vec<_> = self.options.iter().map(|option| format!("`{option}`")).collect();
        Err(format!("one of {} is wanted", options.join(", ")))
    }
}

/// One unit of a deployment: one container, or something that the controller does itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// Image of the container; there is one if and only if the step runs in a container. Names no secret and no output, since it is
    /// pulled before anything runs. Check it with [`check_image`](super::check_image) once it is rendered.
    #[serde(default)]
    pub image: Option<Template>,
    /// What runs in the container.
    pub action: Action,
    /// Host directories from the pool's list, by name; names unique.
    #[serde(default)]
    pub mounts: Vec<String>,
    /// Environment variables in the file's order; names unique, none of those Longshore sets itself.
    #[serde(default)]
    pub env: Vec<(String, Template)>,
    /// Accounts of the server whose environment variables it gets, by name; names unique.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<String>,
    /// Time it may take; `None`: [`DEFAULT_TIMEOUT`]. In JSON as text, such as `1h30m`.
    #[serde(default, with = "super::duration::text")]
    pub timeout: Option<Duration>,
    /// What it can reach.
    #[serde(default)]
    pub network: Network,
    /// What it may do on its host.
    #[serde(default)]
    pub profile: Profile,
    /// What it asks of its host; what it does not say, the project does.
    #[serde(default, skip_serializing_if = "Resources::is_none")]
    pub resources: Resources,
    /// When its image is asked of the registry.
    #[serde(default)]
    pub pull: crate::offer::Pull,
    /// Steps that have to be over before this one, by name; `None`: those before it in the file (see [`Step::group`]).
    #[serde(default)]
    pub needs: Option<Vec<String>>,
    /// The `parallel` group it stands in. Steps of one group do not wait for each other, and whatever comes after the group waits
    /// for all of them.
    #[serde(default)]
    pub group: Option<String>,
    /// Whether it runs; `None`: if everything before it ended well.
    #[serde(default)]
    pub when: Option<When>,
    /// Tries it again when it has failed.
    #[serde(default)]
    pub retries: Option<Retries>,
    /// A deployment may be asked for without it.
    #[serde(default)]
    pub skippable: bool,
    /// Line in the file where it begins, from 1. Not part of what makes two projects differ.
    #[serde(default)]
    pub line: usize,
}

/// What a step runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Action {
    /// A script or a program of the image.
    Run {
        /// What is run; without expressions.
        script: Script,
    },
    /// A Pulumi operation.
    Pulumi(Pulumi),
    /// Waits for people.
    Approval(Approval),
    /// Asks an address.
    Http(Http),
    /// Deploys another project.
    DeployRelease(DeployRelease),
}

/// The two forms of `run:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Script {
    /// Text for `sh -c`; not empty.
    Shell(String),
    /// Program and arguments, run without a shell; at least the program.
    Exec(Vec<String>),
}

/// A Pulumi operation on one stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pulumi {
    /// What is done.
    pub operation: Operation,
    /// Name of the stack; `None`: the environment's name. Names no secret and no output, since the stack's lock is
    /// taken before anything runs. See [`Step::pulumi_stack_template`].
    #[serde(default)]
    pub stack: Option<Template>,
    /// Directory of `Pulumi.yaml` in the package; `None`: its root. Names no secret.
    /// Check it with [`check_dir`](super::check_dir) once it is rendered.
    #[serde(default)]
    pub dir: Option<Template>,
    /// URL of the backend; `None`: what the project's own settings and `PULUMI_BACKEND_URL` say. Names no secret and no output.
    #[serde(default)]
    pub backend: Option<Template>,
    /// Run `pulumi install` first.
    #[serde(default)]
    pub install: bool,
}

/// What Pulumi is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Shows what `up` would change.
    Preview,
    /// Makes the outside world as the program says.
    Up,
    /// Makes the state as the outside world is.
    Refresh,
    /// Deletes everything in the stack.
    Destroy,
    /// Says how the outside world differs from the state. Nobody writes it into a file: it is asked for by name.
    Drift,
    /// Removes a lock of Pulumi's own that an attempt left behind. Nobody writes it into a file: it is asked for by name.
    Unlock,
}

/// What a step's container can reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// The `longshore` bridge: the outside, not other containers.
    #[default]
    Longshore,
    /// Nothing.
    None,
}

/// What a step's container may do on its host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// As under plain `docker run`, with fewer capabilities.
    #[default]
    Standard,
    /// No capabilities, read-only root.
    Locked,
}

impl Operation {
    /// Its name in the file and on Pulumi's command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preview => "preview",
            Self::Up => "up",
            Self::Refresh => "refresh",
            Self::Destroy => "destroy",
            Self::Drift => "drift",
            Self::Unlock => "unlock",
        }
    }

    /// Writes to the stack's state, or to its lock. The others only read.
    #[must_use]
    pub fn writes(self) -> bool {
        !matches!(self, Self::Preview | Self::Drift)
    }

    /// Has the stack to itself: what writes, and what would read nonsense while somebody writes.
    #[must_use]
    pub fn holds(self) -> bool {
        !matches!(self, Self::Preview)
    }
}

impl From<Operation> for crate::offer::Operation {
    fn from(operation: Operation) -> Self {
        match operation {
            Operation::Preview => Self::Preview,
            Operation::Up => Self::Up,
            Operation::Refresh => Self::Refresh,
            Operation::Destroy => Self::Destroy,
            Operation::Drift => Self::Drift,
            Operation::Unlock => Self::Unlock,
        }
    }
}

impl Project {
    /// The pool whose agents run the jobs of an environment.
    #[must_use]
    pub fn pool_of(&self, environment: &str) -> &str {
        let own = self.environment(environment).and_then(|environment| environment.pool.as_deref());
        own.unwrap_or(&self.pool)
    }

    /// The labels that those agents have.
    #[must_use]
    pub fn agents_of(&self, environment: &str) -> BTreeMap<String, String> {
        let mut labels = self.agents.clone();
        labels.extend(self.environment(environment).into_iter().flat_map(|environment| environment.agents.clone()));
        labels
    }

    /// How long a job for an environment may wait for an agent, if that was said.
    #[must_use]
    pub fn queue_wait_of(&self, environment: &str) -> Option<Duration> {
        self.environment(environment).and_then(|environment| environment.max_queue_wait).or(self.max_queue_wait)
    }

    /// What a step asks of its host.
    #[must_use]
    pub fn resources_of(&self, step: &Step) -> Resources {
        step.resources.or(self.resources)
    }

    /// An environment by its name.
    #[must_use]
    pub fn environment(&self, name: &str) -> Option<&Environment> {
        self.environments.iter().find(|e| e.name == name)
    }

    /// A variable by its name.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&Variable> {
        self.variables.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// A step by its name.
    #[must_use]
    pub fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|s| s.name == name)
    }

    /// Indices of the steps that are certainly over when the step at `index` starts, sorted. For more than one step take
    /// [`ancestors`](super::ancestors).
    #[must_use]
    pub fn before(&self, index: usize) -> Vec<usize> {
        super::ancestors(&self.steps).into_iter().nth(index).unwrap_or_default()
    }

    /// Bytes that are equal for two projects that mean the same: comments, lines, quoting and the order of
    /// names in a mapping, in `needs` and in `teams`, and that of channels, do not count; the order of environments and steps does. Compare it with that of the stored
    /// project, read again, rather than with stored bytes: these types gain fields.
    #[must_use]
    pub fn digest_input(&self) -> Vec<u8> {
        let mut plain = self.clone();
        plain.variables.sort_by(|a, b| a.0.cmp(&b.0));
        for (_, variable) in &mut plain.variables {
            if let Variable::Scoped(scoped) = variable {
                let Scoped { environments, steps, channels, pools, .. } = scoped;
                for values in [environments, steps, channels, pools] {
                    values.sort_by(|a, b| a.0.cmp(&b.0));
                }
            }
        }
        plain.channels.sort_by(|a, b| a.name.cmp(&b.name));
        for channel in &mut plain.channels {
            channel.prerelease.sort();
        }
        for step in &mut plain.steps {
            step.line = 0;
            step.env.sort_by(|a, b| a.0.cmp(&b.0));
            step.accounts.sort();
            if let Some(needs) = &mut step.needs {
                needs.sort();
            }
            if let Action::Approval(approval) = &mut step.action {
                approval.teams.sort();
            }
        }
        // These types have neither keys that are no texts nor numbers that are not finite, so this does not fail.
        let mut value = serde_json::to_value(&plain).unwrap_or_default();
        value.sort_all_objects();
        value.to_string().into_bytes()
    }
}

impl Step {
    /// Runs in a container on an agent.
    #[must_use]
    pub fn in_container(&self) -> bool {
        matches!(self.action, Action::Run { .. } | Action::Pulumi(_))
    }

    /// Has a Pulumi stack to itself: it writes to it, or reads what nobody may be writing meanwhile.
    #[must_use]
    pub fn holds_stack(&self) -> bool {
        matches!(&self.action, Action::Pulumi(pulumi) if pulumi.operation.holds())
    }

    /// Name of the Pulumi stack it works on; `None` for other steps.
    #[must_use]
    pub fn pulumi_stack_template(&self) -> Option<Template> {
        match &self.action {
            Action::Pulumi(pulumi) => {
                Some(pulumi.stack.clone().unwrap_or_else(|| Template::reference(Reference::Environment)))
            }
            _ => None,
        }
    }

    /// Every template of the step, for whoever needs to know what it refers to.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        let action = match &self.action {
            Action::Pulumi(pulumi) => [pulumi.stack.as_ref(), pulumi.dir.as_ref(), pulumi.backend.as_ref()],
            Action::Http(http) => [Some(&http.url), None, None],
            Action::DeployRelease(child) => [child.version.as_ref(), None, None],
            Action::Run { .. } | Action::Approval(_) => [None; 3],
        };
        self.image.iter().chain(action.into_iter().flatten()).chain(self.env.iter().map(|(_, t)| t))
    }
}
