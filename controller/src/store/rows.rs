//! What a row holds, in domain types.

mod releases;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_core::access::{Grant, Place};
use longshore_core::attempt::Attempt;
use longshore_core::deployment::Deployment;
use longshore_core::fence::Fence;
use longshore_core::id::{AgentId, AttemptId, ControllerId, DeploymentId, JobId, ProjectId, ReleaseId, TokenId};
use longshore_core::job::Job;
use longshore_core::offer::{Offer, OfferStep, Pull};
use longshore_core::operation::StackOperation;
use longshore_core::plugins::Plugin;
use longshore_core::resources::Resources;
use longshore_core::spec::Project;
use longshore_core::step::{SkippedBy, StepState};
use longshore_core::time::Timestamp;
use longshore_core::trace::{TraceId, TraceParent};
use longshore_core::variables::Scope;
use serde::{Deserialize, Serialize};

pub use releases::{ApprovalFilter, ApprovalRow, Images, LocalRow, PlanRow, ReleaseFilter, ReleaseRow, VoteRow};

/// The one row that says which installation this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetaRow {
    /// Named in container labels.
    pub controller: ControllerId,
    /// Counter of restores, from 1.
    pub incarnation: u64,
}

/// A project; its content stands in its revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectRow {
    /// Its id.
    pub id: ProjectId,
    /// Its name.
    pub name: String,
    /// The newest revision, from 1.
    pub revision: u64,
    /// When it was first applied.
    pub created_at: Timestamp,
    /// When the newest revision was made.
    pub updated_at: Timestamp,
}

/// One state of a project's spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionRow {
    /// The project.
    pub project: ProjectId,
    /// Counter of the project's revisions, from 1.
    pub revision: u64,
    /// SHA-256 in hex over [`Project::digest_input`].
    pub digest: String,
    /// The spec.
    pub spec: Arc<Project>,
    /// When it was applied.
    pub created_at: Timestamp,
    /// Who applied it.
    pub created_by: String,
}

/// A value that was set on the server.
#[derive(Clone, PartialEq, Eq)]
pub enum VariableValue {
    /// In clear.
    Plain(String),
    /// Sealed by the vault.
    Sealed(Vec<u8>),
}

impl std::fmt::Debug for VariableValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain(text) => f.debug_tuple("Plain").field(text).finish(),
            Self::Sealed(_) => f.write_str("Sealed"),
        }
    }
}

/// Whose variable it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// A project's.
    Project(ProjectId),
    /// A library's, by its name.
    Library(String),
}

/// One version of a variable's value; versions are only ever added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariableRow {
    /// Version id, growing. 0 in a row that is to be inserted.
    pub id: i64,
    /// Whose it is.
    pub owner: Owner,
    /// What it is for.
    pub scope: Scope,
    /// Its name.
    pub name: String,
    /// The value.
    pub value: VariableValue,
    /// When it was set.
    pub created_at: Timestamp,
    /// Who set it.
    pub created_by: String,
}

/// A stored package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageRow {
    /// SHA-256 in hex.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
    /// When it came.
    pub created_at: Timestamp,
    /// Who brought it.
    pub created_by: String,
    /// The commit that it was made of first.
    pub source: Option<CommitRow>,
}

/// A commit that a package was made of. Its JSON is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRow {
    /// Address of the repository.
    pub url: String,
    /// The ref that was asked for.
    #[serde(rename = "ref")]
    pub reference: String,
    /// What it was then, in full.
    pub commit: String,
}

/// A bearer token; only the hash of it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// Its id.
    pub id: TokenId,
    /// For people.
    pub name: String,
    /// Who it speaks for.
    pub user: String,
    /// All that it may do of what the user may; `None`: all of it.
    pub limit: Option<Grant>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; `None`: never.
    pub expires_at: Option<Timestamp>,
    /// When it was taken back.
    pub revoked_at: Option<Timestamp>,
}

/// A token that lets agents enroll; only the hash of it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinTokenRow {
    /// Its id.
    pub id: TokenId,
    /// The pool that the agents join.
    pub pool: String,
    /// Labels that the agents get.
    pub labels: BTreeMap<String, String>,
    /// How many agents it lets in.
    pub uses: u32,
    /// How many came in.
    pub used: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When it was taken back.
    pub revoked_at: Option<Timestamp>,
    /// Its agents leave the list when they are gone.
    pub ephemeral: bool,
}

/// An enrolled agent.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentRow {
    /// Its id.
    pub id: AgentId,
    /// The pool it joined.
    pub pool: String,
    /// Labels by its join token.
    pub labels: BTreeMap<String, String>,
    /// Host name, for people.
    pub hostname: String,
    /// Version of the program, for people.
    pub version: String,
    /// Serial number of its newest certificate, in hex.
    pub serial: String,
    /// Boot id of its host at the last hello.
    pub boot_id: String,
    /// What it last said of its host and of itself.
    pub facts: serde_json::Value,
    /// When it joined.
    pub enrolled_at: Timestamp,
    /// When it last said hello.
    pub seen_at: Option<Timestamp>,
    /// When it was cut off.
    pub revoked_at: Option<Timestamp>,
    /// A person wants it to take no more jobs.
    pub drained: Option<Drained>,
}

/// That a person wants an agent to take no more jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drained {
    /// For people.
    pub reason: String,
    /// Who.
    pub by: String,
    /// Since when.
    pub at: Timestamp,
}

/// A deployment with the snapshot it was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentRow {
    /// As decisions see it.
    pub deployment: Deployment,
    /// The project.
    pub project: ProjectId,
    /// Its name.
    pub project_name: String,
    /// Revision of the spec that counts.
    pub revision: u64,
    /// The target.
    pub environment: String,
    /// SHA-256 in hex of the package.
    pub package: Option<String>,
    /// Made by the client, so that a repeated request makes no second deployment.
    pub operation_id: String,
    /// The release that it deploys.
    pub release: ReleaseId,
    /// The release's version.
    pub version: String,
    /// Values of plain variables.
    pub variables: BTreeMap<String, String>,
    /// Values of plain variables that one step alone has, by step.
    pub step_variables: BTreeMap<String, BTreeMap<String, String>>,
    /// What it keeps to itself from its begin to its end, sorted, without repeats.
    pub locks: Vec<String>,
    /// The stack that a step writes to, by index of the step: key of the lock that its job holds.
    pub stacks: BTreeMap<u32, String>,
    /// Greater ones begin first.
    pub priority: i64,
    /// It does not begin before.
    pub not_before: Option<Timestamp>,
    /// It is not begun after.
    pub expires_at: Option<Timestamp>,
    /// When it got what it keeps to itself.
    pub begun_at: Option<Timestamp>,
    /// Version ids of secret variables.
    pub secrets: BTreeMap<String, i64>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// Who asked for it.
    pub created_by: String,
    /// The deployment, and the index of its step, that began this one.
    pub parent: Option<(DeploymentId, u32)>,
    /// People decide about a step that failed.
    pub guided: bool,
    /// Indices of the steps that are not to be run.
    pub skip: BTreeSet<u32>,
    /// Of a working tree, if so: its spec is held by its release.
    pub local: Option<LocalRow>,
    /// It is no way of a release to an environment: this is done to a stack of it.
    pub operation: Option<OperationRow>,
    /// What it was asked for in, if who asked said so, or its parent's step.
    pub trace_parent: Option<TraceParent>,
}

impl DeploymentRow {
    /// The trace that it is in.
    #[must_use]
    pub fn trace(&self) -> TraceId {
        self.trace_parent.map_or_else(|| TraceId::of(self.deployment.id), |parent| parent.trace)
    }
}

/// What is done to a stack outside the lifecycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationRow {
    /// What, and by which step of the release.
    pub what: StackOperation,
    /// The deployment whose outputs of steps count, if there was one.
    pub basis: Option<DeploymentId>,
}

/// Which deployments to list, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeploymentFilter {
    /// Of this project.
    pub project: Option<String>,
    /// To this environment.
    pub environment: Option<String>,
    /// Made before this one.
    pub before: Option<DeploymentId>,
    /// In one of these places; `None`: anywhere.
    pub places: Option<Vec<Place>>,
    /// At most so many; 0 means 50, and there are never more than 500.
    pub limit: u32,
}

/// A job with what dispatching needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    /// As decisions see it.
    pub job: Job,
    /// Place in the queue; 0 in a row that is to be inserted.
    pub seq: i64,
    /// The pool it must run in.
    pub pool: String,
    /// Labels that its agent must have.
    pub labels: BTreeMap<String, String>,
    /// Its steps.
    pub steps: Vec<OfferStep>,
    /// What it must hold while it runs, sorted, without repeats.
    pub locks: Vec<String>,
    /// Name of the project.
    pub project: String,
    /// Priority of its deployment; greater ones go first.
    pub priority: i64,
    /// Names the jobs of its pool that have its priority and project and ask the same of an agent: they go in their order.
    pub line: String,
    /// What it asks of its host.
    pub resources: Resources,
    /// Most jobs of the project at once.
    pub max_running: Option<u32>,
}

/// A value that a step put out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputRow {
    /// In clear.
    Plain(serde_json::Value),
    /// JSON, sealed by the vault; in hex.
    Sealed(String),
}

/// A step of a deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRow {
    /// The deployment.
    pub deployment: DeploymentId,
    /// Place in the deployment, from 0.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: StepState,
    /// Exit code of the tool.
    pub exit_code: Option<i32>,
    /// Signal that ended the tool.
    pub signal: Option<i32>,
    /// Why it ended as it did, for people.
    pub reason: Option<String>,
    /// What it put out.
    pub outputs: BTreeMap<String, OutputRow>,
    /// Resources per operation, of a Pulumi step.
    pub resources: BTreeMap<String, u64>,
    /// Plugins that came over the network.
    pub plugin_downloads: u64,
    /// Providers that were used and had not to be fetched.
    pub plugin_hits: u64,
    /// Bytes of standard output and standard error.
    pub log_bytes: u64,
    /// SHA-256 in hex over them; `None` before the end.
    pub log_sha256: Option<String>,
    /// Bytes were dropped because the agent's disk was full.
    pub log_truncated: bool,
    /// Why it was not run, if so.
    pub skipped: Option<SkippedBy>,
    /// It is not begun (again) before.
    pub due_at: Option<Timestamp>,
    /// Tries that the controller made itself.
    pub tries: u32,
    /// It failed and people were asked, so its job does not say how it ended.
    pub guided: bool,
    /// When it was confirmed.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

impl StepRow {
    /// A step that has not begun.
    #[must_use]
    pub fn queued(deployment: DeploymentId, index: u32, name: &str) -> Self {
        Self {
            deployment,
            index,
            name: name.to_owned(),
            state: StepState::Queued,
            exit_code: None,
            signal: None,
            reason: None,
            outputs: BTreeMap::new(),
            resources: BTreeMap::new(),
            plugin_downloads: 0,
            plugin_hits: 0,
            log_bytes: 0,
            log_sha256: None,
            log_truncated: false,
            skipped: None,
            due_at: None,
            tries: 0,
            guided: false,
            started_at: None,
            ended_at: None,
        }
    }
}

/// One confirmed start of a step: there is a container of it, or there was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepAttemptRow {
    /// The attempt.
    pub attempt: AttemptId,
    /// Index of the step.
    pub step: u32,
    /// The deployment.
    pub deployment: DeploymentId,
    /// The agent.
    pub agent: AgentId,
    /// Engine id of the container.
    pub container: String,
    /// Digest of the image as the agent's engine has it.
    pub image_digest: String,
    /// The nonce that the grant was given for.
    pub nonce: String,
    /// Key of secret outputs, sealed by the vault.
    pub outputs_key: Vec<u8>,
    /// Where it stands.
    pub state: StepState,
    /// When it was confirmed.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// What a deployment keeps to itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservationRow {
    /// What is kept.
    pub key: String,
    /// By whom.
    pub deployment: DeploymentId,
    /// Since when.
    pub taken_at: Timestamp,
}

/// A held lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockRow {
    /// What is locked.
    pub key: String,
    /// The job that holds it.
    pub job: JobId,
    /// Its deployment.
    pub deployment: DeploymentId,
    /// Since when.
    pub taken_at: Timestamp,
}

/// What an agent is to be told. Made in the transaction that decided it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToAgent {
    /// A job to claim.
    Offer(Box<Offer>),
    /// A person asked for an end.
    Cancel {
        /// Of what.
        fence: Fence,
        /// Seconds between SIGINT and SIGKILL.
        grace_seconds: u32,
    },
    /// A question which digest an image has. Never in the outbox: nobody waits for it after a restart.
    ResolveImage {
        /// Number of the question.
        request: u64,
        /// The image.
        reference: String,
        /// Whether the registry is to be asked.
        #[serde(default)]
        pull: Pull,
    },
    /// Whether it can run a container. Never in the outbox: a probe that was not answered has failed.
    Probe {
        /// Number of the probe.
        request: u64,
    },
    /// A person wants no more jobs there (why), or wants them again. Never in the outbox: the agent's row says it at each hello.
    Drain {
        /// Empty: jobs are taken again.
        reason: String,
    },
    /// The plugins of its pool are others now. Never in the outbox: a welcome says them too.
    Plugins(Vec<Plugin>),
    /// It is not the agent's any more.
    Revoke {
        /// What.
        fence: Fence,
        /// For people.
        reason: String,
    },
}

/// A message that was not handed to the agent's stream yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Growing; 0 in a row that is to be inserted.
    pub id: i64,
    /// For whom.
    pub agent: AgentId,
    /// What.
    pub message: ToAgent,
}

/// What became of what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Done,
    /// Who asked for it may not have it.
    Refused,
}

impl Outcome {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
        }
    }
}

/// One line of the timeline, which is also the audit.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRow {
    /// Growing; 0 in a row that is to be inserted.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// Who: a user's name, an agent's id, or `controller`.
    pub actor: String,
    /// What, as `deployment.created`.
    pub action: String,
    /// To what, as `project/shop`.
    pub object: String,
    /// What became of it.
    pub outcome: Outcome,
    /// About which deployment.
    pub deployment: Option<DeploymentId>,
    /// More, without secrets.
    pub detail: serde_json::Value,
}

/// An attempt and when it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRow {
    /// As decisions see it.
    pub attempt: Attempt,
    /// When it was offered.
    pub created_at: Timestamp,
}
