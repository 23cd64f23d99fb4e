//! The row methods. One statement each; what several do together is the engine's affair.

use std::collections::BTreeSet;

use async_trait::async_trait;
use longshore_core::approval::Approval;
use longshore_core::attempt::Attempt;
use longshore_core::deployment::{Deployment, DeploymentState};
use longshore_core::id::{AgentId, ApprovalId, AttemptId, DeploymentId, JobId, ProjectId, ReleaseId, TokenId};
use longshore_core::job::Job;
use longshore_core::time::Timestamp;

use super::Error;
use super::artifacts::Artifacts;
use super::joins::Joins;
use super::libraries::Libraries;
use super::people::People;
use super::pools::Pools;
use super::rows::{
    AgentRow, ApprovalFilter, ApprovalRow, AttemptRow, DeploymentFilter, DeploymentRow, Drained, EventRow, Images,
    JobRow, JoinTokenRow, LockRow, MetaRow, OutboxRow, PackageRow, PlanRow, ProjectRow, ReleaseFilter, ReleaseRow,
    ReservationRow, RevisionRow, StepAttemptRow, StepRow, TokenRow, VariableRow, VoteRow,
};
use super::scaling::Scaling;
use super::sealed::Seals;
use super::traces::Traces;
use super::waits::Waits;

type Result<T> = std::result::Result<T, Error>;

/// A transaction. `insert_*` fails when a constraint does; `update_*` and the like say with `false` that no row matched.
#[async_trait]
pub trait Tx: Artifacts + Joins + Libraries + People + Pools + Scaling + Seals + Traces + Waits + Send {
    /// The installation; `None` before the first start.
    async fn meta(&mut self) -> Result<Option<MetaRow>>;
    /// Makes the installation.
    async fn insert_meta(&mut self, row: &MetaRow, at: Timestamp) -> Result<()>;

    /// A project by name.
    async fn project(&mut self, name: &str) -> Result<Option<ProjectRow>>;
    /// All projects by name.
    async fn projects(&mut self) -> Result<Vec<ProjectRow>>;
    /// Inserts a project, or moves it to its new revision.
    async fn save_project(&mut self, row: &ProjectRow) -> Result<()>;
    /// Adds a revision.
    async fn insert_revision(&mut self, row: &RevisionRow) -> Result<()>;
    /// A revision.
    async fn revision(&mut self, project: ProjectId, revision: u64) -> Result<Option<RevisionRow>>;
    /// Adds a version of a variable's value; answers its id.
    async fn insert_variable(&mut self, row: &VariableRow) -> Result<i64>;
    /// The newest version of each variable for each environment.
    async fn variables(&mut self, project: ProjectId) -> Result<Vec<VariableRow>>;
    /// A version.
    async fn variable(&mut self, id: i64) -> Result<Option<VariableRow>>;
    /// A package.
    async fn package(&mut self, sha256: &str) -> Result<Option<PackageRow>>;
    /// The newest packages, at most so many.
    async fn packages(&mut self, limit: u32) -> Result<Vec<PackageRow>>;
    /// Records a package; one that is there stays.
    async fn save_package(&mut self, row: &PackageRow) -> Result<()>;

    /// Adds a bearer token with the SHA-256 of its text.
    async fn insert_token(&mut self, row: &TokenRow, hash: &[u8]) -> Result<()>;
    /// The token with this hash.
    async fn token(&mut self, hash: &[u8]) -> Result<Option<TokenRow>>;
    /// All tokens, oldest first.
    async fn tokens(&mut self) -> Result<Vec<TokenRow>>;
    /// Takes a token back; `false` when there is none that counts.
    async fn revoke_token(&mut self, id: TokenId, at: Timestamp) -> Result<bool>;
    /// Adds a join token with the SHA-256 of its text.
    async fn insert_join_token(&mut self, row: &JoinTokenRow, hash: &[u8]) -> Result<()>;
    /// The join token with this hash.
    async fn join_token(&mut self, hash: &[u8]) -> Result<Option<JoinTokenRow>>;
    /// All join tokens, oldest first.
    async fn join_tokens(&mut self) -> Result<Vec<JoinTokenRow>>;
    /// The agent that came in by a join token with this signing request.
    async fn joined_by(&mut self, id: TokenId, request: &str) -> Result<Option<AgentId>>;
    /// Lets one more agent in; `false` when the token is used up, was taken back, has ended or does not exist.
    async fn use_join_token(&mut self, id: TokenId, agent: AgentId, request: &str, at: Timestamp) -> Result<bool>;
    /// Takes a join token back; `false` when there is none that counts.
    async fn revoke_join_token(&mut self, id: TokenId, at: Timestamp) -> Result<bool>;
    /// Adds an agent.
    async fn insert_agent(&mut self, row: &AgentRow) -> Result<()>;
    /// Saves what changes of an agent: version, serial, boot id, facts, seen. `false` for one that is revoked.
    async fn update_agent(&mut self, row: &AgentRow) -> Result<bool>;
    /// Notes that a person wants an agent to take no more jobs, or wants it to again; `false` for one that is revoked.
    async fn drain_agent(&mut self, id: AgentId, drained: Option<&Drained>) -> Result<bool>;
    /// Cuts an agent off; `false` when it is already.
    async fn revoke_agent(&mut self, id: AgentId, at: Timestamp) -> Result<bool>;
    /// An agent.
    async fn agent(&mut self, id: AgentId) -> Result<Option<AgentRow>>;
    /// All agents, oldest first.
    async fn agents(&mut self) -> Result<Vec<AgentRow>>;

    /// Adds a deployment.
    async fn insert_deployment(&mut self, row: &DeploymentRow) -> Result<()>;
    /// A deployment.
    async fn deployment(&mut self, id: DeploymentId) -> Result<Option<DeploymentRow>>;
    /// The deployment that a client's operation made.
    async fn deployment_by_operation(&mut self, operation: &str) -> Result<Option<DeploymentRow>>;
    /// Deployments, newest first.
    async fn deployments(&mut self, filter: &DeploymentFilter) -> Result<Vec<DeploymentRow>>;
    /// How many deployments are in each state; states without any are left out.
    async fn deployment_counts(&mut self) -> Result<Vec<(DeploymentState, u64)>>;
    /// Moves a deployment from `from` to `to`; `false` when it is not at `from` any more.
    async fn update_deployment(&mut self, from: &Deployment, to: &Deployment) -> Result<bool>;
    /// Adds a job at the end of the queue.
    async fn insert_job(&mut self, row: &JobRow) -> Result<()>;
    /// A job.
    async fn job(&mut self, id: JobId) -> Result<Option<JobRow>>;
    /// Jobs in the queue, first come first.
    async fn queued_jobs(&mut self) -> Result<Vec<JobRow>>;
    /// Moves a job; `false` when it is not at `from` any more.
    async fn update_job(&mut self, from: &Job, to: &Job) -> Result<bool>;
    /// Adds an attempt; fails when the job has a live one.
    async fn insert_attempt(&mut self, row: &AttemptRow) -> Result<()>;
    /// An attempt of this agent; another agent's is not there.
    async fn attempt_of(&mut self, agent: AgentId, id: AttemptId) -> Result<Option<AttemptRow>>;
    /// An attempt.
    async fn attempt(&mut self, id: AttemptId) -> Result<Option<AttemptRow>>;
    /// Attempts that have not ended.
    async fn live_attempts(&mut self) -> Result<Vec<AttemptRow>>;
    /// Moves an attempt. The statement checks agent, epoch and incarnation against what counts now (promise P6) and that it
    /// still is at `from`; `false` when any of it does not hold.
    async fn update_attempt(&mut self, from: &Attempt, to: &Attempt) -> Result<bool>;

    /// Adds a step.
    async fn insert_step(&mut self, row: &StepRow) -> Result<()>;
    /// Steps of a deployment in order.
    async fn steps(&mut self, deployment: DeploymentId) -> Result<Vec<StepRow>>;
    /// Saves a step that has not ended; `false` when it has.
    async fn update_step(&mut self, row: &StepRow) -> Result<bool>;
    /// Grants a start: adds the row if the attempt of this agent is live, of its job's epoch and of this incarnation; `false`
    /// when it is not. Fails when the step was confirmed in this attempt before.
    async fn insert_step_attempt(&mut self, row: &StepAttemptRow, from: &Attempt) -> Result<bool>;
    /// A confirmed start.
    async fn step_attempt(&mut self, attempt: AttemptId, step: u32) -> Result<Option<StepAttemptRow>>;
    /// Confirmed starts of a deployment, oldest first.
    async fn step_attempts(&mut self, deployment: DeploymentId) -> Result<Vec<StepAttemptRow>>;
    /// Saves state and end of a confirmed start that has not ended; `false` when it has.
    async fn update_step_attempt(&mut self, row: &StepAttemptRow) -> Result<bool>;

    /// Takes a lock; `false` when it is held.
    async fn take_lock(&mut self, row: &LockRow) -> Result<bool>;
    /// Frees what a job holds; answers the keys.
    async fn release_locks(&mut self, job: JobId, at: Timestamp) -> Result<Vec<String>>;
    /// Whether somebody holds a lock.
    async fn is_locked(&mut self, key: &str) -> Result<bool>;
    /// Held locks by key.
    async fn locks(&mut self) -> Result<Vec<LockRow>>;
    /// Adds a message for an agent.
    async fn insert_outbox(&mut self, row: &OutboxRow) -> Result<i64>;
    /// Messages that were not handed over, in order.
    async fn outbox(&mut self) -> Result<Vec<OutboxRow>>;
    /// Removes messages that were handed over.
    async fn remove_outbox(&mut self, ids: &[i64]) -> Result<()>;
    /// Removes all messages for an agent, which hears everything anew.
    async fn clear_outbox(&mut self, agent: AgentId) -> Result<()>;
    /// Adds a line to the timeline.
    async fn insert_event(&mut self, row: &EventRow) -> Result<()>;
    /// The timeline of a deployment.
    async fn events(&mut self, deployment: DeploymentId) -> Result<Vec<EventRow>>;

    /// Adds a release; `false` when the project has that version.
    async fn insert_release(&mut self, row: &ReleaseRow) -> Result<bool>;
    /// A release by its version.
    async fn release(&mut self, project: ProjectId, version: &str) -> Result<Option<ReleaseRow>>;
    /// A release.
    async fn release_by_id(&mut self, id: ReleaseId) -> Result<Option<ReleaseRow>>;
    /// The newest release that holds the same.
    async fn release_same(&mut self, project: ProjectId, digest: &str) -> Result<Option<ReleaseRow>>;
    /// Releases, newest version first.
    async fn releases(&mut self, project: ProjectId, filter: &ReleaseFilter) -> Result<Vec<ReleaseRow>>;
    /// Blocks a release with a reason, or unblocks it.
    async fn block_release(&mut self, id: ReleaseId, reason: Option<&str>) -> Result<()>;
    /// Digests of a release's images, as far as they are pinned.
    async fn images(&mut self, id: ReleaseId) -> Result<Images>;
    /// Pins an image (reference, digest) of a release; one that is pinned stays.
    async fn pin_image(&mut self, id: ReleaseId, image: (&str, &str), at: Timestamp) -> Result<()>;
    /// Whether a deployment of the release succeeded in an environment.
    async fn succeeded_in(&mut self, release: ReleaseId, environment: &str) -> Result<bool>;
    /// Whether a deployment of the release to an environment was ever asked for.
    async fn asked_for_in(&mut self, release: ReleaseId, environment: &str) -> Result<bool>;
    /// Environments to which a release is on its way.
    async fn under_way(&mut self, release: ReleaseId) -> Result<BTreeSet<String>>;
    /// The release that last succeeded in an environment, other than the one that was begun there last, and is not blocked.
    async fn last_good(&mut self, project: ProjectId, environment: &str) -> Result<Option<ReleaseId>>;
    /// The deployment that says what is in an environment: the newest that succeeded there, or else the newest that began.
    async fn standing(&mut self, project: ProjectId, environment: &str) -> Result<Option<DeploymentRow>>;
    /// Attempts that held a stack's lock and have ended, the newest first, at most so many.
    async fn over_at(&mut self, stack: &str, limit: u32) -> Result<Vec<AttemptId>>;
    /// Adds an approval.
    async fn insert_approval(&mut self, row: &ApprovalRow) -> Result<()>;
    /// An approval.
    async fn approval(&mut self, id: ApprovalId) -> Result<Option<ApprovalRow>>;
    /// Approvals, oldest first.
    async fn approvals(&mut self, filter: &ApprovalFilter) -> Result<Vec<ApprovalRow>>;
    /// Moves an approval; `false` when it is not at `from` any more.
    async fn update_approval(&mut self, from: &Approval, to: &Approval) -> Result<bool>;
    /// Records a person's word; `false` when the person has spoken.
    async fn insert_vote(&mut self, row: &VoteRow) -> Result<bool>;
    /// What people said, in order.
    async fn votes(&mut self, id: ApprovalId) -> Result<Vec<VoteRow>>;
    /// Adds the plan of an approval.
    async fn insert_plan(&mut self, row: &PlanRow) -> Result<()>;
    /// The plan of an approval, if it has one.
    async fn plan(&mut self, id: ApprovalId) -> Result<Option<PlanRow>>;
    /// The newest plan for a step of a deployment.
    async fn plan_for(&mut self, deployment: DeploymentId, step: u32) -> Result<Option<PlanRow>>;
    /// Keeps something to a deployment; `false` when another has it.
    async fn reserve(&mut self, row: &ReservationRow) -> Result<bool>;
    /// Gives back what a deployment keeps; answers the keys.
    async fn release_reservations(&mut self, deployment: DeploymentId, at: Timestamp) -> Result<Vec<String>>;
    /// What is kept, by key.
    async fn reservations(&mut self) -> Result<Vec<ReservationRow>>;
    /// Deployments that have not begun, in the order they are to begin: children first.
    async fn pending_deployments(&mut self) -> Result<Vec<DeploymentRow>>;
    /// Deployments that steps of a deployment began, oldest first.
    async fn children_of(&mut self, deployment: DeploymentId) -> Result<Vec<DeploymentRow>>;
    /// Deployments that have not ended and were begun by steps of others.
    async fn live_children(&mut self) -> Result<Vec<DeploymentRow>>;
    /// Sets the priority of a deployment; `false` when it has begun or has ended.
    async fn set_priority(&mut self, id: DeploymentId, priority: i64) -> Result<bool>;
    /// Marks a deployment as begun; `false` when it has or has ended.
    async fn begin_deployment(&mut self, id: DeploymentId, at: Timestamp) -> Result<bool>;
    /// Jobs of a deployment, oldest first.
    async fn jobs_of(&mut self, deployment: DeploymentId) -> Result<Vec<JobRow>>;
    /// Attempts of a deployment that have not ended.
    async fn live_attempts_of(&mut self, deployment: DeploymentId) -> Result<Vec<AttemptRow>>;
    /// Steps that run on the controller itself and have not ended.
    async fn due_steps(&mut self) -> Result<Vec<StepRow>>;
}
