//! Leases and time limits. One task that sleeps until the next of them is due.

use std::collections::{HashMap, HashSet};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use longshore_core::attempt::{Event, Limit, State};
use longshore_core::id::{AgentId, AttemptId};
use longshore_core::job;
use longshore_core::lease;
use longshore_core::step::index_of;
use longshore_core::time::Timestamp;

use super::cascade::{on_attempt, on_job};
use super::flow::spec_of;
use super::plans::worked;
use super::turns::Look;
use super::{Engine, Error, Result};
use crate::store;
use crate::store::rows::AttemptRow;

/// Longest sleep, whatever is due.
const NAP: Duration = Duration::from_secs(3_600);
/// How many times as long as a look took nothing is looked at after it, and at most how long: little against the shortest limit.
const REST: u32 = 9;
const LONGEST_REST: Duration = Duration::from_millis(500);
/// Jobs that are ended before it is looked for more.
const AT_ONCE: u32 = 100;

/// What a step of an attempt may take.
pub(super) type StepTimes = HashMap<(AttemptId, u32), Duration>;

impl Engine {
    pub(super) async fn time_forever(self) -> Result<()> {
        loop {
            // Before anything is looked at: what becomes due meanwhile must not be slept over.
            let began = self.clock().elapsed();
            let next = match self.tick().await {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "timers failed; they are tried again");
                    self.settings().heartbeat
                }
            };
            // With many changes a look at all that is live would follow each of them.
            self.clock().rest(began, REST, LONGEST_REST).await;
            tokio::select! {
                () = self.0.timers.notified() => {}
                () = self.clock().sleep_until(began.saturating_add(next)) => {}
            }
        }
    }

    pub(super) async fn clear_outbox_forever(self) -> Result<()> {
        loop {
            self.0.outbox.notified().await;
            let rows = self.0.sessions.take_sent();
            let ids: Vec<i64> = rows.iter().map(|(_, id)| *id).collect();
            let removed: Result<()> = self
                .0
                .parts
                .store
                .write(move |tx| {
                    Box::pin(async move {
                        tx.remove_outbox(&ids).await?;
                        Ok(())
                    })
                })
                .await;
            match removed {
                Ok(()) => self.0.sessions.forget_sent(&rows),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "messages stay in the outbox for now");
                }
            }
        }
    }

    /// Does what is due; answers how long nothing will be.
    pub(super) async fn tick(&self) -> Result<Duration> {
        let live = self.read(|tx| Box::pin(async move { Ok(tx.live_attempts().await?) })).await?;
        let leases = self.leases(&live).await?;
        let limits = self.limits(live).await?;
        let waits = self.queue().await?;
        let now = self.clock().now();
        let approvals = self.expire_approvals().await?.map_or(NAP, |at| at.since(now) + Duration::from_millis(1));
        let schedule = self.schedule(now).await?;
        let probes = self.probe_agents().await?.unwrap_or(NAP);
        let vanish = self.vanish().await?;
        Ok(NAP.min(leases).min(limits).min(waits).min(approvals).min(schedule).min(probes).min(vanish))
    }

    /// Attempts of agents whose lease has lapsed.
    async fn leases(&self, live: &[AttemptRow]) -> Result<Duration> {
        let lease = self.settings().lease;
        let (now, seen) = (self.clock().elapsed(), self.0.sessions.seen());
        let serving = now.saturating_sub(self.0.began);
        let mut next = NAP;
        let mut lapsed: HashMap<AgentId, Vec<&AttemptRow>> = HashMap::new();
        let mut alive = HashSet::new();
        for row in live.iter().filter(|row| !matches!(row.attempt.state, State::Unknown { .. })) {
            let agent = row.attempt.agent;
            let silent = seen.get(&agent).map_or(serving, |seen| now.saturating_sub(*seen));
            if lease::lapsed(silent, serving, lease) {
                lapsed.entry(agent).or_default().push(row);
            } else {
                alive.insert(agent);
                // `lapsed` asks for more than the lease.
                next = next.min(lease.saturating_sub(silent.min(serving)) + Duration::from_millis(1));
            }
        }
        if lease::frozen(alive.len(), lapsed.len()) {
            tracing::warn!(
                lapsed = lapsed.len(),
                alive = alive.len(),
                "too many agents fell silent at once: no lease is ended for now"
            );
            return Ok(next.min(lease / 4 + Duration::from_millis(1)));
        }
        for (agent, rows) in lapsed {
            tracing::warn!(%agent, "the agent's lease lapsed");
            metrics::counter!("longshore_agents_lapsed_total").increment(1);
            self.0.sessions.cut(agent);
            for row in rows {
                self.put(row, Event::Silent).await?;
            }
        }
        Ok(next)
    }

    /// Attempts that have been in their state for too long.
    async fn limits(&self, live: Vec<AttemptRow>) -> Result<Duration> {
        let mut next = NAP;
        let running: HashSet<AttemptId> = live.iter().map(|row| row.attempt.id).collect();
        self.step_times().retain(|(attempt, _), _| running.contains(attempt));
        for row in live {
            let step_time = match row.attempt.state {
                State::Running { step, between: false } => self.step_time(&row, step).await?,
                State::Running { step, between: true } => self.retry_time(&row, step).await?,
                _ => Duration::ZERO,
            };
            let Limit::After(limit) = row.attempt.state.limit(&self.settings().limits, step_time) else { continue };
            let left = self.left(row.attempt.since, limit);
            if left.is_zero() {
                self.put(&row, Event::LimitPassed).await?;
            } else {
                next = next.min(left);
            }
        }
        Ok(next)
    }

    /// Wakes the dispatcher for deployments whose time has come, or is over.
    async fn schedule(&self, now: Timestamp) -> Result<Duration> {
        let since = self.0.desk.looked(now);
        let schedule = self.read(move |tx| Box::pin(async move { Ok(tx.schedule(since, now).await?) })).await;
        // What was not read is not looked at.
        let schedule = schedule.inspect_err(|_| self.0.desk.look_again(since))?;
        if !schedule.due.is_empty() {
            let deployments = schedule.due.into_iter().collect();
            self.0.desk.look(Look { deployments, ..Look::default() });
            self.0.dispatch.notify_one();
        }
        Ok(schedule.next.map_or(NAP, |at| at.since(now) + Duration::from_millis(1)))
    }

    /// Ends jobs that waited as long as they may. The time without a controller is not charged.
    async fn queue(&self) -> Result<Duration> {
        let (began, now) = (self.0.began_at, self.clock().now());
        loop {
            let due = self
                .read(move |tx| Box::pin(async move { Ok(tx.waited_too_long(began, now, AT_ONCE).await?) }))
                .await?;
            if due.is_empty() {
                break;
            }
            for row in due {
                self.change("controller", move |tx, cx| {
                    Box::pin(async move {
                        let Some(row) = tx.job(row.job.id).await? else { return Ok(()) };
                        // It was claimed, or has ended.
                        if row.job.state != job::State::Queued {
                            return Ok(());
                        }
                        on_job(tx, cx, &row, &job::Event::LimitPassed).await
                    })
                })
                .await?;
            }
        }
        let next = self.read(move |tx| Box::pin(async move { Ok(tx.next_to_give_up(began, now).await?) })).await?;
        Ok(next.map_or(NAP, |at| at.since(now) + Duration::from_millis(1)))
    }

    /// What is left of a limit. The time without a controller is not charged.
    fn left(&self, since: Timestamp, limit: Duration) -> Duration {
        let since = since.max(self.0.began_at);
        limit.saturating_sub(self.clock().now().since(since))
    }

    /// What a running step may take, its grace period included.
    async fn step_time(&self, row: &AttemptRow, step: u32) -> Result<Duration> {
        let (id, key) = (row.attempt.deployment, (row.attempt.id, step));
        if let Some(known) = self.step_times().get(&key) {
            return Ok(*known);
        }
        let timeout = self
            .read(move |tx| {
                Box::pin(async move {
                    let row = tx.deployment(id).await?.ok_or_else(|| Error::not_found("deployment", &id))?;
                    let spec = spec_of(tx, &row).await?;
                    Ok(worked(&spec, step)
                        .and_then(|step| step.timeout)
                        .unwrap_or(longshore_core::spec::DEFAULT_TIMEOUT))
                })
            })
            .await?;
        let time = timeout.saturating_add(self.settings().grace);
        self.step_times().insert(key, time);
        Ok(time)
    }

    /// What was worked out before; the spec of a deployment does not change.
    fn step_times(&self) -> MutexGuard<'_, StepTimes> {
        self.0.step_times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long an attempt has to wait between two tries of a step: that is no silence of its agent.
    async fn retry_time(&self, row: &AttemptRow, step: u32) -> Result<Duration> {
        let (id, since) = (row.attempt.deployment, row.attempt.since);
        let steps = self.read(move |tx| Box::pin(async move { Ok(tx.steps(id).await?) })).await?;
        let due = steps.into_iter().find(|row| row.index == index_of(step)).and_then(|row| row.due_at);
        Ok(due.map_or(Duration::ZERO, |due| due.since(since)))
    }

    /// Puts an event to an attempt as it was when it was read; one that has moved on is left alone.
    async fn put(&self, row: &AttemptRow, event: Event) -> Result<()> {
        let attempt = row.attempt.clone();
        let done = self
            .change("controller", move |tx, cx| {
                Box::pin(async move { on_attempt(tx, cx, &attempt, &event).await.map(|_| ()) })
            })
            .await;
        match done {
            Err(Error::Store(store::Error::Stale(_)) | Error::Attempt(_)) => Ok(()),
            other => other,
        }
    }
}
