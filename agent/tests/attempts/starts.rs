//! From an offer to a running container.

use longshore_agent::supervisor::Stop;
use longshore_core::offer::PackageRef;
use longshore_proto::v1;
use longshore_proto::v1::complete_request::Outcome;
use longshore_proto::v1::session_response::Message as Down;
use sha2::Digest as _;
use tonic::Status;

use crate::controller::refusal;
use crate::world::{World, offer};

#[tokio::test]
async fn a_job_runs_and_everything_of_it_arrives_and_nothing_is_left() {
    let mut world = World::new().await;
    let offer = offer(1, 1);
    let fence = offer.fence;
    world.offer(&offer).await;
    let confirm = world.controller.confirmed().await;
    assert_eq!(world.runtime.started(fence, 0).await, confirm.container_id);
    assert_eq!((confirm.fence, confirm.image_digest.as_str()), (Some(fence.into()), "sha256:1"));
    world.runtime.print(fence, 0, "hello");
    world.runtime.event(fence, 0);
    world.runtime.print(fence, 0, "bye");
    world.runtime.exit(fence, 0, 7);
    let spool = world.runtime.spool_bytes(fence, 0);
    let Some(Outcome::Exited(exited)) = world.controller.completed().await.outcome else { panic!("not exited") };
    assert!(world.controller.log(fence, 0) == spool);
    assert_eq!((exited.spool_bytes, exited.ended_at_us, exited.canceled), (spool.len() as u64, 1_234_567, false));
    let record: longshore_core::init::ExitRecord = serde_json::from_slice(&exited.record).unwrap();
    assert_eq!(record.code, Some(7));
    let summary: longshore_core::engine_event::Summary = serde_json::from_slice(&exited.event_summary).unwrap();
    assert_eq!((summary.events, summary.unreadable), (1, 1));
    world.finish().await;
}

#[tokio::test]
async fn the_next_step_is_the_one_the_controller_names() {
    let mut world = World::new().await;
    world.controller.plan(|state| state.complete.push_back(Ok(v1::CompleteResponse { next_step: Some(2) })));
    let offer = offer(1, 3);
    world.offer(&offer).await;
    world.runtime.started(offer.fence, 0).await;
    world.runtime.exit(offer.fence, 0, 0);
    assert_eq!(world.controller.completed().await.step, 0);
    world.runtime.started(offer.fence, 2).await;
    assert!(world.runtime.container(offer.fence, 0).is_none() && world.runtime.container(offer.fence, 1).is_none());
    world.runtime.exit(offer.fence, 2, 0);
    assert_eq!(world.controller.completed().await.step, 2);
    world.finish().await;
}

#[tokio::test]
async fn a_start_is_asked_for_again_with_the_same_nonce() {
    let mut world = World::new().await;
    world.controller.plan(|state| {
        state.confirm.extend([Some(Err(Status::unavailable("restart"))), Some(Err(Status::internal("oops")))]);
    });
    let offer = offer(1, 1);
    world.offer(&offer).await;
    let nonces = [
        world.controller.confirmed().await.nonce,
        world.controller.confirmed().await.nonce,
        world.controller.confirmed().await.nonce,
    ];
    assert!(nonces[0].len() == 32 && nonces.iter().all(|nonce| *nonce == nonces[0]), "{nonces:?}");
    world.runtime.started(offer.fence, 0).await;
    assert_eq!(world.runtime.container(offer.fence, 0).unwrap().starts, 1);
    world.runtime.exit(offer.fence, 0, 0);
    world.controller.completed().await;
    world.finish().await;
}

#[tokio::test]
async fn a_fenced_start_starts_nothing() {
    let mut world = World::new().await;
    world
        .controller
        .plan(|state| state.confirm.push_back(Some(Err(Status::failed_precondition("FENCED: epoch 2 is current")))));
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.controller.confirmed().await;
    world.finish().await;
}

#[tokio::test]
async fn a_start_refused_because_of_a_cancel_is_reported_as_not_started() {
    let mut world = World::new().await;
    world.controller.plan(|state| state.confirm.push_back(Some(Ok(refusal(v1::refusal::Code::Canceled)))));
    world.offer(&offer(1, 1)).await;
    let Some(Outcome::NotStarted(not)) = world.controller.completed().await.outcome else { panic!("started") };
    assert!(not.reason.contains("canceled") && !not.agent_fault);
    world.finish().await;
}

#[tokio::test]
async fn an_image_that_is_missing_is_said_with_its_name() {
    let mut world = World::new().await;
    let mut offer = offer(1, 1);
    offer.steps[0].image = "missing:1".to_owned();
    world.offer(&offer).await;
    let Some(Outcome::NotStarted(not)) = world.controller.completed().await.outcome else { panic!("started") };
    assert!(not.reason.contains("missing:1") && !not.agent_fault, "{}", not.reason);
    world.finish().await;
}

#[tokio::test]
async fn a_package_is_verified_before_it_is_unpacked() {
    let mut world = World::new().await;
    let package: Vec<u8> = (0..5_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let sha256: String = sha2::Sha256::digest(&package).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut good = offer(1, 1);
    good.package = Some(PackageRef { sha256, bytes: package.len() as u64 });
    world.controller.plan(|state| state.package.clone_from(&package));
    world.offer(&good).await;
    world.runtime.started(good.fence, 0).await;
    assert!(*world.runtime.unpacked.lock().unwrap() == package);
    world.runtime.exit(good.fence, 0, 0);
    world.controller.completed().await;
    world.runtime.emptied().await;

    world.controller.plan(|state| state.package[77] ^= 1);
    let other = PackageRef { sha256: "0".repeat(64), bytes: package.len() as u64 };
    let bad = longshore_core::offer::Offer { package: Some(other), ..offer(2, 1) };
    offer_when_free(&mut world, &bad).await;
    let Some(Outcome::NotStarted(not)) = world.controller.completed().await.outcome else { panic!("started") };
    assert!(not.reason.contains("damaged") && not.agent_fault && !not.leaving, "{}", not.reason);
    world.finish().await;
}

#[tokio::test]
async fn a_package_is_fetched_once_also_over_a_restart() {
    let mut world = World::new().await;
    let package: Vec<u8> = (0..5_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let sha256: String = sha2::Sha256::digest(&package).iter().map(|byte| format!("{byte:02x}")).collect();
    world.controller.plan(|state| state.package.clone_from(&package));
    let cached = world.dir.path().join("packages").join(&sha256);
    for round in 1..=4 {
        let mut offer = offer(round, 1);
        offer.package = Some(PackageRef { sha256: sha256.clone(), bytes: package.len() as u64 });
        offer_when_free(&mut world, &offer).await;
        world.runtime.started(offer.fence, 0).await;
        assert!(std::mem::take(&mut *world.runtime.unpacked.lock().unwrap()) == package, "{round}");
        world.runtime.exit(offer.fence, 0, 0);
        world.controller.completed().await;
        world.runtime.emptied().await;
        match round {
            2 => {
                assert_eq!(world.controller.fetched(), 1);
                world.kill_agent().await;
                world.start_agent();
                world.controller.hello().await;
            }
            3 => {
                assert_eq!(world.controller.fetched(), 1);
                // What the disk has made of it is not used.
                std::fs::write(&cached, b"damaged").unwrap();
            }
            _ => {}
        }
    }
    assert_eq!((world.controller.fetched(), std::fs::read(cached).unwrap() == package), (2, true));
    world.finish().await;
}

/// The slot is free a moment after the last trace of the job before is gone.
async fn offer_when_free(world: &mut World, offer: &longshore_core::offer::Offer) {
    loop {
        world.controller.say(Down::Offer(offer.clone().into()));
        if world.controller.answered().await.accepted {
            return;
        }
    }
}

#[tokio::test]
async fn an_offer_is_declined_when_no_slot_is_free_and_when_draining() {
    let mut world = World::new().await;
    let (first, second) = (offer(1, 1), offer(2, 1));
    world.offer(&first).await;
    world.runtime.started(first.fence, 0).await;
    world.controller.say(Down::Offer(second.clone().into()));
    let answer = world.controller.answered().await;
    assert!(!answer.accepted && answer.reason.contains("slot"), "{answer:?}");
    // The same offer again is the answer that was lost.
    world.controller.say(Down::Offer(first.clone().into()));
    assert!(world.controller.answered().await.accepted);
    world.tell(Stop::Drain);
    world
        .controller
        .wait(|seen| {
            matches!(seen, crate::controller::Seen::Said(v1::session_request::Message::Draining(_))).then_some(())
        })
        .await;
    world.controller.say(Down::Offer(second.into()));
    let answer = world.controller.answered().await;
    assert!(!answer.accepted && answer.reason.contains("stop"), "{answer:?}");
    world.runtime.exit(first.fence, 0, 0);
    world.controller.completed().await;
    world.ended().await;
}
