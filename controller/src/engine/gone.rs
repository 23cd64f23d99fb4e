//! Ephemeral agents that are gone leave the list. Their rows stay: history names them.
//!
//! Invariants: none leaves while an attempt of it is not over, `unknown` ones among them; one that comes back is listed again. To be
//! off the list decides nothing else.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use longshore_core::id::AgentId;
use serde_json::json;

use super::plane;
use super::{Engine, Result};
use crate::store::joins::{Gone, OriginRow};
use crate::store::rows::{AgentRow, AttemptRow};

/// How often it is looked, as a part of the silence that is waited for.
const LOOKS: u32 = 10;
/// Shortest and longest time between two looks.
const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(60);

/// Agents with attempts that are not over.
pub(super) fn holders(live: &[AttemptRow]) -> HashSet<AgentId> {
    live.iter().map(|row| row.attempt.agent).collect()
}

impl Engine {
    /// An agent takes its leave: it has nothing left, and is about to end.
    ///
    /// # Errors
    /// [`plane::Error::Invalid`] while an attempt of it is not over.
    pub async fn leave(&self, agent: AgentId, reason: String) -> Result<(), plane::Error> {
        self.change(&agent.to_string(), move |tx, cx| {
            Box::pin(async move {
                if holders(&tx.live_attempts().await?).contains(&agent) {
                    let why = "an attempt of this agent is not over, so it does not leave".to_owned();
                    return Err(plane::Error::Invalid(why));
                }
                let Some(mut origin) = tx.origin(agent).await?.filter(|origin| origin.ephemeral) else { return Ok(()) };
                if origin.gone.is_none() {
                    origin.gone = Some((cx.now, Gone::Left));
                    tx.update_origin(&origin).await?;
                    cx.audit(tx, "agent.left", format!("agent/{agent}"), json!({ "reason": reason })).await?;
                }
                Ok(())
            })
        })
        .await?;
        self.0.sessions.cut(agent);
        Ok(())
    }

    /// Takes ephemeral agents off the list that hold nothing and have been silent for long; answers when to look again.
    pub(super) async fn vanish(&self) -> Result<Duration> {
        let now = self.clock().elapsed();
        let after = self.settings().ephemeral_silence;
        let pause = (after / LOOKS).clamp(LEAST, MOST);
        {
            let mut due = self.0.vanish_at.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if now < *due {
                return Ok(due.saturating_sub(now));
            }
            *due = now.saturating_add(pause);
        }
        let (origins, rows, live) = self
            .read(|tx| {
                Box::pin(async move {
                    let mut origins = tx.origins().await?;
                    origins.retain(|origin| origin.ephemeral && origin.gone.is_none());
                    if origins.is_empty() {
                        return Ok((origins, Vec::new(), Vec::new()));
                    }
                    Ok((origins, tx.agents().await?, tx.live_attempts().await?))
                })
            })
            .await?;
        let rows: HashMap<AgentId, AgentRow> = rows.into_iter().map(|row| (row.id, row)).collect();
        let (holders, seen) = (holders(&live), self.0.sessions.seen());
        let silent = |origin: &&OriginRow| {
            let Some(row) = rows.get(&origin.agent) else { return false };
            let since = self.clock().now().since(row.seen_at.unwrap_or(row.enrolled_at));
            // What was heard before this controller began is in the row alone, and it may have been us who were away.
            let heard =
                seen.get(&origin.agent).map_or_else(|| now.saturating_sub(self.0.began), |at| now.saturating_sub(*at));
            !holders.contains(&origin.agent)
                && self.0.sessions.ability(origin.agent).is_none()
                && since.min(heard) >= after
        };
        for origin in origins.iter().filter(silent) {
            self.vanished(origin.agent).await?;
        }
        Ok(pause)
    }

    async fn vanished(&self, agent: AgentId) -> Result<()> {
        tracing::info!(%agent, "an ephemeral agent was silent for long and holds nothing; it leaves the list");
        self.change("controller", move |tx, cx| {
            Box::pin(async move {
                let Some(mut origin) = tx.origin(agent).await?.filter(|origin| origin.gone.is_none()) else {
                    return Ok(());
                };
                if holders(&tx.live_attempts().await?).contains(&agent) {
                    return Ok(());
                }
                origin.gone = Some((cx.now, Gone::Silent));
                tx.update_origin(&origin).await?;
                cx.audit(tx, "agent.gone", format!("agent/{agent}"), json!({ "reason": "silent" })).await
            })
        })
        .await
    }
}
