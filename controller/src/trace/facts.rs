//! What the rows say of a deployment, as spans.
//!
//! Each span comes with the line of the timeline by which it is known to have ended, so that whoever reads the timeline on
//! sends each span once. Which line that is does not change when the timeline gets longer.

use std::collections::HashMap;

use longshore_core::attempt::{Outcome, State};
use longshore_core::deployment::DeploymentState;
use longshore_core::id::DeploymentId;
use longshore_core::step::{StepState, index_of, is_preview, order_of};
use longshore_core::time::Timestamp;
use longshore_core::trace::{SpanId, Took};

use super::span::Span;
use super::{step_span, try_span};
use crate::store::rows::{AttemptRow, DeploymentRow, EventRow, JobRow, StepAttemptRow, StepRow};
use crate::store::{Error, Tx};

/// Says by whose clock a span's times are.
const BY_AGENT: &str = "agent";

/// The rows of a deployment.
pub(super) struct Facts {
    pub(super) row: DeploymentRow,
    steps: Vec<StepRow>,
    jobs: Vec<JobRow>,
    attempts: Vec<AttemptRow>,
    starts: Vec<StepAttemptRow>,
    events: Vec<EventRow>,
}

/// A span, and the line of the timeline with which it had ended.
pub(super) type Ended = (i64, Span);

impl Facts {
    pub(super) async fn load(tx: &mut dyn Tx, row: DeploymentRow) -> Result<Self, Error> {
        let id = row.deployment.id;
        Ok(Self {
            steps: tx.steps(id).await?,
            jobs: tx.jobs_of(id).await?,
            attempts: tx.attempts(id).await?,
            starts: tx.step_attempts(id).await?,
            events: tx.events(id).await?,
            row,
        })
    }

    /// Every span that has ended.
    pub(super) fn spans(&self) -> Vec<Ended> {
        let mut spans = Vec::new();
        spans.extend(self.waiting());
        for attempt in &self.attempts {
            self.attempt(attempt, &mut spans);
        }
        let mut first = HashMap::new();
        for start in &self.starts {
            let leads = *first.entry(start.attempt).or_insert(start.step) == start.step;
            self.start(start, leads, &mut spans);
        }
        spans.extend(self.not_started());
        spans.extend(self.steps.iter().filter_map(|step| self.step(step)));
        spans.extend(self.deployment());
        spans
    }

    fn id(&self) -> DeploymentId {
        self.row.deployment.id
    }

    fn of(&self, kind: &str, what: &str) -> SpanId {
        SpanId::of(self.id(), kind, what)
    }

    fn root(&self) -> SpanId {
        self.of("deployment", "")
    }

    fn span(
        &self,
        id: SpanId,
        parent: Option<SpanId>,
        name: impl Into<String>,
        (began, ended): (Timestamp, Timestamp),
    ) -> Span {
        let span = Span {
            trace: self.row.trace(),
            id,
            parent,
            name: name.into(),
            server: false,
            began,
            ended,
            attributes: Vec::new(),
            error: None,
        };
        let span = span.with("longshore.deployment", self.id().to_string());
        span.with("longshore.project", self.row.project_name.as_str())
            .with("longshore.environment", self.row.environment.as_str())
    }

    /// The first line of an action whose detail says this.
    fn line(&self, action: &str, key: &str, value: &str) -> Option<&EventRow> {
        self.events.iter().find(|line| line.action == action && says(line, key, value))
    }

    /// The line with which the deployment was over.
    fn over(&self) -> Option<&EventRow> {
        let ends = |action: &str| {
            let word = action.strip_prefix("deployment.").unwrap_or_default();
            word == "denied" || DeploymentState::from_name(word).is_some_and(DeploymentState::is_terminal)
        };
        self.events.iter().find(|line| ends(&line.action)).filter(|_| self.row.deployment.state.is_terminal())
    }

    fn deployment(&self) -> Option<Ended> {
        let (over, deployment) = (self.over()?, &self.row.deployment);
        let parent = self.row.trace_parent.map(|parent| parent.span);
        let name = match &self.row.operation {
            Some(operation) => operation.what.operation.as_str(),
            None => "deploy",
        };
        let name = format!("{name} {}/{}", self.row.project_name, self.row.environment);
        let failed = matches!(deployment.state, DeploymentState::Failed | DeploymentState::Lost);
        let span = self.span(self.root(), parent, name, (self.row.created_at, over.at));
        let span = span
            .with("longshore.release", self.row.version.as_str())
            .with("longshore.by", self.row.created_by.as_str());
        let span = span.with("longshore.state", deployment.state.as_str());
        Some((over.id, span.failed(failed, deployment.reason.as_deref())))
    }

    /// From the acceptance to the begin.
    fn waiting(&self) -> Option<Ended> {
        let begun = self.events.iter().find(|line| line.action == "deployment.begun")?;
        let span =
            self.span(self.of("wait", ""), Some(self.root()), "wait for its turn", (self.row.created_at, begun.at));
        Some((begun.id, span))
    }

    fn step(&self, step: &StepRow) -> Option<Ended> {
        let (Some(began), Some(ended), true) = (step.started_at, step.ended_at, step.state.is_terminal()) else {
            return None;
        };
        let ends = |line: &&EventRow| {
            matches!(line.action.as_str(), "step.ended" | "step.guided")
                && says(line, "step", &step.name)
                && line.at >= ended
        };
        // One that its job or a cancel ended has no line of its own.
        let line = self.events.iter().find(ends).or_else(|| self.over())?;
        let name = format!("step {}", step.name);
        let span = self.span(step_span(self.id(), step.index), Some(self.root()), name, (began, ended));
        let span = span.with("longshore.step", step.name.as_str()).with("longshore.state", step.state.as_str());
        let span = span.with_some("longshore.exit_code", step.exit_code.map(i64::from));
        Some((line.id, span.failed(is_error(step.state), step.reason.as_deref())))
    }

    /// One try of a job: waiting for an agent, on its way to it, made ready, over.
    fn attempt(&self, row: &AttemptRow, spans: &mut Vec<Ended>) {
        let (attempt, id) = (&row.attempt, row.attempt.id.to_string());
        let before = self
            .attempts
            .iter()
            .find(|other| other.attempt.job == attempt.job && other.attempt.epoch + 1 == attempt.epoch);
        let queued = match before {
            Some(before) => self.line("attempt.ended", "attempt", &before.attempt.id.to_string()),
            None => self.line("job.queued", "job", &attempt.job.to_string()),
        };
        let Some(offered) = self.line("attempt.offered", "attempt", &id) else { return };
        let queued = queued.map_or(offered.at, |line| line.at.min(offered.at));
        let pool = self.jobs.iter().find(|job| job.job.id == attempt.job).map(|job| job.pool.as_str());
        let tell = |span: Span| {
            let span = span.with("longshore.attempt", id.as_str()).with("longshore.job", attempt.job.to_string());
            let span = span.with("longshore.agent", attempt.agent.to_string()).with_some("longshore.pool", pool);
            span.with("longshore.epoch", i64::try_from(attempt.epoch).unwrap_or(i64::MAX))
        };
        let own = self.of("attempt", &id);
        let mut put = |line: &EventRow, kind: &str, name: &str, times: (Timestamp, Timestamp)| {
            spans.push((line.id, tell(self.span(self.of(kind, &id), Some(own), name, times))));
        };
        put(offered, "queued", "wait for an agent", (queued, offered.at));
        let over = self.line("attempt.ended", "attempt", &id);
        let claimed = self.line("attempt.preparing", "attempt", &id);
        if let Some(line) = claimed.or(over) {
            put(line, "offer", "offer", (offered.at, line.at));
        }
        let confirmed = self.line("attempt.running", "attempt", &id);
        if let (Some(claimed), Some(line)) = (claimed, confirmed.or(over)) {
            put(line, "prepare", "prepare", (claimed.at, line.at));
        }
        let (Some(over), State::Ended { outcome }) = (over, &attempt.state) else { return };
        let span = tell(self.span(own, Some(self.root()), "attempt", (queued, over.at)));
        let failed = matches!(outcome, Outcome::Failed { .. } | Outcome::Lost { .. });
        spans.push((over.id, span.with("longshore.state", word(outcome)).failed(failed, outcome.reason())));
    }

    /// One start of a step: confirmed, run, shipped. `leads`: the first one of its attempt.
    fn start(&self, start: &StepAttemptRow, leads: bool, spans: &mut Vec<Ended>) {
        let attempt = start.attempt.to_string();
        let of = |line: &&EventRow| says(line, "attempt", &attempt) && says_slot(line, start.step);
        if let Some(line) = self.events.iter().find(|line| line.action == "step.started" && of(line)) {
            let parent = if leads { self.of("prepare", &attempt) } else { self.of("attempt", &attempt) };
            spans.extend(self.took(line, parent, start.step));
        }
        let (Some(ended), true) = (start.ended_at, start.state.is_terminal()) else { return };
        let ends =
            |line: &&EventRow| matches!(line.action.as_str(), "step.ended" | "step.tried" | "step.asked") && of(line);
        let own = self.events.iter().find(ends);
        // One that was never reported has ended with its attempt.
        let Some(line) = own.or_else(|| self.line("attempt.ended", "attempt", &attempt)) else { return };
        let id = try_span(self.id(), start.attempt, start.step);
        spans.extend(self.took(line, id, start.step).filter(|_| own.is_some()));
        let code = own.and_then(|line| line.detail.get("exit_code")?.as_i64());
        let reason = own.and_then(|line| line.detail.get("reason")?.as_str());
        let name =
            if is_preview(start.step) { "preview".to_owned() } else { format!("try {}", order_of(start.step).1 + 1) };
        let span = self.span(id, Some(step_span(self.id(), index_of(start.step))), name, (start.started_at, ended));
        let span = span.with("longshore.attempt", attempt.as_str()).with("longshore.agent", start.agent.to_string());
        let span =
            span.with_some("longshore.step", self.name_of(start.step)).with("longshore.state", start.state.as_str());
        let span = span
            .with("container.id", start.container.as_str())
            .with("longshore.image_digest", start.image_digest.as_str());
        spans.push((line.id, span.with_some("longshore.exit_code", code).failed(is_error(start.state), reason)));
    }

    /// What was done for starts that never came.
    fn not_started(&self) -> impl Iterator<Item = Ended> {
        let lines = self.events.iter().filter(|line| line.action == "step.not_started");
        lines.flat_map(|line| {
            let attempt = line.detail.get("attempt").and_then(|value| value.as_str()).unwrap_or_default();
            let slot =
                line.detail.get("slot").and_then(serde_json::Value::as_u64).and_then(|slot| u32::try_from(slot).ok());
            self.took(line, self.of("attempt", attempt), slot.unwrap_or_default())
        })
    }

    /// What an agent said that something took, as a line has it.
    fn took<'a>(&'a self, line: &'a EventRow, parent: SpanId, slot: u32) -> impl Iterator<Item = Ended> + 'a {
        let attempt = line.detail.get("attempt").and_then(|value| value.as_str()).unwrap_or_default();
        let said = line.detail.get("took").cloned().unwrap_or_default();
        let said: Vec<Took> = serde_json::from_value(said).unwrap_or_default();
        said.into_iter().map(move |took| {
            let id = self.of("took", &format!("{attempt}/{slot}/{}", took.what));
            let run = took.what == "run";
            let span =
                self.span(id, Some(parent), took.what, (took.began, took.ended)).with("longshore.clock", BY_AGENT);
            let span = span.with("longshore.attempt", attempt).with_some("longshore.step", self.name_of(slot));
            let code = line.detail.get("exit_code").and_then(serde_json::Value::as_i64).filter(|_| run);
            (line.id, span.with_some("longshore.exit_code", code))
        })
    }

    fn name_of(&self, slot: u32) -> Option<&str> {
        self.steps.iter().find(|step| step.index == index_of(slot)).map(|step| step.name.as_str())
    }
}

fn says(line: &EventRow, key: &str, value: &str) -> bool {
    line.detail.get(key).and_then(|found| found.as_str()) == Some(value)
}

fn says_slot(line: &EventRow, slot: u32) -> bool {
    line.detail.get("slot").and_then(serde_json::Value::as_u64) == Some(slot.into())
}

const fn is_error(state: StepState) -> bool {
    matches!(state, StepState::Failed | StepState::Lost)
}

const fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Failed { .. } => "failed",
        Outcome::Canceled { .. } => "canceled",
        Outcome::Lost { .. } => "lost",
        Outcome::Abandoned { .. } => "abandoned",
    }
}
