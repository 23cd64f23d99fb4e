//! A machine that is to go: what its agent does, against fakes of what clouds say.

use std::time::Duration;

use longshore_agent::config::{Cloud, Provider};
use longshore_agent::supervisor::Stop;
use longshore_cloud_fakes::{Aws, AwsMachine, Azure, AzureEvent, Fake, Gcp};
use longshore_core::time::Timestamp;
use longshore_proto::v1;
use longshore_proto::v1::complete_request::Outcome;
use longshore_proto::v1::session_request::Message as Up;
use longshore_proto::v1::session_response::Message as Down;
use tonic::Status;

use crate::controller::Seen;
use crate::world::{World, offer};

fn cloud(provider: Provider, endpoint: &str) -> Cloud {
    let place = Some(endpoint.parse().unwrap());
    Cloud {
        provider,
        lifecycle_hook: (provider == Provider::Aws).then(|| "drain".to_owned()),
        scale_in_protection: provider == Provider::Aws,
        poll_interval: Duration::from_millis(50),
        metadata_endpoint: place.clone(),
        api_endpoint: place,
        ..Cloud::default()
    }
}

/// A world on an instance in a group.
async fn aws() -> (World, Aws) {
    let fake = Aws::instance("i-0123456789abcdef0");
    (World::in_cloud(cloud(Provider::Aws, &fake.endpoint())).await, fake)
}

/// Waits for something of a fake, while the agent goes on.
async fn until<S: Send + 'static>(fake: &Fake<S>, mut is: impl FnMut(&mut S) -> bool) {
    let look = async {
        while !fake.with(&mut is) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), look).await.unwrap();
}

fn seconds_from_now(seconds: u64) -> Timestamp {
    longshore_agent::clock::now().after(Duration::from_secs(seconds))
}

async fn draining(world: &mut World) -> v1::Draining {
    world
        .controller
        .wait(|seen| if let Seen::Said(Up::Draining(draining)) = seen { Some(draining.clone()) } else { None })
        .await
}

async fn declined(world: &mut World, fill: u8) -> String {
    world.controller.say(Down::Offer(offer(fill, 1).into()));
    let answer = world.controller.answered().await;
    assert!(!answer.accepted);
    answer.reason
}

fn spot(seconds: u64) -> impl FnOnce(&mut AwsMachine) {
    let at = seconds_from_now(seconds).to_string();
    move |machine| machine.spot = Some(("terminate", at))
}

#[tokio::test]
async fn a_long_notice_claims_nothing_more_and_lets_the_job_finish() {
    let (mut world, fake) = aws().await;
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.runtime.started(offer.fence, 0).await;
    fake.with(spot(3_600));
    let said = draining(&mut world).await;
    assert!(said.reason.starts_with("spot notice: terminate at ") && said.until_us > 0, "{said:?}");
    assert!(declined(&mut world, 2).await.contains("spot notice"));
    // A new stream says the same.
    world.controller.drop_session(Status::unavailable("restart"));
    let hello = world.controller.hello().await;
    assert_eq!((hello.draining, &hello.draining_reason, hello.draining_until_us), (true, &said.reason, said.until_us));
    world.runtime.exit(offer.fence, 0, 0);
    let Some(Outcome::Exited(exited)) = world.controller.completed().await.outcome else { panic!("not exited") };
    assert!(!exited.canceled);
    world.finish().await;
}

#[tokio::test]
async fn a_short_notice_interrupts_once_and_leaves_time_for_the_log() {
    let (mut world, fake) = aws().await;
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.runtime.started(offer.fence, 0).await;
    let before = longshore_agent::clock::boot_micros();
    fake.with(spot(30));
    let bounded = |hard: u64| hard > before && hard <= before + 21_000_000;
    world
        .runtime
        .wait(|all| all.values().any(|one| one.interrupts == 1 && bounded(one.deadlines.hard)).then_some(()))
        .await;
    let canceling = world
        .controller
        .wait(|seen| if let Seen::Said(Up::Canceling(canceling)) = seen { Some(canceling.clone()) } else { None })
        .await;
    assert_eq!(canceling.fence, Some(offer.fence.into()));
    assert!(canceling.reason.starts_with("spot notice: terminate at "), "{canceling:?}");
    world.runtime.print(offer.fence, 0, "state saved");
    world.runtime.exit(offer.fence, 0, 130);
    let spool = world.runtime.spool_bytes(offer.fence, 0);
    let Some(Outcome::Exited(exited)) = world.controller.completed().await.outcome else { panic!("not exited") };
    assert!(exited.canceled);
    assert!(world.controller.log(offer.fence, 0) == spool, "the last byte as well");
    assert_eq!(world.runtime.container(offer.fence, 0).map_or(1, |one| one.interrupts), 1);
    world.finish().await;
}

#[tokio::test]
async fn what_was_not_started_is_given_back() {
    let (mut world, fake) = aws().await;
    world.runtime.images.send_replace(false);
    let offer = offer(1, 1);
    world.offer(&offer).await;
    fake.with(spot(3_600));
    let Some(Outcome::NotStarted(not)) = world.controller.completed().await.outcome else { panic!("started") };
    assert!(not.agent_fault && not.leaving && not.reason.contains("has to leave: spot notice"), "{}", not.reason);
    world.finish().await;
}

#[tokio::test]
async fn the_hook_is_kept_alive_while_there_is_a_job_and_completed_after_its_last_trace() {
    let (mut world, fake) = aws().await;
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.runtime.started(offer.fence, 0).await;
    until(&fake, |machine| machine.protected).await;
    fake.with(|machine| machine.target = Some("Terminated"));
    let said = draining(&mut world).await;
    assert_eq!(said.reason, "the scaling group terminates this instance");
    until(&fake, |machine| machine.heartbeats > 0).await;
    assert!(!fake.with(|machine| machine.completed));
    // Not even the end of the job is the end: its report is not answered yet.
    world.controller.plan(|state| state.complete.push_back(Err(Status::unavailable("restart"))));
    world.runtime.exit(offer.fence, 0, 0);
    world.controller.completed().await;
    world.controller.completed().await;
    until(&fake, |machine| machine.completed).await;
    assert_eq!(world.runtime.container(offer.fence, 0).map(|one| one.starts), None);
    world.finish().await;
}

#[tokio::test]
async fn advice_drains_until_it_is_taken_back() {
    let (mut world, fake) = aws().await;
    fake.with(|machine| machine.rebalance = Some("2026-11-28T21:00:00Z".to_owned()));
    let said = draining(&mut world).await;
    assert_eq!((said.reason.as_str(), said.until_us), ("rebalance recommendation", 0));
    fake.with(|machine| machine.rebalance = None);
    assert!(!world.controller.hello().await.draining, "jobs are taken again");
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.runtime.started(offer.fence, 0).await;
    world.runtime.exit(offer.fence, 0, 0);
    world.controller.completed().await;
    world.finish().await;
}

#[tokio::test]
async fn metadata_that_is_none_stops_nothing() {
    let (mut world, fake) = aws().await;
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.runtime.started(offer.fence, 0).await;
    for garbage in ["<html>portal</html>", "{\"action\":\"terminate\",\"time\":\"now\"}", "Terminated"] {
        fake.with(|machine| machine.garbage = Some(garbage.to_owned()));
        let asked = fake.asked().len();
        until(&fake, |_| true).await;
        while fake.asked().len() < asked + 4 {
            tokio::task::yield_now().await;
        }
    }
    drop(fake);
    world.runtime.exit(offer.fence, 0, 0);
    let Some(Outcome::Exited(exited)) = world.controller.completed().await.outcome else { panic!("not exited") };
    assert!(!exited.canceled);
    world.finish().await;
}

#[tokio::test]
async fn preemption_of_another_cloud_cancels_as_well() {
    let fake = Gcp::instance();
    let mut world = World::in_cloud(cloud(Provider::Gcp, &fake.endpoint())).await;
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.runtime.started(offer.fence, 0).await;
    fake.with(|machine| machine.preempted = true);
    world.runtime.wait(|all| all.values().any(|one| one.interrupts == 1).then_some(())).await;
    assert_eq!(draining(&mut world).await.reason, "spot notice: the instance is preempted");
    world.runtime.exit(offer.fence, 0, 130);
    world.controller.completed().await;
    world.finish().await;
}

#[tokio::test]
async fn an_event_of_this_machine_is_acknowledged_when_it_is_idle_and_others_are_none_of_its_business() {
    let fake = Azure::machine();
    let mut world = World::in_cloud(cloud(Provider::Azure, &fake.endpoint())).await;
    let event = |kind, machine| AzureEvent { kind, machine, not_before: "Wed, 28 Nov 2096 21:00:30 GMT".to_owned() };
    fake.with(|machine| machine.events = vec![event("Terminate", "workers_2")]);
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.runtime.started(offer.fence, 0).await;
    fake.with(|machine| machine.events.push(event("Reboot", "workers_1")));
    let said = draining(&mut world).await;
    assert_eq!(said.reason, "scheduled event: reboot");
    assert!(fake.with(|machine| machine.acknowledged.is_empty()));
    world.runtime.exit(offer.fence, 0, 0);
    world.controller.completed().await;
    until(&fake, |machine| machine.acknowledged == ["602d9444-d2cd-49c7-8624-8643e7171001"]).await;
    world.finish().await;
}

#[tokio::test]
async fn an_agent_told_twice_to_stop_cancels_by_the_protocol_and_reports() {
    let mut world = World::new().await;
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.runtime.started(offer.fence, 0).await;
    world.tell(Stop::Drain);
    assert!(!draining(&mut world).await.reason.is_empty());
    assert_eq!(world.runtime.container(offer.fence, 0).unwrap().interrupts, 0);
    world.tell(Stop::Cancel);
    world.runtime.wait(|all| all.values().any(|one| one.interrupts == 1).then_some(())).await;
    world.runtime.exit(offer.fence, 0, 130);
    let Some(Outcome::Exited(exited)) = world.controller.completed().await.outcome else { panic!("not exited") };
    assert!(exited.canceled);
    world.ended().await;
}
