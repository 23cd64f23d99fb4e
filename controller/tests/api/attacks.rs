//! What a compromised agent, or a thief of a token or certificate, tries on the agents' plane and the API. `docs/security.md`
//! lists each with its number.

use std::sync::Arc;
use std::time::Duration;

use longshore_controller::clock::Clock;
use longshore_core::artifacts::{Artifact, Kind};
use longshore_core::id::AttemptId;
use longshore_core::init::ExitRecord;
use longshore_core::spool::Stream;
use longshore_core::time::Timestamp;
use longshore_proto::{FENCED, v1};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::metadata::{BinaryMetadataValue, MetadataValue};
use tonic::{Code, Request};
use v1::session_request::Message as Up;

use crate::agent::{self, Identity, Job, Plane, Session, Spool};
use crate::h2;
use crate::harness::{Running, Server, files, sha256};
use crate::plane::{enrolled, running};

const CANARY: &str = "canary-6b1f0e";
const SPEC: &str = "version: 1\nproject: shop\nenvironments: [{name: dev}]\nvariables:\n  token: {secret: true}\nsteps:\n  \
                    - {name: one, image: tiny, run: echo hello, env: {TOKEN: '${{ secrets.token }}'}}\n";

async fn dial(server: &Running, ca: &str, identity: &Identity) -> Plane {
    agent::dial(server.agents, ca, Some(identity)).await.unwrap()
}

/// A job with a secret that an agent has taken, and that agent.
async fn taken(server: &Running) -> (Session, Job, Identity, String, String) {
    server.apply("shop", SPEC).await.ok(200);
    let path = "/projects/shop/variables/token";
    let body = json!({"value": CANARY, "secret": true}).to_string();
    server.call(axum::http::Method::PUT, path, body).await.ok(200);
    let (identity, ca) = enrolled(server).await;
    let mut session = Session::open(dial(server, &ca, &identity).await).await.unwrap();
    let ask = json!({"project": "shop", "environment": "dev", "operation_id": "op"});
    let id = server.post("/deployments", &ask).await.ok(202)["deployment"].as_str().unwrap().to_owned();
    let job = session.accept().await;
    (session, job, identity, ca, id)
}

fn confirm(fence: Option<v1::Fence>) -> v1::ConfirmStartRequest {
    let (container_id, nonce) = ("c0ffee".to_owned(), "mine".to_owned());
    v1::ConfirmStartRequest { fence, container_id, nonce, ..v1::ConfirmStartRequest::default() }
}

async fn refusals(server: &Running, action: &str) -> Vec<Value> {
    let audit = server.get("/audit").await.ok(200);
    let lines = audit["events"].as_array().unwrap().iter();
    lines.filter(|line| line["action"] == action && line["outcome"] == "refused").cloned().collect()
}

/// What every agent can.
fn able() -> Vec<String> {
    longshore_proto::CAPABILITIES.map(str::to_owned).to_vec()
}

async fn metrics(server: &Running) -> String {
    let request = axum::http::Request::get("/metrics").body(axum::body::Body::empty()).unwrap();
    String::from_utf8(server.send(request).await.body).unwrap()
}

#[tokio::test]
async fn a_header_that_names_another_agent_says_nothing() {
    let server = running().await;
    let (_session, job, _, ca, id) = taken(&server).await;
    let victim = server.get("/agents").await.ok(200)[0]["id"].as_str().unwrap().to_owned();
    let (identity, _) = enrolled(&server).await;
    let mut plane = dial(&server, &ca, &identity).await;
    let claim = |request: &mut tonic::metadata::MetadataMap| {
        let value: MetadataValue<_> = victim.parse().unwrap();
        for name in ["agent_id", "agent-id", "x-agent-id", "x-forwarded-client-cert"] {
            request.append(name, value.clone());
            request.append(name, value.clone());
        }
        request.append_bin("agent_id-bin", BinaryMetadataValue::from_bytes(victim.as_bytes()));
    };
    let mut request = Request::new(confirm(job.offer.fence.clone()));
    claim(request.metadata_mut());
    assert_eq!(plane.confirm_start(request).await.unwrap_err().code(), Code::PermissionDenied);
    let hello =
        v1::Hello { slots: 1, weakest_profile: "standard".to_owned(), capabilities: able(), ..v1::Hello::default() };
    let mut request = Request::new(tokio_stream::once(v1::SessionRequest { message: Some(Up::Hello(hello)) }));
    claim(request.metadata_mut());
    let mut down = plane.session(request).await.unwrap().into_inner();
    assert!(down.message().await.unwrap().is_some());
    let agents = server.get("/agents").await.ok(200);
    let found = agents.as_array().unwrap().iter().find(|agent| agent["id"] == victim.as_str()).unwrap();
    assert_eq!((&found["state"], &found["hostname"]), (&json!("connected"), &json!("test")), "its stream is its own");
    assert_eq!(server.get(&format!("/deployments/{id}")).await.ok(200)["state"], "running");

    // HTTP/2 knows no capital letters: whoever sends such a header is cut off (PROTOCOL_ERROR).
    let (mut up, down) = h2::open(server.agents, &ca, Some(&identity), &[]).await;
    let block = h2::headers("ConfirmStart", &[("Agent_Id", &victim)]);
    assert!(up.send(&h2::frame(h2::HEADERS, h2::END_HEADERS, 1, &block)).await);
    assert_eq!(down.end().await, Some(1));
}

#[tokio::test]
async fn an_epoch_that_was_or_will_be_is_fenced() {
    let server = running().await;
    let (mut session, job, identity, ca, _) = taken(&server).await;
    let mut plane = dial(&server, &ca, &identity).await;
    let now = job.offer.fence.clone().unwrap();
    for (epoch, incarnation) in [(now.epoch - 1, 1), (now.epoch + 1, 1), (u64::MAX >> 2, 1), (now.epoch, 2)] {
        let fence = v1::Fence { epoch, incarnation, ..now.clone() };
        let refused = plane.confirm_start(confirm(Some(fence))).await.unwrap_err();
        let fenced = refused.code() == Code::FailedPrecondition && refused.message().starts_with(FENCED);
        // Epochs begin at 1.
        assert!(fenced || (epoch == 0 && refused.code() == Code::InvalidArgument), "{epoch}: {refused:?}");
    }
    session.confirm(&job, 0).await;
}

#[tokio::test]
async fn what_an_agent_says_of_its_pool_and_labels_gets_it_no_job() {
    let server = running().await;
    let spec = SPEC.replace("{name: dev}", "{name: dev, agents: {zone: secret}}");
    server.apply("shop", &spec).await.ok(200);
    let body = json!({"value": CANARY, "secret": true}).to_string();
    server.call(axum::http::Method::PUT, "/projects/shop/variables/token", body).await.ok(200);
    let (identity, ca) = enrolled(&server).await;
    let mut plane = dial(&server, &ca, &identity).await;
    let labels = [("zone", "secret"), ("pool", "gpu")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let host = v1::HostFacts { engine_version: "1".to_owned(), ..v1::HostFacts::default() };
    let hello = v1::Hello {
        slots: 8,
        weakest_profile: "standard".to_owned(),
        host: Some(host),
        labels,
        capabilities: able(),
        ..v1::Hello::default()
    };
    let (up, messages) = tokio::sync::mpsc::channel(4);
    up.send(v1::SessionRequest { message: Some(Up::Hello(hello)) }).await.unwrap();
    let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
    let mut down = plane.session(messages).await.unwrap().into_inner();
    down.message().await.unwrap().unwrap();
    let ask = json!({"project": "shop", "environment": "dev", "operation_id": "op"});
    let id = server.post("/deployments", &ask).await.ok(202)["deployment"].as_str().unwrap().to_owned();
    let why = server.get(&format!("/deployments/{id}/explain")).await.ok(200);
    assert!(why["agents"][0].to_string().contains("label"), "{why:#}");
    assert_eq!(server.get("/agents").await.ok(200)[0]["labels"], json!({}));
    let echo = v1::Heartbeat { sequence: 1, free_slots: 8, host: None };
    up.send(v1::SessionRequest { message: Some(Up::Heartbeat(echo)) }).await.unwrap();
    let next = down.message().await.unwrap().unwrap().message.unwrap();
    assert!(matches!(next, v1::session_response::Message::HeartbeatAck(_)), "nothing was offered: {next:?}");
}

#[tokio::test]
async fn secrets_are_given_for_a_confirmed_start_alone() {
    let server = running().await;
    let (mut session, job, identity, ca, _) = taken(&server).await;
    assert!(!format!("{:?}", job.offer).contains(CANARY), "not with the offer");
    let mut plane = dial(&server, &ca, &identity).await;
    let later = plane.confirm_start(v1::ConfirmStartRequest { step: 1, ..confirm(job.offer.fence.clone()) }).await;
    assert!(later.is_err(), "not of a step that there is not: {later:?}");
    let grant = session.confirm(&job, 0).await;
    assert!(format!("{grant:?}").contains(CANARY) || grant.env.iter().any(|env| env.value.contains(CANARY)));
    let again = plane.confirm_start(confirm(job.offer.fence.clone())).await.unwrap().into_inner();
    assert!(matches!(again.verdict, Some(v1::confirm_start_response::Verdict::Refused(_))), "not for another nonce");
    let mut spool = Spool::default();
    let record = spool.end(0);
    session.ship(&job, 0, &spool.bytes, 0).await;
    session.complete(&job, 0, &record, spool.bytes.len() as u64).await;
    let after = v1::ConfirmStartRequest { nonce: "once".to_owned(), ..confirm(job.offer.fence.clone()) };
    let after = plane.confirm_start(after).await;
    let granted = after
        .as_ref()
        .is_ok_and(|answer| matches!(answer.get_ref().verdict, Some(v1::confirm_start_response::Verdict::Granted(_))));
    assert!(!granted, "not after its end, nor to the nonce that had them: {after:?}");
}

#[tokio::test]
async fn who_asks_for_one_attempt_after_the_other_is_written_down() {
    let server = running().await;
    let (_session, job, _, ca, _) = taken(&server).await;
    let (identity, _) = enrolled(&server).await;
    let mut plane = dial(&server, &ca, &identity).await;
    let fence = job.offer.fence.clone().unwrap();
    for number in 0..40 {
        let attempt_id = AttemptId::new(Timestamp::from_micros(1), [number; 10]).to_string();
        // One of them is there, and no answer tells which.
        let fence = if number == 20 { fence.clone() } else { v1::Fence { attempt_id, ..fence.clone() } };
        let refused = plane.confirm_start(confirm(Some(fence))).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::PermissionDenied, "this is no attempt of the caller"));
    }
    let lines = refusals(&server, "agent.foreign_attempts").await;
    assert_eq!(lines.len(), 1, "once, however long it goes on: {lines:#?}");
    let agents = server.get("/agents").await.ok(200);
    let stranger = agents.as_array().unwrap().iter().find(|agent| agent["state"] == "disconnected").unwrap();
    let id = stranger["id"].as_str().unwrap();
    assert_eq!((lines[0]["actor"].as_str(), &lines[0]["detail"]["rpc"]), (Some(id), &json!("ConfirmStart")));
    let counted = "longshore_agent_refusals_total{rpc=\"ConfirmStart\",code=\"permission_denied\"}";
    let metrics = metrics(&server).await;
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn a_name_that_leaves_its_folder_is_stored_nowhere() {
    let server = running().await;
    let (mut session, job, identity, ca, id) = taken(&server).await;
    session.confirm(&job, 0).await;
    let before = files(server.folder.path());
    let mut plane = dial(&server, &ca, &identity).await;
    for sha256 in ["../../controller.db", "/etc/passwd", "..\\..\\controller.db", "", "a", &"A".repeat(64)] {
        let first = v1::ShipArtifactRequest {
            fence: job.offer.fence.clone(),
            step: 0,
            sha256: sha256.to_owned(),
            bytes: 1,
            data: b"x".to_vec(),
        };
        let refused = plane.ship_artifact(tokio_stream::once(first)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{sha256}: {refused}");
        let request = v1::FetchPackageRequest { fence: job.offer.fence.clone(), sha256: sha256.to_owned() };
        assert_eq!(plane.fetch_package(request).await.unwrap_err().code(), Code::PermissionDenied, "{sha256}");
    }
    assert_eq!(files(server.folder.path()), before, "nothing was written anywhere");
    session.bring(&job, 0, b"x", b"x").await.unwrap();
    let named = |path: &str| Artifact { path: path.to_owned(), bytes: 1, sha256: sha256(b"x"), kind: Kind::File };
    let bad = ["../../controller.db", "/etc/passwd", "a/../../b", "..", "./a", "a//b", "a\0b"];
    let mut spool = Spool::default();
    spool.write(Stream::Stdout, b"one\n");
    let artifacts = bad.iter().map(|path| named(path)).chain([named("good")]).collect();
    let record = spool.end_with(ExitRecord { code: Some(0), artifacts, ..ExitRecord::default() });
    session.ship(&job, 0, &spool.bytes, 0).await;
    session.complete(&job, 0, &record, spool.bytes.len() as u64).await;
    let list = server.get(&format!("/deployments/{id}/artifacts")).await.ok(200);
    let kept: Vec<_> = list["artifacts"].as_array().unwrap().iter().map(|file| file["path"].clone()).collect();
    assert_eq!(kept, ["good"], "{list:#}");
    assert_eq!(list["left_out"].as_array().unwrap().len(), bad.len(), "{list:#}");
}

#[tokio::test]
async fn an_agent_that_opens_session_after_session_is_slowed_down() {
    let clock = Clock::manual(Clock::system().now());
    let server = Server::start_at(clock.clone(), "").await.run();
    let (identity, ca) = enrolled(&server).await;
    let plane = dial(&server, &ca, &identity).await;
    for _ in 0..30 {
        Session::open(plane.clone()).await.unwrap();
    }
    for _ in 0..5 {
        let refused = Session::open(plane.clone()).await.err().unwrap();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains("it may again in 1 s"), "{refused}");
    }
    let (other, _) = enrolled(&server).await;
    let _session = Session::open(dial(&server, &ca, &other).await).await.unwrap();
    clock.advance(Duration::from_secs(1));
    let _again = Session::open(plane.clone()).await.unwrap();
    assert!(Session::open(plane).await.is_err());
    assert!(metrics(&server).await.contains("{rpc=\"Session\",code=\"resource_exhausted\"}"));
}

#[tokio::test]
async fn of_fifty_who_use_one_token_at_once_one_joins() {
    let server = running().await;
    let made = server.post("/join-tokens", &json!({})).await.ok(201);
    let (token, ca) = (made["token"].as_str().unwrap(), made["ca_pem"].as_str().unwrap());
    let at_once = (0..50).map(|_| async {
        // Each is a machine of its own.
        let mut plane = agent::dial(server.agents, ca, None).await.unwrap();
        agent::enroll(&mut plane, token).await
    });
    let joined = futures_util::future::join_all(at_once).await;
    let refused = joined.iter().filter_map(|one| one.as_ref().err()).filter(|why| why.code() == Code::Unauthenticated);
    assert_eq!(refused.count(), 49);
    assert_eq!(server.get("/agents").await.ok(200).as_array().unwrap().len(), 1);
    assert_eq!(refusals(&server, "agent.enroll").await.len(), 49, "each of them is written down");
}

#[tokio::test]
async fn what_opens_one_port_opens_not_the_other() {
    let made = rcgen::generate_simple_self_signed(vec!["api.test".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("api.pem"), folder.path().join("api.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let server = Server::start_https(&certificate, &key).await.run();
    let (identity, ca) = enrolled(&server).await;

    // A person's token at the agents' port, as a header and as a join token.
    let mut plane = agent::dial(server.agents, &ca, None).await.unwrap();
    let mut request = Request::new(confirm(None));
    request.metadata_mut().insert("authorization", format!("Bearer {}", server.token).parse().unwrap());
    assert_eq!(plane.confirm_start(request).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(agent::enroll(&mut plane, &server.token).await.err().unwrap().code(), Code::Unauthenticated);

    // The API's own certificate at the agents' port: of another authority.
    let theirs = Identity {
        certificate_pem: made.cert.pem(),
        key: rcgen::KeyPair::from_pem(&made.signing_key.serialize_pem()).unwrap(),
    };
    let refused = match agent::dial(server.agents, &ca, Some(&theirs)).await {
        Ok(plane) => Session::open(plane).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);

    // An agent's certificate, or a join token, at the API's port.
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let chain = vec![CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
    let config = builder.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let join = server.post("/join-tokens", &json!({})).await.ok(201)["token"].as_str().unwrap().to_owned();
    for header in [String::new(), format!("Authorization: Bearer {join}\r\n")] {
        let name = ServerName::try_from("api.test").unwrap();
        let mut stream = connector.connect(name, TcpStream::connect(server.api).await.unwrap()).await.unwrap();
        let ask = format!("GET /api/v1/agents HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n{header}\r\n");
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    }
}
