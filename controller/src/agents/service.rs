//! The RPCs. Each says first who calls: only [`enroll`](Service::enroll) takes a caller without a certificate.

use std::sync::Arc;

use futures_util::stream::BoxStream;
use longshore_core::compat;
use longshore_core::fence::Fence;
use longshore_core::id::AgentId;
use longshore_proto::v1;
use longshore_proto::v1::agent_plane_server::{AgentPlane, AgentPlaneServer};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::field::{Empty, display};
use tracing::{Instrument as _, Span};

use super::status::{invalid, status};
use super::{Peer, artifact, log, session, wire};
use crate::engine::Engine;
use crate::engine::plane::{Error, Join};
use crate::identity::{Ca, TokenKind};

/// Longest text of a host name or a version that is kept.
const MAX_TEXT: usize = 255;

/// The agents' plane over an engine.
#[derive(Debug, Clone)]
pub struct Service {
    engine: Engine,
    ca: Arc<Ca>,
}

/// The agents' plane as [`super::serve()`] serves it.
#[must_use]
pub fn service(engine: Engine, ca: Arc<Ca>) -> AgentPlaneServer<Service> {
    AgentPlaneServer::new(Service { engine, ca })
}

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    /// The caller, who must have a certificate and not be cut off.
    async fn caller<T>(&self, request: &Request<T>) -> Result<AgentId, Status> {
        let agent = peer(request).and_then(|peer| peer.agent).ok_or_else(|| status(Error::Unknown))?;
        Span::current().record("agent", display(agent));
        self.engine.admit(agent).await.map_err(status)?;
        Ok(agent)
    }
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
            let request = request.into_inner();
            // Before its token is looked at: it can still let the agent in when the controller is upgraded.
            if let Some(why) = compat::ahead(&text(&request.agent_version), env!("CARGO_PKG_VERSION")) {
                return Err(status(Error::Version(format!("this agent is not enrolled: it {why}"))));
            }
            let join = Join {
                token: TokenKind::Join.hash(&request.join_token).map(|hash| *hash.as_bytes()),
                csr: &request.csr_pem,
                hostname: text(&request.hostname),
                boot_id: text(&request.boot_id),
                version: text(&request.agent_version),
            };
            let joined = self.engine.join(&self.ca, join).await.map_err(status)?;
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
            let agent = self.caller(&request).await?;
            let down = session::open(self.engine.clone(), agent, request.into_inner()).await?;
            Ok(Response::new(down))
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
            let agent = self.caller(&request).await?;
            let acks = log::ship(self.engine.clone(), agent, request.into_inner()).await?;
            Ok(Response::new(ReceiverStream::new(acks)))
        };
        call.instrument(self::call("ship_log")).await
    }

    async fn ship_artifact(
        &self,
        request: Request<Streaming<v1::ShipArtifactRequest>>,
    ) -> Answer<v1::ShipArtifactResponse> {
        let call = async {
            let agent = self.caller(&request).await?;
            artifact::ship(self.engine.clone(), agent, request.into_inner()).await.map(Response::new)
        };
        call.instrument(self::call("ship_artifact")).await
    }

    async fn fetch_package(&self, request: Request<v1::FetchPackageRequest>) -> Answer<Self::FetchPackageStream> {
        let call = async {
            let agent = self.caller(&request).await?;
            let pieces = log::fetch(self.engine.clone(), agent, request.into_inner()).await?;
            Ok(Response::new(ReceiverStream::new(pieces)))
        };
        call.instrument(self::call("fetch_package")).await
    }
}
