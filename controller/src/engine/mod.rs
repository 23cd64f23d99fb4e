//! The only place that decides. The API, the agent plane and the timers call it; it loads rows, asks core what follows,
//! saves rows, timeline and outbox in one transaction and then carries out what follows.
//!
//! Invariants: what an RPC or a request is told was committed before; everything in memory (sessions, progress, wake-ups) can be lost
//! at any line and is worked out anew from rows and from what agents say in their hello.

mod error;
mod view;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::attempt::Limits;
use longshore_core::id::{AgentId, AttemptId, DeploymentId};
use longshore_core::secret::Secret;
use longshore_core::time::Timestamp;

use crate::blobs::Blobs;
use crate::clock::Clock;
use crate::logs::Logs;
use crate::secrets::Vault;
use crate::store::Store;
use crate::store::rows::{DeploymentFilter, JoinTokenRow, MetaRow};
use crate::tasks::Tasks;

pub use error::Error;
pub use view::{
    AgentView, AppliedView, AttemptView, DeploymentView, EventView, LockView, LogView,
    ProgressView, ProjectView, StepView, VariableView,
};

type Result<T, E = Error> = std::result::Result<T, E>;

/// What is set from outside.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Silence after which an agent counts as gone.
    pub lease: Duration,
    /// Between two heartbeats of an agent.
    pub heartbeat: Duration,
    /// How long a started attempt may run while its agent reaches no controller.
    pub max_disconnected: Duration,
    /// Between SIGINT and SIGKILL when a person cancels or a step's timeout passes.
    pub grace: Duration,
    /// Limits of an attempt's states.
    pub limits: Limits,
    /// Where people find this controller, without a `/` at the end; may be empty.
    pub url: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            heartbeat: Duration::from_secs(5),
            max_disconnected: Duration::from_secs(30 * 60),
            grace: Duration::from_secs(10 * 60),
            limits: Limits::default(),
            url: String::new(),
        }
    }
}

/// What an engine is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Rows.
    pub store: Arc<dyn Store>,
    /// Logs of steps.
    pub logs: Logs,
    /// Packages.
    pub blobs: Blobs,
    /// Seals secrets.
    pub vault: Arc<Vault>,
    /// Time and randomness.
    pub clock: Clock,
    /// Owner of its tasks.
    pub tasks: Tasks,
    /// What is set from outside.
    pub settings: Settings,
}

/// A deployment that is asked for.
#[derive(Debug, Clone)]
pub struct NewDeployment {
    /// Name of the project.
    pub project: String,
    /// Name of the environment.
    pub environment: String,
    /// SHA-256 in hex of a stored package.
    pub package: Option<String>,
    /// Made by the client; the same one again answers with the same deployment.
    pub operation_id: String,
}

/// A value that is to be set.
#[derive(Debug, Clone)]
pub struct NewVariable {
    /// Its name.
    pub name: String,
    /// The value.
    pub value: Secret,
    /// Whether it is a secret.
    pub secret: bool,
    /// The environment it is for; `None`: all.
    pub environment: Option<String>,
}

/// Which log a step has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepLog {
    /// Name of the step.
    pub name: String,
    /// Index of the step.
    pub index: u32,
    /// The attempt that was last confirmed for it; `None`: none yet, so there is no log.
    pub attempt: Option<AttemptId>,
    /// Nothing follows in this log, nor will there be another one of this step.
    pub ended: bool,
}

/// What changed of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Its view differs; read it again.
    State,
    /// What it is doing.
    Progress(ProgressView),
}

/// Changes of one deployment, from the moment of [`Engine::subscribe`] on.
#[derive(Debug)]
pub struct Changes {}

impl Changes {
    /// The next change; when some were missed, [`Change::State`]. `None` when the controller stops.
    pub async fn next(&mut self) -> Option<Change> {
        todo!()
    }
}

/// The engine. A cheap handle.
#[derive(Debug, Clone)]
pub struct Engine {}

impl Engine {
    /// Loads what is needed and starts the dispatcher and the timers. The installation's row must be there.
    ///
    /// # Errors
    /// When the rows cannot be read.
    pub async fn start(_parts: Parts) -> Result<Self> {
        todo!()
    }
    /// This installation.
    #[must_use]
    pub fn meta(&self) -> MetaRow {
        todo!()
    }
    /// The logs.
    #[must_use]
    pub fn logs(&self) -> &Logs {
        todo!()
    }
    /// Creates or updates a project from its spec.
    pub async fn apply_project(&self, _spec: &[u8], _by: &str) -> Result<AppliedView> {
        todo!()
    }
    /// All projects by name.
    pub async fn projects(&self) -> Result<Vec<ProjectView>> {
        todo!()
    }
    /// A project.
    pub async fn project(&self, _name: &str) -> Result<ProjectView> {
        todo!()
    }
    /// Sets a variable's value.
    pub async fn set_variable(&self, _project: &str, _new: NewVariable, _by: &str) -> Result<VariableView> {
        todo!()
    }
    /// Variables of a project.
    pub async fn variables(&self, _project: &str) -> Result<Vec<VariableView>> {
        todo!()
    }
    /// Records a package whose bytes are durable in `blobs`.
    pub async fn add_package(&self, _sha256: &str, _bytes: u64, _by: &str) -> Result<()> {
        todo!()
    }
    /// Whether a package is recorded.
    pub async fn has_package(&self, _sha256: &str) -> Result<bool> {
        todo!()
    }
    /// Accepts a deployment.
    pub async fn create_deployment(&self, _new: NewDeployment, _by: &str) -> Result<DeploymentId> {
        todo!()
    }
    /// Asks for a deployment's end. Asking again changes nothing; one that has ended is a conflict.
    pub async fn cancel(&self, _id: DeploymentId, _by: &str) -> Result<()> {
        todo!()
    }
    /// Declares an `unknown` deployment lost, on a person's responsibility.
    pub async fn resolve(&self, _id: DeploymentId, _reason: &str, _by: &str) -> Result<()> {
        todo!()
    }
    /// A deployment.
    pub async fn deployment_view(&self, _id: DeploymentId) -> Result<Option<DeploymentView>> {
        todo!()
    }
    /// Deployments, newest first.
    pub async fn deployments(&self, _filter: DeploymentFilter) -> Result<Vec<DeploymentView>> {
        todo!()
    }
    /// The timeline of a deployment.
    pub async fn timeline(&self, _id: DeploymentId) -> Result<Vec<EventView>> {
        todo!()
    }
    /// The logs of a deployment's steps, in order.
    pub async fn step_logs(&self, _id: DeploymentId) -> Result<Option<Vec<StepLog>>> {
        todo!()
    }
    /// What a deployment is doing now.
    #[must_use]
    pub fn progress(&self, _id: DeploymentId) -> Option<ProgressView> {
        todo!()
    }
    /// Changes from now on.
    #[must_use]
    pub fn subscribe(&self, _id: DeploymentId) -> Changes {
        todo!()
    }
    /// All agents, oldest first.
    pub async fn agents(&self) -> Result<Vec<AgentView>> {
        todo!()
    }
    /// Cuts an agent off; its stream is ended, its calls are refused.
    pub async fn revoke_agent(&self, _id: AgentId, _by: &str) -> Result<()> {
        todo!()
    }
    /// Held locks by key.
    pub async fn locks(&self) -> Result<Vec<LockView>> {
        todo!()
    }
    /// Records a join token by the SHA-256 of its text.
    pub async fn add_join_token(&self, _pool: &str, _expires_at: Timestamp, _hash: &[u8], _by: &str) -> Result<JoinTokenRow> {
        todo!()
    }
    /// The name a bearer token speaks for; `None` for one that does not count (unknown, ended, taken back).
    pub async fn authenticate(&self, _hash: &[u8]) -> Result<Option<String>> {
        todo!()
    }
    /// Records a bearer token by the SHA-256 of its text.
    pub async fn add_token(&self, _name: &str, _expires_at: Option<Timestamp>, _hash: &[u8], _by: &str) -> Result<()> {
        todo!()
    }
    /// Why something is not well; empty when all is.
    #[must_use]
    pub fn health(&self) -> Vec<String> {
        todo!()
    }
}

#[expect(dead_code, reason = "being written")]
fn path_marker(_: PathBuf) {}
