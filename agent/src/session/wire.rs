//! Messages of the wire from and to what the rest of the agent speaks.

use std::time::Duration;

use longshore_core::attempt::Cause;
use longshore_core::time::Timestamp;
use longshore_proto::convert::{self, required};
use longshore_proto::{CAPABILITIES, CAPABILITY_LEAVING_V1, v1};
use v1::complete_request::Outcome;
use v1::session_request::Message as Up;
use v1::session_response::Message as Down;

use super::{About, Ending, Event, Held, HeldVerdict, Message, Report, Snapshot, Start, Verdict};
use crate::host::Facts;

pub(super) fn up(message: Up) -> v1::SessionRequest {
    v1::SessionRequest { message: Some(message) }
}

pub(super) fn hello(about: &About, snapshot: &Snapshot, facts: Facts) -> Up {
    Up::Hello(v1::Hello {
        capabilities: CAPABILITIES.map(str::to_owned).into(),
        boot_id: about.boot_id.clone(),
        instance_id: about.instance_id.clone(),
        slots: about.slots,
        held: snapshot.held.iter().map(held).collect(),
        room: Some(about.room(&facts).into()),
        largest: Some(about.largest.into()),
        host: Some(host(about, snapshot, facts)),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        mounts: about.mounts.clone(),
        labels: about.labels.clone().into_iter().collect(),
        weakest_profile: about.weakest_profile.as_str().to_owned(),
        draining: snapshot.draining.is_some(),
        draining_reason: snapshot.draining.clone().unwrap_or_default(),
        draining_until_us: until(snapshot.until),
        plugins: Some(snapshot.plugins.clone().into()),
    })
}

/// That the agent drains, and why.
pub(super) fn draining(reason: String, at: Option<Timestamp>) -> Up {
    Up::Draining(v1::Draining { reason, until_us: until(at) })
}

fn until(at: Option<Timestamp>) -> u64 {
    at.and_then(|at| u64::try_from(at.as_micros()).ok()).unwrap_or(0)
}

fn held(held: &Held) -> v1::HeldAttempt {
    v1::HeldAttempt {
        fence: Some(held.fence.into()),
        step: held.step,
        container_id: held.container.clone().unwrap_or_default(),
        started: held.started,
    }
}

fn host(about: &About, snapshot: &Snapshot, facts: Facts) -> v1::HostFacts {
    let (engine, state) = (snapshot.engine.clone(), facts.disks.state);
    v1::HostFacts {
        hostname: facts.hostname,
        os: facts.os,
        kernel: facts.kernel,
        arch: facts.arch,
        cpus: facts.cpus,
        memory_total: facts.memory_total,
        memory_available: facts.memory_available,
        load: facts.load,
        disk_total: state.total,
        disk_available: state.bytes,
        engine_version: engine.as_ref().map(|engine| engine.version.clone()).unwrap_or_default(),
        engine_api: engine.map(|engine| engine.api).unwrap_or_default(),
        inodes_total: state.inodes_total,
        inodes_available: state.inodes,
        low: snapshot.low.iter().cloned().map(Into::into).collect(),
        disk_spare: Some(facts.disks.least().1.saturating_sub(about.reserve.disk.0)),
        engine_disk: facts.disks.engine.map(|(root, left)| v1::EngineDisk {
            root,
            total: left.total,
            available: left.bytes,
            inodes_total: left.inodes_total,
            inodes_available: left.inodes,
        }),
    }
}

pub(super) fn heartbeat(sequence: u64, about: &About, snapshot: &Snapshot, facts: Facts) -> Up {
    let host = Some(host(about, snapshot, facts));
    Up::Heartbeat(v1::Heartbeat { sequence, free_slots: snapshot.free_slots, host })
}

pub(super) fn message(message: Message) -> Up {
    match message {
        Message::Answer { fence, declined } => Up::OfferAnswer(v1::OfferAnswer {
            fence: Some(fence.into()),
            accepted: declined.is_none(),
            reason: declined.unwrap_or_default(),
        }),
        Message::Image { request, digest } => {
            let (digest, error) = match digest {
                Ok(digest) => (digest, String::new()),
                Err(error) => (String::new(), error),
            };
            Up::ImageResolved(v1::ImageResolved { request, digest, error })
        }
        Message::Probed { request, error } => {
            Up::ProbeEnded(v1::ProbeEnded { request, error: error.unwrap_or_default() })
        }
        Message::Canceling { fence, reason } => Up::Canceling(v1::Canceling { fence: Some(fence.into()), reason }),
        Message::Progress(progress) => Up::Progress(v1::Progress {
            fence: Some(progress.fence.into()),
            step: progress.step,
            phase: progress.phase.as_str().to_owned(),
            message: progress.message,
            current: progress.current,
            total: progress.total,
        }),
    }
}

/// What a Welcome settles for the stream itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) heartbeat: Duration,
    pub(super) max_disconnected: Duration,
    /// The controller wants to hear of cancels of the agent's own.
    pub(super) leaving: bool,
}

pub(super) fn welcome(welcome: v1::Welcome) -> Result<(Terms, Event), convert::Error> {
    let terms = Terms {
        heartbeat: Duration::from_secs(welcome.heartbeat_seconds.max(1).into()),
        max_disconnected: Duration::from_secs(welcome.max_disconnected_seconds.into()),
        leaving: welcome.capabilities.iter().any(|name| name == CAPABILITY_LEAVING_V1),
    };
    let verdicts = welcome.held.into_iter().map(verdict_on_held).collect::<Result<_, _>>()?;
    let plugins = welcome.plugins.map(convert::plugins).transpose()?;
    Ok((terms, Event::Welcome { verdicts, plugins }))
}

fn verdict_on_held(held: v1::HeldVerdict) -> Result<HeldVerdict, convert::Error> {
    use v1::held_verdict::Action;
    let attempt = held.attempt_id.parse().map_err(|source| convert::Error::Id { field: "held.attempt_id", source })?;
    let go_on = match held.action() {
        Action::Continue => true,
        Action::Discard => false,
        Action::Unspecified => return Err(convert::Error::Missing("held.action")),
    };
    Ok(HeldVerdict {
        attempt,
        go_on,
        cancel: held.cancel.map(|cancel| Duration::from_secs(cancel.grace_seconds.into())),
    })
}

/// A message that came down, or `None` when it is nothing to act on.
pub(super) fn down(message: Option<Down>) -> Result<Option<Event>, convert::Error> {
    Ok(Some(match message {
        // Unknown to this agent: a newer controller's word that needs no answer.
        None | Some(Down::HeartbeatAck(_)) => return Ok(None),
        Some(Down::Plugins(set)) => Event::Plugins(convert::plugins(set)?),
        Some(Down::Welcome(_)) => return Err(convert::Error::Missing("message: a second welcome came instead")),
        Some(Down::Offer(offer)) => {
            let fence = convert::fence(offer.fence.clone())?;
            match offer.try_into() {
                Ok(offer) => Event::Offer(Box::new(offer)),
                Err(error) => Event::BadOffer { fence, reason: convert::Error::to_string(&error) },
            }
        }
        Some(Down::Cancel(cancel)) => Event::Cancel {
            fence: convert::fence(cancel.fence)?,
            grace: Duration::from_secs(cancel.grace_seconds.into()),
        },
        Some(Down::ResolveImage(image)) => Event::ResolveImage {
            pull: convert::pull(&image.pull)?,
            request: image.request,
            reference: image.reference,
        },
        Some(Down::Probe(probe)) => Event::Probe { request: probe.request },
        Some(Down::Drain(drain)) => Event::Drain(Some(drain.reason).filter(|reason| !reason.is_empty())),
        Some(Down::Revoke(revoke)) => Event::Revoke { fence: convert::fence(revoke.fence)?, reason: revoke.reason },
    }))
}

pub(super) fn confirm(start: &Start) -> v1::ConfirmStartRequest {
    v1::ConfirmStartRequest {
        fence: Some(start.fence.into()),
        step: start.step,
        container_id: start.container.clone(),
        nonce: start.nonce.clone(),
        image_digest: start.image_digest.clone(),
        took: start.took.iter().cloned().map(Into::into).collect(),
    }
}

pub(super) fn verdict(answer: v1::ConfirmStartResponse) -> Result<Verdict, convert::Error> {
    use v1::confirm_start_response::Verdict as Wire;
    use v1::refusal::Code;
    Ok(match required("verdict", answer.verdict)? {
        Wire::Granted(grant) => Verdict::Granted(Box::new(grant.try_into()?)),
        Wire::Refused(refusal) => match refusal.code() {
            Code::AlreadyStarted => Verdict::AlreadyStarted(refusal.message),
            Code::Canceled => Verdict::Canceled(refusal.message),
            Code::Failed => Verdict::Failed(refusal.message),
            Code::Unspecified => return Err(convert::Error::Missing("refused.code")),
        },
    })
}

pub(super) fn complete(report: &Report) -> v1::CompleteRequest {
    let micros = |at: Timestamp| u64::try_from(at.as_micros()).unwrap_or(0);
    let outcome = match &report.ending {
        Ending::Exited { record, spool_bytes, summary, started_at, ended_at, canceled } => {
            Outcome::Exited(v1::Exited {
                record: json(record),
                spool_bytes: *spool_bytes,
                event_summary: summary.as_ref().map(json).unwrap_or_default(),
                started_at_us: micros(*started_at),
                ended_at_us: micros(*ended_at),
                canceled: *canceled,
            })
        }
        Ending::Lost { reason, spool_bytes, canceled } => {
            Outcome::Lost(v1::Lost { reason: reason.clone(), spool_bytes: *spool_bytes, canceled: *canceled })
        }
        Ending::NotStarted { reason, cause } => Outcome::NotStarted(v1::NotStarted {
            reason: reason.clone(),
            // A controller that does not know the second word takes it for a failure, and queues the job anew as well.
            agent_fault: cause.is_elsewhere_better(),
            leaving: *cause == Cause::Leaving,
        }),
    };
    let took = report.took.iter().cloned().map(Into::into).collect();
    v1::CompleteRequest { fence: Some(report.fence.into()), step: report.step, outcome: Some(outcome), took }
}

/// Plain structs with text keys: they always serialise.
fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
