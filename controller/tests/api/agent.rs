//! An agent that speaks the agents' plane over real TLS, and runs nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use longshore_core::init::ExitRecord;
use longshore_core::spool::{Header, Stream};
use longshore_proto::v1::agent_plane_client::AgentPlaneClient;
use longshore_proto::v1::session_request::Message as Up;
use longshore_proto::v1::session_response::Message as Down;
use longshore_proto::{CAPABILITIES, v1};
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::harness::sha256;

pub(crate) type Plane = AgentPlaneClient<Channel>;

/// What an agent shows.
pub(crate) struct Identity {
    pub(crate) certificate_pem: String,
    pub(crate) key: KeyPair,
}

/// Dials the plane; `None`: without a certificate.
pub(crate) async fn dial(
    address: SocketAddr,
    ca_pem: &str,
    identity: Option<&Identity>,
) -> Result<Plane, tonic::transport::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = vec![CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).unwrap()];
            builder
                .with_client_auth_cert(chain, PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap())
                .unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let connect = service_fn(move |_| {
        let connector = connector.clone();
        async move {
            let name = ServerName::try_from(longshore_proto::SERVER_NAME).unwrap();
            connector.connect(name, TcpStream::connect(address).await?).await.map(TokioIo::new)
        }
    });
    Endpoint::from_static("http://longshore-controller")
        .connect_with_connector(connect)
        .await
        .map(AgentPlaneClient::new)
}

pub(crate) fn csr(key: &KeyPair) -> String {
    CertificateParams::default().serialize_request(key).unwrap().pem().unwrap()
}

pub(crate) async fn enroll(plane: &mut Plane, join_token: &str) -> Result<Identity, Status> {
    enroll_as(plane, join_token, "0").await
}

/// As an agent of some version.
pub(crate) async fn enroll_as(plane: &mut Plane, join_token: &str, version: &str) -> Result<Identity, Status> {
    let key = KeyPair::generate().unwrap();
    let request = v1::EnrollRequest {
        join_token: join_token.to_owned(),
        csr_pem: csr(&key),
        hostname: "test".to_owned(),
        boot_id: "boot".to_owned(),
        agent_version: version.to_owned(),
    };
    let joined = plane.enroll(request).await?.into_inner();
    assert!(joined.agent_id.starts_with("agt_") && joined.controller_id.starts_with("ctl_"), "{joined:?}");
    Ok(Identity { certificate_pem: joined.certificate_pem, key })
}

/// A session that is open.
pub(crate) struct Session {
    pub(crate) plane: Plane,
    up: mpsc::Sender<v1::SessionRequest>,
    down: tonic::Streaming<v1::SessionResponse>,
}

/// A job that was accepted.
pub(crate) struct Job {
    pub(crate) offer: v1::Offer,
}

impl Session {
    /// Says hello and reads the welcome.
    pub(crate) async fn open(plane: Plane) -> Result<Self, Status> {
        Self::open_as(plane, "0", &CAPABILITIES).await
    }

    /// The same, as an agent of some version with some capabilities.
    pub(crate) async fn open_as(mut plane: Plane, version: &str, capabilities: &[&str]) -> Result<Self, Status> {
        let (up, messages) = mpsc::channel(8);
        let host =
            v1::HostFacts { hostname: "test".to_owned(), engine_version: "1".to_owned(), ..v1::HostFacts::default() };
        let hello = v1::Hello {
            boot_id: "boot".to_owned(),
            slots: 1,
            host: Some(host),
            weakest_profile: "standard".to_owned(),
            agent_version: version.to_owned(),
            capabilities: capabilities.iter().map(|name| (*name).to_owned()).collect(),
            ..v1::Hello::default()
        };
        up.send(v1::SessionRequest { message: Some(Up::Hello(hello)) }).await.unwrap();
        let mut down = plane.session(ReceiverStream::new(messages)).await?.into_inner();
        let first = down.message().await?.unwrap().message;
        assert!(matches!(first, Some(Down::Welcome(_))), "{first:?}");
        Ok(Self { plane, up, down })
    }

    /// Waits for an offer and takes it.
    pub(crate) async fn accept(&mut self) -> Job {
        loop {
            if let Some(Down::Offer(offer)) = self.down.message().await.unwrap().unwrap().message {
                let answer = v1::OfferAnswer { fence: offer.fence.clone(), accepted: true, reason: String::new() };
                self.up.send(v1::SessionRequest { message: Some(Up::OfferAnswer(answer)) }).await.unwrap();
                // Messages of a stream are taken in order: the echo says that the answer was.
                self.beat().await;
                return Job { offer };
            }
        }
    }

    async fn beat(&mut self) {
        let beat = v1::Heartbeat { sequence: 7, free_slots: 0, host: None };
        self.up.send(v1::SessionRequest { message: Some(Up::Heartbeat(beat)) }).await.unwrap();
        while !matches!(self.down.message().await.unwrap().unwrap().message, Some(Down::HeartbeatAck(_))) {}
    }

    /// Confirms the start of a step.
    pub(crate) async fn confirm(&mut self, job: &Job, step: u32) -> v1::Grant {
        let request = v1::ConfirmStartRequest {
            fence: job.offer.fence.clone(),
            step,
            container_id: "c0ffee".to_owned(),
            nonce: "once".to_owned(),
            image_digest: format!("sha256:{}", "0".repeat(64)),
        };
        match self.plane.confirm_start(request).await.unwrap().into_inner().verdict.unwrap() {
            v1::confirm_start_response::Verdict::Granted(grant) => grant,
            v1::confirm_start_response::Verdict::Refused(refusal) => panic!("{refusal:?}"),
        }
    }

    /// Ships a spool and waits until all of it is durable.
    pub(crate) async fn ship(&mut self, job: &Job, step: u32, spool: &[u8], from: u64) {
        let (up, messages) = mpsc::channel(8);
        let first = v1::ShipLogRequest { fence: job.offer.fence.clone(), step, offset: 0, data: Vec::new() };
        up.send(first).await.unwrap();
        let mut acks = self.plane.ship_log(ReceiverStream::new(messages)).await.unwrap().into_inner();
        assert_eq!(acks.message().await.unwrap().unwrap().durable_offset, from);
        for (index, data) in spool.chunks(1_000).enumerate() {
            up.send(v1::ShipLogRequest {
                fence: None,
                step: 0,
                offset: from + index as u64 * 1_000,
                data: data.to_vec(),
            })
            .await
            .unwrap();
        }
        let end = from + spool.len() as u64;
        while acks.message().await.unwrap().unwrap().durable_offset < end {}
    }

    /// Brings a file of a step, announced as `said`.
    pub(crate) async fn bring(&mut self, job: &Job, step: u32, said: &[u8], bytes: &[u8]) -> Result<(), Status> {
        let first = v1::ShipArtifactRequest {
            fence: job.offer.fence.clone(),
            step,
            sha256: sha256(said),
            bytes: said.len() as u64,
            data: Vec::new(),
        };
        let rest = bytes
            .chunks(1_000)
            .map(|data| v1::ShipArtifactRequest { data: data.to_vec(), ..v1::ShipArtifactRequest::default() });
        let messages: Vec<_> = [first].into_iter().chain(rest).collect();
        self.plane.ship_artifact(tokio_stream::iter(messages)).await.map(drop)
    }

    /// Reports that a step ended.
    pub(crate) async fn complete(
        &mut self,
        job: &Job,
        step: u32,
        record: &ExitRecord,
        spool_bytes: u64,
    ) -> Option<u32> {
        let exited = v1::Exited {
            record: serde_json::to_vec(record).unwrap(),
            spool_bytes,
            event_summary: Vec::new(),
            started_at_us: 1,
            ended_at_us: 2,
            canceled: false,
        };
        let request = v1::CompleteRequest {
            fence: job.offer.fence.clone(),
            step,
            outcome: Some(v1::complete_request::Outcome::Exited(exited)),
        };
        self.plane.complete(request).await.unwrap().into_inner().next_step
    }
}

/// A spool as init would write it.
#[derive(Default)]
pub(crate) struct Spool {
    pub(crate) bytes: Vec<u8>,
    log: Vec<u8>,
    records: u64,
}

impl Spool {
    pub(crate) fn write(&mut self, stream: Stream, data: &[u8]) {
        let header =
            Header { len: data.len().try_into().unwrap(), stream, seq: self.records, at: 1_795_255_200_000_000 };
        self.bytes.extend(header.to_bytes());
        self.bytes.extend(data);
        self.records += 1;
        if stream.is_log() {
            self.log.extend(data);
        }
    }

    /// Ends it with an exit record.
    pub(crate) fn end(&mut self, code: i32) -> ExitRecord {
        self.end_with(ExitRecord { code: Some(code), ..ExitRecord::default() })
    }

    /// Ends it with this one, in which what the log has to say is filled in.
    pub(crate) fn end_with(&mut self, record: ExitRecord) -> ExitRecord {
        let record = ExitRecord { bytes: self.log.len() as u64, sha256: sha256(&self.log), ..record };
        self.write(Stream::Exit, &serde_json::to_vec(&record).unwrap());
        record
    }
}
