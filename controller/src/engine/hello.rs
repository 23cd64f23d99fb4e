//! An agent's stream: what it says first, how that fits what the rows say, and what it says later.

use std::collections::{BTreeMap, HashSet};

use longshore_core::attempt::{Event, Proof, State};
use longshore_core::compat;
use longshore_core::fence::Fence;
use longshore_core::id::{AgentId, AttemptId, DeploymentId};
use longshore_core::plugins::{Plugin, digest};
use longshore_core::step::index_of;
use serde_json::json;

use super::Engine;
use super::cascade::{fence, on_attempt};
use super::cx::Cx;
use super::plane::{Disk, Error, Hello, Said, Verdict, Welcome};
use super::sessions::{Ability, Line, Rival};
use super::view::ProgressView;
use crate::store::Tx;
use crate::store::rows::{AttemptRow, Drained};

/// The phase of a progress that goes into the timeline.
const NOTE: &str = "note";
/// Longest note, in characters.
const MAX_NOTE: usize = 1_000;

type Result<T, E = Error> = std::result::Result<T, E>;

/// Heartbeats that a session misses before another process may take its place.
const SILENT_BEATS: u32 = 2;

impl Engine {
    /// Opens an agent's stream. What it still has is compared with the rows: what it has lost is proven to be gone, what it has
    /// beyond them it has to forget.
    ///
    /// # Errors
    /// [`Error::Unknown`] for an agent that is not enrolled or was cut off, [`Error::Twice`] while another process holds its session.
    pub async fn hello(&self, agent: AgentId, hello: Hello) -> Result<Welcome> {
        let rival = Rival { instance: hello.instance.clone(), boot_id: hello.boot_id.clone() };
        if self.0.sessions.contested(agent, rival, self.settings().heartbeat * SILENT_BEATS) {
            tracing::warn!(%agent, "a second process with this agent's identity said hello; the first one stays");
            return Err(Error::Twice);
        }
        // No offer may go to the old stream while the rows are compared.
        self.0.sessions.cut(agent);
        // And no timer may take what is given back for silent again.
        self.0.sessions.called(agent);
        let said = hello.clone();
        let (placed, verdicts) = self
            .change(&agent.to_string(), move |tx, cx| {
                Box::pin(async move {
                    let mut row = tx.agent(agent).await?.ok_or(Error::Unknown)?;
                    let new_boot = row.boot_id != said.boot_id;
                    (row.boot_id, row.hostname, row.version) = (said.boot_id, said.hostname, said.version);
                    (row.facts, row.seen_at) = (said.facts, Some(cx.now));
                    if !tx.update_agent(&row).await? {
                        return Err(Error::Unknown);
                    }
                    tx.clear_outbox(agent).await?;
                    if let Some(mut origin) = tx.origin(agent).await?.filter(|origin| origin.gone.is_some()) {
                        origin.gone = None;
                        tx.update_origin(&origin).await?;
                    }
                    let mut verdicts = Vec::new();
                    for held in &said.held {
                        verdicts.push(take_back(tx, cx, agent, held).await?);
                    }
                    let kept: HashSet<_> =
                        verdicts.iter().filter(|verdict| verdict.keep).map(|verdict| verdict.attempt).collect();
                    for row in tx.live_attempts().await? {
                        if row.attempt.agent == agent && !kept.contains(&row.attempt.id) {
                            let proof = if new_boot { Proof::NewBoot } else { Proof::Absent };
                            on_attempt(tx, cx, &row.attempt, &Event::Proven(proof)).await?;
                        }
                    }
                    let plugins = pool_plugins(tx, &row.pool).await?;
                    Ok::<_, Error>(((row.pool, row.labels, row.drained, plugins), verdicts))
                })
            })
            .await?;
        let (line, plugins) = self.open_line(agent, placed, hello).await?;
        let (heartbeat, max_disconnected) = (self.settings().heartbeat, self.settings().max_disconnected);
        Ok(Welcome { verdicts, heartbeat, max_disconnected, controller: self.0.meta.controller, plugins, line })
    }

    async fn open_line(
        &self,
        agent: AgentId,
        (pool, labels, drained, wanted): (String, BTreeMap<String, String>, Option<Drained>, Vec<Plugin>),
        hello: Hello,
    ) -> Result<(Line, Vec<Plugin>)> {
        let ahead = compat::ahead(&hello.version, env!("CARGO_PKG_VERSION"));
        if let Some(why) = &ahead {
            tracing::warn!(%agent, "the agent gets no new jobs: it {why}");
        }
        let Hello { slots, mounts, weakest, draining, engine, images, plans, operations, probes, leaving, .. } = hello;
        let Hello { instance, facts, held, room, largest, disk, plugins, .. } = hello;
        // What it still has may take more slots than it has.
        let free = slots.saturating_sub(u32::try_from(held.len()).unwrap_or(u32::MAX));
        let ability = Ability {
            pool: pool.clone(),
            labels,
            slots,
            mounts,
            weakest,
            draining,
            ahead,
            engine,
            images,
            plans,
            operations,
            leaving,
            drained,
            plugins,
            wanted_plugins: digest(&wanted),
            facts,
            free,
            declined: None,
            probes,
            room,
            largest,
            disk,
        };
        let line = self.0.sessions.open(agent, instance, ability);
        // What was decided since the rows were compared.
        let of = pool.clone();
        let (rows, row, now) = self
            .read(move |tx| {
                Box::pin(async move {
                    Ok((tx.outbox().await?, tx.agent(agent).await?, super::pools::plugins(tx, &of).await?))
                })
            })
            .await?;
        if now != wanted {
            self.0.sessions.want_plugins(&pool, &now);
        }
        let Some(row) = row.filter(|row| row.revoked_at.is_none()) else {
            self.0.sessions.cut(agent);
            return Err(Error::Unknown);
        };
        self.0.sessions.drain(agent, row.drained);
        for row in rows.iter().filter(|row| row.agent == agent) {
            if self.0.sessions.send(row) {
                self.0.outbox.notify_one();
            }
        }
        self.0.dispatch.notify_one();
        self.0.timers.notify_one();
        Ok((line, wanted))
    }

    /// The stream ended. Its lease runs on.
    pub fn goodbye(&self, agent: AgentId, line: u64) {
        self.0.sessions.close(agent, line);
    }

    /// Something that an agent said on its stream.
    ///
    /// # Errors
    /// [`Error::Replaced`] when the stream is not the agent's any more; otherwise only when rows cannot be saved.
    pub async fn said(&self, agent: AgentId, line: u64, said: Said) -> Result<()> {
        let mut wake = false;
        let heard = self.0.sessions.heard(agent, line, |ability| match &said {
            Said::Heartbeat { facts, engine, free, disk } => {
                wake = ability.declined.take().is_some() || *free > ability.free;
                ability.free = *free;
                // A heartbeat that says nothing of the host changes nothing of what is known.
                if let Some(facts) = facts {
                    wake |= !ability.engine && *engine;
                    wake |= eases(&ability.disk, disk);
                    (ability.engine, ability.disk) = (*engine, disk.clone());
                    ability.facts = facts.clone();
                }
            }
            Said::Draining(draining) => ability.draining = Some(draining.clone()),
            Said::Plugins(readiness) => {
                wake = readiness.ready;
                ability.plugins = Some(readiness.clone());
            }
            // Before the job is back in the queue.
            Said::Answer { accepted: false, reason, .. } => ability.declined = Some(reason.clone()),
            Said::Answer { .. }
            | Said::Progress { .. }
            | Said::Image { .. }
            | Said::Probed { .. }
            | Said::Canceling { .. } => {}
        });
        if let Some(rival) = heard.ok_or(Error::Replaced)?.rival {
            self.alert(agent, rival).await?;
        }
        if wake {
            self.0.dispatch.notify_one();
        }
        match said {
            Said::Heartbeat { .. } | Said::Draining(_) | Said::Plugins(_) => Ok(()),
            Said::Probed { request, error } => Ok(self.probed(agent, request, error).await?),
            Said::Canceling { fence, cause } => self.cancels(agent, fence, cause).await,
            Said::Image { request, told } => {
                self.0.questions.answer(agent, request, told);
                Ok(())
            }
            Said::Answer { fence, accepted, reason } => self.answered(agent, fence, accepted, reason).await,
            Said::Progress { fence, step, phase, message, current, total } => {
                self.progressed(
                    agent,
                    fence,
                    step,
                    ProgressView { step: String::new(), phase, message, current, total },
                )
                .await
            }
        }
    }

    /// Two processes have the identity of one agent, and both live.
    async fn alert(&self, agent: AgentId, rival: Rival) -> Result<()> {
        tracing::error!(
            %agent, rival = rival.instance, boot_id = rival.boot_id,
            "two processes have the identity of this agent: the second one is refused; was its machine copied? `longshore agent revoke` cuts both off"
        );
        metrics::counter!("longshore_agents_cloned_total").increment(1);
        self.change("nobody", move |tx, cx| {
            Box::pin(async move {
                let boot_id = tx.agent(agent).await?.map(|row| row.boot_id);
                let detail =
                    json!({ "boot_id": boot_id, "second_boot_id": rival.boot_id, "second_instance": rival.instance });
                Ok(cx.refused(tx, "agent.second_session", format!("agent/{agent}"), detail).await?)
            })
        })
        .await
    }

    /// Writes what an agent noted of a step into the timeline.
    async fn noted(
        &self,
        agent: AgentId,
        (attempt, deployment, step): (AttemptId, DeploymentId, String),
        message: &str,
    ) -> Result<()> {
        let message: String = message.chars().take(MAX_NOTE).collect();
        self.change(&agent.to_string(), move |tx, cx| {
            Box::pin(async move {
                let detail = json!({ "attempt": attempt, "step": step, "message": message });
                Ok(cx.event(tx, "step.note", Some(deployment), detail).await?)
            })
        })
        .await
    }

    async fn answered(&self, agent: AgentId, said: Fence, accepted: bool, reason: String) -> Result<()> {
        let event = if accepted { Event::Accepted } else { Event::Declined { reason } };
        let done = self
            .change(&agent.to_string(), move |tx, cx| {
                Box::pin(async move {
                    let row = own(tx, agent, &said).await?;
                    on_attempt(tx, cx, &row.attempt, &event).await?;
                    Ok::<_, Error>(())
                })
            })
            .await;
        match done {
            // An answer that comes too late or twice. The agent is told by what it asks next.
            Err(Error::Foreign | Error::Fenced(_) | Error::Engine(super::Error::Attempt(_))) => Ok(()),
            other => other,
        }
    }

    /// The agent cancels an attempt by itself. Said again it changes nothing.
    async fn cancels(&self, agent: AgentId, said: Fence, cause: String) -> Result<()> {
        let event = Event::AgentCancels { cause };
        let done = self
            .change(&agent.to_string(), move |tx, cx| {
                Box::pin(async move {
                    let row = own(tx, agent, &said).await?;
                    if row.attempt.cancel_asked.is_some() {
                        return Ok::<_, Error>(());
                    }
                    let next = on_attempt(tx, cx, &row.attempt, &event).await?;
                    let detail = json!({ "attempt": next.id, "agent": agent, "cause": next.cancel_cause });
                    cx.event(tx, "attempt.canceling", Some(next.deployment), detail).await?;
                    Ok::<_, Error>(())
                })
            })
            .await;
        match done {
            Err(Error::Foreign | Error::Fenced(_) | Error::Engine(super::Error::Attempt(_))) => Ok(()),
            other => other,
        }
    }

    async fn progressed(&self, agent: AgentId, said: Fence, step: u32, mut view: ProgressView) -> Result<()> {
        let found = self
            .read(move |tx| {
                Box::pin(async move {
                    let Some(row) = tx.attempt_of(agent, said.attempt).await? else { return Ok(None) };
                    let steps = tx.steps(row.attempt.deployment).await?;
                    let ended = matches!(row.attempt.state, State::Ended { .. }) || !fence(&row.attempt).admits(&said);
                    Ok(steps
                        .into_iter()
                        .find(|row| row.index == index_of(step) && !ended)
                        .map(|row| (row.deployment, row.name)))
                })
            })
            .await?;
        let Some((deployment, name)) = found else { return Ok(()) };
        if view.phase == NOTE {
            return self.noted(agent, (said.attempt, deployment, name), &view.message).await;
        }
        view.step = name;
        self.0.live.progressed(deployment, view);
        Ok(())
    }
}

/// Whether a job may fit that did not before. Small changes, which every heartbeat brings, are not worth a look at the queue.
fn eases(before: &Disk, now: &Disk) -> bool {
    const WORTH: u64 = 256 << 20;
    let left = |disk: &Disk| disk.left.unwrap_or(u64::MAX) / WORTH;
    now.low.len() < before.low.len() || left(now) > left(before)
}

/// The plugins of a pool.
async fn pool_plugins(tx: &mut dyn Tx, pool: &str) -> Result<Vec<Plugin>> {
    Ok(super::pools::plugins(tx, pool).await?)
}

/// The caller's attempt, whatever its state.
pub(super) async fn own(tx: &mut dyn Tx, agent: AgentId, said: &Fence) -> Result<AttemptRow> {
    let row = tx.attempt_of(agent, said.attempt).await?.ok_or(Error::Foreign)?;
    let meta = tx.meta().await?.ok_or(Error::Unknown)?;
    let job = tx.job(row.attempt.job).await?.ok_or(Error::Foreign)?;
    if !fence(&row.attempt).admits(said) {
        return Err(Error::Fenced("epoch or incarnation are not those of the attempt".to_owned()));
    }
    if job.job.epoch != said.epoch || meta.incarnation != said.incarnation {
        return Err(Error::Fenced(format!("attempt `{}` was superseded", said.attempt)));
    }
    Ok(row)
}

/// One attempt of a hello.
async fn take_back(tx: &mut dyn Tx, cx: &mut Cx, agent: AgentId, held: &Fence) -> Result<Verdict> {
    let attempt = held.attempt;
    let discard = Verdict { attempt, keep: false, cancel: None };
    let row = match own(tx, agent, held).await {
        Ok(row) => row,
        Err(Error::Foreign | Error::Fenced(_)) => return Ok(discard),
        Err(error) => return Err(error),
    };
    if matches!(row.attempt.state, State::Ended { .. }) {
        return Ok(discard);
    }
    let next = on_attempt(tx, cx, &row.attempt, &Event::Back).await?;
    let grace = u32::try_from(cx.grace.as_secs()).unwrap_or(u32::MAX);
    Ok(Verdict { attempt, keep: true, cancel: next.cancel_asked.map(|_| (*held, grace)) })
}
