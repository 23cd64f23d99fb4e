//! Agents that are gone, and people who ask for an end.

use super::*;

/// Moves time until the lease of a silent agent has lapsed.
fn lapse(world: &World) {
    world.clock.advance(world.engine.settings().lease + Duration::from_secs(1));
}

#[tokio::test]
async fn gone_before_a_start_the_job_runs_elsewhere() {
    let mut world = World::new().await;
    let mut first = world.agent().await;
    let id = world.deploy().await;
    let old = first.offer().await;
    first.accept(&world.engine, old.fence).await;
    let mut second = world.agent().await;
    lapse(&world);
    second.hello(&world.engine, &[]).await;
    let new = second.offer().await;
    assert_eq!((new.deployment, new.fence.epoch), (id, 2));
    let late = first.confirm(&world.engine, old.fence, 0, "n").await;
    assert!(matches!(late, Err(plane::Error::Fenced(_))), "{late:?}");
    second.accept(&world.engine, new.fence).await;
    second.run(&world.engine, new.fence).await;
    assert_eq!(world.until(id, "succeeded").await.steps[0].attempts.len(), 1);
}

#[tokio::test]
async fn gone_after_a_start_it_is_unknown_until_the_agent_is_back() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, offer) = world.running(&mut sim).await;
    lapse(&world);
    let view = world.until(id, "unknown").await;
    assert!(view.reason.unwrap().contains("does not answer"));
    assert_eq!(view.steps[0].state, "unknown");
    assert_eq!(world.engine.locks().await.unwrap().len(), 1, "its lock stays held");
    world.clock.advance(Duration::from_secs(90 * 86_400));
    assert_eq!(world.view(id).await.state, "unknown", "no clock ends it");

    let verdicts = sim.hello(&world.engine, &[offer.fence]).await;
    assert_eq!(verdicts, [Verdict { attempt: offer.fence.attempt, keep: true, cancel: None }]);
    assert_eq!(world.view(id).await.state, "running");
    assert_eq!(sim.finish(&world.engine, offer.fence, 0, code(0)).await.unwrap(), Some(1));
    sim.grant(&world.engine, offer.fence, 1).await;
    sim.finish(&world.engine, offer.fence, 1, code(0)).await.unwrap();
    world.until(id, "succeeded").await;
}

#[tokio::test]
async fn a_report_counts_although_the_lease_has_lapsed() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, offer) = world.running(&mut sim).await;
    lapse(&world);
    world.until(id, "unknown").await;
    assert_eq!(sim.finish(&world.engine, offer.fence, 0, code(0)).await.unwrap(), Some(1));
    assert_eq!(world.view(id).await.state, "running");
}

#[tokio::test]
async fn an_agent_that_is_back_without_it_proves_that_it_is_lost() {
    for (boot, words) in [("boot-1", "no container"), ("boot-2", "booted anew")] {
        let mut world = World::new().await;
        let mut sim = world.agent().await;
        let (id, _) = world.running(&mut sim).await;
        lapse(&world);
        world.until(id, "unknown").await;
        boot.clone_into(&mut sim.boot);
        sim.hello(&world.engine, &[]).await;
        let view = world.view(id).await;
        assert_eq!(
            (view.state.as_str(), view.steps[0].state.as_str(), view.steps[1].state.as_str()),
            ("lost", "lost", "skipped")
        );
        assert!(view.reason.unwrap().contains(words));
        assert_eq!(world.engine.locks().await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_person_can_answer_for_an_unknown_one_and_for_no_other() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, offer) = world.running(&mut sim).await;
    assert!(matches!(
        world.engine.resolve(id, "it is off", "anna").await,
        Err(Error::Conflict { code: "not_unknown", .. })
    ));
    lapse(&world);
    world.until(id, "unknown").await;
    assert!(matches!(world.engine.resolve(id, " ", "anna").await, Err(Error::Invalid { .. })));
    world.engine.resolve(id, "the machine burnt down", "anna").await.unwrap();
    let view = world.view(id).await;
    assert_eq!(
        (view.state.as_str(), view.reason.as_deref()),
        ("lost", Some("declared lost by anna: the machine burnt down"))
    );
    let timeline = world.engine.timeline(id).await.unwrap();
    assert!(timeline.iter().any(|event| event.action == "deployment.resolved" && event.actor == "anna"));
    assert_eq!(
        sim.hello(&world.engine, &[offer.fence]).await,
        [Verdict { attempt: offer.fence.attempt, keep: false, cancel: None }]
    );
    assert_eq!(sim.lost(&world.engine, offer.fence, 0, "late").await.unwrap(), None, "a late report changes nothing");
    assert_eq!(world.view(id).await.state, "lost");
}

#[tokio::test]
async fn many_silent_at_once_are_our_own_fault() {
    let world = World::new().await;
    let mut sims = Vec::new();
    let mut ids = Vec::new();
    for n in 0..6 {
        let spec = TWO_STEPS
            .replace("project: shop", &format!("project: shop-{n}"))
            .replace("env: {KEY: '${{ secrets.key }}', REGION: '${{ vars.region }}'}, ", "");
        world.engine.apply_project(spec.as_bytes(), "anna").await.unwrap();
        let mut sim = world.agent().await;
        sim.slots = 1;
        sim.hello(&world.engine, &[]).await;
        let (project, environment, operation_id) = (format!("shop-{n}"), "dev".to_owned(), format!("mass-{n}"));
        let id = world
            .engine
            .create_deployment(NewDeployment { project, environment, operation_id, ..NewDeployment::default() }, "anna")
            .await
            .unwrap();
        let offer = sim.offer().await;
        sim.accept(&world.engine, offer.fence).await;
        sim.grant(&world.engine, offer.fence, 0).await;
        ids.push(id);
        sims.push(sim);
    }
    world.clock.advance(Duration::from_secs(20));
    for sim in &sims[..5] {
        sim.say(&world.engine, Said::Heartbeat { facts: None, engine: true, free: 2, disk: plane::Disk::default() })
            .await
            .unwrap();
    }
    world.clock.advance(Duration::from_secs(20));
    world.until(ids[5], "unknown").await;
    lapse(&world);
    // The timers have looked at it when they sleep again; a change that they wait for comes after.
    let _next = world.engine.tick().await.unwrap();
    for id in &ids[..5] {
        assert_eq!(world.view(*id).await.state, "running", "five of five at once");
    }
}

#[tokio::test]
async fn a_cancel_ends_what_has_not_started_at_once() {
    let mut world = World::new().await;
    let queued = world.deploy().await;
    world.engine.cancel(queued, "anna").await.unwrap();
    assert_eq!(world.view(queued).await.state, "canceled");
    assert!(matches!(world.engine.cancel(queued, "anna").await, Err(Error::Conflict { code: "ended", .. })));

    let mut sim = world.agent().await;
    let offered = world.deploy().await;
    let offer = sim.offer().await;
    world.engine.cancel(offered, "anna").await.unwrap();
    assert_eq!(world.view(offered).await.state, "canceled");
    assert!(matches!(sim.told().await, ToAgent::Revoke { fence, .. } if fence == offer.fence));

    let preparing = world.deploy().await;
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    world.engine.cancel(preparing, "anna").await.unwrap();
    assert_eq!(world.view(preparing).await.state, "canceled");
    assert_eq!(sim.confirm(&world.engine, offer.fence, 0, "n").await.unwrap(), Confirmed::Canceled);
}

#[tokio::test]
async fn a_cancel_of_a_running_step_is_told_once_and_ends_with_its_report() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, offer) = world.running(&mut sim).await;
    world.engine.cancel(id, "anna").await.unwrap();
    world.engine.cancel(id, "anna").await.unwrap();
    let view = world.view(id).await;
    assert_eq!((view.state.as_str(), view.steps[0].state.as_str()), ("canceling", "canceling"));
    assert!(matches!(sim.told().await, ToAgent::Cancel { fence, grace_seconds: 600 } if fence == offer.fence));
    let (bytes, record) = spool(&[(Stream::Stdout, b"bye")], ExitRecord { interrupted: true, ..code(9) });
    sim.ship(&world.engine, offer.fence, 0, &bytes).await.unwrap();
    assert_eq!(sim.report(&world.engine, offer.fence, 0, record, bytes.len() as u64, true).await.unwrap(), None);
    let view = world.view(id).await;
    assert_eq!(
        (view.state.as_str(), view.steps[0].exit_code, view.steps[1].state.as_str()),
        ("canceled", Some(9), "skipped")
    );
}

#[tokio::test]
async fn a_cancel_between_two_steps_starts_nothing_more() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, offer) = world.running(&mut sim).await;
    assert_eq!(sim.finish(&world.engine, offer.fence, 0, code(0)).await.unwrap(), Some(1));
    world.engine.cancel(id, "anna").await.unwrap();
    assert_eq!(world.view(id).await.state, "canceled");
    assert_eq!(sim.confirm(&world.engine, offer.fence, 1, "n1").await.unwrap(), Confirmed::Canceled);
}

#[tokio::test]
async fn a_cancel_while_the_agent_is_away_waits_for_it() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, offer) = world.running(&mut sim).await;
    lapse(&world);
    world.until(id, "unknown").await;
    world.engine.cancel(id, "anna").await.unwrap();
    assert_eq!(world.view(id).await.state, "unknown");
    let verdicts = sim.hello(&world.engine, &[offer.fence]).await;
    assert_eq!(verdicts[0].cancel, Some((offer.fence, 600)));
    assert_eq!(world.view(id).await.state, "canceling");
}

#[tokio::test]
async fn an_offer_that_is_not_answered_is_made_elsewhere() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let id = world.deploy().await;
    let offer = sim.offer().await;
    world.clock.advance(Duration::from_secs(16));
    assert!(matches!(sim.told().await, ToAgent::Revoke { fence, .. } if fence == offer.fence));
    let again = sim.offer().await;
    assert_eq!((again.deployment, again.fence.epoch), (id, 2));
}
