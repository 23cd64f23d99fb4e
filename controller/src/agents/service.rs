//! The RPCs. Each says first who calls: only [`enroll`](Service::enroll) takes a caller without a certificate.

use std::sync::Arc;

use futures_util::stream::BoxStream;
use longshore_core::compat;
use longshore_core::id::AgentId;
use longshore_proto::v1;
use longshore_proto::v1::agent_plane_server::{AgentPlane, AgentPlaneServer};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

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
        self.engine.admit(agent).await.map_err(status)?;
        Ok(agent)
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
    }

    async fn renew_certificate(
        &self,
        request: Request<v1::RenewCertificateRequest>,
    ) -> Answer<v1::RenewCertificateResponse> {
        let agent = self.caller(&request).await?;
        let signed = self.engine.renew(&self.ca, agent, &request.get_ref().csr_pem).await.map_err(status)?;
        tracing::info!(%agent, serial = signed.serial, "a certificate was renewed");
        Ok(Response::new(v1::RenewCertificateResponse {
            certificate_pem: signed.certificate_pem,
            ca_pem: self.ca.ca_pem().to_owned(),
        }))
    }

    async fn session(&self, request: Request<Streaming<v1::SessionRequest>>) -> Answer<Self::SessionStream> {
        let agent = self.caller(&request).await?;
        let down = session::open(self.engine.clone(), agent, request.into_inner()).await?;
        Ok(Response::new(down))
    }

    async fn confirm_start(&self, request: Request<v1::ConfirmStartRequest>) -> Answer<v1::ConfirmStartResponse> {
        let agent = self.caller(&request).await?;
        let wish = wire::confirm(request.into_inner()).map_err(|e| invalid(&e))?;
        let answer = self.engine.confirm(agent, wish).await.map_err(status)?;
        Ok(Response::new(wire::confirmed(answer)))
    }

    async fn complete(&self, request: Request<v1::CompleteRequest>) -> Answer<v1::CompleteResponse> {
        let agent = self.caller(&request).await?;
        let report = request.into_inner().try_into().map_err(|e| invalid(&e))?;
        let next_step = self.engine.complete(agent, report).await.map_err(status)?;
        Ok(Response::new(v1::CompleteResponse { next_step }))
    }

    async fn ship_log(&self, request: Request<Streaming<v1::ShipLogRequest>>) -> Answer<Self::ShipLogStream> {
        let agent = self.caller(&request).await?;
        let acks = log::ship(self.engine.clone(), agent, request.into_inner()).await?;
        Ok(Response::new(ReceiverStream::new(acks)))
    }

    async fn ship_artifact(
        &self,
        request: Request<Streaming<v1::ShipArtifactRequest>>,
    ) -> Answer<v1::ShipArtifactResponse> {
        let agent = self.caller(&request).await?;
        artifact::ship(self.engine.clone(), agent, request.into_inner()).await.map(Response::new)
    }

    async fn fetch_package(&self, request: Request<v1::FetchPackageRequest>) -> Answer<Self::FetchPackageStream> {
        let agent = self.caller(&request).await?;
        let pieces = log::fetch(self.engine.clone(), agent, request.into_inner()).await?;
        Ok(Response::new(ReceiverStream::new(pieces)))
    }
}
