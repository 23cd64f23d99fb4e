//! The RPCs. Each says first who calls: only [`enroll`](Service::enroll) and [`challenge`](Service::challenge) take a caller without a
//! certificate.

use std::sync::Arc;

use futures_util::stream::BoxStream;
use longshore_core::compat;
use longshore_core::fence::Fence;
use longshore_core::id::AgentId;
use longshore_proto::v1;
use longshore_proto::v1::agent_plane_server::{AgentPlane, AgentPlaneServer};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::field::{Empty, display};
use tracing::{Instrument as _, Span};

use super::status::{invalid, status};
use super::{Peer, artifact, log, session, wire};
use crate::engine::Engine;
use crate::engine::plane::{Error, Join, Joined, ProofJoin};
use crate::identity::cloud::{NONCE_LIFETIME, Verifier};
use crate::identity::{Ca, TokenKind};

/// Longest text of a host name or a version that is kept.
const MAX_TEXT: usize = 255;

/// The agents' plane over an engine.
#[derive(Debug, Clone)]
pub struct Service {
    engine: Engine,
    ca: Arc<Ca>,
    verifier: Arc<Verifier>,
}

/// The agents' plane as [`super::serve()`] serves it.
#[must_use]
pub fn service(engine: Engine, ca: Arc<Ca>, verifier: Arc<Verifier>) -> AgentPlaneServer<Service> {
    AgentPlaneServer::new(Service { engine, ca, verifier })
}

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    /// The caller, who must have a certificate and not be cut off.
    async fn caller<T>(&self, request: &Request<T>) -> Result<AgentId, Status> {
        self.caller_with_cutoff(request).await.map(|(agent, _)| agent)
    }

    /// The same, with what ends its streams when it is cut off.
    async fn caller_with_cutoff<T>(&self, request: &Request<T>) -> Result<(AgentId, CancellationToken), Status> {
        let agent = peer(request).and_then(|peer| peer.agent).ok_or_else(|| status(Error::Unknown))?;
        Span::current().record("agent", display(agent));
        let cutoff = self.engine.admit(agent).await.map_err(status)?;
        Ok((agent, cutoff))
    }

    async fn join(&self, request: &v1::EnrollRequest) -> Result<Joined, Error> {
        let (hostname, boot_id) = (text(&request.hostname), text(&request.boot_id));
        let version = text(&request.agent_version);
        // Before anything is used up: it can still let the agent in when the controller is upgraded.
        if let Some(why) = compat::ahead(&version, env!("CARGO_PKG_VERSION")) {
            return Err(Error::Version(format!("this agent is not enrolled: it {why}")));
        }
        if let Some(proof) = &request.proof {
            let previous = (!request.previous_certificate_pem.is_empty())
                .then_some((request.previous_certificate_pem.as_str(), request.previous_signature.as_slice()));
            let proof = wire::proof(proof)?;
            let (nonce, csr) = (request.nonce.as_str(), request.csr_pem.as_str());
            let join = ProofJoin { proof, nonce, csr, previous, hostname, boot_id, version };
            return self.engine.join_by_proof(&self.ca, &self.verifier, join).await;
        }
        let token = TokenKind::Join.hash(&request.join_token).map(|hash| *hash.as_bytes());
        let join = Join { token, csr: &request.csr_pem, hostname, boot_id, version };
        self.engine.join(&self.ca, join).await
    }
}

/// What is done for an agent, unless it is cut off meanwhile.
async fn unless<T>(cutoff: &CancellationToken, done: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    cutoff.run_until_cancelled(done).await.unwrap_or_else(|| Err(status(Error::Unknown)))
}

/// The span of a call: each line of the log that it leads to has these ids. At the level of errors, so that lines of every level have them.
fn call(rpc: &'static str) -> Span {
    tracing::error_span!("call", rpc, agent = Empty, attempt = Empty, slot = Empty, deployment = Empty)
}

/// Says in the call's span what it is about.
pub(super) fn about(fence: &Fence, step: Option<u32>) {
    let span = Span::current();
    span.record("attempt", display(fence.attempt));
    step.map(|step| span.record("slot", step));
}

/// As [`about`], of a message that was not read yet.
fn about_wire(fence: Option<&v1::Fence>, step: u32) {
    let fence = fence.and_then(|fence| Fence::try_from(fence.clone()).ok());
    if let Some(fence) = fence {
        about(&fence, Some(step));
    }
}

fn peer<T>(request: &Request<T>) -> Option<&Peer> {
    request.extensions().get::<Peer>()
}

/// Text for people, cut to what is sensible.
fn text(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

#[tonic::async_trait]
impl AgentPlane for Service {
    type SessionStream = BoxStream<'static, Result<v1::SessionResponse, Status>>;
    type ShipLogStream = ReceiverStream<Result<v1::ShipLogResponse, Status>>;
    type FetchPackageStream = ReceiverStream<Result<v1::FetchPackageResponse, Status>>;

    async fn enroll(&self, request: Request<v1::EnrollRequest>) -> Answer<v1::EnrollResponse> {
        let call = async {
            let joined = self.join(request.get_ref()).await.map_err(status)?;
            tracing::info!(agent = %joined.agent, pool = joined.pool, "an agent was enrolled");
            Ok(Response::new(v1::EnrollResponse {
                agent_id: joined.agent.to_string(),
                certificate_pem: joined.certificate_pem,
                ca_pem: self.ca.ca_pem().to_owned(),
                controller_id: joined.controller.to_string(),
                pool: joined.pool,
            }))
        };
        call.instrument(self::call("enroll")).await
    }

    async fn challenge(&self, _request: Request<v1::ChallengeRequest>) -> Answer<v1::ChallengeResponse> {
        Ok(Response::new(v1::ChallengeResponse {
            nonce: self.verifier.nonce(),
            controller_id: self.engine.meta().controller.to_string(),
            seconds: u32::try_from(NONCE_LIFETIME.as_secs()).unwrap_or(u32::MAX),
        }))
    }

    async fn leave(&self, request: Request<v1::LeaveRequest>) -> Answer<v1::LeaveResponse> {
        let agent = self.caller(&request).await?;
        self.engine.leave(agent, text(&request.get_ref().reason)).await.map_err(status)?;
        tracing::info!(%agent, "an agent took its leave");
        Ok(Response::new(v1::LeaveResponse {}))
    }

    async fn renew_certificate(
        &self,
        request: Request<v1::RenewCertificateRequest>,
    ) -> Answer<v1::RenewCertificateResponse> {
        let call = async {
            let agent = self.caller(&request).await?;
            let signed = self.engine.renew(&self.ca, agent, &request.get_ref().csr_pem).await.map_err(status)?;
            tracing::info!(%agent, serial = signed.serial, "a certificate was renewed");
            Ok(Response::new(v1::RenewCertificateResponse {
                certificate_pem: signed.certificate_pem,
                ca_pem: self.ca.ca_pem().to_owned(),
            }))
        };
        call.instrument(self::call("renew_certificate")).await
    }

    async fn session(&self, request: Request<Streaming<v1::SessionRequest>>) -> Answer<Self::SessionStream> {
        let call = async {
            let (agent, cutoff) = self.caller_with_cutoff(&request).await?;
            let opened = session::open(self.engine.clone(), agent, cutoff.clone(), request.into_inner());
            unless(&cutoff, opened).await.map(Response::new)
        };
        call.instrument(self::call("session")).await
    }

    async fn confirm_start(&self, request: Request<v1::ConfirmStartRequest>) -> Answer<v1::ConfirmStartResponse> {
        let call = async {
            let agent = self.caller(&request).await?;
            about_wire(request.get_ref().fence.as_ref(), request.get_ref().step);
            let wish = wire::confirm(request.into_inner()).map_err(|e| invalid(&e))?;
            let answer = self.engine.confirm(agent, wish).await.map_err(status)?;
            Ok(Response::new(wire::confirmed(answer)))
        };
        call.instrument(self::call("confirm_start")).await
    }

    async fn complete(&self, request: Request<v1::CompleteRequest>) -> Answer<v1::CompleteResponse> {
        let call = async {
            let agent = self.caller(&request).await?;
            about_wire(request.get_ref().fence.as_ref(), request.get_ref().step);
            let report = request.into_inner().try_into().map_err(|e| invalid(&e))?;
            let next_step = self.engine.complete(agent, report).await.map_err(status)?;
            Ok(Response::new(v1::CompleteResponse { next_step }))
        };
        call.instrument(self::call("complete")).await
    }

    async fn ship_log(&self, request: Request<Streaming<v1::ShipLogRequest>>) -> Answer<Self::ShipLogStream> {
        let call = async {
            let (agent, cutoff) = self.caller_with_cutoff(&request).await?;
            let shipped = log::ship(self.engine.clone(), agent, cutoff.clone(), request.into_inner());
            let acks = unless(&cutoff, shipped).await?;
            Ok(Response::new(ReceiverStream::new(acks)))
        };
        call.instrument(self::call("ship_log")).await
    }

    async fn ship_artifact(
        &self,
        request: Request<Streaming<v1::ShipArtifactRequest>>,
    ) -> Answer<v1::ShipArtifactResponse> {
        let call = async {
            let (agent, cutoff) = self.caller_with_cutoff(&request).await?;
            unless(&cutoff, artifact::ship(self.engine.clone(), agent, request.into_inner())).await.map(Response::new)
        };
        call.instrument(self::call("ship_artifact")).await
    }

    async fn fetch_package(&self, request: Request<v1::FetchPackageRequest>) -> Answer<Self::FetchPackageStream> {
        let call = async {
            let (agent, cutoff) = self.caller_with_cutoff(&request).await?;
            let pieces = log::fetch(self.engine.clone(), agent, cutoff, request.into_inner()).await?;
            Ok(Response::new(ReceiverStream::new(pieces)))
        };
        call.instrument(self::call("fetch_package")).await
    }
}
