//! What every call passes before its body is read.
//!
//! Invariants: of a caller without a certificate nothing is read but short requests of the calls that are open to all; no header and no field of a message
//! says who calls; each refusal is counted, and an agent that asks again and again for what is not its own is written down.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use longshore_core::id::AgentId;
use longshore_proto::v1::agent_plane_server::{AgentPlane, AgentPlaneServer};
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{BoxFuture, Service as Call};
use tonic::server::NamedService;
use tonic::{Code, Status};

use super::Peer;
use super::pace::{Alarm, Pace, Rate};
use super::rules::{RULES, Rule};
use super::status::status;
use crate::engine::{Engine, plane};

/// Control streams that an agent may open: after a restart of the controller, or of the agent, it is one.
const SESSIONS: Rate = Rate { burst: 30, each: Duration::from_secs(1) };
/// Certificates that an agent may have renewed; it does each third of their life, which is minutes at least.
const RENEWALS: Rate = Rate { burst: 10, each: Duration::from_secs(60) };
/// So many refusals of what is not an agent's own are no mistake of an agent of ours: after a backup was restored there are
/// as many as it has attempts.
const MANY: u32 = 20;
const WITHIN: Duration = Duration::from_secs(600);
/// Longest request to enroll: a token, a signing request, and texts about the host.
const MAX_ENROLL: usize = 64 << 10;

#[derive(Debug)]
struct Seen {
    sessions: Pace,
    renewals: Pace,
    foreign: Alarm,
}

/// Looks at calls before they are read, and at their answers. A cheap handle.
#[derive(Debug, Clone)]
pub struct Gate {
    engine: Engine,
    seen: Arc<Mutex<Seen>>,
}

impl Gate {
    /// A gate that has seen nobody.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        let seen =
            Seen { sessions: Pace::new(SESSIONS), renewals: Pace::new(RENEWALS), foreign: Alarm::new(MANY, WITHIN) };
        Self { engine, seen: Arc::new(Mutex::new(seen)) }
    }

    /// Whether an agent comes too often.
    fn pace(&self, agent: AgentId, rpc: &str) -> Result<(), Status> {
        let now = self.engine.clock().elapsed();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = match rpc {
            "Session" => seen.sessions.take(agent, now),
            "RenewCertificate" => seen.renewals.take(agent, now),
            _ => Ok(()),
        };
        taken.map_err(|wait| {
            let wait = wait.as_secs().max(1);
            Status::new(
                Code::ResourceExhausted,
                format!("this agent calls `{rpc}` too often; it may again in {wait} s"),
            )
        })
    }

    /// Counts a refusal, and sees to the agent that collects them.
    async fn refused(&self, agent: Option<AgentId>, rpc: &'static str, code: Code) {
        metrics::counter!("longshore_agent_refusals_total", "rpc" => rpc, "code" => word(code)).increment(1);
        let Some(agent) = agent.filter(|_| code == Code::PermissionDenied) else { return };
        let now = self.engine.clock().elapsed();
        let alarm = self.seen.lock().unwrap_or_else(PoisonError::into_inner).foreign.count(agent, now);
        if !alarm {
            return;
        }
        tracing::warn!(%agent, rpc, refusals = MANY, "an agent asks for attempts that are not its own; look at its host, or cut it off");
        if let Err(error) = self.engine.suspect(agent, rpc, MANY, WITHIN).await {
            tracing::error!(%agent, %error, "that an agent asks for what is not its own could not be written down");
        }
    }
}

/// The agents' plane behind the gate.
#[derive(Debug)]
pub(super) struct Gated<S> {
    pub(super) gate: Gate,
    /// Takes short messages.
    pub(super) short: AgentPlaneServer<S>,
    /// Takes logs, files and results.
    pub(super) long: AgentPlaneServer<S>,
}

impl<S> Clone for Gated<S> {
    fn clone(&self) -> Self {
        Self { gate: self.gate.clone(), short: self.short.clone(), long: self.long.clone() }
    }
}

impl<S: AgentPlane> NamedService for Gated<S> {
    const NAME: &'static str = <AgentPlaneServer<S> as NamedService>::NAME;
}

impl<S: AgentPlane> Call<Request<Body>> for Gated<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (rpc, open) = rpc(request.uri().path());
        let (agent, calls) = match request.extensions().get::<Peer>() {
            Some(peer) => (peer.agent, Some(Arc::clone(&peer.strange_calls))),
            None => (None, None),
        };
        let gate = self.gate.clone();
        let (admitted, permit) = match agent {
            Some(agent) => (gate.pace(agent, rpc), None),
            None if !open => (Err(status(plane::Error::Unknown)), None),
            None => match calls.and_then(|calls| calls.try_acquire_owned().ok()) {
                Some(permit) => (Ok(()), Some(permit)),
                None => (Err(Status::new(Code::ResourceExhausted, "too many calls without a certificate")), None),
            },
        };
        if let Err(refused) = admitted {
            return Box::pin(async move {
                gate.refused(agent, rpc, refused.code()).await;
                Ok(refused.into_http())
            });
        }
        let answer = match rpc {
            _ if open => self.short.call(request.map(short)),
            "ShipLog" | "ShipArtifact" | "Complete" => self.long.call(request),
            _ => self.short.call(request),
        };
        Box::pin(async move {
            let response = answer.await?;
            if let Some(refused) = Status::from_header_map(response.headers()).filter(|s| s.code() != Code::Ok) {
                gate.refused(agent, rpc, refused.code()).await;
            }
            drop(permit);
            Ok(response)
        })
    }
}

/// The call's name as the rules have it (what a caller made up must not become a label), and whether it needs no certificate.
fn rpc(path: &str) -> (&'static str, bool) {
    let said = path.rsplit('/').next().unwrap_or_default();
    let known = RULES.iter().find(|(name, _)| *name == said);
    known.map_or(("unknown", false), |(name, rule)| (*name, *rule == Rule::Anyone))
}

fn short(body: Body) -> Body {
    Body::new(Limited::new(body, MAX_ENROLL).map_err(|error| match error.downcast_ref::<LengthLimitError>() {
        Some(_) => Status::new(Code::ResourceExhausted, format!("a request to enroll has at most {MAX_ENROLL} bytes")),
        None => Status::from_error(error),
    }))
}

/// Codes that refusals have.
fn word(code: Code) -> &'static str {
    match code {
        Code::InvalidArgument => "invalid_argument",
        Code::PermissionDenied => "permission_denied",
        Code::FailedPrecondition => "failed_precondition",
        Code::Unauthenticated => "unauthenticated",
        Code::ResourceExhausted => "resource_exhausted",
        Code::Unimplemented => "unimplemented",
        Code::OutOfRange => "out_of_range",
        Code::Aborted => "aborted",
        Code::Unavailable => "unavailable",
        _ => "other",
    }
}
