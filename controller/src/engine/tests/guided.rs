//! A step that failed in a guided deployment waits for a person.

use longshore_core::step::Choice;

use super::*;

async fn guided(world: &World) -> DeploymentId {
    let new = NewDeployment {
        project: "shop".to_owned(),
        environment: "dev".to_owned(),
        operation_id: "guided".to_owned(),
        guided: true,
        ..NewDeployment::default()
    };
    world.engine.create_deployment(new, "anna").await.unwrap()
}

/// Its first step has failed with exit code 7.
async fn failed(world: &World, sim: &mut Sim) -> DeploymentId {
    let id = guided(world).await;
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    sim.grant(&world.engine, offer.fence, 0).await;
    assert_eq!(sim.finish(&world.engine, offer.fence, 0, code(7)).await.unwrap(), None, "its job is over");
    id
}

fn states(view: &DeploymentView) -> Vec<&str> {
    view.steps.iter().map(|step| step.state.as_str()).collect()
}

#[tokio::test]
async fn a_failed_step_waits_and_holds_no_slot() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let id = failed(&world, &mut sim).await;
    let view = world.until(id, "waiting").await;
    assert_eq!((states(&view), view.steps[0].exit_code), (vec!["waiting", "queued"], Some(7)));
    assert!(view.steps[0].reason.as_ref().unwrap().starts_with("failed: exit code 7"), "{view:?}");
    assert!(view.waiting_for.unwrap().contains(&format!("longshore deployment guide {id} --step one")));
    assert_eq!(view.steps[0].attempts[0].state, "failed");
    assert_eq!(world.engine.agents().await.unwrap()[0].busy, 0);
    world.restart().await;
    assert_eq!(world.view(id).await.state, "waiting");
}

#[tokio::test]
async fn a_retry_is_a_new_job_that_begins_with_the_step() {
    let world = World::new().await;
    let mut sim = world.agent().await;
    let id = failed(&world, &mut sim).await;
    for round in 0..2 {
        world.engine.guide(id, "one", Choice::Retry, "the network is back", "bob").await.unwrap();
        let offer = sim.offer().await;
        assert_eq!(offer.steps.iter().map(|step| step.index).collect::<Vec<_>>(), [0, 1]);
        sim.accept(&world.engine, offer.fence).await;
        sim.grant(&world.engine, offer.fence, 0).await;
        if round == 0 {
            sim.finish(&world.engine, offer.fence, 0, code(8)).await.unwrap();
            assert_eq!(world.until(id, "waiting").await.steps[0].exit_code, Some(8), "asked again");
        } else {
            assert_eq!(sim.finish(&world.engine, offer.fence, 0, code(0)).await.unwrap(), Some(1));
            sim.grant(&world.engine, offer.fence, 1).await;
            sim.finish(&world.engine, offer.fence, 1, code(0)).await.unwrap();
        }
    }
    let view = world.until(id, "succeeded").await;
    assert_eq!((states(&view), view.steps[0].attempts.len()), (vec!["succeeded"; 2], 3));
    assert_eq!(view.reason, None);
}

#[tokio::test]
async fn what_is_ignored_counts_as_succeeded_and_says_so() {
    let world = World::new().await;
    let mut sim = world.agent().await;
    let id = failed(&world, &mut sim).await;
    world.engine.guide(id, "one", Choice::Ignore, "known", "bob").await.unwrap();
    let offer = sim.offer().await;
    assert_eq!(offer.steps[0].index, 1);
    sim.accept(&world.engine, offer.fence).await;
    sim.grant(&world.engine, offer.fence, 1).await;
    sim.finish(&world.engine, offer.fence, 1, code(0)).await.unwrap();
    let view = world.until(id, "succeeded").await;
    assert_eq!(view.steps[0].exit_code, Some(7));
    assert!(view.steps[0].reason.as_ref().unwrap().starts_with("failed, ignored by bob: known"), "{view:?}");
    let timeline = world.engine.timeline(id).await.unwrap();
    assert!(timeline.iter().any(|event| event.action == "step.guided" && event.actor == "bob"));
}

#[tokio::test]
async fn what_may_fail_goes_on_as_a_failure_and_nobody_is_asked_twice() {
    let world = World::new().await;
    let mut sim = world.agent().await;
    let id = failed(&world, &mut sim).await;
    assert!(matches!(world.engine.guide(id, "one", Choice::Fail, " ", "bob").await, Err(Error::Invalid { .. })));
    assert!(matches!(world.engine.guide(id, "no", Choice::Fail, "x", "bob").await, Err(Error::NotFound { .. })));
    let early = world.engine.guide(id, "two", Choice::Fail, "x", "bob").await;
    assert!(matches!(early, Err(Error::Conflict { code: "not_asked", .. })));
    world.engine.guide(id, "one", Choice::Fail, "broken", "bob").await.unwrap();
    let view = world.until(id, "failed").await;
    assert_eq!(states(&view), ["failed", "skipped"]);
    assert_eq!(view.reason.as_deref(), Some("step `one`: exit code 7; bob let it fail: broken"));
    let late = world.engine.guide(id, "one", Choice::Retry, "x", "bob").await;
    assert!(matches!(late, Err(Error::Conflict { code: "not_asked", hint: Some(_), .. })));
}

#[tokio::test]
async fn a_cancel_decides_for_the_person() {
    let world = World::new().await;
    let mut sim = world.agent().await;
    let id = failed(&world, &mut sim).await;
    world.engine.cancel(id, "anna").await.unwrap();
    let view = world.until(id, "failed").await;
    assert_eq!((states(&view), view.steps[0].reason.as_deref()), (vec!["failed", "skipped"], Some("exit code 7")));
    assert_eq!(world.engine.locks().await.unwrap(), []);
}

#[tokio::test]
async fn what_could_not_be_started_is_asked_about_too() {
    let world = World::new().await;
    let mut sim = world.agent().await;
    let id = guided(&world).await;
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    sim.not_started(&world.engine, offer.fence, 0, false).await.unwrap();
    let view = world.until(id, "waiting").await;
    assert!(view.steps[0].reason.as_ref().unwrap().contains("image `tiny` is not there"), "{view:?}");
    world.engine.guide(id, "one", Choice::Retry, "pushed it", "bob").await.unwrap();
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    sim.run(&world.engine, offer.fence).await;
    world.until(id, "succeeded").await;
}

#[tokio::test]
async fn an_address_that_does_not_answer_is_asked_about_too() {
    let world = World::new().await;
    let spec = "version: 1\nproject: shop\nenvironments: [{name: dev}]\nsteps:\n  - {name: up, http: {url: 'http://127.0.0.1:1/'}}\n";
    world.engine.apply_project(spec.as_bytes(), "anna").await.unwrap();
    let id = guided(&world).await;
    let view = world.until(id, "waiting").await;
    assert!(view.steps[0].reason.as_ref().unwrap().contains("does not answer"), "{view:?}");
    world.engine.guide(id, "up", Choice::Retry, "again", "bob").await.unwrap();
    world.until(id, "waiting").await;
    world.engine.guide(id, "up", Choice::Ignore, "it is up", "bob").await.unwrap();
    world.until(id, "succeeded").await;
}
