//! Machines that join by proof, over the wire: what lets them in, what is refused, and what revoking does to streams that are open.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_controller::clock::Clock;
use longshore_controller::tasks::{OnError, Tasks};
use longshore_core::join::binding;
use longshore_proto::v1;
use rcgen::KeyPair;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::agent::{self, Identity, Plane, Session, csr};
use crate::clouds::{
    ACCOUNT, Credentials, Form, INSTANCE, REGION, Signer, Sts, caller_identity, identity_document, lines, signed,
};
use crate::harness::{Running, Server};

const ARN: &str = "arn:aws:sts::111122223333:assumed-role/worker/i-0123456789abcdef0";
/// What is promised of a revocation.
const CUT: Duration = Duration::from_secs(5);

struct World {
    server: Running,
    plane: Plane,
    ca: String,
    region: Signer,
    sts: Sts,
    _tasks: Tasks,
    _folder: tempfile::TempDir,
}

/// A try to join.
struct Try {
    nonce: String,
    request: v1::EnrollRequest,
}

fn date() -> String {
    // 2026-11-20T22:10:00.000Z
    let text = now();
    let digits: String = text.chars().take(19).filter(|c| !matches!(c, '-' | ':')).collect();
    format!("{digits}Z")
}

fn now() -> String {
    Clock::system().now().to_string()
}

impl World {
    async fn new() -> Self {
        let (tasks, sts, region) = (Tasks::new(), Sts::default(), Signer::region());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = sts.router();
        tasks.spawn_until_stop("sts", OnError::Log, async move { axum::serve(listener, router).await });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("region.pem");
        std::fs::write(&path, &region.pem).unwrap();
        let more = format!("join.aws.sts_endpoint = \"{endpoint}\"\njoin.aws.certificates.{REGION} = {path:?}\n");
        let server = Server::start_with(&more).await.run();
        let ca = server.post("/join-tokens", &json!({})).await.ok(201)["ca_pem"].as_str().unwrap().to_owned();
        let plane = agent::dial(server.agents, &ca, None).await.unwrap();
        Self { server, plane, ca, region, sts, _tasks: tasks, _folder: folder }
    }

    async fn rule(&self, conditions: Value) -> String {
        let body = json!({"pool": "gpu", "labels": {"zone": "a"}, "conditions": conditions});
        self.server.post("/join-rules", &body).await.ok(201)["id"].as_str().unwrap().to_owned()
    }

    fn document(&self, account: &str, signer: &Signer) -> String {
        lines(&signed(&identity_document(INSTANCE, account, REGION, &now()), signer, Form::Ber, false))
    }

    /// A try with a document and a request that a role signed.
    async fn attempt(&mut self, key: &KeyPair, who: &Credentials, document: String) -> Try {
        let challenge = self.plane.challenge(v1::ChallengeRequest {}).await.unwrap().into_inner();
        let csr_pem = csr(key);
        let bound = binding(&challenge.nonce, &csr_pem);
        let (url, headers, body) = caller_identity(who, REGION, &date(), &bound);
        let headers = headers.into_iter().map(|(name, value)| v1::Header { name, value }).collect();
        let aws = v1::AwsProof { document, request: Some(v1::SignedRequest { url, headers, body }) };
        let request = v1::EnrollRequest {
            csr_pem,
            hostname: "worker".to_owned(),
            boot_id: "boot".to_owned(),
            proof: Some(v1::CloudProof { proof: Some(v1::cloud_proof::Proof::Aws(aws)) }),
            nonce: challenge.nonce.clone(),
            ..v1::EnrollRequest::default()
        };
        Try { nonce: challenge.nonce, request }
    }

    async fn join(&mut self, attempt: Try) -> Result<v1::EnrollResponse, Status> {
        self.plane.enroll(attempt.request).await.map(tonic::Response::into_inner)
    }

    /// The newest refusal in the audit.
    async fn refused(&self) -> Value {
        let audit = self.server.get("/audit").await.ok(200);
        let lines = audit["events"].as_array().unwrap();
        lines.iter().rev().find(|line| line["outcome"] == "refused").unwrap().clone()
    }
}

#[tokio::test]
async fn a_machine_joins_by_what_its_cloud_says() {
    let mut world = World::new().await;
    let rule = world.rule(json!({"cloud": "aws", "account": ACCOUNT, "region": REGION, "role": "worker"})).await;
    let (who, key) = (Credentials::new("WORKER"), KeyPair::generate().unwrap());
    world.sts.knows(&who, ARN);
    let document = world.document(ACCOUNT, &world.region);
    let attempt = world.attempt(&key, &who, document.clone()).await;
    let replay = Try { nonce: attempt.nonce.clone(), request: attempt.request.clone() };
    let joined = world.join(attempt).await.unwrap();
    assert_eq!(joined.pool, "gpu");
    let agents = world.server.get("/agents").await.ok(200);
    assert_eq!(
        (&agents[0]["id"], &agents[0]["labels"]),
        (&json!(joined.agent_id), &json!({"zone": "a"})),
        "{agents:#}"
    );
    assert_eq!(agents[0]["machine"], format!("aws/{ACCOUNT}/{INSTANCE}"));
    assert_eq!((&agents[0]["rule"], &agents[0]["ephemeral"]), (&json!(rule), &json!(true)));
    // It works.
    let identity = Identity { certificate_pem: joined.certificate_pem.clone(), key };
    let plane = agent::dial(world.server.agents, &world.ca, Some(&identity)).await.unwrap();
    Session::open(plane).await.unwrap();

    let refused = world.join(replay).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (
            Code::Unauthenticated,
            "this machine may not join: the nonce was used before; ask for a new one and try again"
        )
    );
    assert_eq!(world.refused().await["detail"]["condition"], "nonce");
    let attempt = world.attempt(&KeyPair::generate().unwrap(), &who, document).await;
    let refused = world.join(attempt).await.unwrap_err();
    assert!(refused.message().contains("one machine is one agent"), "{refused:?}");
    let line = world.refused().await;
    assert_eq!(
        (&line["action"], &line["object"]),
        (&json!("agent.enroll"), &json!(format!("machine/aws/{ACCOUNT}/{INSTANCE}")))
    );
    assert_eq!((&line["detail"]["condition"], &line["detail"]["agent"]), (&json!("machine"), &json!(joined.agent_id)));
}

#[tokio::test]
async fn each_condition_that_does_not_hold_is_named_and_written() {
    let mut world = World::new().await;
    let rule = world.rule(json!({"cloud": "aws", "account": ACCOUNT, "region": REGION, "role": "worker"})).await;
    let callers: BTreeMap<&str, &str> = [
        ("FOREIGN", "arn:aws:sts::999922223333:assumed-role/worker/i-0123456789abcdef0"),
        ("ADMIN", "arn:aws:sts::111122223333:assumed-role/admin/i-0123456789abcdef0"),
        ("ALICE", "arn:aws:sts::111122223333:assumed-role/worker/alice"),
        ("WORKER", ARN),
    ]
    .into();
    for (name, arn) in callers {
        world.sts.knows(&Credentials::new(name), arn);
    }
    let foreign = Signer::region();
    let (good, other) = (world.document(ACCOUNT, &world.region), world.document("999922223333", &world.region));
    let forged = world.document(ACCOUNT, &foreign);
    let elsewhere =
        lines(&signed(&identity_document(INSTANCE, ACCOUNT, "us-east-1", &now()), &world.region, Form::Ber, false));
    for (who, document, condition, says) in [
        ("FOREIGN", &other, "aws-account", "`aws-account` is not `999922223333`"),
        ("ADMIN", &good, "aws-role", "`aws-role` is not `admin`"),
        ("WORKER", &String::new(), "aws-region", "`aws-region` is not proven"),
        ("ALICE", &good, "request", "not named after an instance"),
        ("WORKER", &forged, "document", "not by the key"),
        ("WORKER", &elsewhere, "configuration", "no certificate of AWS for region `us-east-1`"),
        ("WORKER", &other, "request", "another instance"),
        ("STRANGER", &good, "request", "does not take its signature"),
    ] {
        let attempt = world.attempt(&KeyPair::generate().unwrap(), &Credentials::new(who), document.clone()).await;
        let refused = world.join(attempt).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert!(refused.message().contains(says), "{who} {condition}: {refused:?}");
        let line = world.refused().await;
        assert_eq!(line["detail"]["condition"], condition, "{line}");
        assert_eq!((&line["actor"], &line["detail"]["hostname"]), (&json!("nobody"), &json!("worker")));
        if condition.starts_with("aws-") {
            assert_eq!(line["detail"]["rule"], rule);
        }
    }
    assert!(world.server.get("/agents?all=true").await.ok(200).as_array().unwrap().is_empty());
    let mut attempt = world.attempt(&KeyPair::generate().unwrap(), &Credentials::new("WORKER"), good).await;
    attempt.request.proof = Some(v1::CloudProof { proof: None });
    assert_eq!(world.join(attempt).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn rules_are_made_listed_and_taken_back() {
    let world = World::new().await;
    let good = json!({"conditions": {"cloud": "gcp", "project": "my-project", "zone": "europe-west3-a"}});
    let made = world.server.post("/join-rules", &good).await.ok(201);
    assert_eq!((&made["pool"], &made["state"]), (&json!("default"), &json!("valid")));
    world.server.post("/join-rules", &good).await.problem(409, "exists");
    for (bad, says) in [
        (json!({"conditions": {"cloud": "aws", "account": "*"}}), "aws_account"),
        (json!({"conditions": {"cloud": "aws", "account": ACCOUNT, "role": "work*"}}), "aws_role"),
        (json!({"conditions": {"cloud": "gcp", "project": "my-project", "zone": "europe-*"}}), "gcp_zone"),
        (json!({"pool": "A", "conditions": {"cloud": "aws", "account": ACCOUNT}}), "pool"),
        (json!({"labels": {"a": "b c"}, "conditions": {"cloud": "aws", "account": ACCOUNT}}), "labels"),
    ] {
        let problem = world.server.post("/join-rules", &bad).await.problem(422, "invalid");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{problem}");
    }
    for bad in [
        json!({}),
        json!({"conditions": {"cloud": "aws"}}),
        json!({"conditions": {"cloud": "aws", "account": ACCOUNT, "subnet": "subnet-1"}}),
    ] {
        world.server.post("/join-rules", &bad).await.problem(422, "bad_json");
    }
    // Ids of subscriptions are shown in either case.
    let azure = json!({"conditions": {"cloud": "azure", "subscription": "8D10DA13-8125-4BA9-A717-BF7490507B3D"}});
    let azure = world.server.post("/join-rules", &azure).await.ok(201);
    assert_eq!(azure["conditions"]["subscription"], "8d10da13-8125-4ba9-a717-bf7490507b3d");
    let id = made["id"].as_str().unwrap();
    assert_eq!(world.server.delete(&format!("/join-rules/{id}")).await.status, 204);
    world.server.delete(&format!("/join-rules/{id}")).await.problem(404, "not_found");
    let listed = world.server.get("/join-rules").await.ok(200);
    assert_eq!((&listed[0]["state"], &listed[1]["state"]), (&json!("revoked"), &json!("valid")), "{listed:#}");
}

#[tokio::test]
async fn who_is_cut_off_loses_every_stream_that_is_open() {
    let world = World::new().await;
    let spec =
        "version: 1\nproject: shop\nenvironments: [{name: dev}]\nsteps: [{name: one, image: tiny, run: echo hello}]\n";
    world.server.apply("shop", spec).await.ok(200);
    let made = world.server.post("/join-tokens", &json!({})).await.ok(201);
    let mut plane = world.plane.clone();
    let identity = agent::enroll(&mut plane, made["token"].as_str().unwrap()).await.unwrap();
    let mut session =
        Session::open(agent::dial(world.server.agents, &world.ca, Some(&identity)).await.unwrap()).await.unwrap();
    let ask = json!({"project": "shop", "environment": "dev", "operation_id": "op"});
    world.server.post("/deployments", &ask).await.ok(202);
    let job = session.accept().await;
    session.confirm(&job, 0).await;
    let ship = |messages| {
        let mut plane = session.plane.clone();
        async move { plane.ship_log(ReceiverStream::new(messages)).await.unwrap().into_inner() }
    };
    let (up, messages) = mpsc::channel(8);
    up.send(v1::ShipLogRequest { fence: job.offer.fence.clone(), ..v1::ShipLogRequest::default() }).await.unwrap();
    let mut acks = ship(messages).await;
    assert_eq!(acks.message().await.unwrap().unwrap().durable_offset, 0);
    // A stream that has said nothing yet, and a file that is on its way.
    let (_idle, messages) = mpsc::channel::<v1::ShipArtifactRequest>(8);
    let mut bringing = session.plane.clone();
    let idle = bringing.ship_artifact(ReceiverStream::new(messages));

    let id = world.server.get("/agents").await.ok(200)[0]["id"].as_str().unwrap().to_owned();
    let revoke = async {
        assert_eq!(world.server.post(&format!("/agents/{id}/revoke"), &json!({})).await.status, 204);
        std::future::pending::<()>().await;
    };
    let ends = async {
        let (ack, control, idle) = tokio::join!(acks.message(), session.end(), idle);
        [ack.unwrap_err(), control, idle.unwrap_err()]
    };
    let ended = tokio::time::timeout(CUT, async {
        tokio::select! { ended = ends => ended, () = revoke => unreachable!() }
    });
    for status in ended.await.unwrap() {
        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    }
    // Its certificate is good for a day, and for nothing: neither on this connection nor on a new one.
    let refused = session.plane.confirm_start(v1::ConfirmStartRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let again = agent::dial(world.server.agents, &world.ca, Some(&identity)).await.unwrap();
    assert_eq!(Session::open(again).await.err().unwrap().code(), Code::Unauthenticated);
    let mut again = agent::dial(world.server.agents, &world.ca, Some(&identity)).await.unwrap();
    let renew = v1::RenewCertificateRequest { csr_pem: csr(&KeyPair::generate().unwrap()) };
    assert_eq!(again.renew_certificate(renew).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn an_agent_that_left_is_listed_on_demand() {
    let world = World::new().await;
    let made = world.server.post("/join-tokens", &json!({"ephemeral": true})).await.ok(201);
    assert_eq!(made["ephemeral"], true);
    let mut plane = world.plane.clone();
    let identity = agent::enroll(&mut plane, made["token"].as_str().unwrap()).await.unwrap();
    let mut session =
        Session::open(agent::dial(world.server.agents, &world.ca, Some(&identity)).await.unwrap()).await.unwrap();
    session.plane.leave(v1::LeaveRequest { reason: "drained".to_owned() }).await.unwrap();
    assert!(world.server.get("/agents").await.ok(200).as_array().unwrap().is_empty());
    let all = world.server.get("/agents?all=true").await.ok(200);
    assert_eq!((&all[0]["state"], &all[0]["gone"]), (&json!("gone"), &json!("left")), "{all:#}");
    world.server.get("/agents?every=true").await.problem(400, "bad_query");
    let id = all[0]["id"].as_str().unwrap();
    world.server.post(&format!("/agents/{id}/readmit"), &json!({})).await.problem(409, "no_machine");
}

#[tokio::test]
async fn a_copy_of_a_running_agent_is_refused() {
    let world = World::new().await;
    let made = world.server.post("/join-tokens", &json!({})).await.ok(201);
    let mut plane = world.plane.clone();
    let identity = agent::enroll(&mut plane, made["token"].as_str().unwrap()).await.unwrap();
    let dial = || agent::dial(world.server.agents, &world.ca, Some(&identity));
    let mut session = Session::open_of(dial().await.unwrap(), "one", "boot").await.unwrap();
    let refused = Session::open_of(dial().await.unwrap(), "two", "another boot").await.err().unwrap();
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused:?}");
    session.beat().await;
    let line = world.refused().await;
    assert_eq!(
        (&line["action"], &line["detail"]["second_boot_id"]),
        (&json!("agent.second_session"), &json!("another boot"))
    );
    assert_eq!(world.server.get("/agents").await.ok(200)[0]["cloned"], true);
}
