//! The agent is killed and started anew; the containers do not notice.

use longshore_proto::v1;
use longshore_proto::v1::complete_request::Outcome;
use longshore_proto::v1::session_response::Message as Down;

use crate::controller::{Seen, refusal};
use crate::world::{World, offer};

#[tokio::test]
async fn a_running_step_is_followed_on_and_its_log_has_no_seam() {
    let mut world = World::new().await;
    let offer = offer(1, 1);
    let fence = offer.fence;
    world.offer(&offer).await;
    world.runtime.started(fence, 0).await;
    world.runtime.print(fence, 0, "before");
    world.runtime.event(fence, 0);
    let shipped = world.runtime.spool_bytes(fence, 0).len();
    while world.controller.log(fence, 0).len() < shipped {
        tokio::task::yield_now().await;
    }
    world.kill_agent().await;
    world.runtime.print(fence, 0, "while no agent lives");

    world.start_agent();
    let held = world.controller.hello().await.held;
    assert_eq!((held.len(), held[0].fence.clone(), held[0].started), (1, Some(fence.into()), true));
    // The stream of the first agent began at nothing, that of the second begins where the controller is.
    for from in [0, shipped as u64] {
        let durable =
            world.controller.wait(|seen| if let Seen::Log { durable } = seen { Some(*durable) } else { None }).await;
        assert_eq!(durable, from);
    }
    world.runtime.print(fence, 0, "after");
    world.runtime.event(fence, 0);
    world.runtime.exit(fence, 0, 3);
    let spool = world.runtime.spool_bytes(fence, 0);
    let starts = world.runtime.container(fence, 0).unwrap().starts;
    let Some(Outcome::Exited(exited)) = world.controller.completed().await.outcome else { panic!("not exited") };
    assert!(world.controller.log(fence, 0) == spool);
    let summary: longshore_core::engine_event::Summary = serde_json::from_slice(&exited.event_summary).unwrap();
    assert_eq!((starts, summary.events), (1, 2));
    world.finish().await;
}

#[tokio::test]
async fn a_step_that_ended_while_no_agent_lived_is_reported() {
    let mut world = World::new().await;
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.runtime.started(offer.fence, 0).await;
    world.kill_agent().await;
    world.runtime.print(offer.fence, 0, "alone");
    world.runtime.exit(offer.fence, 0, 0);
    let spool = world.runtime.spool_bytes(offer.fence, 0);
    world.start_agent();
    assert!(matches!(world.controller.completed().await.outcome, Some(Outcome::Exited(_))));
    assert!(world.controller.log(offer.fence, 0) == spool);
    world.finish().await;
}

#[tokio::test]
async fn a_start_that_may_have_been_granted_is_not_taken_for_granted() {
    let mut world = World::new().await;
    // The grant never arrives; the next process asks with a nonce of its own.
    world.controller.plan(|state| state.confirm.extend([None, Some(Ok(refusal(v1::refusal::Code::AlreadyStarted)))]));
    let offer = offer(1, 1);
    world.offer(&offer).await;
    let first = world.controller.confirmed().await;
    world.kill_agent().await;
    world.start_agent();
    let second = world.controller.confirmed().await;
    assert!(second.nonce != first.nonce && second.container_id == first.container_id);
    let Some(Outcome::Lost(lost)) = world.controller.completed().await.outcome else { panic!("not lost") };
    assert!(lost.reason.contains("nothing was started"), "{}", lost.reason);
    world.finish().await;
}

#[tokio::test]
async fn a_start_that_was_never_granted_goes_on() {
    let mut world = World::new().await;
    world.controller.plan(|state| state.confirm.push_back(None));
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.controller.confirmed().await;
    world.kill_agent().await;
    world.start_agent();
    world.runtime.started(offer.fence, 0).await;
    assert_eq!(world.runtime.container(offer.fence, 0).unwrap().starts, 1);
    world.runtime.exit(offer.fence, 0, 0);
    world.controller.completed().await;
    world.finish().await;
}

#[tokio::test]
async fn a_claim_without_a_container_is_prepared_anew() {
    let mut world = World::new().await;
    world.runtime.images.send_replace(false);
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.kill_agent().await;
    world.runtime.images.send_replace(true);
    world.start_agent();
    assert_eq!(world.controller.hello().await.held.len(), 1);
    world.runtime.started(offer.fence, 0).await;
    world.runtime.exit(offer.fence, 0, 0);
    world.controller.completed().await;
    world.finish().await;
}

#[tokio::test]
async fn a_cancel_is_one_interrupt_across_a_restart() {
    let mut world = World::new().await;
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.runtime.started(offer.fence, 0).await;
    world.controller.say(Down::Cancel(v1::Cancel { fence: Some(offer.fence.into()), grace_seconds: 600 }));
    let mark = world.dir.path().join(format!("attempts/{}/cancel.json", offer.fence.attempt));
    let noted = || std::fs::read_to_string(&mark).is_ok_and(|mark| mark.contains("\"signalled\":true"));
    while !noted() {
        tokio::task::yield_now().await;
    }
    world.kill_agent().await;
    // The controller asks again, as it does for each attempt that is being canceled.
    world.controller.plan(|state| state.cancel_held = Some(600));
    world.start_agent();
    world.controller.hello().await;
    for _both_agents in 0..2 {
        world.controller.wait(|seen| matches!(seen, Seen::Log { .. }).then_some(())).await;
    }
    world.runtime.exit(offer.fence, 0, 130);
    let interrupts = world.runtime.container(offer.fence, 0).map(|container| container.interrupts);
    let Some(Outcome::Exited(exited)) = world.controller.completed().await.outcome else { panic!("not exited") };
    assert!(exited.canceled && interrupts.is_none_or(|interrupts| interrupts == 1), "{interrupts:?}");
    world.finish().await;
}

#[tokio::test]
async fn an_attempt_that_the_controller_gave_up_is_stopped() {
    let mut world = World::new().await;
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.runtime.started(offer.fence, 0).await;
    world.kill_agent().await;
    world.controller.plan(|state| state.discard = true);
    world.start_agent();
    world.runtime.wait(|all| all.values().any(|container| container.interrupts == 1).then_some(())).await;
    world.runtime.die(offer.fence, 0);
    world.finish().await;
}

#[tokio::test]
async fn containers_without_a_ledger_are_gone_before_the_controller_is_reached() {
    let mut world = World::new().await;
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.runtime.started(offer.fence, 0).await;
    world.kill_agent().await;
    std::fs::remove_dir_all(world.dir.path().join("attempts")).unwrap();
    world.start_agent();
    world.runtime.wait(|all| all.values().any(|container| container.interrupts == 1).then_some(())).await;
    world.runtime.die(offer.fence, 0);
    assert!(world.controller.hello().await.held.is_empty());
    assert!(world.runtime.container(offer.fence, 0).is_none());
    world.finish().await;
}
