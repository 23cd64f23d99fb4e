//! Agents that fail at their own work: counted by what they report, kept from jobs, probed, released. Core has the rules.
//!
//! A probe is asked for on the agent's stream and is no job: nothing waits for it, and it takes no slot.

use std::time::Duration;

use longshore_core::id::AgentId;
use longshore_core::quarantine::{Health, PROBE_TIMEOUT};
use serde_json::json;

use super::cx::Cx;
use super::{Engine, Error, Result};
use crate::store::Tx;
use crate::store::rows::ToAgent;

/// An agent has failed at its own work.
pub(super) async fn failed(tx: &mut dyn Tx, cx: &mut Cx, agent: AgentId, reason: &str) -> Result<()> {
    let Some(row) = tx.agent(agent).await? else { return Ok(()) };
    let after = tx.pool(&row.pool).await?.map(|row| row.settings).unwrap_or_default().quarantine_after();
    let before = tx.health(agent).await?;
    let next = before.failed(reason, after, cx.now);
    tx.save_health(agent, &next).await?;
    if next.is_quarantined() && !before.is_quarantined() {
        cx.after.timers = true;
        metrics::counter!("longshore_agents_quarantined_total").increment(1);
        let detail = json!({ "failures": next.failures, "reasons": next.reasons, "probe_at": next.due });
        cx.audit(tx, "agent.quarantined", object(agent), detail).await?;
    }
    Ok(())
}

/// A container of an agent ran to its end.
pub(super) async fn worked(tx: &mut dyn Tx, agent: AgentId) -> Result<()> {
    let before = tx.health(agent).await?;
    let next = before.worked();
    if next != before {
        tx.save_health(agent, &next).await?;
    }
    Ok(())
}

fn object(agent: AgentId) -> String {
    format!("agent/{agent}")
}

/// Names one probe: the answer to an earlier one does not count.
fn number(health: &Health) -> u64 {
    u64::from(health.probes) + 1
}

async fn release(
    tx: &mut dyn Tx,
    cx: &mut Cx,
    agent: AgentId,
    (before, next): (&Health, &Health),
    by: &str,
) -> Result<()> {
    tx.save_health(agent, next).await?;
    (cx.after.dispatch, cx.after.timers) = (true, true);
    let detail = json!({ "by": by, "since": before.since, "reasons": before.reasons });
    cx.audit(tx, "agent.released", object(agent), detail).await
}

impl Engine {
    /// Lets an agent have jobs again, on a person's word. One that is not quarantined starts its count anew.
    ///
    /// # Errors
    /// When there is no such agent.
    pub async fn release_agent(&self, id: AgentId, by: &str) -> Result<()> {
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                tx.agent(id).await?.ok_or_else(|| Error::not_found("agent", &id))?;
                let before = tx.health(id).await?;
                if before == Health::default() {
                    return Ok(());
                }
                release(tx, cx, id, (&before, &Health::default()), "a person").await
            })
        })
        .await
    }

    /// Asks quarantined agents whose probe is due, and gives up probes that were not answered. Answers when the next is due.
    pub(super) async fn probe_agents(&self) -> Result<Option<Duration>> {
        let now = self.clock().now();
        let healths = self.read(|tx| Box::pin(async move { Ok(tx.healths().await?) })).await?;
        let mut next: Option<Duration> = None;
        for (agent, health) in healths {
            let due = if health.is_overdue(now) {
                self.judge(agent, health, Some(format!("it did not answer within {} s", PROBE_TIMEOUT.as_secs())))
                    .await?
            } else if health.is_due(now) {
                // One that is away is asked when it is back: its hello wakes the timers.
                if self.0.sessions.can(agent, |ability| ability.probes) != Some(true) {
                    continue;
                }
                self.send_probe(agent, health).await?
            } else {
                health
            };
            let left = due.due.filter(|_| due.is_quarantined()).map(|at| at.since(now) + Duration::from_millis(1));
            next = next.into_iter().chain(left).min();
        }
        Ok(next)
    }

    async fn send_probe(&self, agent: AgentId, health: Health) -> Result<Health> {
        let next = health.probed(self.clock().now());
        let saved = next.clone();
        self.change("controller", move |tx, _| {
            Box::pin(async move { Ok::<_, Error>(tx.save_health(agent, &saved).await?) })
        })
        .await?;
        if !self.0.sessions.tell(agent, ToAgent::Probe { request: number(&next) }) {
            tracing::debug!(%agent, "the agent went away before it could be probed");
        }
        Ok(next)
    }

    /// An agent has answered a probe.
    pub(super) async fn probed(&self, agent: AgentId, request: u64, error: Option<String>) -> Result<()> {
        let health = self.read(move |tx| Box::pin(async move { Ok(tx.health(agent).await?) })).await?;
        if health.probing && number(&health) == request {
            self.judge(agent, health, error).await?;
            self.0.timers.notify_one();
        }
        Ok(())
    }

    /// What a probe's end makes of an agent, unless it was released meanwhile.
    async fn judge(&self, agent: AgentId, seen: Health, error: Option<String>) -> Result<Health> {
        self.change("controller", move |tx, cx| {
            Box::pin(async move {
                let health = tx.health(agent).await?;
                if health != seen {
                    return Ok(health);
                }
                let Some(error) = error else {
                    let next = health.passed();
                    release(tx, cx, agent, (&health, &next), "a probe").await?;
                    return Ok(next);
                };
                let next = health.probe_failed(&error, cx.now);
                tx.save_health(agent, &next).await?;
                let detail = json!({ "reason": error, "probe_at": next.due });
                cx.audit(tx, "agent.probe_failed", object(agent), detail).await?;
                Ok(next)
            })
        })
        .await
    }
}
