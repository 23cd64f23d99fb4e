//! Messages of the wire from and to what the engine speaks.

use std::time::Duration;

use longshore_core::fence::Fence;
use longshore_core::resources::{Bytes, Cpus, Resources};
use longshore_core::time::Timestamp;
use longshore_proto::convert::{self, fence};
use longshore_proto::{
    CAPABILITIES, CAPABILITY_IMAGES_V1, CAPABILITY_LEAVING_V1, CAPABILITY_OPERATIONS_V1, CAPABILITY_PLANS_V1,
    CAPABILITY_PLUGINS_V1, CAPABILITY_PROBE_V1, v1,
};
use serde_json::json;
use v1::session_response::Message as Down;

use crate::engine::plane::{self, Confirm, Confirmed, Disk, Draining, Hello, Said, Verdict, Welcome};
use crate::identity::cloud::{Proof, SignedRequest};
use crate::store::rows::ToAgent;

/// Most attempts that an agent can have at once; more is no agent of ours.
const MAX_HELD: usize = 10_000;
/// Things that a host may have too little of.
const MAX_LOW: usize = 8;

/// Most headers of a signed request; more are refused later anyway.
const MAX_HEADERS: usize = 32;

/// What a machine brings to prove what it is.
pub(super) fn proof(wire: &v1::CloudProof) -> Result<Proof, plane::Error> {
    use v1::cloud_proof::Proof as Wire;
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    match &wire.proof {
        Some(Wire::Aws(aws)) => {
            let request = aws.request.as_ref().map(|request| SignedRequest {
                url: request.url.clone(),
                headers: request
                    .headers
                    .iter()
                    .take(MAX_HEADERS)
                    .map(|header| (header.name.clone(), header.value.clone()))
                    .collect(),
                body: request.body.clone(),
            });
            Ok(Proof::Aws { document: some(&aws.document), request })
        }
        Some(Wire::Gcp(gcp)) => Ok(Proof::Gcp { token: gcp.token.clone() }),
        Some(Wire::Azure(azure)) => Ok(Proof::Azure { document: azure.document.clone() }),
        None => Err(plane::Error::Invalid("the proof is of no cloud that this controller knows".to_owned())),
    }
}

pub(super) fn hello(wire: v1::Hello) -> Result<Hello, convert::Error> {
    let weakest = wire.profile()?;
    if wire.held.len() > MAX_HELD {
        return Err(convert::Error::Value { field: "hello.held", value: wire.held.len().to_string() });
    }
    let facts = wire.host.as_ref().map(facts).unwrap_or_default();
    let (room, disk) = (room(&wire), disk(wire.host.as_ref())?);
    let can = |wanted: &str| wire.capabilities.iter().any(|name| name == wanted);
    let leaving = can(CAPABILITY_LEAVING_V1);
    Ok(Hello {
        images: can(CAPABILITY_IMAGES_V1),
        plans: can(CAPABILITY_PLANS_V1),
        operations: can(CAPABILITY_OPERATIONS_V1),
        probes: can(CAPABILITY_PROBE_V1),
        plugins: can(CAPABILITY_PLUGINS_V1).then(|| wire.plugins.map(convert::state).unwrap_or_default()),
        boot_id: wire.boot_id,
        instance: wire.instance_id,
        slots: wire.slots,
        held: wire.held.into_iter().map(|held| fence(held.fence)).collect::<Result<_, _>>()?,
        engine: wire.host.as_ref().is_some_and(answers),
        hostname: wire.host.map(|host| host.hostname).unwrap_or_default(),
        facts,
        version: wire.agent_version,
        mounts: wire.mounts.into_iter().collect(),
        weakest,
        draining: wire.draining.then(|| draining(wire.draining_reason, wire.draining_until_us)),
        leaving,
        room,
        largest: wire.largest.map(Into::into).unwrap_or_default(),
        disk,
    })
}

/// An agent of before `leaving-v1` says no more than that it drains.
fn draining(reason: String, until_us: u64) -> Draining {
    let reason = if reason.is_empty() { "it did not say why".to_owned() } else { reason };
    let until = i64::try_from(until_us).ok().filter(|micros| *micros > 0).map(Timestamp::from_micros);
    Draining { reason, until }
}

/// What an agent has for jobs: what it says, or else its whole host.
fn room(wire: &v1::Hello) -> Resources {
    let whole = |host: &v1::HostFacts| Resources {
        cpus: Cpus(u64::from(host.cpus) * 1_000),
        memory: Bytes(host.memory_total),
        disk: Bytes(host.disk_total),
    };
    wire.room.map(Into::into).or_else(|| wire.host.as_ref().map(whole)).unwrap_or_default()
}

fn disk(host: Option<&v1::HostFacts>) -> Result<Disk, convert::Error> {
    let Some(host) = host else { return Ok(Disk::default()) };
    let low = host.low.iter().take(MAX_LOW).cloned().map(TryInto::try_into).collect::<Result<_, _>>()?;
    Ok(Disk { left: host.disk_spare, low })
}

/// The container engine answers: then its version is known.
fn answers(host: &v1::HostFacts) -> bool {
    !host.engine_version.is_empty()
}

fn facts(host: &v1::HostFacts) -> serde_json::Value {
    json!({
        "hostname": host.hostname, "os": host.os, "kernel": host.kernel, "arch": host.arch, "cpus": host.cpus,
        "memory_total": host.memory_total, "memory_available": host.memory_available, "load": host.load,
        "disk_total": host.disk_total, "disk_available": host.disk_available,
        "inodes_total": host.inodes_total, "inodes_available": host.inodes_available,
        "engine_version": host.engine_version, "engine_api": host.engine_api,
        "engine_disk": host.engine_disk.as_ref().map(|disk| json!({
            "root": disk.root, "total": disk.total, "available": disk.available,
            "inodes_total": disk.inodes_total, "inodes_available": disk.inodes_available,
        })),
    })
}

pub(super) fn welcome(welcome: &Welcome) -> v1::SessionResponse {
    down(Down::Welcome(v1::Welcome {
        capabilities: CAPABILITIES.map(str::to_owned).into(),
        heartbeat_seconds: seconds(welcome.heartbeat).max(1),
        max_disconnected_seconds: seconds(welcome.max_disconnected),
        controller_id: welcome.controller.to_string(),
        held: welcome.verdicts.iter().map(verdict).collect(),
        plugins: Some(convert::plugin_set(&welcome.plugins)),
    }))
}

fn verdict(verdict: &Verdict) -> v1::HeldVerdict {
    use v1::held_verdict::Action;
    let action = if verdict.keep { Action::Continue } else { Action::Discard };
    v1::HeldVerdict {
        attempt_id: verdict.attempt.to_string(),
        action: action.into(),
        cancel: verdict.cancel.map(|(fence, grace)| cancel(fence, grace)),
    }
}

fn cancel(fence: Fence, grace_seconds: u32) -> v1::Cancel {
    v1::Cancel { fence: Some(fence.into()), grace_seconds }
}

/// A message that the engine has for an agent.
pub(super) fn to_agent(message: ToAgent) -> v1::SessionResponse {
    down(match message {
        ToAgent::Offer(offer) => Down::Offer((*offer).into()),
        ToAgent::Cancel { fence, grace_seconds } => Down::Cancel(cancel(fence, grace_seconds)),
        ToAgent::ResolveImage { request, reference, pull } => {
            Down::ResolveImage(v1::ResolveImage { request, reference, pull: pull.as_str().to_owned() })
        }
        ToAgent::Plugins(plugins) => Down::Plugins(convert::plugin_set(&plugins)),
        ToAgent::Probe { request } => Down::Probe(v1::Probe { request }),
        ToAgent::Drain { reason } => Down::Drain(v1::Drain { reason }),
        ToAgent::Revoke { fence, reason } => Down::Revoke(v1::Revoke { fence: Some(fence.into()), reason }),
    })
}

pub(super) fn heard(sequence: u64) -> v1::SessionResponse {
    down(Down::HeartbeatAck(v1::HeartbeatAck { sequence }))
}

fn down(message: Down) -> v1::SessionResponse {
    v1::SessionResponse { message: Some(message) }
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// What an agent says after its hello; `None` for a word that this controller does not know.
pub(super) fn said(message: v1::SessionRequest) -> Result<Option<Said>, convert::Error> {
    use v1::session_request::Message as Up;
    Ok(Some(match message.message {
        None => return Ok(None),
        Some(Up::Hello(_)) => {
            return Err(convert::Error::Value { field: "message", value: "a second hello".to_owned() });
        }
        Some(Up::Heartbeat(beat)) => {
            let (engine, free) = (beat.host.as_ref().is_some_and(answers), beat.free_slots);
            Said::Heartbeat { engine, free, disk: disk(beat.host.as_ref())?, facts: beat.host.as_ref().map(facts) }
        }
        Some(Up::OfferAnswer(answer)) => {
            Said::Answer { fence: fence(answer.fence)?, accepted: answer.accepted, reason: answer.reason }
        }
        Some(Up::Progress(progress)) => Said::Progress {
            fence: fence(progress.fence)?,
            step: progress.step,
            phase: progress.phase,
            message: progress.message,
            current: progress.current,
            total: progress.total,
        },
        Some(Up::ImageResolved(image)) => Said::Image {
            request: image.request,
            told: if image.error.is_empty() { Ok(image.digest) } else { Err(image.error) },
        },
        Some(Up::ProbeEnded(probe)) => {
            Said::Probed { request: probe.request, error: Some(probe.error).filter(|error| !error.is_empty()) }
        }
        Some(Up::Draining(said)) => Said::Draining(draining(said.reason, said.until_us)),
        Some(Up::Canceling(said)) => Said::Canceling { fence: fence(said.fence)?, cause: said.reason },
        Some(Up::Plugins(state)) => Said::Plugins(convert::state(state)),
    }))
}

pub(super) fn confirm(wire: v1::ConfirmStartRequest) -> Result<Confirm, convert::Error> {
    for (field, text) in [("container_id", &wire.container_id), ("nonce", &wire.nonce)] {
        if text.is_empty() {
            return Err(convert::Error::Missing(field));
        }
    }
    let (fence, step) = (fence(wire.fence)?, wire.step);
    Ok(Confirm {
        fence,
        step,
        container: wire.container_id,
        nonce: wire.nonce,
        image_digest: wire.image_digest,
        took: convert::took(wire.took),
    })
}

pub(super) fn confirmed(answer: Confirmed) -> v1::ConfirmStartResponse {
    use v1::confirm_start_response::Verdict;
    use v1::refusal::Code;
    let refuse = |code: Code, message: String| Verdict::Refused(v1::Refusal { code: code.into(), message });
    let verdict = match answer {
        Confirmed::Granted(grant) => Verdict::Granted((*grant).into()),
        Confirmed::AlreadyStarted => {
            refuse(Code::AlreadyStarted, "this step was confirmed before with another nonce".to_owned())
        }
        Confirmed::Canceled => refuse(Code::Canceled, "the deployment was canceled".to_owned()),
        Confirmed::Failed(why) => refuse(Code::Failed, why),
    };
    v1::ConfirmStartResponse { verdict: Some(verdict) }
}
