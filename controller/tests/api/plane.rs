//! The agents' plane over real connections: who gets in, and a job from its offer to its end with its log followed live.

use std::time::Duration;

use axum::body::Body;
use axum::http::Method;
use axum::http::Request;
use http_body_util::BodyExt as _;
use longshore_controller::agents::rules::{RULES, Rule};
use longshore_controller::clock::Clock;
use longshore_core::spool::Stream;
use longshore_core::time::Timestamp;
use longshore_proto::v1;
use rcgen::KeyPair;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tower::ServiceExt as _;

use crate::agent::{self, Identity, Session, Spool, csr};
use crate::harness::{Running, Server, spec};

pub(crate) async fn running() -> Running {
    Server::start().await.run()
}

async fn join_token(server: &Running, body: Value) -> (String, String) {
    let made = server.post("/join-tokens", &body).await.ok(201);
    (made["token"].as_str().unwrap().to_owned(), made["ca_pem"].as_str().unwrap().to_owned())
}

/// An enrolled agent, and the authority to trust.
pub(crate) async fn enrolled(server: &Running) -> (Identity, String) {
    let (token, ca) = join_token(server, json!({"pool": "default"})).await;
    let mut plane = agent::dial(server.agents, &ca, None).await.unwrap();
    (agent::enroll(&mut plane, &token).await.unwrap(), ca)
}

#[tokio::test]
async fn a_join_token_counts_once() {
    let server = running().await;
    let (token, ca) = join_token(&server, json!({})).await;
    let mut plane = agent::dial(server.agents, &ca, None).await.unwrap();
    agent::enroll(&mut plane, &token).await.unwrap();
    let mut messages = Vec::new();
    for bad in [token.as_str(), "", "lsj_x", &format!("lsj_{}", "A".repeat(43)), &server.token] {
        let refused = agent::enroll(&mut plane, bad).await.err().unwrap();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
        messages.push(refused.message().to_owned());
    }
    messages.dedup();
    assert_eq!(messages.len(), 1, "which of them it was is not told");
    assert_eq!(server.get("/agents").await.ok(200).as_array().unwrap().len(), 1);
    server.post("/join-tokens", &json!({"pool": "No Name"})).await.problem(422, "invalid");
    server.post("/join-tokens", &json!({"expires_in": "1y"})).await.problem(422, "invalid");
    server.post("/join-tokens", &json!({"expires_in": "31d"})).await.problem(422, "invalid");
}

/// The upgrade order: an agent that is ahead waits for the controller, and one that lacks what jobs need is not taken.
#[tokio::test]
async fn versions_that_do_not_fit_are_refused_or_get_no_jobs() {
    let server = running().await;
    let (token, ca) = join_token(&server, json!({})).await;
    let mut plane = agent::dial(server.agents, &ca, None).await.unwrap();
    let refused = agent::enroll_as(&mut plane, &token, "999.1.0").await.err().unwrap();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    for part in ["999.1.0", env!("CARGO_PKG_VERSION"), "upgrade the controller first"] {
        assert!(refused.message().contains(part), "{refused:?}");
    }
    // The token was not used up by that, and the patch number does not count.
    let (release, _) = env!("CARGO_PKG_VERSION").rsplit_once('.').unwrap();
    let identity = agent::enroll_as(&mut plane, &token, &format!("{release}.999")).await.unwrap();

    let dial = async || agent::dial(server.agents, &ca, Some(&identity)).await.unwrap();
    for without in [&[][..], &["images-v1", "something-new-v1"]] {
        let refused = Session::open_as(dial().await, "0.0.1", without).await.err().unwrap();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        for part in ["0.0.1", "`steps-v1`", env!("CARGO_PKG_VERSION"), "upgrade the agent"] {
            assert!(refused.message().contains(part), "{refused:?}");
        }
    }

    server.apply("shop", &spec("shop").replace("variables:\n  token: {secret: true}\n", "")).await;
    let made = server
        .post("/deployments", &json!({"project": "shop", "environment": "dev", "operation_id": "op-1"}))
        .await
        .ok(202);
    let id = made["deployment"].as_str().unwrap().to_owned();
    let ahead = Session::open_as(dial().await, "999.1.0", &["steps-v1", "something-new-v1"]).await.unwrap();
    let explained = server.get(&format!("/deployments/{id}/explain")).await.ok(200);
    let rejected = &explained["agents"][0]["rejected_by"];
    assert_eq!(rejected[0]["predicate"], "version", "{explained:#}");
    assert!(rejected[0]["message"].as_str().unwrap().contains("upgrade the controller first"), "{explained:#}");
    drop(ahead);
    // A capability that the controller does not know is not used, and in nobody's way.
    let mut fits =
        Session::open_as(dial().await, env!("CARGO_PKG_VERSION"), &["steps-v1", "something-new-v1"]).await.unwrap();
    let job = fits.accept().await;
    fits.confirm(&job, 0).await;
}

#[tokio::test]
async fn a_join_token_lets_in_as_many_agents_as_it_says() {
    let server = running().await;
    let labels = json!({"zone": "a"});
    let (token, ca) = join_token(&server, json!({"uses": 5, "labels": labels})).await;
    let plane = agent::dial(server.agents, &ca, None).await.unwrap();
    let at_once = (0..20).map(|_| {
        let (mut plane, token) = (plane.clone(), token.clone());
        async move { agent::enroll(&mut plane, &token).await.is_ok() }
    });
    let joined = futures_util::future::join_all(at_once).await.into_iter().filter(|joined| *joined).count();
    assert_eq!(joined, 5, "however many come at the same time");
    let agents = server.get("/agents").await.ok(200);
    assert_eq!(agents.as_array().unwrap().len(), 5);
    assert!(agents.as_array().unwrap().iter().all(|agent| agent["labels"] == labels), "{agents:#}");
    let listed = server.get("/join-tokens").await.ok(200);
    assert_eq!((&listed[0]["used"], &listed[0]["state"]), (&json!(5), &json!("used_up")), "{listed:#}");
    assert!(!listed.to_string().contains(&token), "its text is shown once");

    let (token, _) = join_token(&server, json!({"uses": 2})).await;
    let mut plane = plane;
    agent::enroll(&mut plane, &token).await.unwrap();
    let id = server.get("/join-tokens").await.ok(200)[1]["id"].as_str().unwrap().to_owned();
    assert_eq!(server.delete(&format!("/join-tokens/{id}")).await.status, 204);
    server.delete(&format!("/join-tokens/{id}")).await.problem(404, "not_found");
    assert!(agent::enroll(&mut plane, &token).await.is_err(), "it was taken back");
    assert_eq!(server.get("/agents").await.ok(200).as_array().unwrap().len(), 6, "who came in by it stays");
    let audit = server.get("/audit").await.ok(200);
    let refused: Vec<_> =
        audit["events"].as_array().unwrap().iter().filter(|line| line["outcome"] == "refused").collect();
    assert!(refused.iter().any(|line| line["detail"]["reason"] == "others were faster" || line["detail"]["reason"] == "it is used up"), "{refused:#?}");
    assert!(refused.iter().any(|line| line["detail"]["reason"] == "it was taken back"), "{refused:#?}");
    for bad in [
        json!({"uses": 0}),
        json!({"uses": 10_001}),
        json!({"labels": {"Zone": "a"}}),
        json!({"labels": {"zone": "a b"}}),
    ] {
        server.post("/join-tokens", &bad).await.problem(422, "invalid");
    }
}

#[tokio::test]
async fn a_bad_signing_request_does_not_use_the_token_up() {
    let server = running().await;
    let (token, ca) = join_token(&server, json!({})).await;
    let mut plane = agent::dial(server.agents, &ca, None).await.unwrap();
    let request =
        v1::EnrollRequest { join_token: token.clone(), csr_pem: "rubbish".to_owned(), ..v1::EnrollRequest::default() };
    assert_eq!(plane.enroll(request).await.unwrap_err().code(), Code::InvalidArgument);
    agent::enroll(&mut plane, &token).await.unwrap();
}

#[tokio::test]
async fn without_a_certificate_there_is_only_enrolling() {
    let server = running().await;
    let (_, ca) = join_token(&server, json!({})).await;
    let mut plane = agent::dial(server.agents, &ca, None).await.unwrap();
    let renew =
        plane.renew_certificate(v1::RenewCertificateRequest { csr_pem: csr(&KeyPair::generate().unwrap()) }).await;
    let confirm = plane.confirm_start(v1::ConfirmStartRequest::default()).await;
    let complete = plane.complete(v1::CompleteRequest::default()).await;
    let fetch = plane.fetch_package(v1::FetchPackageRequest::default()).await;
    let ship = plane.ship_log(tokio_stream::empty()).await;
    let artifact = plane.ship_artifact(tokio_stream::empty()).await;
    let session = plane.session(tokio_stream::empty()).await;
    let tried = [
        ("RenewCertificate", renew.err()),
        ("ConfirmStart", confirm.err()),
        ("Complete", complete.err()),
        ("FetchPackage", fetch.err()),
        ("ShipLog", ship.err()),
        ("ShipArtifact", artifact.err()),
        ("Session", session.err()),
    ];
    for (rpc, rule) in RULES.iter().filter(|(_, rule)| *rule != Rule::Anyone) {
        let refused = tried.iter().find(|(tried, _)| tried == rpc).and_then(|(_, refused)| refused.as_ref());
        assert_eq!(refused.map(Status::code), Some(Code::Unauthenticated), "{rpc} {rule:?}");
    }
}

#[tokio::test]
async fn a_certificate_is_renewed_and_a_revoked_agent_is_out() {
    let server = running().await;
    let (identity, ca) = enrolled(&server).await;
    let mut plane = agent::dial(server.agents, &ca, Some(&identity)).await.unwrap();
    let key = KeyPair::generate().unwrap();
    let renewed =
        plane.renew_certificate(v1::RenewCertificateRequest { csr_pem: csr(&key) }).await.unwrap().into_inner();
    let renewed = Identity { certificate_pem: renewed.certificate_pem, key };
    let _session = Session::open(agent::dial(server.agents, &ca, Some(&renewed)).await.unwrap()).await.unwrap();
    let agents = server.get("/agents").await.ok(200);
    assert_eq!((&agents[0]["state"], &agents[0]["hostname"]), (&json!("connected"), &json!("test")));
    let id = agents[0]["id"].as_str().unwrap();
    assert_eq!(server.call(Method::POST, &format!("/agents/{id}/release"), "").await.status, 204, "it never failed");
    let nobody = format!("/agents/agt_{}/release", "0".repeat(32));
    server.call(Method::POST, &nobody, "").await.problem(404, "not_found");
    assert_eq!(server.call(Method::POST, &format!("/agents/{id}/revoke"), "").await.status, 204);
    let refused = Session::open(agent::dial(server.agents, &ca, Some(&renewed)).await.unwrap()).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

/// The events of a stream as (name, id, data).
fn events(text: &str) -> Vec<(String, String, Value)> {
    let field = |block: &str, name: &str| {
        block.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap_or_default().to_owned()
    };
    let whole = text.split("\n\n").filter(|block| block.contains("event: "));
    whole
        .map(|block| (field(block, "event"), field(block, "id"), serde_json::from_str(&field(block, "data")).unwrap()))
        .collect()
}

#[tokio::test]
async fn a_job_runs_and_its_log_is_followed_and_resumed() {
    let server = running().await;
    server.apply("shop", &spec("shop").replace("  token: {secret: true}\n", "  a: b\n")).await.ok(200);
    let (identity, ca) = enrolled(&server).await;
    let mut session = Session::open(agent::dial(server.agents, &ca, Some(&identity)).await.unwrap()).await.unwrap();
    let ask = json!({"project": "shop", "environment": "dev", "operation_id": "op"});
    let id = server.post("/deployments", &ask).await.ok(202)["deployment"].as_str().unwrap().to_owned();
    let job = session.accept().await;
    assert_eq!(job.offer.deployment_id, id);
    let grant = session.confirm(&job, 0).await;
    assert!(matches!(grant.action, Some(v1::grant::Action::Run(_))) && grant.outputs_key.len() == 32);

    let mut spool = Spool::default();
    spool.write(Stream::Stdout, b"one\n");
    spool.write(Stream::Stderr, b"two \xff\n");
    session.ship(&job, 0, &spool.bytes, 0).await;
    let path = format!("/deployments/{id}/events");
    let mut live = server.router.clone().oneshot(server.request(Method::GET, &path, "")).await.unwrap().into_body();
    let mut seen = String::new();
    while !seen.contains("two ") {
        seen.push_str(std::str::from_utf8(live.frame().await.unwrap().unwrap().data_ref().unwrap()).unwrap());
    }

    let shipped = spool.bytes.len();
    spool.write(Stream::Stdout, b"three\n");
    let record = spool.end(0);
    session.ship(&job, 0, &spool.bytes[shipped..], shipped as u64).await;
    assert_eq!(session.complete(&job, 0, &record, spool.bytes.len() as u64).await, None);
    while let Some(frame) = live.frame().await {
        seen.push_str(std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap());
    }
    let all = events(&seen);
    let logs: Vec<_> = all.iter().filter(|(name, ..)| name == "log").collect();
    let texts: Vec<_> = logs.iter().map(|(_, _, data)| data["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["one\n", "two \u{fffd}\n", "three\n"]);
    assert_eq!(
        (logs[1].2["bytes"].as_str().unwrap(), &logs[1].2["stream"], &logs[0].2["bytes"]),
        ("dHdvIP8K", &json!("stderr"), &Value::Null)
    );
    assert_eq!(all.last().unwrap(), &("end".to_owned(), String::new(), json!({"state": "succeeded"})));
    let states: Vec<_> =
        all.iter().filter(|(name, ..)| name == "state").map(|(_, _, data)| data["state"].as_str().unwrap()).collect();
    assert_eq!((states.first(), states.last()), (Some(&"running"), Some(&"succeeded")));

    // Resumed behind the second piece: by the header and by the query.
    let mut by_header = server.request(Method::GET, &path, "");
    by_header.headers_mut().insert("last-event-id", logs[1].1.parse().unwrap());
    for request in [by_header, server.request(Method::GET, &format!("{path}?cursor={}", logs[1].1), "")] {
        let again = events(&String::from_utf8(server.send(request).await.body).unwrap());
        let texts: Vec<_> = again
            .iter()
            .filter(|(name, ..)| name == "log")
            .map(|(_, _, data)| data["text"].as_str().unwrap())
            .collect();
        assert_eq!(texts, ["three\n"]);
    }
    shown_as_it_was(&server, &id, &record.sha256).await;
}

async fn shown_as_it_was(server: &Running, id: &str, sha256: &str) {
    let shown = server.get(&format!("/deployments/{id}")).await.ok(200);
    let step = &shown["steps"][0];
    assert_eq!(
        (&shown["state"], &step["exit_code"], &step["log"]["sha256"]),
        (&json!("succeeded"), &json!(0), &json!(sha256)),
        "{shown:#}"
    );
    assert_eq!(step["attempts"][0]["container"], "c0ffee");
    assert_eq!(server.get(&format!("/deployments/{id}/log?format=raw")).await.body, b"one\ntwo \xff\nthree\n");
    let lines = String::from_utf8(server.get(&format!("/deployments/{id}/log")).await.body).unwrap();
    assert_eq!(lines.lines().count(), 3, "{lines}");
    let metrics = server.send(Request::get("/metrics").body(Body::empty()).unwrap()).await;
    assert!(String::from_utf8(metrics.body).unwrap().contains("longshore_log_bytes_total"));
}

#[tokio::test]
async fn an_expired_join_token_is_refused() {
    let clock = Clock::manual(Clock::system().now());
    let server = Server::start_at(clock.clone(), "").await.run();
    let (token, ca) = join_token(&server, json!({"expires_in": "1h"})).await;
    clock.advance(Duration::from_secs(3_601));
    let mut plane = agent::dial(server.agents, &ca, None).await.unwrap();
    assert_eq!(agent::enroll(&mut plane, &token).await.err().unwrap().code(), Code::Unauthenticated);
    assert_eq!(server.get("/agents").await.ok(200), json!([]));
}

#[tokio::test]
async fn an_expired_certificate_does_not_get_as_far_as_a_call() {
    let two_days_ago = Timestamp::from_micros(Clock::system().now().as_micros() - 2 * 86_400 * 1_000_000);
    let server = Server::start_at(Clock::manual(two_days_ago), "").await.run();
    let (identity, ca) = enrolled(&server).await;
    let expired = match agent::dial(server.agents, &ca, Some(&identity)).await {
        Ok(plane) => Session::open(plane).await.is_err(),
        Err(_) => true,
    };
    assert!(expired);
    assert_eq!(server.get("/agents").await.ok(200)[0]["state"], "disconnected");
}
