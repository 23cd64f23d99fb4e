//! Hands jobs to agents: first come first served, woken when something changed, never by a clock.
//!
//! A job's locks are taken, its attempt is made and the offer is written in one transaction. Jobs that wait keep what
//! they will lock from those behind them, so that none waits for ever.

use std::collections::{HashMap, HashSet};

use longshore_core::attempt::{Attempt, State};
use longshore_core::deployment;
use longshore_core::gate::Denied;
use longshore_core::id::AgentId;
use longshore_core::job;
use longshore_core::offer::{Offer, OfferStep, PackageRef, Pull};
use longshore_core::placement::{self, Request};
use longshore_core::step::{SkippedBy, StepState};
use serde_json::json;

use super::cascade::{fence, move_step, stale};
use super::create::gate;
use super::cx::Cx;
use super::flow::{begin, spec_of};
use super::pools::{paused, settings};
use super::{Engine, Error, Result, children};
use crate::store;
use crate::store::Tx;
use crate::store::rows::{AttemptRow, DeploymentRow, JobRow, LockRow, ToAgent};

/// Jobs offered to each agent or running there.
pub(super) fn busy(live: &[AttemptRow]) -> HashMap<AgentId, u32> {
    let mut busy = HashMap::new();
    for row in live {
        *busy.entry(row.attempt.agent).or_insert(0) += 1;
    }
    busy
}

impl Engine {
    pub(super) async fn dispatch_forever(self) -> Result<()> {
        loop {
            if let Err(error) = self.dispatch().await {
                // A full disk: the next change wakes it again, and so does the pause.
                tracing::error!(error = &error as &dyn std::error::Error, "dispatch failed; it is tried again");
                self.clock().sleep(self.settings().heartbeat).await;
                continue;
            }
            self.0.dispatch.notified().await;
        }
    }

    /// Hands out what can be handed out now.
    async fn dispatch(&self) -> Result<()> {
        self.begin_pending().await?;
        let ((queued, locks, live), pools) = self
            .read(|tx| {
                Box::pin(async move {
                    let rows = (tx.queued_jobs().await?, tx.locks().await?, tx.live_attempts().await?);
                    Ok((rows, settings(tx).await?))
                })
            })
            .await?;
        let mut candidates = self.0.sessions.candidates(&busy(&live));
        let mut taken: HashSet<String> = locks.into_iter().map(|lock| lock.key).collect();
        for row in queued {
            if candidates.iter().all(|agent| agent.busy >= agent.slots) {
                break;
            }
            let waits = row.locks.iter().any(|key| taken.contains(key));
            taken.extend(row.locks.iter().cloned());
            if waits || paused(&pools, &row.pool).is_some() {
                continue;
            }
            let request = Request { pool: &row.pool, labels: &row.labels, steps: &row.steps };
            let Some(agent) = placement::pick(&candidates, &request).map(|agent| agent.id) else { continue };
            match self.assign(row, agent).await {
                Ok(()) => {}
                // Someone was faster: the queue is looked at again.
                Err(Error::Store(store::Error::Stale(_))) => self.0.dispatch.notify_one(),
                Err(error) => return Err(error),
            }
            for candidate in candidates.iter_mut().filter(|candidate| candidate.id == agent) {
                candidate.busy += 1;
            }
        }
        Ok(())
    }

    /// Begins deployments that waited for others, in their order. One that waits keeps what it needs from those behind it.
    async fn begin_pending(&self) -> Result<()> {
        let (pending, kept) = self
            .read(|tx| Box::pin(async move { Ok((tx.pending_deployments().await?, tx.reservations().await?)) }))
            .await?;
        let held: HashSet<String> = kept.into_iter().map(|kept| kept.key).collect();
        let mut taken = held.clone();
        for row in pending {
            let now = self.clock().now();
            let expired = row.expires_at.is_some_and(|at| at <= now);
            // One whose time has not come holds nobody back.
            if !expired && row.not_before.is_some_and(|at| at > now) {
                continue;
            }
            // A child stands in no queue: see `children`.
            let ahead = if row.parent.is_some() { &held } else { &taken };
            let waits = row.locks.iter().any(|key| ahead.contains(key));
            if !expired {
                taken.extend(row.locks.iter().cloned());
            }
            if !expired && waits {
                continue;
            }
            match self.begin(row).await {
                Ok(()) => {}
                // Someone was faster: the queue is looked at again.
                Err(Error::Store(store::Error::Stale(_))) => self.0.dispatch.notify_one(),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Begins a deployment if the gate lets it; else it ends here, and says why.
    async fn begin(&self, row: DeploymentRow) -> Result<()> {
        self.change("controller", move |tx, cx| {
            Box::pin(async move {
                let spec = spec_of(tx, &row).await?;
                match gate(tx, &row, &spec, cx.now).await? {
                    None => begin(tx, cx, &row).await,
                    Some(denied) if denied.passes_by_itself() => Ok(()),
                    Some(denied) => deny(tx, cx, &row, &denied).await,
                }
            })
        })
        .await
    }

    async fn assign(&self, row: JobRow, agent: AgentId) -> Result<()> {
        let (id, incarnation, url) = (self.clock().attempt_id(), self.0.meta.incarnation, self.settings().url.clone());
        self.change("controller", move |tx, cx| {
            Box::pin(async move {
                let attempt = Attempt {
                    id,
                    job: row.job.id,
                    deployment: row.job.deployment,
                    agent,
                    epoch: row.job.epoch + 1,
                    incarnation,
                    state: State::Offered,
                    since: cx.now,
                    cancel_asked: None,
                };
                take_locks(tx, cx, &row).await?;
                let decision = job::decide(&row.job, &job::Event::Assign { attempt: id }, cx.now)
                    .map_err(|rejected| Error::Internal(rejected.to_string()))?;
                if !tx.update_job(&row.job, &decision.next).await? {
                    return Err(stale(&row.job.id));
                }
                tx.insert_attempt(&AttemptRow { attempt: attempt.clone(), created_at: cx.now }).await?;
                let offer = offer(tx, &row, &attempt, &url).await?;
                cx.tell(tx, agent, ToAgent::Offer(Box::new(offer))).await?;
                cx.after.timers = true;
                let detail = json!({ "attempt": id, "agent": agent, "epoch": attempt.epoch });
                cx.event(tx, "attempt.offered", Some(attempt.deployment), detail).await
            })
        })
        .await
    }
}

/// Ends a deployment that never begins: what was true when it was accepted is not true any more.
async fn deny(tx: &mut dyn Tx, cx: &mut Cx, row: &DeploymentRow, denied: &Denied) -> Result<()> {
    let id = row.deployment.id;
    cx.event(tx, "deployment.denied", Some(id), json!({ "rule": denied.rule(), "reason": denied.to_string() })).await?;
    for mut step in tx.steps(id).await? {
        (step.skipped, step.reason) = (Some(SkippedBy::Failure), Some(format!("not started: {denied}")));
        move_step(tx, cx, &mut step, StepState::Skipped).await?;
    }
    let from = &row.deployment;
    let next = deployment::deny(from, &denied.to_string(), cx.now);
    if !tx.update_deployment(from, &next).await? {
        return Err(stale(&id));
    }
    cx.after.ended.insert(id, next.state);
    // Those behind it waited for it.
    cx.after.dispatch = true;
    children::ended(tx, cx, row, &next).await
}

/// All or nothing: the change is undone when one is held.
async fn take_locks(tx: &mut dyn Tx, cx: &mut Cx, row: &JobRow) -> Result<()> {
    for key in &row.locks {
        let lock = LockRow { key: key.clone(), job: row.job.id, deployment: row.job.deployment, taken_at: cx.now };
        if !tx.take_lock(&lock).await? {
            return Err(stale(key));
        }
    }
    Ok(())
}

async fn offer(tx: &mut dyn Tx, row: &JobRow, attempt: &Attempt, url: &str) -> Result<Offer> {
    let deployment =
        tx.deployment(attempt.deployment).await?.ok_or_else(|| Error::not_found("deployment", &attempt.deployment))?;
    let package = match &deployment.package {
        Some(sha256) => {
            let package = tx.package(sha256).await?.ok_or_else(|| Error::not_found("package", sha256))?;
            Some(PackageRef { sha256: package.sha256, bytes: package.bytes })
        }
        None => None,
    };
    let always = tx.pool(&row.pool).await?.is_some_and(|pool| pool.settings.pull == Some(Pull::Always));
    let images = tx.images(deployment.release).await?;
    // By now: an earlier start may have pinned an image, and somebody may have set the pool's policy.
    let steps = row.steps.iter().map(|step| OfferStep {
        pull: if always { Pull::Always } else { step.pull },
        digest: images.get(&step.image).cloned(),
        ..step.clone()
    });
    let steps = steps.collect();
    let url = if url.is_empty() { String::new() } else { format!("{url}/deployments/{}", attempt.deployment) };
    Ok(Offer {
        fence: fence(attempt),
        job: attempt.job,
        deployment: attempt.deployment,
        project: deployment.project_name,
        environment: deployment.environment,
        url,
        steps,
        package,
    })
}
