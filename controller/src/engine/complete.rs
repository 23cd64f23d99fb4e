//! How a step ended, by the agent's report, checked against the log that is stored.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use longshore_core::attempt::{self, State};
use longshore_core::id::AgentId;
use longshore_core::init::ExitRecord;
use longshore_core::step::{End, Judged, StepEvent, Verdict, judge};
use longshore_proto::convert::{Completion, Ending};
use serde_json::json;

use super::cascade::{move_step, on_attempt};
use super::confirm::step_row;
use super::context::output_aad;
use super::hello::own;
use super::plane::Error;
use super::{Engine, Error as EngineError};
use crate::hex;
use crate::logs::Digest;
use crate::store::rows::{OutputRow, StepAttemptRow, StepRow};

type Result<T, E = Error> = std::result::Result<T, E>;

/// Length of a nonce of ChaCha20-Poly1305.
const NONCE: usize = 12;

/// A step as it is to be saved, and what the attempt is told.
struct Ended {
    step: StepRow,
    end: End,
    event: attempt::Event,
}

impl Engine {
    /// Records how a step ended. Answers the index of the step to go on with, if there is one. The same report again is answered the same.
    ///
    /// # Errors
    /// [`Error::NotDurable`] while bytes of the log are missing, [`Error::Foreign`], [`Error::Fenced`]; others when rows cannot be saved.
    pub async fn complete(&self, agent: AgentId, report: Completion) -> Result<Option<u32>> {
        let (said, index) = (report.fence, report.step);
        let (row, step, start, count, timeout) = self
            .0
            .parts
            .store
            .read(move |tx| {
                Box::pin(async move {
                    let row = own(tx, agent, &said).await?;
                    let step = step_row(tx, &row.attempt, index).await?;
                    let start = tx.step_attempt(said.attempt, index).await?;
                    let deployment = tx.deployment(row.attempt.deployment).await?.ok_or(Error::Foreign)?;
                    let revision = tx.revision(deployment.project, deployment.revision).await?;
                    let steps = revision.map(|revision| revision.spec.steps).unwrap_or_default();
                    let spec = usize::try_from(index).ok().and_then(|index| steps.get(index));
                    let timeout = spec.and_then(|step| step.timeout).unwrap_or(longshore_core::spec::DEFAULT_TIMEOUT);
                    let pulumi = spec.is_some_and(|step| step.pulumi_stack_template().is_some());
                    Ok::<_, Error>((
                        row.attempt,
                        step,
                        start,
                        u32::try_from(steps.len()).unwrap_or(u32::MAX),
                        (timeout, pulumi),
                    ))
                })
            })
            .await?;
        let next = (index + 1 < count).then_some(index + 1);
        if step.state.is_terminal() || matches!(row.state, State::Ended { .. }) {
            return Ok(next.filter(|_| goes_on(&row.state)));
        }
        let ended = match report.ending {
            Ending::NotStarted { reason, agent_fault } => {
                return self.not_started(agent, said, index, reason, agent_fault).await;
            }
            Ending::Exited { record, spool_bytes, summary, canceled, .. } => {
                let start = confirmed(start)?;
                let digest = self.durable(&start, spool_bytes).await?;
                let judged = Judged {
                    pulumi: timeout.1,
                    summary: summary.as_deref(),
                    // An agent that was restarted between the signal and its own note of it does not know; the row does, and the
                    // record says whether the signal reached the tool.
                    cancel_carried_out: canceled || row.cancel_asked.is_some(),
                    timeout: timeout.0,
                };
                let verdict = verdict(&record, &digest, judged);
                let outputs = self.outputs(&start, &record);
                let mut ended = ended(step, verdict, &digest, next);
                (ended.step.exit_code, ended.step.signal) = (record.code, record.signal);
                ended.step.log_truncated = record.dropped > 0;
                if let Some(summary) = &summary {
                    ended.step.resources = summary.changes().iter().map(|(op, count)| (word(op), *count)).collect();
                    ended.step.plugin_downloads = summary.plugin_downloads();
                }
                match outputs {
                    Ok(outputs) => ended.step.outputs = outputs,
                    Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "outputs are lost"),
                }
                ended
            }
            Ending::Lost { reason, spool_bytes, canceled } => {
                let start = confirmed(start)?;
                let digest = self.durable(&start, spool_bytes).await?;
                let verdict = if canceled {
                    let reason = format!("canceled; it had to be killed, so the state may be inconsistent: {reason}");
                    Verdict { end: End::Canceled, reason: Some(reason) }
                } else {
                    Verdict { end: End::Lost, reason: Some(reason) }
                };
                ended(step, verdict, &digest, next)
            }
        };
        self.save(agent, said, ended, next).await
    }

    async fn durable(&self, start: &StepAttemptRow, needed: u64) -> Result<Digest> {
        let log = self.logs().log(start.attempt, start.step).await?;
        let digest = log.digest();
        if digest.durable < needed {
            return Err(Error::NotDurable { durable: digest.durable, needed });
        }
        Ok(digest)
    }

    async fn save(
        &self,
        agent: AgentId,
        said: longshore_core::fence::Fence,
        ended: Ended,
        next: Option<u32>,
    ) -> Result<Option<u32>> {
        let done = self
            .change(&agent.to_string(), move |tx, cx| {
                Box::pin(async move {
                    let Ended { mut step, end, event } = ended;
                    let row = own(tx, agent, &said).await?;
                    let now = step_row(tx, &row.attempt, step.index).await?;
                    let state = now.state.after(StepEvent::Ended(end)).ok_or(Error::Engine(super::cascade::stale(&step.name)))?;
                    step.started_at = now.started_at;
                    move_step(tx, cx, &mut step, state).await?;
                    let detail = json!({ "step": step.name, "state": state, "exit_code": step.exit_code, "signal": step.signal, "reason": step.reason });
                    cx.event(tx, "step.ended", Some(step.deployment), detail).await?;
                    let attempt = on_attempt(tx, cx, &row.attempt, &event).await?;
                    Ok::<_, Error>(attempt.state)
                })
            })
            .await;
        match done {
            Ok(state) => Ok(next.filter(|_| goes_on(&state))),
            Err(Error::Engine(EngineError::Attempt(rejected))) => Err(Error::Fenced(rejected.to_string())),
            Err(error) => Err(error),
        }
    }

    async fn not_started(
        &self,
        agent: AgentId,
        said: longshore_core::fence::Fence,
        index: u32,
        reason: String,
        agent_fault: bool,
    ) -> Result<Option<u32>> {
        let done = self
            .change(&agent.to_string(), move |tx, cx| {
                Box::pin(async move {
                    let row = own(tx, agent, &said).await?;
                    let mut step = step_row(tx, &row.attempt, index).await?;
                    // Another agent may do better, and nothing was started yet: then the job goes back to the queue.
                    let again = agent_fault && matches!(row.attempt.state, State::Preparing);
                    if !again && let Some(state) = step.state.after(StepEvent::Ended(End::Failed)) {
                        step.reason = Some(reason.clone());
                        move_step(tx, cx, &mut step, state).await?;
                    }
                    let detail = json!({ "step": step.name, "reason": reason, "agent_fault": agent_fault });
                    cx.event(tx, "step.not_started", Some(step.deployment), detail).await?;
                    let reason = format!("step `{}`: {reason}", step.name);
                    on_attempt(tx, cx, &row.attempt, &attempt::Event::NotStarted { step: index, reason, agent_fault })
                        .await?;
                    Ok::<_, Error>(())
                })
            })
            .await;
        match done {
            Ok(()) => Ok(None),
            Err(Error::Engine(EngineError::Attempt(rejected))) => Err(Error::Fenced(rejected.to_string())),
            Err(error) => Err(error),
        }
    }

    /// Outputs as they are kept: secret ones are opened with the start's key and sealed by the vault.
    fn outputs(&self, start: &StepAttemptRow, record: &ExitRecord) -> Result<BTreeMap<String, OutputRow>, EngineError> {
        let mut outputs: BTreeMap<String, OutputRow> =
            record.outputs.iter().map(|(name, value)| (name.clone(), OutputRow::Plain(value.clone()))).collect();
        if record.secret_outputs.is_empty() {
            return Ok(outputs);
        }
        let key = self.outputs_key(start)?;
        let cipher = ChaCha20Poly1305::new(&Key::from(key));
        for (name, sealed) in &record.secret_outputs {
            let wrong = || EngineError::Internal(format!("secret output `{name}` cannot be opened"));
            let bytes = STANDARD.decode(sealed).map_err(|_| wrong())?;
            let (nonce, body) = bytes.split_at_checked(NONCE).ok_or_else(wrong)?;
            let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| wrong())?;
            let payload = Payload { msg: body, aad: name.as_bytes() };
            let plain = zeroize::Zeroizing::new(cipher.decrypt(&Nonce::from(nonce), payload).map_err(|_| wrong())?);
            let sealed = self.0.parts.vault.seal(&output_aad(start.deployment, start.step, name), &plain)?;
            outputs.insert(name.clone(), OutputRow::Sealed(hex::encode(&sealed)));
        }
        Ok(outputs)
    }
}

const fn goes_on(state: &State) -> bool {
    matches!(state, State::Running { .. } | State::Unknown { .. })
}

fn confirmed(start: Option<StepAttemptRow>) -> Result<StepAttemptRow> {
    start.ok_or_else(|| Error::Invalid("the step was not confirmed in this attempt".to_owned()))
}

/// Core's verdict, unless the stored log is not the one that init wrote.
fn verdict(record: &ExitRecord, digest: &Digest, judged: Judged<'_>) -> Verdict {
    if digest.sha256.as_deref() == Some(record.sha256.as_str()) && digest.bytes == record.bytes {
        return judge(record, judged);
    }
    let reason = format!(
        "the log does not match its digest: {} bytes are stored, init wrote {}; what the step did is done",
        digest.bytes, record.bytes
    );
    Verdict { end: End::Lost, reason: Some(reason) }
}

fn ended(mut step: StepRow, verdict: Verdict, digest: &Digest, next: Option<u32>) -> Ended {
    (step.log_bytes, step.log_sha256) = (digest.bytes, digest.sha256.clone());
    step.reason.clone_from(&verdict.reason);
    let end = verdict.end;
    let reason = verdict.reason.map(|reason| format!("step `{}`: {reason}", step.name));
    let event = attempt::Event::StepEnded { step: step.index, verdict: Verdict { end, reason }, next };
    Ended { step, end, event }
}

fn word(op: &impl serde::Serialize) -> String {
    match serde_json::to_value(op) {
        Ok(serde_json::Value::String(word)) => word,
        _ => "other".to_owned(),
    }
}
