//! The right to start a step: a compare-and-set in the database, and with it the step's secrets, once (promise P2).

use std::time::Duration;

use longshore_core::attempt::{self, Outcome, State};
use longshore_core::id::AgentId;
use longshore_core::offer::{Action, Grant, Operation, OutputsKey, Plan, PulumiAction};
use longshore_core::secret::Secret;
use longshore_core::spec::{self, DEFAULT_TIMEOUT, Script, Step};
use longshore_core::step::{End, StepEvent, StepState, index_of};
use longshore_core::time::Timestamp;
use longshore_core::trace::TraceParent;
use serde_json::json;

use super::cascade::{move_step, on_attempt, stale};
use super::context::Values;
use super::cx::Cx;
use super::flow::spec_of;
use super::hello::own;
use super::offers::image;
use super::operations;
use super::plane::{Confirm, Confirmed, Error};
use super::sessions::Ability;
use super::{Engine, Error as EngineError, guide, plans, turn};
use crate::store::Tx;
use crate::store::rows::{AttemptRow, DeploymentRow, StepAttemptRow, StepRow};
use crate::trace;

type Result<T, E = Error> = std::result::Result<T, E>;

/// Longest time that one call is held while a try waits; shorter than an agent waits for an answer.
const HELD: Duration = Duration::from_secs(10);

/// Variable by which programs know the trace that they are in.
const TRACEPARENT: &str = "TRACEPARENT";

/// What a grant is made of, and what was there before.
struct Prepared {
    row: AttemptRow,
    /// The grant that was given already, if one was.
    before: Option<StepAttemptRow>,
    /// Rendered, or why it cannot be.
    work: std::result::Result<Work, Refused>,
}

/// Why a step cannot be started.
struct Refused {
    reason: String,
    /// The image has moved, so what people agreed to is not what would run.
    moved: bool,
}

/// Everything of a grant but its key.
struct Work {
    env: Vec<(String, Secret)>,
    secrets: Vec<Secret>,
    timeout: Duration,
    action: Action,
}

fn too_old(agent: AgentId) -> Refused {
    let reason =
        format!("agent `{agent}` is too old for what the step does; nothing was started; upgrade it, then try again");
    Refused { reason, moved: false }
}

impl Work {
    /// What an agent has to be able to do beyond what all of them can.
    fn asks(&self) -> Option<fn(&Ability) -> bool> {
        match &self.action {
            Action::Pulumi(action) if action.plan != Plan::None => Some(|ability| ability.plans),
            Action::Pulumi(action) if action.operation.is_asked_for() => Some(|ability| ability.operations),
            _ => None,
        }
    }

    /// Tells the program what it belongs under, unless the step itself says it.
    fn under(mut self, parent: Option<TraceParent>) -> Self {
        if let Some(parent) = parent
            && !self.env.iter().any(|(name, _)| name == TRACEPARENT)
        {
            self.env.push((TRACEPARENT.to_owned(), Secret::new(parent.to_string())));
        }
        self
    }

    fn grant(self, settings: &super::Settings, key: [u8; 32]) -> Grant {
        let Self { env, secrets, timeout, action } = self;
        let (grace, artifacts) = (settings.grace, settings.artifacts);
        Grant { env, secrets, timeout, grace, action, outputs_key: OutputsKey(key), artifacts }
    }
}

fn key_aad(attempt: longshore_core::id::AttemptId, step: u32) -> String {
    crate::secrets::Place::OutputsKey { attempt, step }.aad()
}

impl Engine {
    /// Grants the start of a step, if the attempt is the one that counts and the step is the next. The same nonce again gets the same
    /// grant, so that a lost answer does no harm.
    ///
    /// # Errors
    /// [`Error::Foreign`], [`Error::Fenced`]; others when rows cannot be read or saved: nothing was granted then.
    pub async fn confirm(&self, agent: AgentId, wish: Confirm) -> Result<Confirmed> {
        self.0.sessions.called(agent);
        self.until_due(agent, &wish).await?;
        let Prepared { row, before, work } = self.prepare(agent, &wish).await?;
        tracing::Span::current().record("deployment", tracing::field::display(row.attempt.deployment));
        if let Some(before) = before {
            if before.nonce != wish.nonce {
                return Ok(Confirmed::AlreadyStarted);
            }
            if before.state.is_terminal() {
                return Err(Error::Fenced(format!("step {} of attempt `{}` has ended", wish.step, before.attempt)));
            }
            let key = self.outputs_key(&before)?;
            let work = work.map_err(|Refused { reason, .. }| {
                EngineError::Internal(format!("a granted step cannot be rendered any more: {reason}"))
            })?;
            return Ok(Confirmed::Granted(Box::new(work.grant(self.settings(), key))));
        }
        match row.attempt.state {
            State::Ended { outcome: Outcome::Canceled { .. } } => return Ok(Confirmed::Canceled),
            State::Ended { .. } => return Err(Error::Fenced(format!("attempt `{}` has ended", row.attempt.id))),
            _ => {}
        }
        match work {
            Ok(work) => match work.asks().map(|what| self.0.sessions.can(agent, what)) {
                None | Some(Some(true)) => self.grant(agent, wish, work).await,
                Some(Some(false)) => self.cannot_start(agent, wish, too_old(agent)).await,
                // Without its stream it is not known what it can.
                Some(None) => Err(Error::NotDue),
            },
            Err(refused) => self.cannot_start(agent, wish, refused).await,
        }
    }

    /// Holds a try back until its wait is over. The agent asks again when that takes long.
    async fn until_due(&self, agent: AgentId, wish: &Confirm) -> Result<()> {
        let (said, slot) = (wish.fence, wish.step);
        let due = self
            .0
            .parts
            .store
            .read(move |tx| {
                Box::pin(async move {
                    let row = own(tx, agent, &said).await?;
                    let step = step_row(tx, &row.attempt, slot).await?;
                    Ok::<_, Error>(step.due_at.filter(|_| step.state == StepState::Queued))
                })
            })
            .await?;
        let Some(due) = due else { return Ok(()) };
        let left = due.since(self.clock().now());
        self.clock().sleep(left.min(HELD)).await;
        if left > HELD { Err(Error::NotDue) } else { Ok(()) }
    }

    async fn prepare(&self, agent: AgentId, wish: &Confirm) -> Result<Prepared> {
        let (said, step, vault) = (wish.fence, wish.step, std::sync::Arc::clone(&self.0.parts.vault));
        let (digest, traced) = (wish.image_digest.clone(), self.settings().traced);
        self.0
            .parts
            .store
            .read(move |tx| {
                Box::pin(async move {
                    let row = own(tx, agent, &said).await?;
                    let before = tx.step_attempt(said.attempt, step).await?;
                    let work = work(tx, &vault, &row, step).await?;
                    let parent = trace_parent(tx, &row, step, traced).await?;
                    let work = work.map(|work| work.under(parent));
                    let work = match moved(tx, &row.attempt, step, &digest).await? {
                        Some(reason) => Err(Refused { reason, moved: true }),
                        None => work.map_err(|reason| Refused { reason, moved: false }),
                    };
                    Ok::<_, Error>(Prepared { row, before, work })
                })
            })
            .await
    }

    async fn grant(&self, agent: AgentId, wish: Confirm, work: Work) -> Result<Confirmed> {
        let key: [u8; 32] = self.clock().random();
        let sealed =
            self.0.parts.vault.seal(&key_aad(wish.fence.attempt, wish.step), &key).map_err(EngineError::from)?;
        let (nonce, fence) = (wish.nonce.clone(), wish.fence);
        let granted = self
            .change(&agent.to_string(), move |tx, cx| {
                Box::pin(async move {
                    let row = own(tx, agent, &wish.fence).await?;
                    let from = row.attempt;
                    let mut step = step_row(tx, &from, wish.step).await?;
                    let start = StepAttemptRow {
                        attempt: from.id,
                        step: wish.step,
                        deployment: from.deployment,
                        agent,
                        container: wish.container,
                        image_digest: wish.image_digest,
                        nonce: wish.nonce,
                        outputs_key: sealed,
                        state: StepState::Running,
                        started_at: cx.now,
                        ended_at: None,
                    };
                    if tx.step_attempt(from.id, wish.step).await?.is_some() {
                        return Err(stale(&from.id).into());
                    }
                    its_turn(tx, &from, wish.step).await?;
                    pin(tx, &from, wish.step, &start.image_digest, cx.now).await?;
                    // Another start of the release may have pinned another image since this one was prepared.
                    if moved(tx, &from, wish.step, &start.image_digest).await?.is_some() {
                        return Err(Error::NotDue);
                    }
                    on_attempt(tx, cx, &from, &attempt::Event::Confirm { step: wish.step }).await?;
                    let state = step.state.after(StepEvent::Confirmed).ok_or_else(|| stale(&step.name))?;
                    again(&mut step, cx.now);
                    move_step(tx, cx, &mut step, state).await?;
                    if !tx.insert_step_attempt(&start, &from).await? {
                        return Err(Error::Fenced(format!("attempt `{}` is not the one that counts", from.id)));
                    }
                    let detail = json!({ "step": step.name, "attempt": from.id, "slot": start.step, "container": start.container, "image": start.image_digest, "took": wish.took });
                    cx.event(tx, "step.started", Some(from.deployment), detail).await?;
                    Ok(())
                })
            })
            .await;
        match granted {
            Ok(()) => Ok(Confirmed::Granted(Box::new(work.grant(self.settings(), key)))),
            Err(Error::Engine(EngineError::Attempt(attempt::Rejected::Canceled(_)))) => {
                self.end_canceled(agent, fence).await
            }
            Err(Error::Engine(EngineError::Attempt(rejected))) => Err(Error::Fenced(rejected.to_string())),
            Err(Error::Engine(EngineError::Store(crate::store::Error::Stale(what)))) => {
                tracing::debug!(nonce, what, "two confirmations at the same time");
                Ok(Confirmed::AlreadyStarted)
            }
            Err(error) => Err(error),
        }
    }

    /// A cancel was asked for while the agent was away between two steps: with the next one refused nothing of it runs.
    async fn end_canceled(&self, agent: AgentId, fence: longshore_core::fence::Fence) -> Result<Confirmed> {
        self.change(&agent.to_string(), move |tx, cx| {
            Box::pin(async move {
                let row = own(tx, agent, &fence).await?;
                on_attempt(tx, cx, &row.attempt, &attempt::Event::CancelAsked).await?;
                Ok::<_, Error>(Confirmed::Canceled)
            })
        })
        .await
    }

    /// The step cannot be rendered: it has failed, and nothing was started.
    async fn cannot_start(&self, agent: AgentId, wish: Confirm, refused: Refused) -> Result<Confirmed> {
        let Refused { reason, moved } = refused;
        let told = reason.clone();
        self.change(&agent.to_string(), move |tx, cx| {
            Box::pin(async move {
                let row = own(tx, agent, &wish.fence).await?;
                let mut step = step_row(tx, &row.attempt, wish.step).await?;
                step.reason = Some(reason.clone());
                if moved {
                    if let Some(state) = step.state.after(StepEvent::Ended(End::Failed)) {
                        move_step(tx, cx, &mut step, state).await?;
                    }
                    let id = step.deployment;
                    let row = tx.deployment(id).await?.ok_or(Error::Foreign)?;
                    let spec = spec_of(tx, &row).await?;
                    plans::void(tx, cx, (id, &spec), step.index, (false, &reason)).await?;
                } else {
                    cannot_go_on(tx, cx, &row.attempt, wish.step, &mut step).await?;
                }
                let reason = format!("step `{}`: {reason}", step.name);
                let event = attempt::Event::NotStarted { step: wish.step, reason, cause: attempt::Cause::Step };
                on_attempt(tx, cx, &row.attempt, &event).await?;
                Ok::<_, Error>(())
            })
        })
        .await?;
        Ok(Confirmed::Failed(told))
    }

    /// The key that secret outputs of a start are encrypted with.
    pub(super) fn outputs_key(&self, start: &StepAttemptRow) -> Result<[u8; 32], EngineError> {
        let key = self.0.parts.vault.open(&key_aad(start.attempt, start.step), &start.outputs_key)?;
        key.as_slice().try_into().map_err(|_| EngineError::Internal("a key of outputs has not 32 bytes".to_owned()))
    }
}

pub(super) async fn step_row(tx: &mut dyn Tx, attempt: &attempt::Attempt, step: u32) -> Result<StepRow> {
    let steps = tx.steps(attempt.deployment).await?;
    let index = index_of(step);
    steps.into_iter().find(|row| row.index == index).ok_or_else(|| Error::Invalid(format!("there is no step {step}")))
}

/// Takes from a step what the try before this one left: it would be shown, and used, as this one's.
fn again(step: &mut StepRow, now: Timestamp) {
    step.started_at = step.started_at.or(Some(now));
    step.due_at = None;
    (step.reason, step.exit_code, step.signal) = (None, None, None);
    (step.log_bytes, step.log_sha256, step.log_truncated) = (0, None, false);
    step.outputs.clear();
    step.resources.clear();
    (step.plugin_downloads, step.plugin_hits) = (0, 0);
}

/// Refuses a slot that is not the one to go on with.
async fn its_turn(tx: &mut dyn Tx, attempt: &attempt::Attempt, slot: u32) -> Result<()> {
    let job = tx.job(attempt.job).await?.ok_or(Error::Foreign)?;
    let (steps, starts) = (tx.steps(attempt.deployment).await?, tx.step_attempts(attempt.deployment).await?);
    match turn::current(&job, &steps, &starts, attempt.id) {
        Some(current) if current == slot => Ok(()),
        _ => Err(Error::Fenced(format!("step {slot} of attempt `{}` is not the one to go on with", attempt.id))),
    }
}

/// Puts a step that failed before its start where it then stands; one that has ended stays as it is.
pub(super) async fn cannot_go_on(
    tx: &mut dyn Tx,
    cx: &mut Cx,
    attempt: &attempt::Attempt,
    slot: u32,
    step: &mut StepRow,
) -> Result<()> {
    let (deployment, spec) = spec_step(tx, attempt, slot).await?;
    let Some(state) = step.state.after(guide::failed(&deployment, &spec, step)) else { return Ok(()) };
    Ok(move_step(tx, cx, step, state).await?)
}

/// Spec of a slot's step, and the deployment.
pub(super) async fn spec_step(tx: &mut dyn Tx, attempt: &attempt::Attempt, slot: u32) -> Result<(DeploymentRow, Step)> {
    let row = tx.deployment(attempt.deployment).await?.ok_or(Error::Foreign)?;
    let spec = spec_of(tx, &row).await?;
    let step = plans::worked(&spec, slot).cloned();
    let step = step.ok_or_else(|| Error::Invalid(format!("there is no step {slot}")))?;
    Ok((row, step))
}

/// Says so when the image is not the one that the release holds.
async fn moved(tx: &mut dyn Tx, attempt: &attempt::Attempt, slot: u32, digest: &str) -> Result<Option<String>> {
    let (deployment, step) = spec_step(tx, attempt, slot).await?;
    let reference = image(&step, &deployment)?;
    let images = tx.images(deployment.release).await?;
    Ok(images.get(&reference).filter(|pinned| *pinned != digest).map(|pinned| {
        format!(
            "image `{reference}` has moved: release `{}` holds `{pinned}`, the agent has `{digest}`; nothing was started; \
             make a new release, or bring the image back",
            deployment.version
        )
    }))
}

/// The first start of an image pins it for the release, when its creation could not.
async fn pin(tx: &mut dyn Tx, attempt: &attempt::Attempt, slot: u32, digest: &str, now: Timestamp) -> Result<()> {
    if digest.is_empty() {
        return Ok(());
    }
    let (deployment, step) = spec_step(tx, attempt, slot).await?;
    let reference = image(&step, &deployment)?;
    Ok(tx.pin_image(deployment.release, (&reference, digest), now).await?)
}

/// What the step's program belongs under, where its trace is sent.
async fn trace_parent(
    tx: &mut dyn Tx,
    row: &AttemptRow,
    slot: u32,
    traced: Option<f64>,
) -> Result<Option<TraceParent>> {
    if traced.is_none() {
        return Ok(None);
    }
    let (id, attempt) = (row.attempt.deployment, row.attempt.id);
    let deployment = tx.deployment(id).await?.ok_or(Error::Foreign)?;
    let span = trace::try_span(id, attempt, slot);
    Ok(trace::sampled(&deployment, traced).then(|| TraceParent { trace: deployment.trace(), span, sampled: true }))
}

/// What a step is to do; the inner error is one of its spec and values.
async fn work(
    tx: &mut dyn Tx,
    vault: &crate::secrets::Vault,
    row: &AttemptRow,
    step: u32,
) -> Result<std::result::Result<Work, String>> {
    let (deployment, spec) = spec_step(tx, &row.attempt, step).await?;
    let index = index_of(step);
    let steps: Vec<StepRow> =
        tx.steps(deployment.deployment.id).await?.into_iter().filter(|row| row.index != index).collect();
    let values = Values::load(tx, vault, &deployment, Some(&spec.name), &steps).await?;
    let plan = plans::order(tx, vault, deployment.deployment.id, step).await?;
    let over = operations::over(tx, &deployment, index).await?;
    Ok(plan.and_then(|plan| render(&spec, &values, (plan, over))))
}

fn render(step: &Step, values: &Values, plan: (Plan, Vec<String>)) -> std::result::Result<Work, String> {
    let mut env = Vec::new();
    for (name, template) in &step.env {
        let rendered = template.render(values).map_err(|error| format!("`env.{name}`: {error}"))?;
        env.push((name.clone(), rendered.into_secret()));
    }
    for account in &step.accounts {
        env.extend(values.account(account));
    }
    let action = match &step.action {
        spec::Action::Run { script: Script::Shell(text) } => {
            Action::Run { argv: vec!["/bin/sh".to_owned(), "-c".to_owned(), text.clone()] }
        }
        spec::Action::Run { script: Script::Exec(argv) } => Action::Run { argv: argv.clone() },
        spec::Action::Pulumi(pulumi) => Action::Pulumi(render_pulumi(step, pulumi, values, plan)?),
        _ => return Err("this controller does not know what the step runs".to_owned()),
    };
    Ok(Work { env, secrets: values.masked(), timeout: step.timeout.unwrap_or(DEFAULT_TIMEOUT), action })
}

fn render_pulumi(
    step: &Step,
    pulumi: &spec::Pulumi,
    values: &Values,
    (plan, over): (Plan, Vec<String>),
) -> std::result::Result<PulumiAction, String> {
    let shown = |field: &str, template: &longshore_core::expression::Template| {
        let rendered = template.render(values).map_err(|error| format!("`pulumi.{field}`: {error}"))?;
        if rendered.secret {
            return Err(format!("`pulumi.{field}` holds a secret, which would be shown"));
        }
        Ok(rendered.text)
    };
    let checked = |field: &str, text: String, check: fn(&str) -> std::result::Result<(), String>| match check(&text) {
        Ok(()) => Ok(text),
        Err(error) => Err(format!("`pulumi.{field}` came out as `{text}`: {error}")),
    };
    let stack = step.pulumi_stack_template().ok_or("a pulumi step without a stack")?;
    let stack = checked("stack", shown("stack", &stack)?, spec::check_stack)?;
    let dir = match &pulumi.dir {
        Some(dir) => checked("dir", shown("dir", dir)?, spec::check_dir)?,
        None => ".".to_owned(),
    };
    let backend = match &pulumi.backend {
        Some(backend) => Some(checked("backend", shown("backend", backend)?, spec::check_backend)?),
        None => None,
    };
    let operation = match pulumi.operation {
        _ if plan == Plan::Save => Operation::Preview,
        operation => operation.into(),
    };
    Ok(PulumiAction { operation, stack, dir, backend, install: pulumi.install, plan, over })
}
