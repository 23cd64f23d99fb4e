//! How a step ends, and how an agent does.

use longshore_agent::supervisor::Stop;
use longshore_proto::v1;
use longshore_proto::v1::complete_request::Outcome;
use longshore_proto::v1::session_response::Message as Down;
use tonic::Status;

use crate::controller::Seen;
use crate::world::{World, offer};

#[tokio::test]
async fn the_end_is_reported_until_it_is_answered() {
    let mut world = World::new().await;
    world
        .controller
        .plan(|state| state.complete.extend([Err(Status::unavailable("restart")), Err(Status::aborted("busy"))]));
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.runtime.started(offer.fence, 0).await;
    world.runtime.exit(offer.fence, 0, 0);
    let reports =
        [world.controller.completed().await, world.controller.completed().await, world.controller.completed().await];
    assert!(reports.iter().all(|report| *report == reports[0]));
    world.finish().await;
}

#[tokio::test]
async fn a_container_that_vanishes_is_lost_and_its_log_arrives() {
    let mut world = World::new().await;
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.runtime.started(offer.fence, 0).await;
    world.runtime.print(offer.fence, 0, "begun");
    let spool = world.runtime.spool_bytes(offer.fence, 0);
    world.runtime.die(offer.fence, 0);
    let Some(Outcome::Lost(lost)) = world.controller.completed().await.outcome else { panic!("not lost") };
    assert!(lost.reason.contains("killed"), "{}", lost.reason);
    assert_eq!(lost.spool_bytes, spool.len() as u64);
    assert!(world.controller.log(offer.fence, 0) == spool);
    world.finish().await;
}

#[tokio::test]
async fn a_log_stream_that_breaks_goes_on_where_it_was() {
    let mut world = World::new().await;
    world.controller.plan(|state| state.cut_log_after = Some(100_000));
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.runtime.started(offer.fence, 0).await;
    for line in 0..300 {
        world.runtime.print(offer.fence, 0, &format!("{line:01000}"));
    }
    world.runtime.exit(offer.fence, 0, 0);
    let spool = world.runtime.spool_bytes(offer.fence, 0);
    let resumed = world
        .controller
        .wait(
            |seen| if let Seen::Log { durable } = seen { Some(*durable).filter(|durable| *durable > 0) } else { None },
        )
        .await;
    assert!(resumed >= 100_000);
    world.controller.completed().await;
    assert!(world.controller.log(offer.fence, 0) == spool);
    world.finish().await;
}

#[tokio::test]
async fn a_revoked_attempt_is_stopped_and_forgotten() {
    let mut world = World::new().await;
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.runtime.started(offer.fence, 0).await;
    world.controller.say(Down::Revoke(v1::Revoke { fence: Some(offer.fence.into()), reason: "overridden".to_owned() }));
    world.runtime.wait(|all| all.values().any(|container| container.interrupts == 1).then_some(())).await;
    world.runtime.die(offer.fence, 0);
    world.finish().await;
}

#[tokio::test]
async fn a_fence_while_the_end_is_reported_ends_the_attempt_here() {
    let mut world = World::new().await;
    world.controller.plan(|state| state.complete.push_back(Err(Status::failed_precondition("FENCED: superseded"))));
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.runtime.started(offer.fence, 0).await;
    world.runtime.exit(offer.fence, 0, 0);
    world.controller.completed().await;
    world.finish().await;
}

#[tokio::test]
async fn a_cancel_is_one_interrupt_and_a_deadline() {
    let mut world = World::new().await;
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.runtime.started(offer.fence, 0).await;
    let before = longshore_agent::clock::boot_micros();
    for _ in 0..3 {
        world.controller.say(Down::Cancel(v1::Cancel { fence: Some(offer.fence.into()), grace_seconds: 3 }));
    }
    let bounded = |hard: u64| hard >= before + 3_000_000 && hard <= longshore_agent::clock::boot_micros() + 3_000_000;
    world
        .runtime
        .wait(|all| {
            all.values().any(|container| container.interrupts > 0 && bounded(container.deadlines.hard)).then_some(())
        })
        .await;
    world.runtime.exit(offer.fence, 0, 130);
    let Some(Outcome::Exited(exited)) = world.controller.completed().await.outcome else { panic!("not exited") };
    assert!(exited.canceled);
    world.finish().await;
}

#[tokio::test]
async fn a_cancel_before_the_start_starts_nothing() {
    let mut world = World::new().await;
    world.runtime.images.send_replace(false);
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.controller.say(Down::Cancel(v1::Cancel { fence: Some(offer.fence.into()), grace_seconds: 3 }));
    let Some(Outcome::NotStarted(not)) = world.controller.completed().await.outcome else { panic!("started") };
    assert!(not.reason.contains("canceled"), "{}", not.reason);
    world.finish().await;
}

#[tokio::test]
async fn the_time_without_a_controller_bounds_a_running_step() {
    let mut world = World::new().await;
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.runtime.started(offer.fence, 0).await;
    let deadlines = world.runtime.container(offer.fence, 0).unwrap().deadlines;
    // 60 s without contact, not the step's 600 s; then the grace of 5 s.
    let now = longshore_agent::clock::boot_micros();
    assert!(deadlines.soft > now && deadlines.soft <= now + 60_000_000, "{deadlines:?}");
    assert_eq!(deadlines.hard, deadlines.soft + 5_000_000);
    world.runtime.exit(offer.fence, 0, 0);
    world.controller.completed().await;
    world.finish().await;
}

#[tokio::test]
async fn an_agent_told_twice_ends_at_once_and_the_container_runs_on() {
    let mut world = World::new().await;
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.runtime.started(offer.fence, 0).await;
    world.tell(Stop::Drain);
    world.tell(Stop::Now);
    world.ended().await;
    let container = world.runtime.container(offer.fence, 0).unwrap();
    assert_eq!((container.interrupts, container.starts), (0, 1));
}
