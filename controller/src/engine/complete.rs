//! How a step ended, by the agent's report, checked against the log that is stored.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use longshore_core::attempt::{self, Attempt, State};
use longshore_core::engine_event::Summary;
use longshore_core::fence::Fence;
use longshore_core::id::{AgentId, AttemptId};
use longshore_core::init::ExitRecord;
use longshore_core::offer::Operation;
use longshore_core::spec::{Action, Retries};
use longshore_core::step::{End, Judged, StepEvent, StepState, Verdict, canceled_by, is_preview, judge, order_of};
use longshore_core::time::Timestamp;
use longshore_proto::convert::{Completion, Ending, Took};
use serde_json::json;

use super::artifacts::Files;
use super::cascade::{move_step, on_attempt};
use super::confirm::{cannot_go_on, spec_step, step_row};
use super::context::output_aad;
use super::cx::Cx;
use super::flow::{follow, spec_of};
use super::hello::own;
use super::plane::Error;
use super::plans::Made;
use super::{Engine, Error as EngineError, guide, plans, quarantine, turn};
use crate::hex;
use crate::logs::Digest;
use crate::store::Tx;
use crate::store::rows::{OutputRow, PlanRow, StepAttemptRow, StepRow};

type Result<T, E = Error> = std::result::Result<T, E>;

/// Length of a nonce of ChaCha20-Poly1305.
const NONCE: usize = 12;

/// A step as it is to be saved, and how it ended.
struct Ended {
    step: StepRow,
    verdict: Verdict,
    /// The plan that a preview left.
    made: Option<Made>,
    /// What has moved since people agreed to the step's plan.
    moved: Option<String>,
    /// What it left as files.
    files: Files,
    /// What it took on the agent, and when.
    took: Vec<Took>,
}

/// What a report is about.
struct Reported {
    row: Attempt,
    step: StepRow,
    start: Option<StepAttemptRow>,
    /// The slot to go on with as the rows are now.
    next: Option<u32>,
    timeout: Duration,
    pulumi: Option<Operation>,
    retries: Option<Retries>,
    /// The plan that it ran, if people agreed to one.
    plan: Option<PlanRow>,
}

/// Whether a step that failed is tried again.
struct Again {
    slot: u32,
    retries: Option<Retries>,
    /// A person asked for a cancel.
    asked: bool,
}

impl Again {
    /// The event for the step; a failed one that has tries left is put back with the time of its next try.
    fn event(&self, step: &mut StepRow, verdict: &Verdict, now: Timestamp) -> StepEvent {
        let tries = order_of(self.slot).1;
        step.due_at = None;
        match self.retries {
            Some(retries) if verdict.end == End::Failed && tries < retries.max && !self.asked => {
                let wait = retries.wait(tries + 1);
                let why = verdict.reason.as_deref().unwrap_or("failed");
                step.reason = Some(format!("try {} of {} failed: {why}", tries + 1, retries.max + 1));
                step.due_at = Some(now.after(wait));
                StepEvent::TriedAgain
            }
            _ => StepEvent::Ended(verdict.end),
        }
    }
}

impl Engine {
    /// Records how a step ended. Answers the index of the step to go on with, if there is one. The same report again is answered the same.
    ///
    /// # Errors
    /// [`Error::NotDurable`] while bytes of the log are missing, [`Error::Foreign`], [`Error::Fenced`]; others when rows cannot be saved.
    pub async fn complete(&self, agent: AgentId, report: Completion) -> Result<Option<u32>> {
        self.0.sessions.called(agent);
        let (said, slot, mut took) = (report.fence, report.step, report.took);
        let Reported { row, step, start, next, timeout, pulumi, retries, plan } =
            self.reported(agent, said, slot).await?;
        tracing::Span::current().record("deployment", tracing::field::display(row.deployment));
        let over = start.as_ref().is_some_and(|start| start.state.is_terminal()) || step.state.is_terminal();
        if over || matches!(row.state, State::Ended { .. }) {
            return Ok(next.filter(|_| goes_on(&row.state)));
        }
        let cause = self.cause_of_cancel(&row);
        let mut ended = match report.ending {
            Ending::NotStarted { reason, cause } => {
                return self.not_started(agent, (said, slot), (reason, cause), took).await;
            }
            Ending::Exited { record, spool_bytes, summary, canceled, started_at, ended_at } => {
                took.extend(Took::new("run", started_at, ended_at));
                let start = confirmed(start)?;
                let digest = self.durable(&start, spool_bytes).await?;
                let judged = Judged {
                    pulumi,
                    summary: summary.as_deref(),
                    // An agent that was restarted between the signal and its own note of it does not know; the row does, and the
                    // record says whether the signal reached the tool.
                    cancel_carried_out: canceled || row.cancel_asked.is_some(),
                    cancel_cause: cause.as_deref(),
                    timeout,
                };
                let verdict = verdict(&record, &digest, judged);
                let ended = ended(step, verdict, &digest);
                self.told(ended, &start, &record, summary.as_deref(), plan)
            }
            Ending::Lost { reason, spool_bytes, canceled } => {
                let start = confirmed(start)?;
                let digest = self.durable(&start, spool_bytes).await?;
                let verdict = if canceled {
                    let by = canceled_by(cause.as_deref());
                    let reason = format!("{by}; it had to be killed, so the state may be inconsistent: {reason}");
                    Verdict { end: End::Canceled, reason: Some(reason) }
                } else {
                    Verdict { end: End::Lost, reason: Some(reason) }
                };
                ended(step, verdict, &digest)
            }
        };
        ended.took = took;
        // What has moved has moved for every try.
        let retries = retries.filter(|_| ended.moved.is_none());
        let again = Again { slot, retries, asked: row.cancel_asked.is_some() };
        self.save(agent, said, ended, again).await
    }

    /// Why an agent canceled an attempt by itself: what it said then, or, when that was lost on the way, why it drains.
    fn cause_of_cancel(&self, row: &Attempt) -> Option<String> {
        if row.cancel_cause.is_some() || row.cancel_asked.is_some() {
            return row.cancel_cause.clone();
        }
        let draining = self.0.sessions.ability(row.agent).and_then(|ability| ability.draining);
        Some(draining.map_or_else(|| "it did not say why".to_owned(), |draining| draining.reason))
    }

    /// Takes what init and the engine events tell of a step beside how it ended.
    fn told(
        &self,
        mut ended: Ended,
        start: &StepAttemptRow,
        record: &ExitRecord,
        summary: Option<&Summary>,
        plan: Option<PlanRow>,
    ) -> Ended {
        let failed = plan.filter(|_| ended.verdict.end == End::Failed);
        ended.moved = failed.and_then(|plan| plans::moved(&plan, record, summary));
        (ended.step.exit_code, ended.step.signal) = (record.code, record.signal);
        ended.step.log_truncated = record.dropped > 0;
        ended.files = Files::of(record);
        if let Some(summary) = summary {
            ended.step.resources = summary.changes().iter().map(|(op, count)| (word(op), *count)).collect();
            (ended.step.plugin_downloads, ended.step.plugin_hits) = (summary.plugin_downloads(), summary.plugin_hits());
        }
        match self.outputs(start, record) {
            Ok(outputs) => ended.step.outputs = outputs,
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "outputs are lost"),
        }
        if is_preview(start.step) && ended.verdict.end == End::Succeeded {
            match self.made(start, record, summary, ended.step.resources.clone()) {
                Ok(made) => ended.made = Some(made),
                Err(reason) => ended.end(End::Failed, reason),
            }
        }
        ended
    }

    async fn durable(&self, start: &StepAttemptRow, needed: u64) -> Result<Digest> {
        let log = self.logs().log(start.attempt, start.step).await?;
        let digest = log.digest();
        if digest.durable < needed {
            return Err(Error::NotDurable { durable: digest.durable, needed });
        }
        Ok(digest)
    }

    async fn reported(&self, agent: AgentId, said: Fence, slot: u32) -> Result<Reported> {
        self.0
            .parts
            .store
            .read(move |tx| {
                Box::pin(async move {
                    let row = own(tx, agent, &said).await?.attempt;
                    let step = step_row(tx, &row, slot).await?;
                    let start = tx.step_attempt(said.attempt, slot).await?;
                    let deployment = tx.deployment(row.deployment).await?.ok_or(Error::Foreign)?;
                    let spec = spec_of(tx, &deployment).await?;
                    let spec = plans::worked(&spec, slot);
                    let spec = spec.ok_or_else(|| Error::Invalid(format!("there is no step {slot}")))?;
                    let next = going_on(tx, &row).await?;
                    let timeout = spec.timeout.unwrap_or(longshore_core::spec::DEFAULT_TIMEOUT);
                    let pulumi = match &spec.action {
                        Action::Pulumi(_) if is_preview(slot) => Some(Operation::Preview),
                        Action::Pulumi(pulumi) => Some(pulumi.operation.into()),
                        _ => None,
                    };
                    let retries = spec.retries.filter(|_| !is_preview(slot));
                    let plan = plans::agreed(tx, row.deployment, step.index).await?;
                    Ok::<_, Error>(Reported { row, step, start, next, timeout, pulumi, retries, plan })
                })
            })
            .await
    }

    async fn save(&self, agent: AgentId, said: Fence, ended: Ended, again: Again) -> Result<Option<u32>> {
        let (downloads, hits) = (ended.step.plugin_downloads, ended.step.plugin_hits);
        let done = self
            .change(&agent.to_string(), move |tx, cx| {
                Box::pin(async move {
                    let row = own(tx, agent, &said).await?;
                    let deployment = tx.deployment(row.attempt.deployment).await?.ok_or(Error::Foreign)?;
                    let mut ended = ended;
                    if ended.made.is_some() && deployment.deployment.cancel_asked.is_some() {
                        // Nobody is asked about what is not to go on.
                        ended.made = None;
                        ended.end(End::Canceled, "canceled; its preview had ended by itself".to_owned());
                    }
                    let Ended { mut step, verdict, made, moved, files, took } = ended;
                    match verdict.end {
                        End::Lost => {
                            let why = verdict.reason.as_deref().unwrap_or("a container was lost");
                            quarantine::failed(tx, cx, agent, why).await?;
                        }
                        // It may have been killed before it did anything.
                        End::Canceled => {}
                        _ => quarantine::worked(tx, agent).await?,
                    }
                    files.keep(tx, (step.deployment, row.attempt.id, again.slot), cx.now).await?;
                    let now = step_row(tx, &row.attempt, again.slot).await?;
                    let mut event = match &made {
                        Some(_) => StepEvent::Opened,
                        None => again.event(&mut step, &verdict, cx.now),
                    };
                    // What was agreed to has moved: nothing that a person could have tried again.
                    let final_one = moved.is_some() || is_preview(again.slot);
                    if event == StepEvent::Ended(End::Failed) && !final_one {
                        let (deployment, spec) = spec_step(tx, &row.attempt, again.slot).await?;
                        event = guide::failed(&deployment, &spec, &mut step);
                    }
                    let stale = || Error::Engine(super::cascade::stale(&now.name));
                    let state = now.state.after(event).ok_or_else(stale)?;
                    step.started_at = now.started_at;
                    move_step(tx, cx, &mut step, state).await?;
                    after_end(tx, cx, (&step, row.attempt.id, again.slot, &took), made, moved).await?;
                    // What is not run any more is said before the next one is looked for.
                    follow(tx, cx, step.deployment).await?;
                    let job = tx.job(row.attempt.job).await?.ok_or(Error::Foreign)?;
                    let next = going_on(tx, &row.attempt).await?;
                    let reason = verdict.reason.map(|reason| format!("step `{}`: {reason}", step.name));
                    let verdict =
                        turn::worst(&job, &tx.steps(step.deployment).await?, Verdict { end: verdict.end, reason });
                    let event = attempt::Event::StepEnded { step: again.slot, verdict, next };
                    let attempt = on_attempt(tx, cx, &row.attempt, &event).await?;
                    Ok::<_, Error>(next.filter(|_| goes_on(&attempt.state)))
                })
            })
            .await;
        match done {
            Err(Error::Engine(EngineError::Attempt(rejected))) => Err(Error::Fenced(rejected.to_string())),
            Ok(next) => {
                metrics::counter!("longshore_plugin_downloads_total").increment(downloads);
                metrics::counter!("longshore_plugin_hits_total").increment(hits);
                Ok(next)
            }
            other => other,
        }
    }

    async fn not_started(
        &self,
        agent: AgentId,
        (said, slot): (Fence, u32),
        (reason, cause): (String, attempt::Cause),
        took: Vec<Took>,
    ) -> Result<Option<u32>> {
        if cause == attempt::Cause::Leaving {
            // Before the job is back in the queue: that it drains may be heard later, on its stream.
            self.0.sessions.declines(agent, &reason);
        }
        let done = self
            .change(&agent.to_string(), move |tx, cx| {
                Box::pin(async move {
                    let row = own(tx, agent, &said).await?;
                    let mut step = step_row(tx, &row.attempt, slot).await?;
                    // Another agent may do better, and nothing was started yet: then the job goes back to the queue.
                    let again = cause.is_elsewhere_better() && matches!(row.attempt.state, State::Offered | State::Preparing);
                    if !again {
                        step.reason = Some(reason.clone());
                        cannot_go_on(tx, cx, &row.attempt, slot, &mut step).await?;
                    }
                    let (fault, leaving) = (cause.is_agents_fault(), cause == attempt::Cause::Leaving);
                    let detail = json!({ "step": step.name, "attempt": row.attempt.id, "slot": slot, "reason": reason, "agent_fault": fault, "leaving": leaving, "took": took });
                    cx.event(tx, "step.not_started", Some(step.deployment), detail).await?;
                    if fault {
                        quarantine::failed(tx, cx, agent, &reason).await?;
                    }
                    let reason = format!("step `{}`: {reason}", step.name);
                    on_attempt(tx, cx, &row.attempt, &attempt::Event::NotStarted { step: slot, reason, cause })
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

    /// A text that init encrypted with the key of a start.
    pub(super) fn opened(
        &self,
        start: &StepAttemptRow,
        name: &str,
        sealed: &str,
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, EngineError> {
        let cipher = ChaCha20Poly1305::new(&Key::from(self.outputs_key(start)?));
        let wrong = || EngineError::Internal(format!("secret output `{name}` cannot be opened"));
        let bytes = STANDARD.decode(sealed).map_err(|_| wrong())?;
        let (nonce, body) = bytes.split_at_checked(NONCE).ok_or_else(wrong)?;
        let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| wrong())?;
        let payload = Payload { msg: body, aad: name.as_bytes() };
        Ok(zeroize::Zeroizing::new(cipher.decrypt(&Nonce::from(nonce), payload).map_err(|_| wrong())?))
    }

    /// Outputs as they are kept: secret ones are opened with the start's key and sealed by the vault.
    fn outputs(&self, start: &StepAttemptRow, record: &ExitRecord) -> Result<BTreeMap<String, OutputRow>, EngineError> {
        let mut outputs: BTreeMap<String, OutputRow> =
            record.outputs.iter().map(|(name, value)| (name.clone(), OutputRow::Plain(value.clone()))).collect();
        for (name, sealed) in &record.secret_outputs {
            let plain = self.opened(start, name, sealed)?;
            let sealed = self.0.parts.vault.seal(&output_aad(start.deployment, start.step, name), &plain)?;
            outputs.insert(name.clone(), OutputRow::Sealed(hex::encode(&sealed)));
        }
        Ok(outputs)
    }
}

impl Ended {
    /// Ends otherwise than it looked.
    fn end(&mut self, end: End, reason: String) {
        self.step.reason = Some(reason.clone());
        self.verdict = Verdict { end, reason: Some(reason) };
    }
}

/// Says what the end of a step means: people are asked about a plan, or what they agreed to is void.
async fn after_end(
    tx: &mut dyn Tx,
    cx: &mut Cx,
    (step, attempt, slot, took): (&StepRow, AttemptId, u32, &[Took]),
    made: Option<Made>,
    moved: Option<String>,
) -> Result<(), EngineError> {
    let id = step.deployment;
    let row = tx.deployment(id).await?.ok_or_else(|| EngineError::not_found("deployment", &id))?;
    let spec = spec_of(tx, &row).await?;
    if made.is_some() {
        cx.after.timers = true;
        return plans::ask(tx, cx, &spec, step, made).await;
    }
    let detail = json!({ "step": step.name, "attempt": attempt, "slot": slot, "state": step.state, "exit_code": step.exit_code, "signal": step.signal, "reason": step.reason, "took": took });
    let action = match step.state {
        StepState::Waiting => "step.asked",
        StepState::Queued => "step.tried",
        _ => "step.ended",
    };
    cx.event(tx, action, Some(id), detail).await?;
    match moved {
        Some(reason) => plans::void(tx, cx, (id, &spec), step.index, (true, &reason)).await,
        None => Ok(()),
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

fn ended(mut step: StepRow, verdict: Verdict, digest: &Digest) -> Ended {
    (step.log_bytes, step.log_sha256) = (digest.bytes, digest.sha256.clone());
    step.reason.clone_from(&verdict.reason);
    Ended { step, verdict, made: None, moved: None, files: Files::default(), took: Vec::new() }
}

async fn going_on(tx: &mut dyn Tx, attempt: &Attempt) -> Result<Option<u32>> {
    let job = tx.job(attempt.job).await?.ok_or(Error::Foreign)?;
    let (steps, starts) = (tx.steps(attempt.deployment).await?, tx.step_attempts(attempt.deployment).await?);
    Ok(turn::current(&job, &steps, &starts, attempt.id))
}

fn word(op: &impl serde::Serialize) -> String {
    match serde_json::to_value(op) {
        Ok(serde_json::Value::String(word)) => word,
        _ => "other".to_owned(),
    }
}
