//! A controller that does what a test says, with an authority of its own.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use longshore_agent::config::Address;
use longshore_agent::identity::{self, Identity};
use longshore_agent::tasks::Tasks;
use longshore_core::fence::Fence;
use longshore_core::id::AgentId;
use longshore_core::time::Timestamp;
use longshore_proto::v1;
use longshore_proto::v1::agent_plane_server::{AgentPlane, AgentPlaneServer};
use rustls_pki_types::pem::PemObject as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use v1::session_request::Message as Up;
use v1::session_response::Message as Down;

/// What the agent did.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    Hello(v1::Hello),
    Said(Up),
    Confirm(v1::ConfirmStartRequest),
    Complete(v1::CompleteRequest),
    /// A log stream was opened, and this many bytes were durable.
    Log {
        durable: u64,
    },
    Renewed,
    /// A machine brought a proof.
    Proven(Box<v1::EnrollRequest>),
    /// A file came, whole or not, in what it was announced as.
    Shipped(String),
}

type SessionTx = mpsc::Sender<Result<v1::SessionResponse, Status>>;

#[derive(Default)]
pub(crate) struct State {
    session: Option<SessionTx>,
    /// Answers to the next calls; without one a start is granted and an end is taken. `None` in it: never answered.
    pub(crate) confirm: VecDeque<Option<Result<v1::ConfirmStartResponse, Status>>>,
    pub(crate) complete: VecDeque<Result<v1::CompleteResponse, Status>>,
    pub(crate) logs: HashMap<(String, u32), Vec<u8>>,
    /// The log stream breaks once after so many bytes.
    pub(crate) cut_log_after: Option<usize>,
    /// What is said of each held attempt.
    pub(crate) discard: bool,
    pub(crate) cancel_held: Option<u32>,
    pub(crate) package: Vec<u8>,
    /// Files that were brought, by digest.
    pub(crate) artifacts: HashMap<String, Vec<u8>>,
    /// Answers to the next files; without one a file is taken. `None` in it: never answered.
    pub(crate) ship: VecDeque<Option<Status>>,
    /// How often a package was asked for.
    pub(crate) fetched: u32,
    /// Enrolments whose answers are lost.
    pub(crate) lose_enrolments: u32,
    /// Somebody took leave.
    pub(crate) left: bool,
    /// Seconds between heartbeats; zero: one.
    pub(crate) heartbeat_seconds: u32,
    /// Plugins of the pool, said in a welcome.
    pub(crate) plugins: Vec<longshore_core::plugins::Plugin>,
}

pub(crate) struct Controller {
    pub(crate) address: Address,
    pub(crate) authority: Arc<Authority>,
    state: Arc<Mutex<State>>,
    seen: mpsc::UnboundedReceiver<Seen>,
    /// Seen and not looked for yet: calls and streams overtake each other.
    kept: VecDeque<Seen>,
    _tasks: Tasks,
}

/// Signs certificates.
pub(crate) struct Authority {
    pub(crate) ca_pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_pem = params.self_signed(&key).unwrap().pem();
        Self { ca_pem, issuer: rcgen::Issuer::new(params, key) }
    }

    pub(crate) fn sign(&self, csr_pem: &str, agent: AgentId) -> String {
        let mut request = rcgen::CertificateSigningRequestParams::from_pem(csr_pem).unwrap();
        let uri = format!("longshore://agent/{agent}");
        request.params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().unwrap())];
        request.signed_by(&self.issuer).unwrap().pem()
    }

    fn server(&self) -> tokio_rustls::TlsAcceptor {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["longshore-controller".to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(rustls_pki_types::CertificateDer::from_pem_slice(self.ca_pem.as_bytes()).unwrap()).unwrap();
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .unwrap();
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![leaf.der().clone()],
                rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        tokio_rustls::TlsAcceptor::from(Arc::new(config))
    }
}

pub(crate) fn agent_id() -> AgentId {
    AgentId::new(Timestamp::from_micros(1_000_000), [7; 10])
}

impl Controller {
    pub(crate) async fn start() -> Self {
        let authority = Arc::new(Authority::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
        let (state, tasks, acceptor) = (Arc::new(Mutex::new(State::default())), Tasks::new(), authority.server());
        let (seen_tx, seen) = mpsc::unbounded_channel();
        let (streams_tx, streams_rx) = mpsc::channel::<std::io::Result<_>>(8);
        tasks.spawn("accept", async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                // A connection that breaks while it is made is the agent's business.
                if let Ok(tls) = acceptor.accept(tcp).await
                    && streams_tx.send(Ok(tls)).await.is_err()
                {
                    return;
                }
            }
        });
        let plane = Plane { state: Arc::clone(&state), seen: seen_tx, authority: Arc::clone(&authority) };
        tasks.spawn("serve", async move {
            let server = tonic::transport::Server::builder().add_service(AgentPlaneServer::new(plane));
            server.serve_with_incoming(ReceiverStream::new(streams_rx)).await.unwrap();
        });
        Self { address, authority, state, seen, kept: VecDeque::new(), _tasks: tasks }
    }

    /// An identity as enrolling would give.
    pub(crate) fn identity(&self) -> Identity {
        let new = identity::csr().unwrap();
        Identity {
            agent: agent_id(),
            controller: "ctl".to_owned(),
            pool: "default".to_owned(),
            certificate_pem: self.authority.sign(&new.csr_pem, agent_id()),
            key_pem: new.key_pem,
            ca_pem: self.authority.ca_pem.clone(),
        }
    }

    pub(crate) fn plan(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    pub(crate) fn fetched(&self) -> u32 {
        self.state.lock().unwrap().fetched
    }

    pub(crate) fn log(&self, fence: Fence, step: u32) -> Vec<u8> {
        self.state.lock().unwrap().logs.get(&(fence.attempt.to_string(), step)).cloned().unwrap_or_default()
    }

    pub(crate) fn say(&self, message: Down) {
        let session = self.state.lock().unwrap().session.clone().unwrap();
        session.try_send(Ok(v1::SessionResponse { message: Some(message) })).unwrap();
    }

    /// Ends the control stream.
    pub(crate) fn drop_session(&self, status: Status) {
        let session = self.state.lock().unwrap().session.take().unwrap();
        session.try_send(Err(status)).unwrap();
    }

    /// Waits until the agent did what is looked for; each thing it did is found once, whatever else is looked for first.
    pub(crate) async fn wait<T>(&mut self, mut pick: impl FnMut(&Seen) -> Option<T>) -> T {
        if let Some((index, found)) = self.kept.iter().enumerate().find_map(|(index, seen)| Some((index, pick(seen)?)))
        {
            self.kept.remove(index);
            return found;
        }
        let found = async {
            loop {
                let seen = self.seen.recv().await.unwrap();
                match pick(&seen) {
                    Some(found) => return found,
                    None => self.kept.push_back(seen),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), found).await.unwrap()
    }

    pub(crate) async fn proven(&mut self) -> v1::EnrollRequest {
        self.wait(|seen| if let Seen::Proven(request) = seen { Some((**request).clone()) } else { None }).await
    }

    pub(crate) fn left(&self) -> bool {
        self.state.lock().unwrap().left
    }

    pub(crate) async fn hello(&mut self) -> v1::Hello {
        self.wait(|seen| if let Seen::Hello(hello) = seen { Some(hello.clone()) } else { None }).await
    }

    pub(crate) async fn confirmed(&mut self) -> v1::ConfirmStartRequest {
        self.wait(|seen| if let Seen::Confirm(request) = seen { Some(request.clone()) } else { None }).await
    }

    pub(crate) async fn completed(&mut self) -> v1::CompleteRequest {
        self.wait(|seen| if let Seen::Complete(request) = seen { Some(request.clone()) } else { None }).await
    }

    pub(crate) fn artifact(&self, sha256: &str) -> Option<Vec<u8>> {
        self.state.lock().unwrap().artifacts.get(sha256).cloned()
    }

    pub(crate) async fn shipped(&mut self) -> String {
        self.wait(|seen| if let Seen::Shipped(sha256) = seen { Some(sha256.clone()) } else { None }).await
    }

    pub(crate) async fn answered(&mut self) -> v1::OfferAnswer {
        self.wait(|seen| if let Seen::Said(Up::OfferAnswer(answer)) = seen { Some(answer.clone()) } else { None }).await
    }
}

struct Plane {
    state: Arc<Mutex<State>>,
    seen: mpsc::UnboundedSender<Seen>,
    authority: Arc<Authority>,
}

impl Plane {
    fn saw(&self, seen: Seen) {
        // The test is over when nobody wants to know.
        drop(self.seen.send(seen));
    }
}

pub(crate) fn grant() -> v1::ConfirmStartResponse {
    let grant = v1::Grant {
        env: vec![],
        secrets: vec!["hunter2".to_owned()],
        timeout_seconds: 600,
        grace_seconds: 5,
        action: Some(v1::grant::Action::Run(v1::RunAction { argv: vec!["true".to_owned()] })),
        outputs_key: vec![0; 32],
        artifacts: Some(v1::ArtifactLimits { file_bytes: 1 << 20, total_bytes: 1 << 20 }),
    };
    v1::ConfirmStartResponse { verdict: Some(v1::confirm_start_response::Verdict::Granted(grant)) }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn refusal(code: v1::refusal::Code) -> v1::ConfirmStartResponse {
    let refusal = v1::Refusal { code: code.into(), message: "no".to_owned() };
    v1::ConfirmStartResponse { verdict: Some(v1::confirm_start_response::Verdict::Refused(refusal)) }
}

type Stream<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AgentPlane for Plane {
    type SessionStream = Stream<v1::SessionResponse>;
    type ShipLogStream = Stream<v1::ShipLogResponse>;
    type FetchPackageStream = Stream<v1::FetchPackageResponse>;

    async fn enroll(&self, request: Request<v1::EnrollRequest>) -> Result<Response<v1::EnrollResponse>, Status> {
        let request = request.into_inner();
        if request.proof.is_some() {
            self.saw(Seen::Proven(Box::new(request.clone())));
            let mut state = self.state.lock().unwrap();
            if let Some(left) = state.lose_enrolments.checked_sub(1) {
                state.lose_enrolments = left;
                return Err(Status::unavailable("the connection broke"));
            }
        } else if request.join_token != "good" {
            return Err(Status::unauthenticated("the join token is not valid"));
        }
        Ok(Response::new(v1::EnrollResponse {
            agent_id: agent_id().to_string(),
            certificate_pem: self.authority.sign(&request.csr_pem, agent_id()),
            ca_pem: self.authority.ca_pem.clone(),
            controller_id: "ctl".to_owned(),
            pool: "default".to_owned(),
        }))
    }

    async fn challenge(&self, _: Request<v1::ChallengeRequest>) -> Result<Response<v1::ChallengeResponse>, Status> {
        let nonce = longshore_agent::clock::nonce();
        Ok(Response::new(v1::ChallengeResponse { nonce, controller_id: "ctl".to_owned(), seconds: 60 }))
    }

    async fn leave(&self, _: Request<v1::LeaveRequest>) -> Result<Response<v1::LeaveResponse>, Status> {
        self.state.lock().unwrap().left = true;
        Ok(Response::new(v1::LeaveResponse {}))
    }

    async fn renew_certificate(
        &self,
        request: Request<v1::RenewCertificateRequest>,
    ) -> Result<Response<v1::RenewCertificateResponse>, Status> {
        self.saw(Seen::Renewed);
        let certificate_pem = self.authority.sign(&request.into_inner().csr_pem, agent_id());
        Ok(Response::new(v1::RenewCertificateResponse { certificate_pem, ca_pem: self.authority.ca_pem.clone() }))
    }

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        if request.peer_certs().is_none() {
            return Err(Status::unauthenticated("no certificate"));
        }
        let mut up = request.into_inner();
        let Some(Up::Hello(hello)) = up.message().await?.and_then(|first| first.message) else {
            return Err(Status::invalid_argument("no hello"));
        };
        let (down_tx, down_rx) = mpsc::channel(64);
        let welcome = {
            let mut state = self.state.lock().unwrap();
            state.session = Some(down_tx.clone());
            let action =
                if state.discard { v1::held_verdict::Action::Discard } else { v1::held_verdict::Action::Continue };
            let verdict = |held: &v1::HeldAttempt| v1::HeldVerdict {
                attempt_id: held.fence.clone().unwrap().attempt_id,
                action: action.into(),
                cancel: state.cancel_held.map(|grace_seconds| v1::Cancel { fence: held.fence.clone(), grace_seconds }),
            };
            v1::Welcome {
                capabilities: vec!["leaving-v1".to_owned()],
                heartbeat_seconds: state.heartbeat_seconds.max(1),
                max_disconnected_seconds: 60,
                controller_id: "ctl".to_owned(),
                held: hello.held.iter().map(verdict).collect(),
                plugins: Some(longshore_proto::convert::plugin_set(&state.plugins)),
            }
        };
        down_tx.try_send(Ok(v1::SessionResponse { message: Some(Down::Welcome(welcome)) })).unwrap();
        self.saw(Seen::Hello(hello));
        let (seen, mut down) = (self.seen.clone(), ReceiverStream::new(down_rx));
        let stream = async_stream(move |cx| {
            // Both directions are turned by whoever reads the answers.
            while let std::task::Poll::Ready(message) = Pin::new(&mut up).poll_next(cx) {
                match message {
                    Some(Ok(v1::SessionRequest { message: Some(message) })) => drop(seen.send(Seen::Said(message))),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return std::task::Poll::Ready(None),
                }
            }
            Pin::new(&mut down).poll_next(cx)
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn confirm_start(
        &self,
        request: Request<v1::ConfirmStartRequest>,
    ) -> Result<Response<v1::ConfirmStartResponse>, Status> {
        let planned = self.state.lock().unwrap().confirm.pop_front();
        self.saw(Seen::Confirm(request.into_inner()));
        match planned {
            Some(Some(answer)) => answer.map(Response::new),
            Some(None) => std::future::pending().await,
            None => Ok(Response::new(grant())),
        }
    }

    async fn complete(&self, request: Request<v1::CompleteRequest>) -> Result<Response<v1::CompleteResponse>, Status> {
        let planned = self.state.lock().unwrap().complete.pop_front();
        self.saw(Seen::Complete(request.into_inner()));
        planned.unwrap_or(Ok(v1::CompleteResponse { next_step: None })).map(Response::new)
    }

    async fn ship_log(
        &self,
        request: Request<Streaming<v1::ShipLogRequest>>,
    ) -> Result<Response<Self::ShipLogStream>, Status> {
        let mut up = request.into_inner();
        let Some(first) = up.message().await? else { return Err(Status::invalid_argument("nothing came")) };
        let key = (first.fence.unwrap().attempt_id, first.step);
        let durable = self.state.lock().unwrap().logs.entry(key.clone()).or_default().len() as u64;
        self.saw(Seen::Log { durable });
        let (state, mut first_ack) = (Arc::clone(&self.state), Some(durable));
        let stream = async_stream(move |cx| {
            if let Some(durable_offset) = first_ack.take() {
                return std::task::Poll::Ready(Some(Ok(v1::ShipLogResponse { durable_offset })));
            }
            let message = std::task::ready!(Pin::new(&mut up).poll_next(cx));
            let Some(Ok(chunk)) = message else { return std::task::Poll::Ready(None) };
            let mut state = state.lock().unwrap();
            let cut = state.cut_log_after;
            let log = state.logs.get_mut(&key).unwrap();
            if chunk.offset != log.len() as u64 {
                return std::task::Poll::Ready(Some(Err(Status::invalid_argument("a hole or a duplicate"))));
            }
            log.extend(chunk.data);
            let durable_offset = log.len() as u64;
            if cut.is_some_and(|cut| durable_offset >= cut as u64) {
                state.cut_log_after = None;
                return std::task::Poll::Ready(Some(Err(Status::unavailable("cut"))));
            }
            std::task::Poll::Ready(Some(Ok(v1::ShipLogResponse { durable_offset })))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn ship_artifact(
        &self,
        request: Request<Streaming<v1::ShipArtifactRequest>>,
    ) -> Result<Response<v1::ShipArtifactResponse>, Status> {
        let mut up = request.into_inner();
        let Some(first) = up.message().await? else { return Err(Status::invalid_argument("nothing came")) };
        assert!(first.fence.is_some());
        self.saw(Seen::Shipped(first.sha256.clone()));
        let planned = self.state.lock().unwrap().ship.pop_front();
        match planned {
            Some(Some(status)) => return Err(status),
            Some(None) => std::future::pending().await,
            None => {}
        }
        let mut content = first.data;
        while let Some(more) = up.message().await? {
            content.extend(more.data);
        }
        if content.len() as u64 != first.bytes || sha256(&content) != first.sha256 {
            return Err(Status::invalid_argument("not what was announced"));
        }
        self.state.lock().unwrap().artifacts.insert(first.sha256, content);
        Ok(Response::new(v1::ShipArtifactResponse {}))
    }

    async fn fetch_package(
        &self,
        _: Request<v1::FetchPackageRequest>,
    ) -> Result<Response<Self::FetchPackageStream>, Status> {
        let package = {
            let mut state = self.state.lock().unwrap();
            state.fetched += 1;
            state.package.clone()
        };
        let chunks: Vec<_> =
            package.chunks(1_000).map(|data| Ok(v1::FetchPackageResponse { data: data.to_vec() })).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }
}

use tokio_stream::Stream as _;

/// A stream out of a function to poll.
fn async_stream<T, F>(poll: F) -> impl tokio_stream::Stream<Item = T> + Send
where
    F: FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>> + Send + Unpin,
{
    struct Polled<F>(F);
    impl<T, F: FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>> + Unpin> tokio_stream::Stream
        for Polled<F>
    {
        type Item = T;
        fn poll_next(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<T>> {
            (self.0)(cx)
        }
    }
    Polled(poll)
}
