//! Agents whose machines are to go, and agents that people want to have no more jobs.

use super::*;
use crate::engine::view::DrainingView;

async fn drain_of(world: &World, sim: &Sim) -> Option<DrainingView> {
    let agents = world.engine.agents().await.unwrap();
    agents.into_iter().find(|agent| agent.id == sim.id.to_string()).unwrap().draining
}

/// What `explain` says of the agent.
async fn rejected(world: &World, id: DeploymentId, sim: &Sim) -> Vec<String> {
    let explained = world.engine.explain(id).await.unwrap();
    let agents = explained.agents.into_iter().filter(|agent| agent.agent == sim.id.to_string());
    agents.flat_map(|agent| agent.rejected_by).map(|rejection| rejection.message).collect()
}

#[tokio::test]
async fn a_notice_is_shown_with_its_end_and_nothing_more_is_offered() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (first, offer) = world.running(&mut sim).await;
    let since = world.clock.now();
    sim.say(&world.engine, Said::Draining(draining("spot notice"))).await.unwrap();
    world.clock.advance(Duration::from_secs(5));
    let view = drain_of(&world, &sim).await.unwrap();
    assert_eq!((view.reason.as_str(), view.by, view.jobs), ("spot notice", None, 1));
    assert_eq!(view.since, Some(since.to_string()));
    assert_eq!(view.deadline.as_deref(), Some("2033-05-18T03:33:20.000Z"));
    assert_eq!(world.engine.agents().await.unwrap()[0].state, "draining");
    let second = world.deploy_to("live").await;
    let said = rejected(&world, second, &sim).await;
    assert!(said.contains(&"is draining and takes no more jobs: spot notice".to_owned()), "{said:?}");
    // It is the same drain for a new stream, and the job goes on to its end.
    sim.draining = Some(draining("spot notice"));
    sim.hello(&world.engine, &[offer.fence]).await;
    assert_eq!(drain_of(&world, &sim).await.unwrap().since, Some(since.to_string()));
    assert_eq!(sim.finish(&world.engine, offer.fence, 0, code(0)).await.unwrap(), Some(1));
    sim.confirm(&world.engine, offer.fence, 1, "n1").await.unwrap();
    sim.finish(&world.engine, offer.fence, 1, code(0)).await.unwrap();
    world.until(first, "succeeded").await;
    assert_eq!(world.view(second).await.state, "queued");
    // The cloud takes it back.
    sim.draining = None;
    sim.hello(&world.engine, &[]).await;
    assert_eq!(drain_of(&world, &sim).await, None);
    assert_eq!(sim.offer().await.deployment, second);
}

#[tokio::test]
async fn a_cancel_by_the_agent_says_why_in_step_and_timeline() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, offer) = world.running(&mut sim).await;
    let cause = "spot notice: terminate at 2026-11-28T21:02:00.000Z".to_owned();
    for _ in 0..2 {
        let (fence, cause) = (offer.fence, cause.clone());
        sim.say(&world.engine, Said::Canceling { fence, cause }).await.unwrap();
    }
    let (bytes, record) = spool(&[], ExitRecord { interrupted: true, ..code(130) });
    sim.ship(&world.engine, offer.fence, 0, &bytes).await.unwrap();
    assert_eq!(sim.report(&world.engine, offer.fence, 0, record, bytes.len() as u64, true).await.unwrap(), None);
    let view = world.until(id, "canceled").await;
    assert_eq!(standing(&view), "one:canceled two:skipped");
    assert_eq!(
        view.steps[0].reason.as_deref(),
        Some(format!("canceled by its agent ({cause}); it was interrupted once and ended by itself").as_str())
    );
    let events = world.engine.timeline(id).await.unwrap();
    let told: Vec<_> = events.iter().filter(|event| event.action == "attempt.canceling").collect();
    assert_eq!((told.len(), &told[0].detail["cause"]), (1, &json!(cause)));
    assert_eq!(world.engine.locks().await.unwrap(), []);
}

#[tokio::test]
async fn a_word_that_was_lost_on_the_way_is_made_up_for_by_the_reason_of_the_drain() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, offer) = world.running(&mut sim).await;
    sim.say(&world.engine, Said::Draining(draining("spot notice"))).await.unwrap();
    let (bytes, record) = spool(&[], ExitRecord { interrupted: true, killed: true, ..code(137) });
    sim.ship(&world.engine, offer.fence, 0, &bytes).await.unwrap();
    sim.report(&world.engine, offer.fence, 0, record, bytes.len() as u64, true).await.unwrap();
    let reason = world.until(id, "canceled").await.steps[0].reason.clone().unwrap();
    assert!(reason.starts_with("canceled by its agent (spot notice); it did not end"), "{reason}");
}

#[tokio::test]
async fn a_person_was_first_and_has_the_cause() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, offer) = world.running(&mut sim).await;
    world.engine.cancel(id, "anna").await.unwrap();
    let (fence, cause) = (offer.fence, "spot notice".to_owned());
    sim.say(&world.engine, Said::Canceling { fence, cause }).await.unwrap();
    let (bytes, record) = spool(&[], ExitRecord { interrupted: true, ..code(130) });
    sim.ship(&world.engine, offer.fence, 0, &bytes).await.unwrap();
    sim.report(&world.engine, offer.fence, 0, record, bytes.len() as u64, true).await.unwrap();
    let reason = world.until(id, "canceled").await.steps[0].reason.clone().unwrap();
    assert!(reason.starts_with("canceled; "), "{reason}");
}

#[tokio::test]
async fn between_two_steps_it_is_over_at_once() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, offer) = world.running(&mut sim).await;
    assert_eq!(sim.finish(&world.engine, offer.fence, 0, code(0)).await.unwrap(), Some(1));
    let (fence, cause) = (offer.fence, "spot notice".to_owned());
    sim.say(&world.engine, Said::Canceling { fence, cause }).await.unwrap();
    assert_eq!(standing(&world.until(id, "canceled").await), "one:succeeded two:skipped");
    assert_eq!(sim.confirm(&world.engine, offer.fence, 1, "n1").await.unwrap(), Confirmed::Canceled);
}

#[tokio::test]
async fn nobody_cancels_for_another_agent() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, offer) = world.running(&mut sim).await;
    let other = world.agent().await;
    let (fence, cause) = (offer.fence, "mine".to_owned());
    other.say(&world.engine, Said::Canceling { fence, cause: cause.clone() }).await.unwrap();
    let stale = Fence { epoch: fence.epoch + 1, ..fence };
    sim.say(&world.engine, Said::Canceling { fence: stale, cause }).await.unwrap();
    let events = world.engine.timeline(id).await.unwrap();
    assert!(events.iter().all(|event| event.action != "attempt.canceling"), "{events:?}");
}

#[tokio::test]
async fn a_person_drains_an_agent_over_restarts_and_takes_it_back() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    world.engine.drain_agent(sim.id, "new kernel".to_owned(), "anna").await.unwrap();
    let drain = |reason: &str| ToAgent::Drain { reason: reason.to_owned() };
    assert_eq!(sim.told().await, drain("anna wants it (new kernel)"));
    let id = world.deploy().await;
    let said = rejected(&world, id, &sim).await;
    assert_eq!(said, ["is draining and takes no more jobs: anna wants it (new kernel)"]);
    world.restart().await;
    assert_eq!(world.engine.agents().await.unwrap()[0].state, "disconnected");
    sim.hello(&world.engine, &[]).await;
    assert_eq!(sim.told().await, drain("anna wants it (new kernel)"));
    let view = drain_of(&world, &sim).await.unwrap();
    assert_eq!((view.reason.as_str(), view.by.as_deref(), view.jobs), ("new kernel", Some("anna"), 0));
    assert_eq!(world.view(id).await.state, "queued");
    world.engine.undrain_agent(sim.id, "anna").await.unwrap();
    assert_eq!(sim.told().await, drain(""));
    assert_eq!(sim.offer().await.deployment, id);
    world.engine.revoke_agent(sim.id, "anna").await.unwrap();
    assert!(world.engine.drain_agent(sim.id, "x".to_owned(), "anna").await.is_err());
    assert!(world.engine.drain_agent(world.clock.agent_id(), "x".to_owned(), "anna").await.is_err());
}

#[tokio::test]
async fn what_an_agent_gives_back_counts_neither_against_the_job_nor_against_it() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let id = world.deploy().await;
    for epoch in 1..=12 {
        let offer = sim.offer().await;
        assert_eq!((offer.deployment, offer.fence.epoch), (id, epoch));
        sim.give_back(&world.engine, offer.fence).await.unwrap();
        assert!(matches!(sim.told().await, ToAgent::Revoke { .. }));
        let said = rejected(&world, id, &sim).await;
        assert!(
            said.iter().any(|words| words.contains("declined the last offer (this agent has to leave)")),
            "{said:?}"
        );
        sim.heartbeat(&world.engine).await;
    }
    let agent = world.engine.agents().await.unwrap().remove(0);
    assert_eq!((agent.state.as_str(), agent.quarantined), ("connected", None));
    let events = world.engine.timeline(id).await.unwrap();
    let told: Vec<_> = events.iter().filter(|event| event.action == "step.not_started").collect();
    assert_eq!(
        (told.len(), &told[0].detail["leaving"], &told[0].detail["agent_fault"]),
        (12, &json!(true), &json!(false))
    );
    let queued = events.iter().find(|event| event.action == "attempt.ended").unwrap().detail.to_string();
    assert!(queued.contains("gave it back: step `one`: this agent has to leave"), "{queued}");
    // One that does not say so counts as ever.
    for _ in 0..3 {
        let offer = sim.offer().await;
        sim.accept(&world.engine, offer.fence).await;
        sim.not_started(&world.engine, offer.fence, 0, true).await.unwrap();
        assert!(matches!(sim.told().await, ToAgent::Revoke { .. }));
        sim.heartbeat(&world.engine).await;
    }
    assert_eq!(world.engine.agents().await.unwrap()[0].state, "quarantined");
    let mut other = world.agent().await;
    let offer = other.offer().await;
    assert_eq!(offer.fence.epoch, 16);
    other.work(&world.engine, &offer, &[]).await;
    world.until(id, "succeeded").await;
}
