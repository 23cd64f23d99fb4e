//! The matrix of RPCs and attempts: each RPC that speaks for an attempt, called for another agent's and with a stale fence.

use longshore_controller::agents::rules::{RULES, Rule};
use longshore_core::id::AttemptId;
use longshore_core::time::Timestamp;
use longshore_proto::{FENCED, v1};
use serde_json::json;
use tonic::{Code, Status};

use crate::agent::{self, Identity, Plane, Session};
use crate::harness::{Running, Server};

const SPEC: &str =
    "version: 1\nproject: shop\nenvironments: [{name: dev}]\nsteps: [{name: one, image: tiny, run: echo hello}]\n";

async fn enrolled(server: &Running) -> (Identity, String) {
    let made = server.post("/join-tokens", &json!({})).await.ok(201);
    let ca = made["ca_pem"].as_str().unwrap().to_owned();
    let mut plane = agent::dial(server.agents, &ca, None).await.unwrap();
    (agent::enroll(&mut plane, made["token"].as_str().unwrap()).await.unwrap(), ca)
}

/// Calls an RPC for the attempt of a fence.
async fn call(plane: &mut Plane, rpc: &str, fence: &v1::Fence) -> Result<(), Status> {
    let fence = Some(fence.clone());
    match rpc {
        "ConfirmStart" => {
            let (container_id, nonce) = ("c0ffee".to_owned(), "once".to_owned());
            let request = v1::ConfirmStartRequest { fence, container_id, nonce, ..v1::ConfirmStartRequest::default() };
            plane.confirm_start(request).await.map(drop)
        }
        "Complete" => {
            let outcome = Some(v1::complete_request::Outcome::Lost(v1::Lost::default()));
            plane
                .complete(v1::CompleteRequest { fence, step: 0, outcome, ..v1::CompleteRequest::default() })
                .await
                .map(drop)
        }
        "ShipLog" => {
            let first = v1::ShipLogRequest { fence, step: 0, offset: 0, data: b"x".to_vec() };
            let mut acks = plane.ship_log(tokio_stream::once(first)).await?.into_inner();
            acks.message().await.map(drop)
        }
        "FetchPackage" => {
            let request = v1::FetchPackageRequest { fence, sha256: "a".repeat(64) };
            plane.fetch_package(request).await.map(drop)
        }
        "ShipArtifact" => {
            let (sha256, data) = ("a".repeat(64), b"x".to_vec());
            let first = v1::ShipArtifactRequest { fence, step: 0, sha256, bytes: 1, data };
            plane.ship_artifact(tokio_stream::once(first)).await.map(drop)
        }
        other => panic!("say here how `{other}` is called for an attempt"),
    }
}

#[tokio::test]
async fn no_rpc_works_for_another_agents_attempt_or_with_a_stale_fence() {
    let server = Server::start().await.run();
    server.apply("shop", SPEC).await.ok(200);
    let (identity, ca) = enrolled(&server).await;
    let mut session = Session::open(agent::dial(server.agents, &ca, Some(&identity)).await.unwrap()).await.unwrap();
    let ask = json!({"project": "shop", "environment": "dev", "operation_id": "op"});
    let id = server.post("/deployments", &ask).await.ok(202)["deployment"].as_str().unwrap().to_owned();
    let job = session.accept().await;
    session.confirm(&job, 0).await;
    let before = server.get(&format!("/deployments/{id}")).await.ok(200);

    let (stranger, _) = enrolled(&server).await;
    let mut stranger = agent::dial(server.agents, &ca, Some(&stranger)).await.unwrap();
    let mut own = agent::dial(server.agents, &ca, Some(&identity)).await.unwrap();
    let fence = job.offer.fence.clone().unwrap();
    let nowhere = AttemptId::new(Timestamp::from_micros(1), [1; 10]).to_string();
    let rpcs = RULES.iter().filter(|(_, rule)| *rule == Rule::OwnAttempt).map(|(name, _)| *name);
    for rpc in rpcs {
        let foreign = call(&mut stranger, rpc, &fence).await.unwrap_err();
        let missing =
            call(&mut stranger, rpc, &v1::Fence { attempt_id: nowhere.clone(), ..fence.clone() }).await.unwrap_err();
        assert_eq!(foreign.code(), Code::PermissionDenied, "{rpc}: {foreign:?}");
        assert_eq!((missing.code(), missing.message()), (foreign.code(), foreign.message()), "{rpc} tells what exists");
        let later = v1::Fence { epoch: fence.epoch + 1, ..fence.clone() };
        let restored = v1::Fence { incarnation: fence.incarnation + 1, ..fence.clone() };
        for stale in [later, restored] {
            let refused = call(&mut own, rpc, &stale).await.unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition, "{rpc}: {refused:?}");
            assert!(refused.message().starts_with(FENCED), "{rpc}: {refused:?}");
        }
        let without = call(&mut own, rpc, &v1::Fence::default()).await.unwrap_err();
        assert_eq!(without.code(), Code::InvalidArgument, "{rpc}: {without:?}");
    }
    assert_eq!(server.get(&format!("/deployments/{id}")).await.ok(200), before, "nothing of it changed anything");
}
