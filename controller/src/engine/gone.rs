//! Ephemeral agents that are gone leave the list. Their rows stay: history names them.
//!
//! Invariants: none leaves while an attempt of it is not over, `unknown` ones among them; one that comes back is listed again. To be
//! off the list decides nothing else. Silence ends no attempt, however long; that the cloud says that a machine is terminated does
//! (promise P3), and counts only while nothing is heard of its agent.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use longshore_core::attempt::{Event, Proof};
use longshore_core::id::{AgentId, AttemptId};
use longshore_core::join::Conditions;
use longshore_core::time::Timestamp;
use serde_json::json;

use super::cascade::on_attempt;
use super::plane;
use super::{Engine, Result};
use crate::store::joins::{Gone, OriginRow};
use crate::store::rows::{AgentRow, AttemptRow};

/// How often it is looked, as a part of the silence that is waited for.
const LOOKS: u32 = 10;
/// Shortest and longest time between two looks.
const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(60);

/// The agent of an instance of AWS, which is silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Silent {
    pub(crate) agent: AgentId,
    /// As in `aws/111122223333/i-0123456789abcdef0`.
    pub(crate) machine: String,
    /// The region, where the rule that let it in names one.
    pub(crate) region: Option<String>,
}

/// Agents of AWS that are silent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SilentMachines {
    pub(crate) agents: Vec<Silent>,
    /// A rule that counts wants to know networks, so EC2 is asked about machines anyway.
    pub(crate) networks: bool,
}

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
            let silence = self.silence(origin.agent, &seen);
            !holders.contains(&origin.agent) && silence.is_some_and(|silence| since.min(silence) >= after)
        };
        for origin in origins.iter().filter(silent) {
            let seen = rows.get(&origin.agent).and_then(|row| row.seen_at);
            self.vanished(origin.agent, seen).await?;
        }
        Ok(pause)
    }

    /// For how long nothing has been heard of an agent; `None` while it is connected.
    fn silence(&self, agent: AgentId, seen: &HashMap<AgentId, Duration>) -> Option<Duration> {
        if self.0.sessions.ability(agent).is_some() {
            return None;
        }
        // What was heard before this controller began is in rows alone, and it may have been us who were away.
        let heard = seen.get(&agent).copied().unwrap_or(self.0.began);
        Some(self.clock().elapsed().saturating_sub(heard))
    }

    fn is_silent(&self, agent: AgentId, seen: &HashMap<AgentId, Duration>) -> bool {
        self.silence(agent, seen).is_some_and(|silence| silence > self.settings().lease)
    }

    /// Agents whose machine is of AWS, that have been silent for longer than their lease, and of whom it is not known what became of
    /// them or of what they had.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub(crate) async fn silent_machines(&self) -> Result<SilentMachines> {
        let (origins, rules, live) = self
            .read(|tx| {
                Box::pin(async move { Ok((tx.origins().await?, tx.join_rules().await?, tx.live_attempts().await?)) })
            })
            .await?;
        let (holders, seen) = (holders(&live), self.0.sessions.seen());
        let wants = |conditions: &Conditions| matches!(conditions, Conditions::Aws { vpc: Some(_), .. });
        let networks = rules.iter().any(|rule| rule.revoked_at.is_none() && wants(&rule.conditions));
        let region = |origin: &OriginRow| {
            let rule = rules.iter().find(|rule| Some(rule.id) == origin.rule)?;
            if let Conditions::Aws { region, .. } = &rule.conditions { region.clone() } else { None }
        };
        let open = |origin: &OriginRow| origin.gone.is_none() || holders.contains(&origin.agent);
        let silent = |origin: OriginRow| {
            let machine = origin.machine.clone().filter(|machine| machine.starts_with("aws/"))?;
            let fits = open(&origin) && self.is_silent(origin.agent, &seen);
            fits.then(|| Silent { agent: origin.agent, machine, region: region(&origin) })
        };
        Ok(SilentMachines { agents: origins.into_iter().filter_map(silent).collect(), networks })
    }

    /// The cloud says that an agent's machine is terminated: what it had is over, and it leaves the list. `false`, and nothing changes,
    /// when something was heard of it meanwhile or it is another machine.
    ///
    /// # Errors
    /// When rows cannot be saved.
    pub(crate) async fn terminated(&self, agent: AgentId, machine: &str) -> Result<bool> {
        let (engine, machine) = (self.clone(), machine.to_owned());
        self.change("controller", move |tx, cx| {
            Box::pin(async move {
                let Some(mut origin) = tx.origin(agent).await? else { return Ok(false) };
                // Whoever is heard is no machine that is no more: then the answer is about something else.
                let silent = engine.is_silent(agent, &engine.0.sessions.seen());
                if origin.machine.as_deref() != Some(machine.as_str()) || !silent {
                    return Ok(false);
                }
                let mut ended: Vec<AttemptId> = Vec::new();
                for row in tx.live_attempts().await?.into_iter().filter(|row| row.attempt.agent == agent) {
                    let proof = Proof::Terminated { machine: machine.clone() };
                    on_attempt(tx, cx, &row.attempt, &Event::Proven(proof)).await?;
                    ended.push(row.attempt.id);
                }
                let listed = origin.gone.is_none();
                if listed {
                    origin.gone = Some((cx.now, Gone::Terminated));
                    tx.update_origin(&origin).await?;
                }
                if listed || !ended.is_empty() {
                    let words = "the cloud says that its machine is terminated";
                    let detail =
                        json!({ "reason": "terminated", "message": words, "machine": machine, "attempts": ended });
                    cx.audit(tx, "agent.gone", format!("agent/{agent}"), detail).await?;
                }
                Ok(true)
            })
        })
        .await
    }

    async fn vanished(&self, agent: AgentId, seen: Option<Timestamp>) -> Result<()> {
        tracing::info!(%agent, "an ephemeral agent was silent for long and holds nothing; it leaves the list");
        self.change("controller", move |tx, cx| {
            Box::pin(async move {
                let Some(mut origin) = tx.origin(agent).await?.filter(|origin| origin.gone.is_none()) else {
                    return Ok(());
                };
                // It attested anew or said hello since it was looked at.
                let heard = tx.agent(agent).await?.is_none_or(|row| row.seen_at != seen);
                if heard || holders(&tx.live_attempts().await?).contains(&agent) {
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
