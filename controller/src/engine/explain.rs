//! Why something waits, and where a value comes from: every rule and every agent, with the words for people (promise P11).

use std::collections::{BTreeMap, BTreeSet};

use longshore_core::id::{AgentId, DeploymentId, JobId};
use longshore_core::job;
use longshore_core::placement::{self, Candidate, Request};
use longshore_core::pool::Pool;
use longshore_core::resources::Resources;
use longshore_core::spec::{Project, Variable};
use longshore_core::time::Timestamp;
use longshore_core::variables::{self, Place};
use serde::Serialize;
use utoipa::ToSchema;

use super::channels::asked_about;
use super::create::{gate, project, secret_rows, set_value};
use super::fleet::{Fleet, request};
use super::flow::{job_row, spec_of};
use super::libraries::newest_rows;
use super::offers::offer_steps;
use super::pools::{paused, settings};
use super::read::limited;
use super::{Engine, Error, Result};
use crate::store::Tx;
use crate::store::rows::{ApprovalFilter, DeploymentRow, JobRow, Owner, VariableRow};
use longshore_core::approval::ApprovalState;

/// One rule that a deployment has to pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RuleView {
    /// Its name, stable.
    pub rule: String,
    /// Whether it lets the deployment go on now.
    pub ok: bool,
    /// For people.
    pub message: String,
}

/// A predicate that rejects an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RejectionView {
    /// Its name, stable.
    pub predicate: String,
    /// For people.
    pub message: String,
}

/// An agent, and why it does not get the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AgentExplained {
    /// `agt_...`.
    pub agent: String,
    /// Empty: it may have the job.
    pub rejected_by: Vec<RejectionView>,
}

/// Why a deployment waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ExplainView {
    /// `dep_...`.
    pub id: String,
    /// As `deployment show` has it.
    pub state: String,
    /// Every rule.
    pub rules: Vec<RuleView>,
    /// Every agent that is not revoked.
    pub agents: Vec<AgentExplained>,
}

/// A value that another one beat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Beaten {
    /// The value.
    pub value: Option<String>,
    /// Where it was written, and for what.
    pub from: String,
}

/// Where a variable's value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct VariableExplained {
    /// Its name.
    pub name: String,
    /// The value; always `null` for a secret.
    pub value: Option<String>,
    /// Where it was written, and for what.
    pub from: String,
    /// Values that it beat, the nearest first.
    pub beaten: Vec<Beaten>,
}

impl Engine {
    /// Every rule and every agent that stands between a deployment and its next step.
    ///
    /// # Errors
    /// When there is none of that id.
    pub async fn explain(&self, id: DeploymentId) -> Result<ExplainView> {
        let view = self.deployment_view(id).await?.ok_or_else(|| Error::not_found("deployment", &id))?;
        let (now, engine) = (self.clock().now(), self.clone());
        let (rules, agents) =
            self.read(move |tx| Box::pin(async move { engine.explain_in(tx, id, now).await })).await?;
        Ok(ExplainView { id: view.id, state: view.state, rules, agents })
    }

    async fn explain_in(
        &self,
        tx: &mut dyn Tx,
        id: DeploymentId,
        now: Timestamp,
    ) -> Result<(Vec<RuleView>, Vec<AgentExplained>)> {
        let row = tx.deployment(id).await?.ok_or_else(|| Error::not_found("deployment", &id))?;
        let spec = spec_of(tx, &row).await?;
        let mut rules = Vec::new();
        if row.begun_at.is_none() && !row.deployment.state.is_terminal() {
            rules.push(match gate(tx, &row, &spec, now).await? {
                Some(denied) => rule(denied.rule(), false, format!("{denied}; {}", denied.hint())),
                None => rule("gate", true, "release, lifecycle and schedule let it begin".to_owned()),
            });
        }
        rules.extend(locks(tx, &row, now).await?);
        rules.extend(approvals(tx, id).await?);
        let pools = settings(tx).await?;
        if let Some(words) = paused(&pools, spec.pool_of(&row.environment)) {
            rules.push(rule("pool", false, words));
        }
        let Some(job) = next_job(tx, &spec, &row, now).await? else { return Ok((rules, Vec::new())) };
        let fleet = Fleet::read(tx).await?;
        let pool = pools.get(&job.pool).map(Pool::placement).unwrap_or_default();
        if let Some(limit) = fleet.running(&job.pool).limit(&job.project, job.max_running, &pool) {
            rules.push(rule("limit", false, format!("waits for {}", limited(&limit, &job))));
        }
        let mut connected = self.0.sessions.candidates(&fleet);
        self.0.desk.keep_apart(&mut connected, id);
        let agents = tx.agents().await?.into_iter().filter(|row| row.revoked_at.is_none());
        let known: Vec<Candidate> = agents
            .map(|row| {
                let found = connected.iter().find(|candidate| candidate.id == row.id).cloned();
                let quarantined = fleet.quarantined(row.id);
                found.unwrap_or_else(|| Candidate { quarantined, ..disconnected(row.id, row.pool, row.labels) })
            })
            .collect();
        let request = request(&job);
        rules.extend(impossible(&known, &request));
        let agents: Vec<AgentExplained> = known.iter().map(|candidate| explained(candidate, &request)).collect();
        let free = agents.iter().filter(|agent| agent.rejected_by.is_empty()).count();
        rules.push(rule("agent", free > 0, format!("{free} of {} agents may have the next job", agents.len())));
        Ok((rules, agents))
    }

    /// Where the value of a variable comes from in an environment, for releases of a channel; `None`: of the default one.
    ///
    /// # Errors
    /// When there is no such project, environment, channel, step or variable.
    pub async fn explain_variable(
        &self,
        name: &str,
        variable: &str,
        environment: &str,
        (channel, step): (Option<String>, Option<String>),
    ) -> Result<VariableExplained> {
        let (name, variable, environment) = (name.to_owned(), variable.to_owned(), environment.to_owned());
        self.read(move |tx| {
            Box::pin(async move {
                let project = project(tx, &name).await?;
                let spec = tx.revision(project.id, project.revision).await?.map(|revision| revision.spec);
                let spec = spec.ok_or_else(|| Error::not_found("revision of project", &name))?;
                if spec.environment(&environment).is_none() {
                    return Err(Error::not_found("environment", &environment));
                }
                if let Some(step) = step.as_ref().filter(|step| spec.step(step).is_none()) {
                    return Err(Error::not_found("step", step));
                }
                let channel = asked_about(&spec, channel.as_deref())?;
                let rows = newest_rows(tx, &project, &spec).await?;
                let declared = spec.variable(&variable);
                let given = BTreeMap::new();
                let place = Place { environment: &environment, channel, step: step.as_deref(), given: &given };
                let secrets = secret_rows(&spec, &rows, &variable, &place);
                if matches!(declared, Some(Variable::Secret)) || (declared.is_none() && !secrets.is_empty()) {
                    return Ok(secret(&secrets, &variable));
                }
                let set: Vec<_> = rows.iter().filter_map(|row| set_value(&spec, row)).collect();
                if declared.is_none() && !set.iter().any(|set| set.library.is_some() && set.name == variable) {
                    return Err(Error::not_found("variable", &variable));
                }
                Ok(plain(&spec, variables::candidates(&spec, &set, &variable, &place), variable))
            })
        })
        .await
    }
}

fn rule(name: &str, ok: bool, message: String) -> RuleView {
    RuleView { rule: name.to_owned(), ok, message }
}

/// The job that waits for an agent, or the one that there would be if the deployment began.
async fn next_job(tx: &mut dyn Tx, spec: &Project, row: &DeploymentRow, now: Timestamp) -> Result<Option<JobRow>> {
    let id = row.deployment.id;
    if let Some(job) = tx.jobs_of(id).await?.into_iter().find(|job| job.job.state == job::State::Queued) {
        return Ok(Some(job));
    }
    if row.begun_at.is_some() {
        return Ok(None);
    }
    let container = |at: &usize| spec.steps.get(*at).is_some_and(longshore_core::spec::Step::in_container);
    let containers: Vec<usize> = (0..spec.steps.len()).filter(container).collect();
    let steps = offer_steps(spec, row, &containers)?;
    if steps.is_empty() {
        return Ok(None);
    }
    Ok(Some(job_row(JobId::new(now, [0; 10]), now, (row, spec), steps, BTreeSet::new())?))
}

/// That no agent of the pool could ever have the job, if so.
fn impossible(known: &[Candidate], request: &Request<'_>) -> Option<RuleView> {
    let mut pool = known.iter().filter(|agent| agent.pool == request.pool && agent.connected).peekable();
    pool.peek()?;
    if pool.any(|agent| placement::could_ever(agent, request)) {
        return None;
    }
    let message = format!(
        "no agent of pool `{}` could ever have the job as they are set up; change what the job asks for, or add an agent that \
         has it",
        request.pool
    );
    Some(rule("possible", false, message))
}

async fn locks(tx: &mut dyn Tx, row: &DeploymentRow, now: Timestamp) -> Result<Vec<RuleView>> {
    let id = row.deployment.id;
    if row.begun_at.is_some() || row.deployment.state.is_terminal() {
        return Ok(Vec::new());
    }
    let mut rules = Vec::new();
    for key in &row.locks {
        let holder = tx.reservation(key).await?;
        // A child stands in no queue.
        let first = if row.parent.is_none() { tx.next_for(key, now).await? } else { None };
        rules.push(match (holder, first.filter(|first| *first != id)) {
            (Some(kept), _) => rule(
                "lock",
                false,
                format!("`{key}` is kept by deployment `{}` since {}", kept.deployment, kept.taken_at),
            ),
            (None, Some(other)) => rule(
                "queue",
                false,
                format!("`{key}` goes to deployment `{other}` first: it waits longer or has more priority"),
            ),
            (None, None) => rule("lock", true, format!("`{key}` is free")),
        });
    }
    Ok(rules)
}

async fn approvals(tx: &mut dyn Tx, id: DeploymentId) -> Result<Vec<RuleView>> {
    let rows = tx.approvals(&ApprovalFilter { deployment: Some(id) }).await?;
    let mut rules = Vec::new();
    for row in rows {
        let state = row.approval.state;
        let teams = if row.approval.teams.is_empty() {
            "whoever may approve there".to_owned()
        } else {
            row.approval.teams.join(", ")
        };
        let message = format!(
            "approval `{}` of step `{}` is {}; {} of {teams} have to agree",
            row.approval.id,
            row.step_name,
            state.as_str(),
            row.approval.needs
        );
        rules.push(rule("approval", state == ApprovalState::Granted, message));
    }
    Ok(rules)
}

fn disconnected(id: AgentId, pool: String, labels: BTreeMap<String, String>) -> Candidate {
    Candidate {
        id,
        pool,
        labels,
        connected: false,
        draining: None,
        ahead: None,
        slots: 1,
        busy: 0,
        mounts: BTreeSet::new(),
        weakest_profile: longshore_core::offer::Profile::Standard,
        engine: false,
        plugins: None,
        declined: None,
        room: Resources::default(),
        reserved: Resources::default(),
        largest: Resources::default(),
        disk_left: None,
        low: Vec::new(),
        quarantined: None,
        kept_for: None,
    }
}

fn explained(candidate: &Candidate, request: &Request<'_>) -> AgentExplained {
    let rejections = placement::rejections(candidate, request).into_iter();
    // What a disconnected agent has is not known, so only what it certainly lacks is said.
    let known = rejections.filter(|found| {
        candidate.connected || matches!(found.predicate, "pool" | "label" | "connected" | "quarantined")
    });
    let rejected_by =
        known.map(|found| RejectionView { predicate: found.predicate.to_owned(), message: found.message }).collect();
    AgentExplained { agent: candidate.id.to_string(), rejected_by }
}

fn plain(spec: &Project, found: Vec<variables::Candidate>, name: String) -> VariableExplained {
    let from = |found: &variables::Candidate| format!("{} for {}", found.source.words(spec), found.scope);
    let mut found = found.into_iter();
    let first = found.next();
    VariableExplained {
        name,
        from: first.as_ref().map_or_else(|| "nowhere: it has no value there".to_owned(), from),
        value: first.map(|found| found.value),
        beaten: found.map(|found| Beaten { from: from(&found), value: Some(found.value) }).collect(),
    }
}

fn secret(rows: &[&VariableRow], name: &str) -> VariableExplained {
    let words = |row: &&VariableRow| {
        let source = match &row.owner {
            Owner::Project(_) => "`longshore variable set`".to_owned(),
            Owner::Library(name) => format!("library `{name}`"),
        };
        format!("{source} for {}", row.scope)
    };
    VariableExplained {
        name: name.to_owned(),
        value: None,
        from: rows.first().map_or_else(|| "nowhere: it was not set".to_owned(), words),
        beaten: rows.iter().skip(1).map(|row| Beaten { value: None, from: words(row) }).collect(),
    }
}
