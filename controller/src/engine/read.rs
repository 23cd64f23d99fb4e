//! What is shown. What a deployment waits for is worked out here, when it is asked for, and so never stale.

use std::collections::{BTreeMap, HashMap};

use longshore_core::deployment::DeploymentState;
use longshore_core::id::{AttemptId, DeploymentId};
use longshore_core::init::MASK;
use longshore_core::placement::{self, Candidate, Request};
use longshore_core::pool::Pool;
use longshore_core::step::{StepState, index_of};
use longshore_core::time::Timestamp;

use super::artifacts::ArtifactCountView;
use super::dispatch::busy;
use super::flow::ahead;
use super::live::Changes;
use super::pools::{paused, settings};
use super::view::{
    AgentView, AttemptView, DeploymentView, EventView, LocalView, LockView, LogView, ProgressView, StepView,
};
use super::{Engine, Result, StepLog, guide, operations};
use crate::store::Tx;
use crate::store::artifacts::ArtifactCount;
use crate::store::rows::{
    ApprovalFilter, ApprovalRow, AttemptRow, CommitRow, DeploymentFilter, DeploymentRow, JobRow, OutputRow,
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

/// Everything that waiting depends on.
struct Queue {
    pending: Vec<DeploymentRow>,
    kept: Vec<ReservationRow>,
    jobs: Vec<JobRow>,
    live: Vec<AttemptRow>,
    approvals: Vec<ApprovalRow>,
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

async fn queue(tx: &mut dyn Tx, now: Timestamp) -> Result<Queue> {
    Ok(Queue {
        pending: tx.pending_deployments().await?,
        kept: tx.reservations().await?,
        jobs: tx.queued_jobs().await?,
        live: tx.live_attempts().await?,
        approvals: tx.approvals(&ApprovalFilter::default()).await?,
        pools: settings(tx).await?,
        now,
    })
}

impl Queue {
    fn attempt_of(&self, deployment: DeploymentId) -> Option<&AttemptRow> {
        self.live.iter().find(|row| row.attempt.deployment == deployment)
    }

    /// State and words for a deployment that has not begun.
    fn not_begun(&self, row: &DeploymentRow) -> (&'static str, Option<String>) {
        if let Some(at) = row.not_before.filter(|at| *at > self.now) {
            return ("waiting", Some(format!("its time: it is scheduled for {at}")));
        }
        for key in &row.locks {
            if let Some(kept) = self.kept.iter().find(|kept| kept.key == *key) {
                return ("waiting", Some(self.held(kept)));
            }
        }
        // A child stands in no queue.
        let pending = if row.parent.is_none() { self.pending.as_slice() } else { &[] };
        for key in &row.locks {
            if let Some(first) = ahead(pending, row.deployment.id, self.now).find(|other| other.locks.contains(key)) {
                let words = format!(
                    "lock `{key}`, which deployment `{}` gets first: it waits longer or has more priority",
                    first.deployment.id
                );
                return ("waiting", Some(words));
            }
        }
        ("queued", Some("its turn: nothing stands in its way".to_owned()))
    }

    /// State and words for a deployment of which nothing runs now.
    fn waiting(&self, row: &DeploymentRow, candidates: &[Candidate]) -> (&'static str, Option<String>) {
        let id = row.deployment.id;
        if row.begun_at.is_none() {
            return self.not_begun(row);
        }
        if let Some(row) = self.approvals.iter().find(|row| row.deployment == id) {
            let teams = row.approval.teams.join("`, `");
            let of = if teams.is_empty() { String::new() } else { format!(" of team `{teams}`") };
            let (approval, needs) = (row.approval.id, row.approval.needs);
            return (
                "waiting",
                Some(format!("approval `{approval}` of step `{}`: {needs}{of} have to agree", row.step_name)),
            );
        }
        let Some(job) = self.jobs.iter().find(|row| row.job.deployment == id) else { return ("queued", None) };
        if let Some(words) = paused(&self.pools, &job.pool) {
            return ("queued", Some(words));
        }
        let request = Request { pool: &job.pool, labels: &job.labels, steps: &job.steps };
        if candidates.is_empty() {
            return ("queued", Some(format!("an agent in pool `{}`: none is connected", job.pool)));
        }
        let mut agents: Vec<String> = Vec::new();
        for candidate in candidates {
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

    fn held(&self, lock: &ReservationRow) -> String {
        let holder = match self.attempt_of(lock.deployment) {
            Some(row) => format!(
                "attempt `{}` ({}) of deployment `{}`",
                row.attempt.id,
                row.attempt.state.name(),
                lock.deployment
            ),
            None => format!("deployment `{}`", lock.deployment),
        };
        format!("lock `{}`, held by {holder} since {}", lock.key, lock.taken_at)
    }
}

impl Engine {
    /// A deployment.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn deployment_view(&self, id: DeploymentId) -> Result<Option<DeploymentView>> {
        let now = self.clock().now();
        let found = self
            .read(move |tx| {
                Box::pin(async move {
                    let Some(row) = tx.deployment(id).await? else { return Ok(None) };
                    let over = row.deployment.state.is_terminal();
                    let queue = if over { None } else { Some(queue(tx, now).await?) };
                    Ok(Some((whole(tx, row).await?, queue)))
                })
            })
            .await?;
        Ok(found.map(|(whole, queue)| self.view(whole, queue.as_ref())))
    }

    /// Deployments, newest first.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn deployments(&self, filter: DeploymentFilter) -> Result<Vec<DeploymentView>> {
        let now = self.clock().now();
        let (found, queue) = self
            .read(move |tx| {
                Box::pin(async move {
                    let mut found = Vec::new();
                    for row in tx.deployments(&filter).await? {
                        found.push(whole(tx, row).await?);
                    }
                    Ok((found, queue(tx, now).await?))
                })
            })
            .await?;
        Ok(found.into_iter().map(|whole| self.view(whole, Some(&queue))).collect())
    }

    fn view(&self, whole: Whole, queue: Option<&Queue>) -> DeploymentView {
        let Whole { row, steps, children, starts, artifacts, source } = whole;
        let (mut state, mut waiting_for) = (row.deployment.state.as_str(), None);
        if let Some(queue) = queue {
            let asked = steps.iter().find(|step| guide::is_asked(step)).map(guide::words);
            let idle = queue.attempt_of(row.deployment.id).is_none()
                && !steps.iter().any(|step| step.state == StepState::Running);
            match row.deployment.state {
                DeploymentState::Queued => {
                    (state, waiting_for) = queue.waiting(&row, &self.0.sessions.candidates(&busy(&queue.live)));
                }
                DeploymentState::Running if idle && asked.is_some() => (state, waiting_for) = ("waiting", asked),
                DeploymentState::Running if idle => {
                    let found = queue.waiting(&row, &self.0.sessions.candidates(&busy(&queue.live)));
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

    /// All agents, oldest first.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn agents(&self) -> Result<Vec<AgentView>> {
        let (rows, live) =
            self.read(|tx| Box::pin(async move { Ok((tx.agents().await?, tx.live_attempts().await?)) })).await?;
        let busy = busy(&live);
        let mut attempts: HashMap<_, Vec<AttemptId>> = HashMap::new();
        for row in &live {
            attempts.entry(row.attempt.agent).or_default().push(row.attempt.id);
        }
        let view = |row: crate::store::rows::AgentRow| {
            let ability = self.0.sessions.ability(row.id);
            let state = match &ability {
                _ if row.revoked_at.is_some() => "revoked",
                Some(ability) if ability.draining => "draining",
                Some(_) => "connected",
                None => "disconnected",
            };
            let seen_at = if ability.is_some() { Some(self.clock().now()) } else { row.seen_at };
            AgentView {
                id: row.id.to_string(),
                pool: row.pool,
                labels: row.labels,
                state: state.to_owned(),
                hostname: row.hostname,
                version: row.version,
                slots: ability.as_ref().map_or(0, |ability| ability.slots),
                busy: busy.get(&row.id).copied().unwrap_or(0),
                host: ability.map_or(row.facts, |ability| ability.facts),
                enrolled_at: row.enrolled_at.to_string(),
                seen_at: shown(seen_at),
                attempts: attempts.get(&row.id).into_iter().flatten().map(ToString::to_string).collect(),
            }
        };
        Ok(rows.into_iter().map(view).collect())
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
