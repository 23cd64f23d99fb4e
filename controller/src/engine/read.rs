//! What is shown. What a deployment waits for is worked out here, when it is asked for, and so never stale.

use std::collections::{BTreeMap, HashMap};

use longshore_core::approval::ApprovalState;
use longshore_core::deployment::DeploymentState;
use longshore_core::fair::Limited;
use longshore_core::id::{AttemptId, DeploymentId};
use longshore_core::init::MASK;
use longshore_core::job;
use longshore_core::placement::{self, Candidate};
use longshore_core::pool::Pool;
use longshore_core::step::{StepState, index_of};
use longshore_core::time::Timestamp;

use super::artifacts::ArtifactCountView;
use super::fleet::{Fleet, request};
use super::live::Changes;
use super::pools::{paused, settings};
use super::sessions::Ability;
use super::view::{
    AgentView, AttemptView, DeploymentView, DrainingView, EventView, LocalView, LockView, LogView, ProgressView,
    StepView,
};
use super::{Engine, Result, StepLog, guide, operations};
use crate::store::Tx;
use crate::store::artifacts::ArtifactCount;
use crate::store::rows::{
    AgentRow, ApprovalFilter, ApprovalRow, AttemptRow, CommitRow, DeploymentFilter, DeploymentRow, JobRow, OutputRow,
    ReservationRow, StepAttemptRow, StepRow,
};

/// Agents whose rejections are listed.
const MAX_LISTED: usize = 20;

/// A deployment with its rows.
struct Whole {
    row: DeploymentRow,
    steps: Vec<StepRow>,
    children: Vec<DeploymentRow>,
    starts: Vec<StepAttemptRow>,
    artifacts: Vec<ArtifactCount>,
    source: Option<CommitRow>,
}

/// What stands between one deployment and its next step.
struct Queue {
    /// Who keeps what it needs, and an attempt of theirs.
    kept: Vec<(ReservationRow, Option<AttemptRow>)>,
    /// Who gets what it needs before it.
    ahead: Vec<(String, DeploymentId)>,
    /// Its job that waits for an agent, if one does.
    job: Option<JobRow>,
    /// An attempt of it is live.
    live: bool,
    approval: Option<ApprovalRow>,
}

/// What all deployments that wait have in common.
struct Around {
    candidates: Vec<Candidate>,
    fleet: Fleet,
    pools: BTreeMap<String, Pool>,
    now: Timestamp,
}

fn shown(at: Option<Timestamp>) -> Option<String> {
    at.map(|at| at.to_string())
}

async fn whole(tx: &mut dyn Tx, row: DeploymentRow) -> Result<Whole> {
    let id = row.deployment.id;
    let source = tx.release_by_id(row.release).await?.and_then(|release| release.source);
    Ok(Whole {
        source,
        row,
        steps: tx.steps(id).await?,
        children: tx.children_of(id).await?,
        starts: tx.step_attempts(id).await?,
        artifacts: tx.artifact_counts(id).await?,
    })
}

async fn queue_of(tx: &mut dyn Tx, row: &DeploymentRow, now: Timestamp) -> Result<Option<Queue>> {
    if row.deployment.state.is_terminal() { Ok(None) } else { Ok(Some(queue(tx, row, now).await?)) }
}

async fn queue(tx: &mut dyn Tx, row: &DeploymentRow, now: Timestamp) -> Result<Queue> {
    let id = row.deployment.id;
    let (mut kept, mut ahead) = (Vec::new(), Vec::new());
    for key in row.locks.iter().filter(|_| row.begun_at.is_none()) {
        if let Some(reservation) = tx.reservation(key).await? {
            let attempt = tx.live_attempts_of(reservation.deployment).await?.into_iter().next();
            kept.push((reservation, attempt));
        }
        // A child stands in no queue.
        if row.parent.is_none()
            && let Some(first) = tx.next_for(key, now).await?.filter(|first| *first != id)
        {
            ahead.push((key.clone(), first));
        }
    }
    let mut jobs = tx.jobs_of(id).await?.into_iter();
    let approvals = tx.approvals(&ApprovalFilter { deployment: Some(id) }).await?;
    Ok(Queue {
        kept,
        ahead,
        job: jobs.find(|row| row.job.state == job::State::Queued),
        live: !tx.live_attempts_of(id).await?.is_empty(),
        approval: approvals.into_iter().find(|row| row.approval.state == ApprovalState::Pending),
    })
}

impl Queue {
    /// State and words for a deployment that has not begun.
    fn not_begun(&self, row: &DeploymentRow, now: Timestamp) -> (&'static str, Option<String>) {
        if let Some(at) = row.not_before.filter(|at| *at > now) {
            return ("waiting", Some(format!("its time: it is scheduled for {at}")));
        }
        if let Some((kept, attempt)) = self.kept.first() {
            return ("waiting", Some(held(kept, attempt.as_ref())));
        }
        if let Some((key, first)) = self.ahead.first() {
            let words =
                format!("lock `{key}`, which deployment `{first}` gets first: it waits longer or has more priority");
            return ("waiting", Some(words));
        }
        ("queued", Some("its turn: nothing stands in its way".to_owned()))
    }

    /// State and words for a deployment of which nothing runs now.
    fn waiting(&self, row: &DeploymentRow, engine: &Engine, around: &Around) -> (&'static str, Option<String>) {
        if row.begun_at.is_none() {
            return self.not_begun(row, around.now);
        }
        if let Some(row) = &self.approval {
            let teams = row.approval.teams.join("`, `");
            let of = if teams.is_empty() { String::new() } else { format!(" of team `{teams}`") };
            let (approval, needs) = (row.approval.id, row.approval.needs);
            return (
                "waiting",
                Some(format!("approval `{approval}` of step `{}`: {needs}{of} have to agree", row.step_name)),
            );
        }
        let Some(job) = &self.job else { return ("queued", None) };
        if let Some(words) = paused(&around.pools, &job.pool) {
            return ("queued", Some(words));
        }
        let pool = around.pools.get(&job.pool).map(Pool::placement).unwrap_or_default();
        if let Some(limit) = around.fleet.running(&job.pool).limit(&job.project, job.max_running, &pool) {
            return ("queued", Some(limited(&limit, job)));
        }
        let request = request(job);
        let mut candidates = around.candidates.clone();
        engine.0.desk.keep_apart(&mut candidates, row.deployment.id);
        if candidates.is_empty() {
            return ("queued", Some(format!("an agent in pool `{}`: none is connected", job.pool)));
        }
        let mut agents: Vec<String> = Vec::new();
        for candidate in &candidates {
            let rejections = placement::rejections(candidate, &request);
            if rejections.is_empty() {
                return ("queued", Some("its turn: an agent is free".to_owned()));
            }
            let why: Vec<_> = rejections.into_iter().map(|rejection| rejection.message).collect();
            agents.push(format!("`{}` {}", candidate.id, why.join(", ")));
        }
        let more = agents.len().saturating_sub(MAX_LISTED);
        agents.truncate(MAX_LISTED);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        ("queued", Some(format!("an agent: {}{more}", agents.join("; "))))
    }
}

/// Why a job waits although an agent may be free.
pub(super) fn limited(limit: &Limited, job: &JobRow) -> String {
    let (project, pool) = (&job.project, &job.pool);
    match limit {
        Limited::Project(most) => {
            format!("a job of project `{project}` to end: {most} run, which is its `max_running`")
        }
        Limited::Pool(most) => format!(
            "a job of project `{project}` in pool `{pool}` to end: {most} run there, which is the pool's `max_per_project`"
        ),
    }
}

fn held(lock: &ReservationRow, attempt: Option<&AttemptRow>) -> String {
    let holder = match attempt {
        Some(row) => {
            format!("attempt `{}` ({}) of deployment `{}`", row.attempt.id, row.attempt.state.name(), lock.deployment)
        }
        None => format!("deployment `{}`", lock.deployment),
    };
    format!("lock `{}`, held by {holder} since {}", lock.key, lock.taken_at)
}

impl Engine {
    /// A deployment.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn deployment_view(&self, id: DeploymentId) -> Result<Option<DeploymentView>> {
        let (now, engine) = (self.clock().now(), self.clone());
        self.read(move |tx| {
            Box::pin(async move {
                let Some(row) = tx.deployment(id).await? else { return Ok(None) };
                let around = engine.around(tx, now).await?;
                let queue = queue_of(tx, &row, now).await?;
                Ok(Some(engine.view(whole(tx, row).await?, queue.as_ref(), &around)))
            })
        })
        .await
    }

    /// Deployments, newest first.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn deployments(&self, filter: DeploymentFilter) -> Result<Vec<DeploymentView>> {
        let (now, engine) = (self.clock().now(), self.clone());
        self.read(move |tx| {
            Box::pin(async move {
                let around = engine.around(tx, now).await?;
                let mut views = Vec::new();
                for row in tx.deployments(&filter).await? {
                    let queue = queue_of(tx, &row, now).await?;
                    views.push(engine.view(whole(tx, row).await?, queue.as_ref(), &around));
                }
                Ok(views)
            })
        })
        .await
    }

    async fn around(&self, tx: &mut dyn Tx, now: Timestamp) -> Result<Around> {
        let fleet = Fleet::read(tx).await?;
        let candidates = self.0.sessions.candidates(&fleet);
        Ok(Around { candidates, fleet, pools: settings(tx).await?, now })
    }

    fn view(&self, whole: Whole, queue: Option<&Queue>, around: &Around) -> DeploymentView {
        let Whole { row, steps, children, starts, artifacts, source } = whole;
        let trace_id = row.trace().to_string();
        let (mut state, mut waiting_for) = (row.deployment.state.as_str(), None);
        if let Some(queue) = queue {
            let asked = steps.iter().find(|step| guide::is_asked(step)).map(guide::words);
            let idle = !queue.live && !steps.iter().any(|step| step.state == StepState::Running);
            match row.deployment.state {
                DeploymentState::Queued => {
                    (state, waiting_for) = queue.waiting(&row, self, around);
                }
                DeploymentState::Running if idle && asked.is_some() => (state, waiting_for) = ("waiting", asked),
                DeploymentState::Running if idle => {
                    let found = queue.waiting(&row, self, around);
                    (state, waiting_for) = (if found.0 == "waiting" { "waiting" } else { state }, found.1);
                }
                _ => {}
            }
        }
        let operation = operations::view(&row, &steps);
        let deployment = row.deployment;
        let canceling = deployment.state == DeploymentState::Canceling;
        let child = |index: u32| {
            let of = |child: &&DeploymentRow| child.parent.is_some_and(|(_, step)| step == index);
            children.iter().find(of).map(|child| child.deployment.id.to_string())
        };
        let shown_steps = steps.into_iter().map(|step| StepView {
            child: child(step.index),
            artifacts: ArtifactCountView::of(&artifacts, step.index),
            ..self.step_view(step, &starts, canceling)
        });
        let steps = shown_steps.collect();
        let local = row.local.map(|local| LocalView {
            spec: local.spec,
            package: row.package,
            revision: row.revision,
            commit: local.commit,
            dirty: local.dirty,
        });
        DeploymentView {
            id: deployment.id.to_string(),
            project: row.project_name,
            environment: row.environment,
            release: row.version,
            state: state.to_owned(),
            reason: deployment.reason,
            waiting_for,
            created_by: row.created_by,
            created_at: row.created_at.to_string(),
            trace_id,
            not_before: shown(row.not_before),
            ended_at: shown(deployment.ended_at),
            guided: row.guided,
            parent: row.parent.map(|(parent, _)| parent.to_string()),
            operation,
            local,
            source: source.map(Into::into),
            steps,
        }
    }

    fn step_view(&self, step: StepRow, starts: &[StepAttemptRow], canceling: bool) -> StepView {
        let word =
            |state: StepState| if canceling && state == StepState::Running { "canceling" } else { state.as_str() };
        let mine: Vec<_> = starts.iter().filter(|start| index_of(start.step) == step.index).collect();
        let asked = guide::is_asked(&step);
        // Until the step has ended its log is only known in memory, and may not be open there.
        let so_far = mine
            .last()
            .filter(|_| step.log_sha256.is_none())
            .and_then(|start| self.logs().bytes_so_far(start.attempt, start.step));
        let output = |(name, output): (String, OutputRow)| match output {
            OutputRow::Plain(value) => (name, value),
            OutputRow::Sealed(_) => (name, MASK.into()),
        };
        StepView {
            state: word(step.state).to_owned(),
            reason: match step.reason {
                Some(reason) if asked => Some(format!("failed: {reason}; a person decides what becomes of it")),
                reason => reason,
            },
            exit_code: step.exit_code,
            signal: step.signal,
            outputs: step.outputs.into_iter().map(output).collect(),
            resources: step.resources,
            plugin_downloads: step.plugin_downloads,
            plugin_hits: step.plugin_hits,
            child: None,
            artifacts: ArtifactCountView::default(),
            log: LogView {
                bytes: so_far.unwrap_or(step.log_bytes),
                sha256: step.log_sha256,
                truncated: step.log_truncated,
            },
            attempts: mine
                .into_iter()
                .map(|start| AttemptView {
                    id: start.attempt.to_string(),
                    agent: start.agent.to_string(),
                    container: Some(start.container.clone()).filter(|container| !container.is_empty()),
                    state: word(start.state).to_owned(),
                    started_at: shown(Some(start.started_at)),
                    ended_at: shown(start.ended_at),
                })
                .collect(),
            name: step.name,
        }
    }

    /// The timeline of a deployment.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn timeline(&self, id: DeploymentId) -> Result<Vec<EventView>> {
        let rows = self.read(move |tx| Box::pin(async move { Ok(tx.events(id).await?) })).await?;
        let view = |row: crate::store::rows::EventRow| EventView {
            at: row.at.to_string(),
            actor: row.actor,
            action: row.action,
            detail: row.detail,
        };
        Ok(rows.into_iter().map(view).collect())
    }

    /// The logs of a deployment's steps, in order; `None` when there is no such deployment. A log that has `ended` is read with
    /// [`crate::logs::Reader::next`], another one may be followed.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn step_logs(&self, id: DeploymentId) -> Result<Option<Vec<StepLog>>> {
        let found = self
            .read(move |tx| {
                Box::pin(async move {
                    let Some(row) = tx.deployment(id).await? else { return Ok(None) };
                    Ok(Some(whole(tx, row).await?))
                })
            })
            .await?;
        let logs = |whole: Whole| {
            let mut logs = Vec::new();
            for step in &whole.steps {
                let starts: Vec<_> = whole.starts.iter().filter(|start| index_of(start.step) == step.index).collect();
                let ended = step.state.is_terminal();
                let log = |start: &StepAttemptRow, ended| {
                    let (index, attempt) = (start.step, Some(start.attempt));
                    StepLog { name: step.name.clone(), index, attempt, ended }
                };
                let (last, before) = starts.split_last().map_or((None, &[][..]), |(last, before)| (Some(last), before));
                // A try that was followed by another has a log that nothing is added to.
                logs.extend(before.iter().map(|start| log(start, true)));
                let none = StepLog { name: step.name.clone(), index: step.index, attempt: None, ended };
                // A gate that waits for people has the log of its preview.
                let over = ended || step.state == StepState::Waiting;
                logs.push(last.map_or(none, |start| log(start, over)));
            }
            logs
        };
        Ok(found.map(logs))
    }

    /// What a deployment is doing now.
    #[must_use]
    pub fn progress(&self, id: DeploymentId) -> Option<ProgressView> {
        self.0.live.progress(id)
    }

    /// Changes from now on.
    #[must_use]
    pub fn subscribe(&self, id: DeploymentId) -> Changes {
        self.0.live.subscribe(id)
    }

    /// Agents, oldest first, without ephemeral ones that are gone.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn agents(&self) -> Result<Vec<AgentView>> {
        let mut all = self.all_agents().await?;
        all.retain(|agent| agent.gone.is_none());
        Ok(all)
    }

    /// All agents there ever were, oldest first.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn all_agents(&self) -> Result<Vec<AgentView>> {
        let ((rows, live, origins), fleet) = self
            .read(|tx| {
                Box::pin(async move {
                    let rows = (tx.agents().await?, tx.live_attempts().await?, tx.origins().await?);
                    Ok((rows, Fleet::read(tx).await?))
                })
            })
            .await?;
        let origins: HashMap<_, _> = origins.into_iter().map(|origin| (origin.agent, origin)).collect();
        let mut attempts: HashMap<_, Vec<AttemptId>> = HashMap::new();
        for row in &live {
            attempts.entry(row.attempt.agent).or_default().push(row.attempt.id);
        }
        let view = |row: AgentRow| {
            let ability = self.0.sessions.ability(row.id);
            let origin = origins.get(&row.id);
            let gone = origin.and_then(|origin| origin.gone).filter(|_| ability.is_none());
            let gone = gone.filter(|_| !attempts.contains_key(&row.id)).map(|(_, why)| why.as_str().to_owned());
            let (busy, reserved) = fleet.load(row.id);
            let draining = self.draining(&row, ability.as_ref(), busy);
            let state = match &ability {
                _ if gone.is_some() => "gone",
                _ if row.revoked_at.is_some() => "revoked",
                Some(_) if draining.is_some() => "draining",
                Some(_) if fleet.quarantined(row.id).is_some() => "quarantined",
                Some(_) => "connected",
                None => "disconnected",
            };
            let seen_at = if ability.is_some() { Some(self.clock().now()) } else { row.seen_at };
            AgentView {
                quarantined: fleet.quarantined(row.id).filter(|_| row.revoked_at.is_none()),
                low: ability.iter().flat_map(|ability| &ability.disk.low).map(ToString::to_string).collect(),
                plugins: ability.as_ref().and_then(Ability::plugins),
                room: ability.as_ref().map(|ability| ability.room),
                reserved,
                ephemeral: origin.is_some_and(|origin| origin.ephemeral),
                rule: origin.and_then(|origin| origin.rule).map(|rule| rule.to_string()),
                machine: origin.and_then(|origin| origin.machine.clone()),
                gone,
                cloned: self.0.sessions.is_cloned(row.id),
                id: row.id.to_string(),
                pool: row.pool,
                labels: row.labels,
                state: state.to_owned(),
                hostname: row.hostname,
                version: row.version,
                slots: ability.as_ref().map_or(0, |ability| ability.slots),
                busy,
                host: ability.map_or(row.facts, |ability| ability.facts),
                enrolled_at: row.enrolled_at.to_string(),
                seen_at: shown(seen_at),
                attempts: attempts.get(&row.id).into_iter().flatten().map(ToString::to_string).collect(),
                draining,
            }
        };
        Ok(rows.into_iter().map(view).collect())
    }

    /// Why an agent takes no more jobs: what it says itself comes first, since it has an end.
    fn draining(&self, row: &AgentRow, ability: Option<&Ability>, jobs: u32) -> Option<DrainingView> {
        if row.revoked_at.is_some() {
            return None;
        }
        if let Some(draining) = ability.and_then(|ability| ability.draining.as_ref()) {
            return Some(DrainingView {
                reason: draining.reason.clone(),
                by: None,
                since: shown(self.0.sessions.draining_since(row.id)),
                deadline: shown(draining.until),
                jobs,
            });
        }
        let drained = row.drained.as_ref()?;
        let (reason, by, since) = (drained.reason.clone(), Some(drained.by.clone()), shown(Some(drained.at)));
        Some(DrainingView { reason, by, since, deadline: None, jobs })
    }

    /// Held locks by key.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn locks(&self) -> Result<Vec<LockView>> {
        self.read(|tx| {
            Box::pin(async move {
                let live = tx.live_attempts().await?;
                let mut views = Vec::new();
                for lock in tx.reservations().await? {
                    let row = tx.deployment(lock.deployment).await?;
                    let attempt = live.iter().find(|row| row.attempt.deployment == lock.deployment);
                    views.push(LockView {
                        key: lock.key,
                        deployment: lock.deployment.to_string(),
                        attempt: attempt.map(|row| row.attempt.id.to_string()),
                        state: row.as_ref().map_or_else(String::new, |row| row.deployment.state.as_str().to_owned()),
                        reason: row.and_then(|row| row.deployment.reason),
                        since: lock.taken_at.to_string(),
                    });
                }
                Ok(views)
            })
        })
        .await
    }
}
