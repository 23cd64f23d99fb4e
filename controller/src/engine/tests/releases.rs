//! What a release holds, where it may go, and how it gets there by itself.

use super::*;

const PHASES: &str = "lifecycle:\n  - {phase: test, environments: [dev]}\n  - {phase: stage, environments: [staging]}\n  - {phase: live, environments: [live]}\n";
const ONE: &str = "steps:\n  - {name: one, image: tiny, run: 'true'}\n";
const VALUES: &str = "variables:\n  word: first\n  key: {secret: true}\nsteps:\n  - {name: one, image: tiny, run: 'true', env: {W: '${{ vars.word }}', K: '${{ secrets.key }}'}}\n";

async fn set(world: &World, name: &str, value: &str, secret: bool) {
    let (name, value) = (name.to_owned(), Secret::new(value.to_owned()));
    world.engine.set_variable("shop", NewVariable { name, value, secret, scope: Scope::All }, "anna").await.unwrap();
}

/// What a deployment of a release is given.
async fn given(world: &mut World, sim: &mut Sim, version: &str) -> Vec<String> {
    world.deploy_release(version, "dev").await.unwrap();
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    let grant = sim.grant(&world.engine, offer.fence, 0).await;
    sim.finish(&world.engine, offer.fence, 0, code(0)).await.unwrap();
    grant.env.iter().map(|(_, value)| value.expose().to_owned()).collect()
}

#[tokio::test]
async fn what_a_release_holds_never_changes() {
    let mut world = World::new().await;
    world.apply(VALUES).await;
    let mut sim = world.agent().await;
    world.release("1.0.0").await;
    world.apply(&VALUES.replace("first", "second")).await;
    set(&world, "word", "third", false).await;
    set(&world, "key", "canary-0815", true).await;
    world.release("1.1.0").await;
    assert_eq!(given(&mut world, &mut sim, "1.0.0").await, ["first", SECRET]);
    assert_eq!(given(&mut world, &mut sim, "1.1.0").await, ["third", "canary-0815"]);
    assert_eq!(given(&mut world, &mut sim, "1.0.0").await, ["first", SECRET], "not even after a later one");
    let taken = world
        .engine
        .create_release("shop", NewRelease { version: Some("1.0.0".to_owned()), ..NewRelease::default() }, "anna")
        .await;
    let (code, words) = no(taken);
    assert_eq!(code, "version_taken");
    assert!(words.contains("release `1.0.0` of project `shop` is there already"), "{words}");
    let shown = serde_json::to_string(&world.engine.release("shop", "1.0.0").await.unwrap()).unwrap();
    assert!(shown.contains("first") && !shown.contains("canary"), "{shown}");
}

#[tokio::test]
async fn the_next_version_is_a_patch_and_a_deployment_without_one_makes_its_own() {
    let mut world = World::new().await;
    world.apply(ONE).await;
    let next =
        async |world: &World| world.engine.create_release("shop", NewRelease::default(), "anna").await.unwrap().version;
    world.release("1.4.0").await;
    assert_eq!(next(&world).await, "1.4.1");
    let id = world.deploy().await;
    assert_eq!(world.view(id).await.release, "1.4.2", "an image may be another one since");
    world.engine.block_release("shop", "1.4.2", Some("CVE".to_owned()), "anna").await.unwrap();
    let new = NewDeployment {
        project: "shop".to_owned(),
        environment: "staging".to_owned(),
        operation_id: "around".to_owned(),
        ..NewDeployment::default()
    };
    let (code, words) = no(world.engine.create_deployment(new, "anna").await);
    assert_eq!((code, words.contains("CVE")), ("release_blocked", true), "no way around a block: {words}");
    world.apply(&ONE.replace("one", "two")).await;
    let id = world.deploy_to("staging").await;
    assert_eq!(world.view(id).await.release, "1.4.3");
}

#[tokio::test]
async fn an_image_is_pinned_by_its_first_start_and_may_not_move() {
    let mut world = World::new().await;
    world.apply(ONE).await;
    world.release("1.0.0").await;
    let mut sim = world.agent().await;
    assert_eq!(world.engine.release("shop", "1.0.0").await.unwrap().images.len(), 0);
    world.pass(&mut sim, "1.0.0", "dev").await;
    assert_eq!(world.engine.release("shop", "1.0.0").await.unwrap().images["tiny"], "sha256:1");

    let id = world.deploy_release("1.0.0", "staging").await.unwrap();
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    let refused = sim.confirm_image(&world.engine, offer.fence, 0, "n0", "sha256:2").await.unwrap();
    assert!(matches!(&refused, Confirmed::Failed(words) if words.contains("image `tiny` has moved")), "{refused:?}");
    let view = world.until(id, "failed").await;
    assert!(view.reason.unwrap().contains("release `1.0.0` holds `sha256:1`, the agent has `sha256:2`"));
    assert_eq!((standing(&world.view(id).await).as_str(), view.steps[0].attempts.len()), ("one:failed", 0));
    assert_eq!(world.engine.release("shop", "1.0.0").await.unwrap().images["tiny"], "sha256:1");
}

#[tokio::test]
async fn two_starts_at_once_pin_one_image() {
    let mut world = World::new().await;
    world.apply("steps:\n  - name: both\n    parallel:\n      - {name: a, image: tiny, run: 'true'}\n      - {name: b, image: tiny, run: 'true'}\n").await;
    let mut sim = world.agent().await;
    let id = world.deploy().await;
    let [a, b] = sim.offers().await;
    sim.accept(&world.engine, a.fence).await;
    sim.accept(&world.engine, b.fence).await;
    let engine = &world.engine;
    let (one, two) = tokio::join!(
        sim.confirm_image(engine, a.fence, 0, "n", "sha256:1"),
        sim.confirm_image(engine, b.fence, 1, "n", "sha256:2")
    );
    let granted = [&one, &two].iter().filter(|answer| matches!(answer, Ok(Confirmed::Granted(_)))).count();
    assert_eq!(granted, 1, "{one:?} {two:?}");
    let pinned = engine.release("shop", &world.view(id).await.release).await.unwrap().images;
    assert_eq!(pinned["tiny"], if matches!(one, Ok(Confirmed::Granted(_))) { "sha256:1" } else { "sha256:2" });
}

#[tokio::test]
async fn a_release_goes_through_the_phases_in_order() {
    let mut world = World::new().await;
    world.apply(&format!("{PHASES}{ONE}")).await;
    world.release("1.0.0").await;
    let mut sim = world.agent().await;
    let (code, words) = no(world.deploy_release("1.0.0", "live").await);
    assert_eq!(code, "lifecycle");
    assert_eq!(words, "release `1.0.0` has not passed phase `test`: it has not succeeded in `dev`");
    for (phase, environment) in [("test", "dev"), ("stage", "staging"), ("live", "live")] {
        let promoted = world.engine.promote("shop", "1.0.0", phase, BTreeMap::new(), "anna").await.unwrap();
        assert_eq!((promoted.phase.as_str(), promoted.deployments.len()), (phase, 1));
        assert_eq!(promoted.deployments[0].environment, environment);
        let again = world.engine.promote("shop", "1.0.0", "again", BTreeMap::new(), "anna").await;
        assert_eq!(no(again).0, "under_way");
        let same = world.engine.promote("shop", "1.0.0", phase, BTreeMap::new(), "anna").await;
        assert_eq!(no(same).0, "under_way");
        let offer = sim.offer().await;
        sim.work(&world.engine, &offer, &[]).await;
        world.until(offer.deployment, "succeeded").await;
    }
    let over = world.engine.promote("shop", "1.0.0", "over", BTreeMap::new(), "anna").await;
    assert_eq!(no(over).0, "passed_every_phase");
    world.apply(ONE).await;
    world.release("2.0.0").await;
    let none = world.engine.promote("shop", "2.0.0", "none", BTreeMap::new(), "anna").await;
    assert_eq!(no(none).0, "no_lifecycle");
}

#[tokio::test]
async fn a_failed_deployment_passes_no_phase_and_may_be_promoted_again() {
    let world = World::new().await;
    world.apply(&format!("{PHASES}{ONE}")).await;
    world.release("1.0.0").await;
    let mut sim = world.agent().await;
    for (operation, end) in [("first", 1), ("second", 0)] {
        let promoted = world.engine.promote("shop", "1.0.0", operation, BTreeMap::new(), "anna").await.unwrap();
        assert_eq!(promoted.phase, "test");
        let offer = sim.offer().await;
        sim.work(&world.engine, &offer, &[end]).await;
        world.until(offer.deployment, if end == 0 { "succeeded" } else { "failed" }).await;
    }
    let promoted = world.engine.promote("shop", "1.0.0", "third", BTreeMap::new(), "anna").await.unwrap();
    assert_eq!(promoted.phase, "stage");
}

#[tokio::test]
async fn a_rollback_goes_to_what_last_succeeded_before_and_is_not_blocked() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        world.apply(&ONE.replace("true", version)).await;
        world.release(version).await;
    }
    let nothing = back(&world, "r0").await;
    assert_eq!(no(nothing).0, "nothing_to_roll_back_to");
    for version in ["1.0.0", "1.1.0"] {
        world.pass(&mut sim, version, "dev").await;
    }
    // The newest one failed: what was there before it is what succeeded last.
    let bad = world.deploy_release("1.2.0", "dev").await.unwrap();
    let offer = sim.offer().await;
    sim.work(&world.engine, &offer, &[1]).await;
    world.until(bad, "failed").await;
    assert_eq!(back(&world, "r1").await.unwrap().release, "1.1.0");
    let offer = sim.offer().await;
    sim.work(&world.engine, &offer, &[]).await;
    world.until(offer.deployment, "succeeded").await;
    assert_eq!(back(&world, "r2").await.unwrap().release, "1.0.0");
    let offer = sim.offer().await;
    sim.work(&world.engine, &offer, &[]).await;
    world.until(offer.deployment, "succeeded").await;
    world.engine.block_release("shop", "1.1.0", Some("CVE-1".to_owned()), "eve").await.unwrap();
    assert_eq!(no(back(&world, "r3").await).0, "nothing_to_roll_back_to");
}

const AUTOMATIC: &str = "lifecycle:\n  - {phase: test, environments: [dev], mode: automatic}\n  - {phase: stage, environments: [staging], mode: automatic}\n  - {phase: live, environments: [live]}\n";

/// Deployments of `shop`, sorted by what they deploy.
async fn all(world: &World) -> Vec<String> {
    let mut found = world.engine.deployments(DeploymentFilter::default()).await.unwrap();
    found.sort_by_key(|view| (view.release.clone(), view.environment.clone()));
    found.iter().map(|view| format!("{}@{} by {}", view.release, view.environment, view.created_by)).collect()
}

#[tokio::test]
async fn automatic_phases_fire_by_themselves_also_after_a_restart() {
    for restarts in [false, true] {
        let mut world = World::new().await;
        world.apply(&format!("{AUTOMATIC}{ONE}")).await;
        world.release("1.0.0").await;
        if restarts {
            world.restart().await;
        }
        let mut sim = world.agent().await;
        let first = sim.offer().await;
        sim.work(&world.engine, &first, &[]).await;
        if restarts {
            world.restart().await;
            sim.hello(&world.engine, &[]).await;
        }
        let second = sim.offer().await;
        assert_eq!((first.environment.as_str(), second.environment.as_str()), ("dev", "staging"));
        sim.work(&world.engine, &second, &[]).await;
        world.until(second.deployment, "succeeded").await;
        assert_eq!(all(&world).await, ["1.0.0@dev by controller", "1.0.0@staging by controller"]);
    }
}

#[tokio::test]
async fn an_environment_is_asked_for_once_by_itself() {
    let mut world = World::new().await;
    world.apply(&format!("{AUTOMATIC}{ONE}")).await;
    let release = world.release("1.0.0").await.id.parse().unwrap();
    let mut sim = world.agent().await;
    let offer = sim.offer().await;
    sim.work(&world.engine, &offer, &[1]).await;
    world.until(offer.deployment, "failed").await;
    for _ in 0..2 {
        world.engine.promote_by_itself(release).await.unwrap();
        world.restart().await;
    }
    assert_eq!(all(&world).await, ["1.0.0@dev by controller"], "a person has to look at it");
    let again = world.engine.promote("shop", "1.0.0", "by hand", BTreeMap::new(), "anna").await.unwrap();
    assert_eq!(again.phase, "test");
}

#[tokio::test]
async fn who_deploys_by_hand_decides_where_it_goes_first() {
    let mut world = World::new().await;
    world.apply(&format!("{AUTOMATIC}{ONE}")).await;
    let id = world.deploy().await;
    let mut sim = world.agent().await;
    let offer = sim.offer().await;
    assert_eq!(offer.deployment, id);
    sim.work(&world.engine, &offer, &[]).await;
    let next = sim.offer().await;
    assert_eq!(next.environment, "staging", "and then it goes on by itself");
    assert_eq!(
        all(&world).await,
        [
            "1.0.0@dev by anna".replace("1.0.0", &world.view(id).await.release),
            format!("{}@staging by controller", world.view(id).await.release)
        ]
    );
}

async fn back(world: &World, operation: &str) -> Result<RolledBack> {
    let target = world.engine.rollback_target("shop", "dev").await?;
    world.engine.rollback("shop", "dev", target, operation, "anna").await
}
