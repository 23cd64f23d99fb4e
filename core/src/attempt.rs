//! One try of a job on one agent: the state machine that promises P2, P3 and P10 rest on.
//!
//! ```text
//! Offered --accept--> Preparing --confirm--> Running --last step ended--> Ended
//!    |  decline, silence  |  silence            |  ^ silence / back
//!    v                    v                     v  |
//!  Ended(Abandoned): the job is queued anew    Unknown --proof--> Ended(Lost)
//! ```
//!
//! Before the first confirmed step nothing was started, so silence is safe to act on. After it only the agent's own
//! report or a proof ends the attempt; no clock does. A cancel is a mark beside the state, because it has to outlive
//! the way through `Unknown` and back.

mod cause;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{AgentId, AttemptId, DeploymentId, JobId};
use crate::step::{End, Verdict, canceled_by, order_of};
use crate::time::Timestamp;

pub use cause::Cause;

/// Host name of an attempt's containers: by it Pulumi's own lock says whose it is.
#[must_use]
pub fn hostname(id: AttemptId) -> String {
    format!("att-{}", id.hex())
}

/// An attempt as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its id; also the host name of its containers.
    pub id: AttemptId,
    /// The job that is tried.
    pub job: JobId,
    /// The deployment of the job.
    pub deployment: DeploymentId,
    /// The agent that it was offered to.
    pub agent: AgentId,
    /// Counter of the job's attempts, from 1.
    pub epoch: u64,
    /// Counter of database restores when it was made.
    pub incarnation: u64,
    /// Where it stands.
    pub state: State,
    /// When the state was entered.
    pub since: Timestamp,
    /// When a person asked for a cancel, or the agent began one by itself.
    pub cancel_asked: Option<Timestamp>,
    /// Why the agent cancels it by itself, if it does: its machine has to go.
    pub cancel_cause: Option<String>,
}

/// Where an attempt stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Sent to the agent, not answered yet.
    Offered,
    /// Claimed: the agent pulls images and unpacks the package. Nothing was started.
    Preparing,
    /// At least one step was confirmed.
    Running {
        /// The slot that was confirmed last.
        step: u32,
        /// That step has ended; the next one is being prepared.
        between: bool,
    },
    /// Started, and the agent is gone without proof. Holds its locks.
    Unknown {
        /// As in `Running`.
        step: u32,
        /// As in `Running`.
        between: bool,
        /// What is known, for people.
        reason: String,
    },
    /// Over.
    Ended {
        /// How.
        outcome: Outcome,
    },
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Every step ended well.
    Succeeded,
    /// A step ended badly.
    Failed {
        /// Why.
        reason: String,
    },
    /// A person asked for it, or its agent had to leave.
    Canceled {
        /// What is known about it.
        reason: String,
    },
    /// Ended by infrastructure after a start, proven.
    Lost {
        /// Why.
        reason: String,
    },
    /// Given up before anything was started; the job goes back to the queue.
    Abandoned {
        /// Why.
        reason: String,
        /// The agent did not take it, so the job was never tried: that says nothing against the job.
        #[serde(default)]
        declined: bool,
        /// The agent took it and has to leave before anything was started: that says nothing against the job either.
        #[serde(default)]
        given_back: bool,
    },
}

impl Outcome {
    /// The words for people, if there are any.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Succeeded => None,
            Self::Failed { reason }
            | Self::Canceled { reason }
            | Self::Lost { reason }
            | Self::Abandoned { reason, .. } => Some(reason),
        }
    }
}

/// How it is known that nothing of an attempt runs any more (promise P3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// The host was booted anew; containers do not survive that.
    NewBoot,
    /// The agent is back, and its engine has no container of the attempt.
    Absent,
    /// The cloud says that the agent's machine is terminated: it is no more, and cannot be started again.
    Terminated {
        /// The machine, as the cloud names it.
        machine: String,
    },
    /// A person took the responsibility.
    Override {
        /// Who.
        by: String,
        /// The reason that was typed.
        reason: String,
    },
}

/// What happens to an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The agent claims the job.
    Accepted,
    /// The agent does not take it.
    Declined {
        /// Why.
        reason: String,
    },
    /// The agent asks for the right to start a step.
    Confirm {
        /// Index of the step.
        step: u32,
    },
    /// A confirmed step ended.
    StepEnded {
        /// Slot of the step.
        step: u32,
        /// How; or how an earlier step of the job did, if that was worse.
        verdict: Verdict,
        /// Slot that comes after it in the job: another step, or this one once more.
        next: Option<u32>,
    },
    /// A step could not be started; no container ran for it.
    NotStarted {
        /// Index of the step.
        step: u32,
        /// Why.
        reason: String,
        /// Whose affair that is.
        cause: Cause,
    },
    /// A person asks for a cancel.
    CancelAsked,
    /// The agent cancels what runs by itself, because it has to leave.
    AgentCancels {
        /// For people.
        cause: String,
    },
    /// The agent's lease lapsed.
    Silent,
    /// The agent is back and still has the attempt.
    Back,
    /// Nothing of it runs any more.
    Proven(Proof),
    /// The state's limit passed.
    LimitPassed,
}

/// What the engine has to do beside saving the new state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Release the step's secrets to the agent: the grant.
    Grant {
        /// Index of the step.
        step: u32,
    },
    /// Tell the agent to cancel.
    TellCancel,
    /// Tell the agent that the attempt is not its own any more.
    TellRevoke,
    /// The attempt was claimed.
    Claimed,
    /// The outcome is not known; `reason` says why.
    BecameUnknown {
        /// For people.
        reason: String,
    },
    /// The agent is back with it.
    CameBack,
    /// The attempt is over.
    Over(Outcome),
}

/// A transition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The attempt as it has to be saved.
    pub next: Attempt,
    /// What follows, in order.
    pub effects: Vec<Effect>,
}

/// Why an event was not accepted. Nothing changes then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The attempt is over.
    #[error("attempt `{0}` has ended")]
    Ended(AttemptId),
    /// The event does not belong to the state.
    #[error("attempt `{attempt}` is {state}, which does not admit {event}")]
    OutOfTurn {
        /// The attempt.
        attempt: AttemptId,
        /// Its state.
        state: &'static str,
        /// The event.
        event: &'static str,
    },
    /// A cancel was asked for, so nothing is started any more.
    #[error("attempt `{0}` is being canceled: nothing is started any more")]
    Canceled(AttemptId),
}

/// The time limits of the states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// An offer that is not answered in this time is given up.
    pub offered: Duration,
    /// A claim that has not confirmed its first step in this time is given up.
    pub preparing: Duration,
    /// Between two steps.
    pub between: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            offered: Duration::from_secs(15),
            preparing: Duration::from_secs(3_600),
            // Longer than the longest wait before a retry.
            between: Duration::from_secs(2 * 3_600),
        }
    }
}

/// How long a state may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Then [`Event::LimitPassed`] is due.
    After(Duration),
    /// Ends by proof or by a person, never by a clock (promise P3).
    Proof,
    /// It is over.
    None,
}

impl State {
    /// The state's name, for messages and the database.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Offered => "offered",
            Self::Preparing => "preparing",
            Self::Running { .. } => "running",
            Self::Unknown { .. } => "unknown",
            Self::Ended { .. } => "ended",
        }
    }

    /// How long the state may last. `step_time` is the running step's timeout with its grace period, or how long the next try has to wait.
    ///
    /// A running step's limit is no reason to believe that it ended: init keeps the deadline on the host, and the
    /// state becomes `Unknown` when nothing is heard long after it.
    #[must_use]
    pub const fn limit(&self, limits: &Limits, step_time: Duration) -> Limit {
        match self {
            Self::Offered => Limit::After(limits.offered),
            Self::Preparing => Limit::After(limits.preparing),
            Self::Running { between: true, .. } => Limit::After(limits.between.saturating_add(step_time)),
            Self::Running { between: false, .. } => Limit::After(step_time.saturating_add(limits.between)),
            Self::Unknown { .. } => Limit::Proof,
            Self::Ended { .. } => Limit::None,
        }
    }
}

impl Event {
    const fn name(&self) -> &'static str {
        match self {
            Self::Accepted => "an acceptance",
            Self::Declined { .. } => "a refusal",
            Self::Confirm { .. } => "the start of a step",
            Self::StepEnded { .. } => "the end of a step",
            Self::NotStarted { .. } => "a failed preparation",
            Self::CancelAsked => "a cancel",
            Self::AgentCancels { .. } => "a cancel by the agent",
            Self::Silent => "a lapsed lease",
            Self::Back => "the return of the agent",
            Self::Proven(_) => "a proof",
            Self::LimitPassed => "a passed limit",
        }
    }
}

/// Decides what an event makes of an attempt.
///
/// # Errors
/// [`Rejected`] when the event does not belong to the state; nothing changes then.
pub fn decide(attempt: &Attempt, event: &Event, now: Timestamp) -> Result<Decision, Rejected> {
    match &attempt.state {
        State::Offered => offered(attempt, event, now),
        State::Preparing => preparing(attempt, event, now),
        State::Running { step, between } => running(attempt, (*step, *between), event, now),
        State::Unknown { step, between, .. } => unknown(attempt, (*step, *between), event, now),
        State::Ended { .. } => Err(Rejected::Ended(attempt.id)),
    }
}

fn offered(attempt: &Attempt, event: &Event, now: Timestamp) -> Result<Decision, Rejected> {
    match event {
        Event::Accepted => Ok(attempt.to(State::Preparing, now, vec![Effect::Claimed])),
        Event::Declined { reason } => {
            let reason = format!("agent `{}` declined: {reason}", attempt.agent);
            let outcome = Outcome::Abandoned { reason, declined: true, given_back: false };
            Ok(attempt.end(outcome, now, vec![Effect::TellRevoke]))
        }
        Event::Silent => Ok(attempt.abandon("the agent left before it answered the offer", now)),
        Event::LimitPassed => Ok(attempt.abandon("the agent did not answer the offer in time", now)),
        Event::Proven(proof @ Proof::Terminated { .. }) => Ok(attempt.abandon(&proof.words(), now)),
        Event::Proven(_) => Ok(attempt.abandon("the agent came back without it", now)),
        Event::CancelAsked => Ok(attempt.cancel_unstarted(now)),
        // The answer was lost with the old stream: holding it is an answer.
        Event::Back => Ok(attempt.to(State::Preparing, now, vec![Effect::Claimed])),
        // It overtook the answer on its way: who prepares has taken the job.
        Event::Confirm { .. } | Event::NotStarted { .. } => {
            let mut decision = preparing(&attempt.to(State::Preparing, now, vec![]).next, event, now)?;
            decision.effects.insert(0, Effect::Claimed);
            Ok(decision)
        }
        Event::StepEnded { .. } | Event::AgentCancels { .. } => attempt.reject(event),
    }
}

fn preparing(attempt: &Attempt, event: &Event, now: Timestamp) -> Result<Decision, Rejected> {
    match event {
        Event::Confirm { step } => {
            Ok(attempt.to(State::Running { step: *step, between: false }, now, vec![Effect::Grant { step: *step }]))
        }
        Event::NotStarted { cause: Cause::Leaving, reason, .. } => {
            let reason = format!("agent `{}` gave it back: {reason}", attempt.agent);
            let outcome = Outcome::Abandoned { reason, declined: false, given_back: true };
            Ok(attempt.end(outcome, now, vec![Effect::TellRevoke]))
        }
        Event::NotStarted { cause: Cause::Agent, reason, .. } | Event::Declined { reason } => {
            Ok(attempt.abandon(&format!("agent `{}` could not prepare it: {reason}", attempt.agent), now))
        }
        Event::NotStarted { cause: Cause::Step, reason, .. } => {
            Ok(attempt.end(Outcome::Failed { reason: reason.clone() }, now, vec![]))
        }
        Event::Silent => Ok(attempt.abandon("the agent left before anything was started", now)),
        Event::LimitPassed => Ok(attempt.abandon("the agent took too long to prepare it", now)),
        Event::Proven(proof @ Proof::Terminated { .. }) => {
            Ok(attempt.abandon(&format!("{}, before anything was started", proof.words()), now))
        }
        Event::Proven(_) => Ok(attempt.abandon("the agent came back without it, before anything was started", now)),
        Event::CancelAsked => Ok(attempt.cancel_unstarted(now)),
        Event::Back => Ok(attempt.to(State::Preparing, attempt.since, vec![])),
        // What was not started is given back, not canceled.
        Event::Accepted | Event::StepEnded { .. } | Event::AgentCancels { .. } => attempt.reject(event),
    }
}

fn running(
    attempt: &Attempt,
    (step, between): (u32, bool),
    event: &Event,
    now: Timestamp,
) -> Result<Decision, Rejected> {
    match event {
        Event::Confirm { step: next } if between && order_of(*next) > order_of(step) => {
            if attempt.cancel_asked.is_some() {
                return Err(Rejected::Canceled(attempt.id));
            }
            Ok(attempt.to(State::Running { step: *next, between: false }, now, vec![Effect::Grant { step: *next }]))
        }
        Event::StepEnded { step: ended, verdict, next } if !between && *ended == step => {
            Ok(step_ended(attempt, step, verdict, *next, now))
        }
        Event::NotStarted { step: ended, reason, .. }
            if order_of(*ended) > order_of(step) || (*ended == step && !between) =>
        {
            Ok(attempt.end(Outcome::Failed { reason: reason.clone() }, now, vec![]))
        }
        // Nothing runs: the last step has ended, and the fence keeps the next one from being started.
        Event::CancelAsked if between => {
            let outcome =
                Outcome::Canceled { reason: "canceled between two steps; the next ones were not started".to_owned() };
            let mut decision = attempt.end(outcome, now, vec![Effect::TellRevoke]);
            decision.next.cancel_asked = attempt.cancel_asked.or(Some(now));
            Ok(decision)
        }
        Event::AgentCancels { cause } if between => {
            let reason = format!("canceled by its agent between two steps: {cause}; the next ones were not started");
            let mut decision = attempt.end(Outcome::Canceled { reason }, now, vec![Effect::TellRevoke]);
            decision.next = decision.next.because(cause, now);
            Ok(decision)
        }
        Event::AgentCancels { cause } => {
            let mut decision = attempt.to(attempt.state.clone(), attempt.since, vec![]);
            decision.next = decision.next.because(cause, now);
            Ok(decision)
        }
        Event::CancelAsked if attempt.cancel_asked.is_some() => {
            Ok(attempt.to(attempt.state.clone(), attempt.since, vec![Effect::TellCancel]))
        }
        Event::CancelAsked => {
            let mut decision = attempt.to(attempt.state.clone(), attempt.since, vec![Effect::TellCancel]);
            decision.next.cancel_asked = Some(now);
            Ok(decision)
        }
        Event::Silent => Ok(attempt.to_unknown(
            step,
            between,
            "the agent does not answer; the step may still be running and writing",
            now,
        )),
        Event::LimitPassed => {
            Ok(attempt.to_unknown(step, between, "nothing was heard of the step long after its timeout", now))
        }
        Event::Back => Ok(attempt.to(attempt.state.clone(), attempt.since, vec![])),
        Event::Proven(proof) => Ok(attempt.end(proof.outcome(), now, vec![])),
        Event::Accepted
        | Event::Declined { .. }
        | Event::Confirm { .. }
        | Event::StepEnded { .. }
        | Event::NotStarted { .. } => attempt.reject(event),
    }
}

fn unknown(
    attempt: &Attempt,
    (step, between): (u32, bool),
    event: &Event,
    now: Timestamp,
) -> Result<Decision, Rejected> {
    match event {
        Event::Back => Ok(attempt.to(State::Running { step, between }, now, vec![Effect::CameBack])),
        Event::Proven(proof) => Ok(attempt.end(proof.outcome(), now, vec![])),
        // A person's wish is kept for the agent's return.
        Event::CancelAsked => {
            let mut decision = attempt.to(attempt.state.clone(), attempt.since, vec![]);
            decision.next.cancel_asked = attempt.cancel_asked.or(Some(now));
            Ok(decision)
        }
        Event::AgentCancels { cause } => {
            let mut decision = attempt.to(attempt.state.clone(), attempt.since, vec![]);
            decision.next = decision.next.because(cause, now);
            Ok(decision)
        }
        // The report of a current epoch counts, whenever it comes (promise P5).
        Event::StepEnded { .. } | Event::NotStarted { .. } | Event::Confirm { .. } => {
            let mut back = decide(&attempt.to(State::Running { step, between }, now, vec![]).next, event, now)?;
            back.effects.insert(0, Effect::CameBack);
            Ok(back)
        }
        Event::Silent | Event::LimitPassed => Ok(attempt.to(attempt.state.clone(), attempt.since, vec![])),
        Event::Accepted | Event::Declined { .. } => attempt.reject(event),
    }
}

fn step_ended(attempt: &Attempt, step: u32, verdict: &Verdict, next: Option<u32>, now: Timestamp) -> Decision {
    let reason = || verdict.reason.clone().unwrap_or_default();
    let goes_on = next.is_some();
    let outcome = match verdict.end {
        // What comes next may be meant for the very case that a step has failed.
        End::Succeeded | End::Failed if goes_on && attempt.cancel_asked.is_none() => {
            return attempt.to(State::Running { step, between: true }, now, vec![]);
        }
        End::Succeeded if goes_on => Outcome::Canceled {
            reason: format!(
                "{}; the running step ended before the cancel reached it, the next ones were not started",
                canceled_by(attempt.cancel_cause.as_deref())
            ),
        },
        End::Succeeded => Outcome::Succeeded,
        End::Failed => Outcome::Failed { reason: reason() },
        End::Canceled => Outcome::Canceled { reason: reason() },
        End::Lost => Outcome::Lost { reason: reason() },
    };
    attempt.end(outcome, now, vec![])
}

impl Proof {
    /// What it says, for people.
    fn words(&self) -> String {
        match self {
            Self::NewBoot => "the agent's host was booted anew while the step ran".to_owned(),
            Self::Absent => {
                "the agent's engine has no container of the step any more, and no exit was recorded".to_owned()
            }
            Self::Terminated { machine } => {
                format!("the cloud says that the agent's machine `{machine}` is terminated")
            }
            Self::Override { by, reason } => format!("declared lost by {by}: {reason}"),
        }
    }

    fn outcome(&self) -> Outcome {
        let words = self.words();
        Outcome::Lost {
            reason: match self {
                Self::Override { .. } => words,
                Self::NewBoot | Self::Absent | Self::Terminated { .. } => {
                    format!("{words}; what the step had done by then stays done")
                }
            },
        }
    }
}

impl Attempt {
    /// The agent cancels it; who was first has the cause.
    fn because(self, cause: &str, now: Timestamp) -> Self {
        let own = self.cancel_asked.is_none().then(|| cause.to_owned());
        Self { cancel_asked: self.cancel_asked.or(Some(now)), cancel_cause: self.cancel_cause.or(own), ..self }
    }

    fn to(&self, state: State, since: Timestamp, effects: Vec<Effect>) -> Decision {
        Decision { next: Self { state, since, ..self.clone() }, effects }
    }

    fn to_unknown(&self, step: u32, between: bool, reason: &str, now: Timestamp) -> Decision {
        let state = State::Unknown { step, between, reason: reason.to_owned() };
        self.to(state, now, vec![Effect::BecameUnknown { reason: reason.to_owned() }])
    }

    fn end(&self, outcome: Outcome, now: Timestamp, mut effects: Vec<Effect>) -> Decision {
        effects.push(Effect::Over(outcome.clone()));
        self.to(State::Ended { outcome }, now, effects)
    }

    /// Nothing was started, and the fence keeps it so: the agent may be told late or never.
    fn abandon(&self, reason: &str, now: Timestamp) -> Decision {
        let reason = reason.to_owned();
        let outcome = Outcome::Abandoned { reason, declined: false, given_back: false };
        self.end(outcome, now, vec![Effect::TellRevoke])
    }

    fn cancel_unstarted(&self, now: Timestamp) -> Decision {
        let outcome = Outcome::Canceled { reason: "canceled before anything was started".to_owned() };
        let mut decision = self.end(outcome, now, vec![Effect::TellRevoke]);
        decision.next.cancel_asked = Some(now);
        decision
    }

    fn reject<T>(&self, event: &Event) -> Result<T, Rejected> {
        Err(Rejected::OutOfTurn { attempt: self.id, state: self.state.name(), event: event.name() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attempt(state: State) -> Attempt {
        let at = Timestamp::from_micros(1);
        Attempt {
            id: AttemptId::new(at, [1; 10]),
            job: JobId::new(at, [2; 10]),
            deployment: DeploymentId::new(at, [3; 10]),
            agent: AgentId::new(at, [4; 10]),
            epoch: 1,
            incarnation: 1,
            state,
            since: at,
            cancel_asked: None,
            cancel_cause: None,
        }
    }

    fn why() -> String {
        "why".to_owned()
    }

    fn ended(step: u32, end: End, next: Option<u32>) -> Event {
        Event::StepEnded { step, verdict: Verdict { end, reason: None }, next }
    }

    fn states() -> Vec<State> {
        vec![
            State::Offered,
            State::Preparing,
            State::Running { step: 0, between: false },
            State::Running { step: 0, between: true },
            State::Unknown { step: 0, between: false, reason: why() },
            State::Ended { outcome: Outcome::Succeeded },
        ]
    }

    fn events() -> Vec<Event> {
        vec![
            Event::Accepted,
            Event::Declined { reason: why() },
            Event::Confirm { step: 0 },
            Event::Confirm { step: 1 },
            ended(0, End::Succeeded, Some(1)),
            ended(0, End::Succeeded, None),
            ended(0, End::Failed, None),
            Event::NotStarted { step: 0, reason: why(), cause: Cause::Agent },
            Event::NotStarted { step: 1, reason: why(), cause: Cause::Step },
            Event::CancelAsked,
            Event::Silent,
            Event::Back,
            Event::Proven(Proof::Absent),
            Event::LimitPassed,
            Event::AgentCancels { cause: why() },
            Event::NotStarted { step: 0, reason: why(), cause: Cause::Leaving },
        ]
    }

    /// The short form of a state for the table below.
    fn short(state: &State) -> &'static str {
        match state {
            State::Running { between: true, .. } => "between",
            State::Ended { outcome: Outcome::Abandoned { .. } } => "abandoned",
            State::Ended { outcome: Outcome::Lost { .. } } => "lost",
            State::Ended { outcome: Outcome::Failed { .. } } => "failed",
            State::Ended { outcome: Outcome::Canceled { .. } } => "canceled",
            State::Ended { outcome: Outcome::Succeeded } => "succeeded",
            other => other.name(),
        }
    }

    #[test]
    fn every_state_answers_every_event() {
        let now = Timestamp::from_micros(9);
        let row = |state: &State| -> Vec<&'static str> {
            events()
                .iter()
                .map(|event| decide(&attempt(state.clone()), event, now).map_or("-", |d| short(&d.next.state)))
                .collect()
        };
        let table: Vec<_> = states().iter().map(row).collect();
        let (p, r, u) = ("preparing", "running", "unknown");
        let (a, l, f, s, b) = ("abandoned", "lost", "failed", "succeeded", "between");
        assert_eq!(
            table,
            [
                // acc decl conf0 conf1 end>1 end fail not0 not1 cancel silent back proof limit leaves given
                [p, a, r, r, "-", "-", "-", a, f, "canceled", a, p, a, a, "-", a],
                ["-", a, r, r, "-", "-", "-", a, f, "canceled", a, p, a, a, "-", a],
                ["-", "-", "-", "-", b, s, f, f, f, r, u, r, l, u, r, f],
                ["-", "-", "-", r, "-", "-", "-", "-", f, "canceled", u, b, l, u, "canceled", "-"],
                ["-", "-", "-", "-", b, s, f, f, f, u, u, r, l, u, u, f],
                ["-"; 16],
            ]
        );
    }

    #[test]
    fn after_a_cancel_nothing_more_is_started() {
        let now = Timestamp::from_micros(9);
        let asked = decide(&attempt(State::Running { step: 0, between: true }), &Event::CancelAsked, now).unwrap();
        assert_eq!(short(&asked.next.state), "canceled", "between two steps nothing runs");
        let returned = Attempt { cancel_asked: Some(now), ..attempt(State::Running { step: 0, between: true }) };
        assert_eq!(decide(&returned, &Event::Confirm { step: 1 }, now), Err(Rejected::Canceled(returned.id)));
        let running =
            decide(&attempt(State::Running { step: 0, between: false }), &Event::CancelAsked, now).unwrap().next;
        let end = decide(&running, &ended(0, End::Succeeded, Some(1)), now).unwrap().next;
        assert_eq!(short(&end.state), "canceled");
    }

    #[test]
    fn a_cancel_by_the_agent_says_why_and_starts_nothing_more() {
        let now = Timestamp::from_micros(9);
        let cancels = |cause: &str| Event::AgentCancels { cause: cause.to_owned() };
        let running = attempt(State::Running { step: 0, between: false });
        let marked = decide(&running, &cancels("spot notice"), now).unwrap();
        assert_eq!((marked.effects, marked.next.cancel_asked), (vec![], Some(now)), "it needs not be told");
        let again = decide(&marked.next, &cancels("spot notice"), Timestamp::from_micros(10)).unwrap();
        assert_eq!(again.next, marked.next, "said again it is the same");
        let end = decide(&marked.next, &ended(0, End::Succeeded, Some(1)), now).unwrap().next;
        let State::Ended { outcome } = &end.state else { panic!("{end:?}") };
        assert!(outcome.reason().unwrap().starts_with("canceled by its agent (spot notice); "), "{outcome:?}");
        // A person was first, and has the cause.
        let asked = decide(&running, &Event::CancelAsked, now).unwrap().next;
        assert_eq!(decide(&asked, &cancels("spot notice"), now).unwrap().next, asked);
    }

    #[test]
    fn what_is_given_back_is_nobodys_fault() {
        for (said, cause, again, fault) in [
            ((false, false), Cause::Step, false, false),
            ((false, true), Cause::Step, false, false),
            // An agent that does not know the second word.
            ((true, false), Cause::Agent, true, true),
            ((true, true), Cause::Leaving, true, false),
        ] {
            assert_eq!(Cause::said(said.0, said.1), cause);
            assert_eq!((cause.is_elsewhere_better(), cause.is_agents_fault()), (again, fault), "{cause:?}");
            let event = Event::NotStarted { step: 0, reason: why(), cause };
            for state in [State::Offered, State::Preparing] {
                let next = decide(&attempt(state), &event, Timestamp::from_micros(9)).unwrap().next.state;
                let State::Ended { outcome } = next else { panic!("{next:?}") };
                let given = matches!(outcome, Outcome::Abandoned { declined: false, given_back: true, .. });
                assert_eq!(given, cause == Cause::Leaving, "{outcome:?}");
                assert_eq!(matches!(outcome, Outcome::Abandoned { .. }), again, "{outcome:?}");
            }
        }
        // As it was stored before there was a word for it.
        let old = r#"{"outcome": "abandoned", "reason": "why"}"#;
        let expected = Outcome::Abandoned { reason: why(), declined: false, given_back: false };
        assert_eq!(serde_json::from_str::<Outcome>(old).unwrap(), expected);
    }

    #[test]
    fn a_terminated_machine_ends_whatever_its_agent_had() {
        let now = Timestamp::from_micros(9);
        let proof = Event::Proven(Proof::Terminated { machine: "aws/1/i-2".to_owned() });
        let says = "the cloud says that the agent's machine `aws/1/i-2` is terminated";
        let ends: Vec<_> = states()[..5]
            .iter()
            .map(|state| match decide(&attempt(state.clone()), &proof, now).unwrap().next.state {
                State::Ended { outcome } => (outcome.reason().unwrap().starts_with(says), outcome),
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(ends.iter().all(|(said, _)| *said), "{ends:?}");
        // What was not started goes back to the queue, what was started is never begun anew.
        assert!(
            ends[..2]
                .iter()
                .all(|(_, end)| matches!(end, Outcome::Abandoned { declined: false, given_back: false, .. })),
            "{ends:?}"
        );
        assert!(ends[2..].iter().all(|(_, end)| matches!(end, Outcome::Lost { .. })), "{ends:?}");
    }

    proptest! {
        /// Whatever comes in whatever order: the end stays the end, secrets are released at most once a step, what was started is
        /// never abandoned, and only a proof or a report ends the unknown.
        #[test]
        fn promises_hold_for_any_history(history in proptest::collection::vec(0..16_usize, 0..40)) {
            let all = events();
            let mut current = attempt(State::Offered);
            let (mut grants, mut started) = (Vec::new(), false);
            for index in history {
                let Ok(decision) = decide(&current, &all[index], Timestamp::from_micros(9)) else { continue };
                prop_assert!(!matches!(current.state, State::Ended { .. }), "the end is the end");
                for effect in &decision.effects {
                    if let Effect::Grant { step } = effect {
                        prop_assert!(!grants.contains(step), "step {} was granted twice", step);
                        grants.push(*step);
                        started = true;
                    }
                }
                prop_assert!(!(started && short(&decision.next.state) == "abandoned"), "what was started was abandoned");
                if matches!(current.state, State::Unknown { .. }) && matches!(decision.next.state, State::Ended { .. }) {
                    let by_report = matches!(all[index], Event::Proven(_) | Event::StepEnded { .. } | Event::NotStarted { .. });
                    prop_assert!(by_report, "a clock ended the unknown");
                }
                current = decision.next;
            }
        }
    }
}
