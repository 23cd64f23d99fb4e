//! A connection inside a transaction, as the engine sees it. The statements stand in the files beside it, one file an aggregate.

use async_trait::async_trait;
use longshore_core::attempt::Attempt;
use longshore_core::deployment::{Deployment, DeploymentState};
use longshore_core::id::{AgentId, AttemptId, DeploymentId, JobId, ProjectId, TokenId};
use longshore_core::job::Job;
use longshore_core::time::Timestamp;
use sqlx::sqlite::SqliteConnection;

use super::{agents, deployments, jobs, projects, steps};
use crate::store::rows::{
    AgentRow, AttemptRow, DeploymentFilter, DeploymentRow, EventRow, JobRow, JoinTokenRow, LockRow, MetaRow, OutboxRow,
    PackageRow, ProjectRow, RevisionRow, StepAttemptRow, StepRow, TokenRow, VariableRow,
};
use crate::store::{Error, Tx};

type Result<T> = std::result::Result<T, Error>;

/// The connection of a transaction.
pub(super) struct Conn<'c>(pub(super) &'c mut SqliteConnection);

#[async_trait]
impl Tx for Conn<'_> {
    async fn meta(&mut self) -> Result<Option<MetaRow>> {
        projects::meta(self.0).await
    }
    async fn insert_meta(&mut self, row: &MetaRow, at: Timestamp) -> Result<()> {
        projects::insert_meta(self.0, row, at).await
    }
    async fn data_key(&mut self) -> Result<Option<Vec<u8>>> {
        projects::data_key(self.0).await
    }
    async fn insert_data_key(&mut self, wrapped: &[u8], at: Timestamp) -> Result<()> {
        projects::insert_data_key(self.0, wrapped, at).await
    }
    async fn project(&mut self, name: &str) -> Result<Option<ProjectRow>> {
        projects::project(self.0, name).await
    }
    async fn projects(&mut self) -> Result<Vec<ProjectRow>> {
        projects::projects(self.0).await
    }
    async fn save_project(&mut self, row: &ProjectRow) -> Result<()> {
        projects::save_project(self.0, row).await
    }
    async fn insert_revision(&mut self, row: &RevisionRow) -> Result<()> {
        projects::insert_revision(self.0, row).await
    }
    async fn revision(&mut self, project: ProjectId, revision: u64) -> Result<Option<RevisionRow>> {
        projects::revision(self.0, project, revision).await
    }
    async fn insert_variable(&mut self, row: &VariableRow) -> Result<i64> {
        projects::insert_variable(self.0, row).await
    }
    async fn variables(&mut self, project: ProjectId) -> Result<Vec<VariableRow>> {
        projects::variables(self.0, project).await
    }
    async fn variable(&mut self, id: i64) -> Result<Option<VariableRow>> {
        projects::variable(self.0, id).await
    }
    async fn package(&mut self, sha256: &str) -> Result<Option<PackageRow>> {
        projects::package(self.0, sha256).await
    }
    async fn save_package(&mut self, row: &PackageRow) -> Result<()> {
        projects::save_package(self.0, row).await
    }
    async fn insert_token(&mut self, row: &TokenRow, hash: &[u8]) -> Result<()> {
        agents::insert_token(self.0, row, hash).await
    }
    async fn token(&mut self, hash: &[u8]) -> Result<Option<TokenRow>> {
        agents::token(self.0, hash).await
    }
    async fn tokens(&mut self) -> Result<Vec<TokenRow>> {
        agents::tokens(self.0).await
    }
    async fn revoke_token(&mut self, id: TokenId, at: Timestamp) -> Result<bool> {
        agents::revoke_token(self.0, id, at).await
    }
    async fn insert_join_token(&mut self, row: &JoinTokenRow, hash: &[u8]) -> Result<()> {
        agents::insert_join_token(self.0, row, hash).await
    }
    async fn join_token(&mut self, hash: &[u8]) -> Result<Option<JoinTokenRow>> {
        agents::join_token(self.0, hash).await
    }
    async fn use_join_token(&mut self, id: TokenId, agent: AgentId, request: &str, at: Timestamp) -> Result<bool> {
        agents::use_join_token(self.0, id, agent, request, at).await
    }
    async fn insert_agent(&mut self, row: &AgentRow) -> Result<()> {
        agents::insert_agent(self.0, row).await
    }
    async fn update_agent(&mut self, row: &AgentRow) -> Result<bool> {
        agents::update_agent(self.0, row).await
    }
    async fn revoke_agent(&mut self, id: AgentId, at: Timestamp) -> Result<bool> {
        agents::revoke_agent(self.0, id, at).await
    }
    async fn agent(&mut self, id: AgentId) -> Result<Option<AgentRow>> {
        agents::agent(self.0, id).await
    }
    async fn agents(&mut self) -> Result<Vec<AgentRow>> {
        agents::agents(self.0).await
    }
    async fn insert_deployment(&mut self, row: &DeploymentRow) -> Result<()> {
        deployments::insert_deployment(self.0, row).await
    }
    async fn deployment(&mut self, id: DeploymentId) -> Result<Option<DeploymentRow>> {
        deployments::deployment(self.0, id).await
    }
    async fn deployment_by_operation(&mut self, operation: &str) -> Result<Option<DeploymentRow>> {
        deployments::deployment_by_operation(self.0, operation).await
    }
    async fn deployments(&mut self, filter: &DeploymentFilter) -> Result<Vec<DeploymentRow>> {
        deployments::deployments(self.0, filter).await
    }
    async fn deployment_counts(&mut self) -> Result<Vec<(DeploymentState, u64)>> {
        deployments::deployment_counts(self.0).await
    }
    async fn update_deployment(&mut self, from: &Deployment, to: &Deployment) -> Result<bool> {
        deployments::update_deployment(self.0, from, to).await
    }
    async fn insert_job(&mut self, row: &JobRow) -> Result<()> {
        jobs::insert_job(self.0, row).await
    }
    async fn job(&mut self, id: JobId) -> Result<Option<JobRow>> {
        jobs::job(self.0, id).await
    }
    async fn job_of(&mut self, deployment: DeploymentId) -> Result<Option<JobRow>> {
        jobs::job_of(self.0, deployment).await
    }
    async fn queued_jobs(&mut self) -> Result<Vec<JobRow>> {
        jobs::queued_jobs(self.0).await
    }
    async fn update_job(&mut self, from: &Job, to: &Job) -> Result<bool> {
        jobs::update_job(self.0, from, to).await
    }
    async fn insert_attempt(&mut self, row: &AttemptRow) -> Result<()> {
        jobs::insert_attempt(self.0, row).await
    }
    async fn attempt_of(&mut self, agent: AgentId, id: AttemptId) -> Result<Option<AttemptRow>> {
        jobs::attempt_of(self.0, agent, id).await
    }
    async fn attempt(&mut self, id: AttemptId) -> Result<Option<AttemptRow>> {
        jobs::attempt(self.0, id).await
    }
    async fn live_attempts(&mut self) -> Result<Vec<AttemptRow>> {
        jobs::live_attempts(self.0).await
    }
    async fn update_attempt(&mut self, from: &Attempt, to: &Attempt) -> Result<bool> {
        jobs::update_attempt(self.0, from, to).await
    }
    async fn insert_step(&mut self, row: &StepRow) -> Result<()> {
        steps::insert_step(self.0, row).await
    }
    async fn steps(&mut self, deployment: DeploymentId) -> Result<Vec<StepRow>> {
        steps::steps(self.0, deployment).await
    }
    async fn update_step(&mut self, row: &StepRow) -> Result<bool> {
        steps::update_step(self.0, row).await
    }
    async fn insert_step_attempt(&mut self, row: &StepAttemptRow, from: &Attempt) -> Result<bool> {
        steps::insert_step_attempt(self.0, row, from).await
    }
    async fn step_attempt(&mut self, attempt: AttemptId, step: u32) -> Result<Option<StepAttemptRow>> {
        steps::step_attempt(self.0, attempt, step).await
    }
    async fn step_attempts(&mut self, deployment: DeploymentId) -> Result<Vec<StepAttemptRow>> {
        steps::step_attempts(self.0, deployment).await
    }
    async fn update_step_attempt(&mut self, row: &StepAttemptRow) -> Result<bool> {
        steps::update_step_attempt(self.0, row).await
    }
    async fn take_lock(&mut self, row: &LockRow) -> Result<bool> {
        jobs::take_lock(self.0, row).await
    }
    async fn release_locks(&mut self, job: JobId, at: Timestamp) -> Result<Vec<String>> {
        jobs::release_locks(self.0, job, at).await
    }
    async fn locks(&mut self) -> Result<Vec<LockRow>> {
        jobs::locks(self.0).await
    }
    async fn insert_outbox(&mut self, row: &OutboxRow) -> Result<i64> {
        agents::insert_outbox(self.0, row).await
    }
    async fn outbox(&mut self) -> Result<Vec<OutboxRow>> {
        agents::outbox(self.0).await
    }
    async fn remove_outbox(&mut self, id: i64) -> Result<()> {
        agents::remove_outbox(self.0, id).await
    }
    async fn clear_outbox(&mut self, agent: AgentId) -> Result<()> {
        agents::clear_outbox(self.0, agent).await
    }
    async fn insert_event(&mut self, row: &EventRow) -> Result<()> {
        deployments::insert_event(self.0, row).await
    }
    async fn events(&mut self, deployment: DeploymentId) -> Result<Vec<EventRow>> {
        deployments::events(self.0, deployment).await
    }
}
