//! A connection inside a transaction, as the engine sees it. The statements stand in the files beside it, one file an aggregate.

use std::collections::BTreeSet;

use async_trait::async_trait;
use longshore_core::approval::Approval;
use longshore_core::attempt::Attempt;
use longshore_core::deployment::{Deployment, DeploymentState};
use longshore_core::id::{AgentId, ApprovalId, AttemptId, DeploymentId, JobId, ProjectId, ReleaseId, TokenId};
use longshore_core::job::Job;
use longshore_core::time::Timestamp;

use super::db::Db;
use super::{agents, approvals, deployments, jobs, plans, projects, releases, steps};
use crate::store::rows::{
    AgentRow, ApprovalFilter, ApprovalRow, AttemptRow, DeploymentFilter, DeploymentRow, Drained, EventRow, Images,
    JobRow, JoinTokenRow, LockRow, MetaRow, OutboxRow, PackageRow, PlanRow, ProjectRow, ReleaseFilter, ReleaseRow,
    ReservationRow, RevisionRow, StepAttemptRow, StepRow, TokenRow, VariableRow, VoteRow,
};
use crate::store::{Error, Tx};

type Result<T> = std::result::Result<T, Error>;

/// The connection of a transaction.
pub(super) struct Conn<'c>(&'c mut Db, bool);

impl<'c> Conn<'c> {
    pub(super) fn new(db: &'c mut Db) -> Self {
        Self(db, false)
    }

    /// A statement found the disk full.
    pub(super) fn full(&self) -> bool {
        self.1
    }

    pub(super) fn connection(&self) -> &Db {
        self.0
    }

    /// Every statement's result goes through here.
    pub(super) fn note<T>(&mut self, done: Result<T>) -> Result<T> {
        self.1 |= matches!(done, Err(Error::Full));
        done
    }
}

#[async_trait]
impl Tx for Conn<'_> {
    async fn meta(&mut self) -> Result<Option<MetaRow>> {
        let done = projects::meta(self.0);
        self.note(done)
    }
    async fn insert_meta(&mut self, row: &MetaRow, at: Timestamp) -> Result<()> {
        let done = projects::insert_meta(self.0, row, at);
        self.note(done)
    }
    async fn project(&mut self, name: &str) -> Result<Option<ProjectRow>> {
        let done = projects::project(self.0, name);
        self.note(done)
    }
    async fn projects(&mut self) -> Result<Vec<ProjectRow>> {
        let done = projects::projects(self.0);
        self.note(done)
    }
    async fn save_project(&mut self, row: &ProjectRow) -> Result<()> {
        let done = projects::save_project(self.0, row);
        self.note(done)
    }
    async fn insert_revision(&mut self, row: &RevisionRow) -> Result<()> {
        let done = projects::insert_revision(self.0, row);
        self.note(done)
    }
    async fn revision(&mut self, project: ProjectId, revision: u64) -> Result<Option<RevisionRow>> {
        let done = projects::revision(self.0, project, revision);
        self.note(done)
    }
    async fn insert_variable(&mut self, row: &VariableRow) -> Result<i64> {
        let done = projects::insert_variable(self.0, row);
        self.note(done)
    }
    async fn variables(&mut self, project: ProjectId) -> Result<Vec<VariableRow>> {
        let done = projects::variables(self.0, project);
        self.note(done)
    }
    async fn variable(&mut self, id: i64) -> Result<Option<VariableRow>> {
        let done = projects::variable(self.0, id);
        self.note(done)
    }
    async fn package(&mut self, sha256: &str) -> Result<Option<PackageRow>> {
        let done = projects::package(self.0, sha256);
        self.note(done)
    }
    async fn packages(&mut self, limit: u32) -> Result<Vec<PackageRow>> {
        let done = projects::packages(self.0, limit);
        self.note(done)
    }
    async fn save_package(&mut self, row: &PackageRow) -> Result<()> {
        let done = projects::save_package(self.0, row);
        self.note(done)
    }
    async fn insert_token(&mut self, row: &TokenRow, hash: &[u8]) -> Result<()> {
        let done = agents::insert_token(self.0, row, hash);
        self.note(done)
    }
    async fn token(&mut self, hash: &[u8]) -> Result<Option<TokenRow>> {
        let done = agents::token(self.0, hash);
        self.note(done)
    }
    async fn tokens(&mut self) -> Result<Vec<TokenRow>> {
        let done = agents::tokens(self.0);
        self.note(done)
    }
    async fn revoke_token(&mut self, id: TokenId, at: Timestamp) -> Result<bool> {
        let done = agents::revoke_token(self.0, id, at);
        self.note(done)
    }
    async fn insert_join_token(&mut self, row: &JoinTokenRow, hash: &[u8]) -> Result<()> {
        let done = agents::insert_join_token(self.0, row, hash);
        self.note(done)
    }
    async fn join_token(&mut self, hash: &[u8]) -> Result<Option<JoinTokenRow>> {
        let done = agents::join_token(self.0, hash);
        self.note(done)
    }
    async fn join_tokens(&mut self) -> Result<Vec<JoinTokenRow>> {
        let done = agents::join_tokens(self.0);
        self.note(done)
    }
    async fn joined_by(&mut self, id: TokenId, request: &str) -> Result<Option<AgentId>> {
        let done = agents::joined_by(self.0, id, request);
        self.note(done)
    }
    async fn revoke_join_token(&mut self, id: TokenId, at: Timestamp) -> Result<bool> {
        let done = agents::revoke_join_token(self.0, id, at);
        self.note(done)
    }
    async fn use_join_token(&mut self, id: TokenId, agent: AgentId, request: &str, at: Timestamp) -> Result<bool> {
        let done = agents::use_join_token(self.0, id, agent, request, at);
        self.note(done)
    }
    async fn insert_agent(&mut self, row: &AgentRow) -> Result<()> {
        let done = agents::insert_agent(self.0, row);
        self.note(done)
    }
    async fn update_agent(&mut self, row: &AgentRow) -> Result<bool> {
        let done = agents::update_agent(self.0, row);
        self.note(done)
    }
    async fn drain_agent(&mut self, id: AgentId, drained: Option<&Drained>) -> Result<bool> {
        let done = agents::drain_agent(self.0, id, drained);
        self.note(done)
    }
    async fn revoke_agent(&mut self, id: AgentId, at: Timestamp) -> Result<bool> {
        let done = agents::revoke_agent(self.0, id, at);
        self.note(done)
    }
    async fn agent(&mut self, id: AgentId) -> Result<Option<AgentRow>> {
        let done = agents::agent(self.0, id);
        self.note(done)
    }
    async fn agents(&mut self) -> Result<Vec<AgentRow>> {
        let done = agents::agents(self.0);
        self.note(done)
    }
    async fn insert_deployment(&mut self, row: &DeploymentRow) -> Result<()> {
        let done = deployments::insert_deployment(self.0, row);
        self.note(done)
    }
    async fn deployment(&mut self, id: DeploymentId) -> Result<Option<DeploymentRow>> {
        let done = deployments::deployment(self.0, id);
        self.note(done)
    }
    async fn deployment_by_operation(&mut self, operation: &str) -> Result<Option<DeploymentRow>> {
        let done = deployments::deployment_by_operation(self.0, operation);
        self.note(done)
    }
    async fn deployments(&mut self, filter: &DeploymentFilter) -> Result<Vec<DeploymentRow>> {
        let done = deployments::deployments(self.0, filter);
        self.note(done)
    }
    async fn deployment_counts(&mut self) -> Result<Vec<(DeploymentState, u64)>> {
        let done = deployments::deployment_counts(self.0);
        self.note(done)
    }
    async fn update_deployment(&mut self, from: &Deployment, to: &Deployment) -> Result<bool> {
        let done = deployments::update_deployment(self.0, from, to);
        self.note(done)
    }
    async fn insert_job(&mut self, row: &JobRow) -> Result<()> {
        let done = jobs::insert_job(self.0, row);
        self.note(done)
    }
    async fn job(&mut self, id: JobId) -> Result<Option<JobRow>> {
        let done = jobs::job(self.0, id);
        self.note(done)
    }
    async fn queued_jobs(&mut self) -> Result<Vec<JobRow>> {
        let done = jobs::queued_jobs(self.0);
        self.note(done)
    }
    async fn update_job(&mut self, from: &Job, to: &Job) -> Result<bool> {
        let done = jobs::update_job(self.0, from, to);
        self.note(done)
    }
    async fn insert_attempt(&mut self, row: &AttemptRow) -> Result<()> {
        let done = jobs::insert_attempt(self.0, row);
        self.note(done)
    }
    async fn attempt_of(&mut self, agent: AgentId, id: AttemptId) -> Result<Option<AttemptRow>> {
        let done = jobs::attempt_of(self.0, agent, id);
        self.note(done)
    }
    async fn attempt(&mut self, id: AttemptId) -> Result<Option<AttemptRow>> {
        let done = jobs::attempt(self.0, id);
        self.note(done)
    }
    async fn live_attempts(&mut self) -> Result<Vec<AttemptRow>> {
        let done = jobs::live_attempts(self.0);
        self.note(done)
    }
    async fn update_attempt(&mut self, from: &Attempt, to: &Attempt) -> Result<bool> {
        let done = jobs::update_attempt(self.0, from, to);
        self.note(done)
    }
    async fn insert_step(&mut self, row: &StepRow) -> Result<()> {
        let done = steps::insert_step(self.0, row);
        self.note(done)
    }
    async fn steps(&mut self, deployment: DeploymentId) -> Result<Vec<StepRow>> {
        let done = steps::steps(self.0, deployment);
        self.note(done)
    }
    async fn update_step(&mut self, row: &StepRow) -> Result<bool> {
        let done = steps::update_step(self.0, row);
        self.note(done)
    }
    async fn insert_step_attempt(&mut self, row: &StepAttemptRow, from: &Attempt) -> Result<bool> {
        let done = steps::insert_step_attempt(self.0, row, from);
        self.note(done)
    }
    async fn step_attempt(&mut self, attempt: AttemptId, step: u32) -> Result<Option<StepAttemptRow>> {
        let done = steps::step_attempt(self.0, attempt, step);
        self.note(done)
    }
    async fn step_attempts(&mut self, deployment: DeploymentId) -> Result<Vec<StepAttemptRow>> {
        let done = steps::step_attempts(self.0, deployment);
        self.note(done)
    }
    async fn update_step_attempt(&mut self, row: &StepAttemptRow) -> Result<bool> {
        let done = steps::update_step_attempt(self.0, row);
        self.note(done)
    }
    async fn take_lock(&mut self, row: &LockRow) -> Result<bool> {
        let done = jobs::take_lock(self.0, row);
        self.note(done)
    }
    async fn release_locks(&mut self, job: JobId, at: Timestamp) -> Result<Vec<String>> {
        let done = jobs::release_locks(self.0, job, at);
        self.note(done)
    }
    async fn is_locked(&mut self, key: &str) -> Result<bool> {
        let done = jobs::is_locked(self.0, key);
        self.note(done)
    }
    async fn locks(&mut self) -> Result<Vec<LockRow>> {
        let done = jobs::locks(self.0);
        self.note(done)
    }
    async fn insert_outbox(&mut self, row: &OutboxRow) -> Result<i64> {
        let done = agents::insert_outbox(self.0, row);
        self.note(done)
    }
    async fn outbox(&mut self) -> Result<Vec<OutboxRow>> {
        let done = agents::outbox(self.0);
        self.note(done)
    }
    async fn remove_outbox(&mut self, ids: &[i64]) -> Result<()> {
        let done = agents::remove_outbox(self.0, ids);
        self.note(done)
    }
    async fn clear_outbox(&mut self, agent: AgentId) -> Result<()> {
        let done = agents::clear_outbox(self.0, agent);
        self.note(done)
    }
    async fn insert_event(&mut self, row: &EventRow) -> Result<()> {
        let done = deployments::insert_event(self.0, row);
        self.note(done)
    }
    async fn events(&mut self, deployment: DeploymentId) -> Result<Vec<EventRow>> {
        let done = deployments::events(self.0, deployment);
        self.note(done)
    }
    async fn insert_release(&mut self, row: &ReleaseRow) -> Result<bool> {
        let done = releases::insert_release(self.0, row);
        self.note(done)
    }
    async fn release(&mut self, project: ProjectId, version: &str) -> Result<Option<ReleaseRow>> {
        let done = releases::release(self.0, project, version);
        self.note(done)
    }
    async fn release_by_id(&mut self, id: ReleaseId) -> Result<Option<ReleaseRow>> {
        let done = releases::release_by_id(self.0, id);
        self.note(done)
    }
    async fn release_same(&mut self, project: ProjectId, digest: &str) -> Result<Option<ReleaseRow>> {
        let done = releases::release_same(self.0, project, digest);
        self.note(done)
    }
    async fn releases(&mut self, project: ProjectId, filter: &ReleaseFilter) -> Result<Vec<ReleaseRow>> {
        let done = releases::releases(self.0, project, filter);
        self.note(done)
    }
    async fn block_release(&mut self, id: ReleaseId, reason: Option<&str>) -> Result<()> {
        let done = releases::block_release(self.0, id, reason);
        self.note(done)
    }
    async fn images(&mut self, id: ReleaseId) -> Result<Images> {
        let done = releases::images(self.0, id);
        self.note(done)
    }
    async fn pin_image(&mut self, id: ReleaseId, image: (&str, &str), at: Timestamp) -> Result<()> {
        let done = releases::pin_image(self.0, id, image, at);
        self.note(done)
    }
    async fn succeeded_in(&mut self, release: ReleaseId, environment: &str) -> Result<bool> {
        let done = releases::succeeded_in(self.0, release, environment);
        self.note(done)
    }
    async fn asked_for_in(&mut self, release: ReleaseId, environment: &str) -> Result<bool> {
        let done = releases::asked_for_in(self.0, release, environment);
        self.note(done)
    }
    async fn under_way(&mut self, release: ReleaseId) -> Result<BTreeSet<String>> {
        let done = releases::under_way(self.0, release);
        self.note(done)
    }
    async fn last_good(&mut self, project: ProjectId, environment: &str) -> Result<Option<ReleaseId>> {
        let done = releases::last_good(self.0, project, environment);
        self.note(done)
    }
    async fn standing(&mut self, project: ProjectId, environment: &str) -> Result<Option<DeploymentRow>> {
        let done = deployments::standing(self.0, project, environment);
        self.note(done)
    }
    async fn over_at(&mut self, stack: &str, limit: u32) -> Result<Vec<AttemptId>> {
        let done = deployments::over_at(self.0, stack, limit);
        self.note(done)
    }
    async fn insert_approval(&mut self, row: &ApprovalRow) -> Result<()> {
        let done = approvals::insert_approval(self.0, row);
        self.note(done)
    }
    async fn approval(&mut self, id: ApprovalId) -> Result<Option<ApprovalRow>> {
        let done = approvals::approval(self.0, id);
        self.note(done)
    }
    async fn approvals(&mut self, filter: &ApprovalFilter) -> Result<Vec<ApprovalRow>> {
        let done = approvals::approvals(self.0, filter);
        self.note(done)
    }
    async fn update_approval(&mut self, from: &Approval, to: &Approval) -> Result<bool> {
        let done = approvals::update_approval(self.0, from, to);
        self.note(done)
    }
    async fn insert_vote(&mut self, row: &VoteRow) -> Result<bool> {
        let done = approvals::insert_vote(self.0, row);
        self.note(done)
    }
    async fn votes(&mut self, id: ApprovalId) -> Result<Vec<VoteRow>> {
        let done = approvals::votes(self.0, id);
        self.note(done)
    }
    async fn insert_plan(&mut self, row: &PlanRow) -> Result<()> {
        let done = plans::insert_plan(self.0, row);
        self.note(done)
    }
    async fn plan(&mut self, id: ApprovalId) -> Result<Option<PlanRow>> {
        let done = plans::plan(self.0, id);
        self.note(done)
    }
    async fn plan_for(&mut self, deployment: DeploymentId, step: u32) -> Result<Option<PlanRow>> {
        let done = plans::plan_for(self.0, deployment, step);
        self.note(done)
    }
    async fn reserve(&mut self, row: &ReservationRow) -> Result<bool> {
        let done = approvals::reserve(self.0, row);
        self.note(done)
    }
    async fn release_reservations(&mut self, deployment: DeploymentId, at: Timestamp) -> Result<Vec<String>> {
        let done = approvals::release_reservations(self.0, deployment, at);
        self.note(done)
    }
    async fn reservations(&mut self) -> Result<Vec<ReservationRow>> {
        let done = approvals::reservations(self.0);
        self.note(done)
    }
    async fn pending_deployments(&mut self) -> Result<Vec<DeploymentRow>> {
        let done = deployments::pending_deployments(self.0);
        self.note(done)
    }
    async fn children_of(&mut self, deployment: DeploymentId) -> Result<Vec<DeploymentRow>> {
        let done = deployments::children_of(self.0, deployment);
        self.note(done)
    }
    async fn live_children(&mut self) -> Result<Vec<DeploymentRow>> {
        let done = deployments::live_children(self.0);
        self.note(done)
    }
    async fn set_priority(&mut self, id: DeploymentId, priority: i64) -> Result<bool> {
        let done = deployments::set_priority(self.0, id, priority);
        self.note(done)
    }
    async fn begin_deployment(&mut self, id: DeploymentId, at: Timestamp) -> Result<bool> {
        let done = deployments::begin_deployment(self.0, id, at);
        self.note(done)
    }
    async fn jobs_of(&mut self, deployment: DeploymentId) -> Result<Vec<JobRow>> {
        let done = jobs::jobs_of(self.0, deployment);
        self.note(done)
    }
    async fn live_attempts_of(&mut self, deployment: DeploymentId) -> Result<Vec<AttemptRow>> {
        let done = jobs::live_attempts_of(self.0, deployment);
        self.note(done)
    }
    async fn due_steps(&mut self) -> Result<Vec<StepRow>> {
        let done = steps::due_steps(self.0);
        self.note(done)
    }
}
