//! Letting machines go: what is done about agents before and after their group is told.
//!
//! An agent is held first: from the commit of its row on no job is given to it ([`super::dispatch`] asks in the same
//! transaction that makes an attempt), and the row is made only while it has none. So nothing can come in between.

use longshore_core::id::AgentId;
use serde_json::json;

use super::cx::Cx;
use super::{Engine, Error, Result};
use crate::store::Tx;
use crate::store::scaling::{Action, ScaleInRow, ScalingRow};

/// Who does it, in the audit.
const BY: &str = "scaler";

impl Engine {
    /// Holds those of the agents that have nothing to do, and records that the group gets smaller by them; answers which.
    pub(crate) async fn hold(&self, pool: &str, agents: Vec<(AgentId, String)>, from: u32) -> Result<Vec<AgentId>> {
        let ids: Vec<AgentId> = agents.iter().map(|(id, _)| *id).collect();
        for id in &ids {
            self.0.sessions.hold(*id);
        }
        let pool = pool.to_owned();
        let done = self
            .change(BY, move |tx, cx| {
                Box::pin(async move {
                    let live = tx.live_attempts().await?;
                    let (mut held, mut names) = (Vec::new(), Vec::new());
                    for (agent, instance) in agents {
                        if live.iter().any(|row| row.attempt.agent == agent) {
                            continue;
                        }
                        let row = ScaleInRow {
                            agent,
                            pool: pool.clone(),
                            instance: instance.clone(),
                            since: cx.now,
                            told_at: None,
                        };
                        if tx.insert_scale_in(&row).await? {
                            held.push(agent);
                            names.push(instance);
                        }
                    }
                    if !held.is_empty() {
                        let to = from.saturating_sub(u32::try_from(held.len()).unwrap_or(u32::MAX));
                        let message = format!("idle: {}", names.join(", "));
                        note(tx, cx, (&pool, Action::Shrink), (from, to), message).await?;
                    }
                    Ok::<_, Error>(held)
                })
            })
            .await;
        // Whatever the rows do not say is not held.
        let held: &[AgentId] = done.as_deref().unwrap_or_default();
        for id in ids.iter().filter(|id| !held.contains(id)) {
            self.0.sessions.let_go(*id);
        }
        if held.len() < ids.len() {
            self.0.dispatch.notify_one();
        }
        done
    }

    /// The group has taken the order to end the machine of an agent.
    pub(crate) async fn told_group(&self, agent: AgentId) -> Result<()> {
        self.change(BY, move |tx, cx| Box::pin(async move { Ok(tx.told_scale_in(agent, cx.now).await?) })).await
    }

    /// The machine of an agent does not go, or is gone: if the agent is there, it takes jobs again.
    pub(crate) async fn unhold(&self, row: &ScaleInRow, why: Option<String>) -> Result<()> {
        let (agent, pool, instance) = (row.agent, row.pool.clone(), row.instance.clone());
        self.change(BY, move |tx, cx| {
            Box::pin(async move {
                if tx.remove_scale_in(agent).await?
                    && let Some(why) = why
                {
                    note(tx, cx, (&pool, Action::Released), (0, 0), format!("{instance}: {why}")).await?;
                }
                cx.after.dispatch = true;
                Ok::<_, Error>(())
            })
        })
        .await?;
        self.0.sessions.let_go(agent);
        self.0.dispatch.notify_one();
        Ok(())
    }

    /// Records something that the scaler did or refused.
    pub(crate) async fn scaling_did(
        &self,
        pool: &str,
        action: Action,
        (from, to): (u32, u32),
        message: String,
    ) -> Result<()> {
        let pool = pool.to_owned();
        self.change(BY, move |tx, cx| Box::pin(async move { note(tx, cx, (&pool, action), (from, to), message).await }))
            .await
    }

    /// Agents that were held before this engine began.
    pub(super) async fn hold_again(&self) -> Result<()> {
        for row in self.read(|tx| Box::pin(async move { Ok(tx.scale_ins().await?) })).await? {
            self.0.sessions.hold(row.agent);
        }
        Ok(())
    }
}

/// A line of what was done; what changes something is in the audit too.
async fn note(
    tx: &mut dyn Tx,
    cx: &mut Cx,
    (pool, action): (&str, Action),
    (from, to): (u32, u32),
    message: String,
) -> Result<()> {
    metrics::counter!("longshore_scaler_actions_total", "pool" => pool.to_owned(), "action" => action.as_str())
        .increment(1);
    if matches!(action, Action::Grow | Action::Shrink | Action::Released) {
        let detail = json!({ "pool": pool, "from": from, "to": to, "message": message });
        cx.audit(tx, &format!("pool.{}", action.as_str()), format!("pool/{pool}"), detail).await?;
    }
    tx.insert_scaling(&ScalingRow { pool: pool.to_owned(), at: cx.now, action, from, to, message }).await?;
    Ok(())
}
