//! Begins deployments and hands jobs to agents, woken when something changed, never by a clock. Whose turn it is, is in `turns`.
//!
//! A job's locks are taken, its attempt is made and the offer is written in one transaction. Jobs that wait keep what
//! they will lock from those behind them, so that none waits for ever.

use futures_util::future::join_all;
use longshore_core::attempt::{Attempt, State};
use longshore_core::deployment;
use longshore_core::gate::Denied;
use longshore_core::id::AgentId;
use longshore_core::job;
use longshore_core::offer::{Offer, OfferStep, PackageRef, Pull};
use longshore_core::step::{SkippedBy, StepState};
use longshore_core::time::Timestamp;
use serde_json::json;

use super::cascade::{fence, move_step, stale};
use super::create::gate;
use super::cx::Cx;
use super::flow::{begin, may_begin, spec_of};
use super::turns::Look;
use super::{Engine, Error, Result, children};
use crate::store;
use crate::store::Tx;
use crate::store::rows::{AttemptRow, DeploymentRow, JobRow, LockRow, ToAgent};

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
        loop {
            let plan = self.plan().await?;
            if plan.is_empty() {
                return Ok(());
            }
            // At the same time, so that they are committed together.
            let jobs = plan.into_iter().map(|(row, agent)| async move {
                let done = self.assign(row.clone(), agent).await;
                if done.is_ok() {
                    self.0.scaling.worked(agent, self.clock().elapsed());
                }
                (row, done)
            });
            let mut again = true;
            for (row, done) in join_all(jobs).await {
                match done {
                    Ok(()) => self.0.desk.served(&row),
                    // Someone was faster: the queue is looked at again.
                    Err(Error::Store(store::Error::Stale(_))) => {
                        self.0.dispatch.notify_one();
                        again = false;
                    }
                    Err(error) => return Err(error),
                }
            }
            if !again {
                return Ok(());
            }
        }
    }

    /// Begins deployments that waited for others, in their order. One that waits keeps what it needs from those behind it.
    async fn begin_pending(&self) -> Result<()> {
        while let Some(look) = self.0.desk.take_look() {
            let now = self.clock().now();
            let begun = match self.read(move |tx| Box::pin(async move { ready(tx, look, now).await })).await {
                Ok(found) => self.begin_all(found).await,
                Err(error) => Err(error),
            };
            if let Err(error) = begun {
                // What was looked at is lost: the next time everything is.
                self.0.desk.look(Look { all: true, ..Look::default() });
                return Err(error);
            }
        }
        Ok(())
    }

    async fn begin_all(&self, found: Vec<DeploymentRow>) -> Result<()> {
        for row in found {
            let keys = row.locks.iter().cloned().collect();
            match self.begin(row).await {
                Ok(()) => {}
                // Someone was faster: those who wait are looked at again.
                Err(Error::Store(store::Error::Stale(_))) => self.0.desk.look(Look { keys, ..Look::default() }),
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
                    cancel_cause: None,
                };
                // Its machine goes since it was picked.
                if tx.scaled_in(agent).await? {
                    return Err(stale(&agent));
                }
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

/// Deployments that may begin, or never will, among those that are to be looked at; in their order.
async fn ready(tx: &mut dyn Tx, look: Look, now: Timestamp) -> Result<Vec<DeploymentRow>> {
    let mut ids = look.deployments;
    let mut keys = look.keys;
    if look.all {
        keys.extend(tx.waited_for().await?);
        // One that keeps nothing to itself is found by its time alone.
        ids.extend(tx.schedule(Timestamp::from_micros(0), now).await?.due);
    }
    for key in keys {
        if tx.reservation(&key).await?.is_none() {
            ids.extend(tx.children_for(&key).await?);
            ids.extend(tx.next_for(&key, now).await?);
        }
    }
    let mut found = Vec::new();
    for id in ids {
        let Some(row) = tx.deployment(id).await? else { continue };
        let waits = row.begun_at.is_none() && !row.deployment.state.is_terminal();
        let expired = row.expires_at.is_some_and(|at| at <= now);
        // One whose time has not come holds nobody back.
        let early = row.not_before.is_some_and(|at| at > now);
        if waits && (expired || (!early && may_begin(tx, &row, now).await?)) {
            found.push(row);
        }
    }
    found.sort_by_key(|row| (row.parent.is_none(), std::cmp::Reverse(row.priority), row.deployment.id));
    Ok(found)
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
    cx.after.look.extend(row.locks.iter().cloned());
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
