//! When a deployment begins, when it does not begin any more, and who is first.

use super::*;

fn at(world: &World, seconds: u64) -> Option<Timestamp> {
    Some(world.clock.now().after(Duration::from_secs(seconds)))
}

const MOMENT: Duration = Duration::from_millis(1);

#[tokio::test]
async fn a_deployment_begins_at_its_time_and_holds_nobody_back_before() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let not_before = at(&world, 60);
    let later = world.ask(NewDeployment { not_before, ..NewDeployment::default() }).await.unwrap();
    let view = world.view(later).await;
    assert_eq!((view.state.as_str(), view.not_before), ("waiting", not_before.map(|at| at.to_string())));
    assert!(view.waiting_for.unwrap().starts_with("its time: it is scheduled for"));

    let now = world.deploy().await;
    let offer = sim.offer().await;
    assert_eq!(offer.deployment, now, "the environment is free until then");
    sim.work(&world.engine, &offer, &[]).await;
    world.until(now, "succeeded").await;

    world.clock.advance(Duration::from_secs(60) - MOMENT);
    world.engine.tick().await.unwrap();
    assert_eq!(world.view(later).await.state, "waiting", "a moment before");
    sim.heartbeat(&world.engine).await;
    world.clock.advance(2 * MOMENT);
    let offer = sim.offer().await;
    assert_eq!(offer.deployment, later);
    sim.work(&world.engine, &offer, &[]).await;
    world.until(later, "succeeded").await;
}

#[tokio::test]
async fn a_schedule_outlives_the_controller() {
    let mut world = World::new().await;
    let wish = NewDeployment { not_before: at(&world, 60), ..NewDeployment::default() };
    let id = world.ask(wish).await.unwrap();
    world.clock.advance(Duration::from_secs(3_600));
    world.restart().await;
    let mut sim = world.agent().await;
    assert_eq!(sim.offer().await.deployment, id, "its time came while nobody was there");
}

#[tokio::test]
async fn what_was_not_begun_in_time_never_begins() {
    let mut world = World::new().await;
    let expired = NewDeployment { expires_at: Some(world.clock.now()), ..NewDeployment::default() };
    assert_eq!(no(world.ask(expired).await).0, "expired", "refused when it is asked for");
    for seconds in [30, 60] {
        let (not_before, expires_at) = (at(&world, 60), at(&world, seconds));
        let (code, words) = no(world.ask(NewDeployment { not_before, expires_at, ..NewDeployment::default() }).await);
        assert_eq!(code, "never");
        assert!(words.starts_with("it could never begin"), "{words}");
    }
    assert_eq!(world.engine.deployments(DeploymentFilter::default()).await.unwrap(), [], "nothing was queued");
}

#[tokio::test]
async fn one_that_expires_while_it_waits_for_a_lock_ends_and_lets_those_behind_it_go() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (_, offer) = world.running(&mut sim).await;
    let second = world.ask(NewDeployment { expires_at: at(&world, 20), ..NewDeployment::default() }).await.unwrap();
    let third = world.deploy().await;
    assert!(world.view(third).await.waiting_for.unwrap().contains("held by"));
    world.clock.advance(Duration::from_secs(20) + MOMENT);
    world.until(second, "failed").await;
    assert_eq!(world.view(third).await.state, "waiting", "the lock is held as before");
    sim.finish(&world.engine, offer.fence, 0, code(1)).await.unwrap();
    assert_eq!(sim.offer().await.deployment, third);
}

#[tokio::test]
async fn a_release_that_is_blocked_before_it_begins_never_begins_and_the_next_one_does() {
    let mut world = World::new().await;
    world.release("1.0.0").await;
    let mut sim = world.agent().await;
    let (_, offer) = world.running(&mut sim).await;
    // The release that is made on the spot holds the same and is the same: another one is needed.
    world.steps("  - {name: other, image: tiny, run: 'true'}\n").await;
    world.release("2.0.0").await;
    let second = world.deploy_release("2.0.0", "dev").await.unwrap();
    let third = world.deploy_release("1.0.0", "dev").await.unwrap();
    world.engine.block_release("shop", "2.0.0", Some("CVE-1".to_owned()), "eve").await.unwrap();
    sim.finish(&world.engine, offer.fence, 0, code(1)).await.unwrap();
    let view = world.until(second, "failed").await;
    assert_eq!(view.reason.as_deref(), Some("it was never begun: release `2.0.0` is blocked: CVE-1"));
    assert_eq!(standing(&view), "other:skipped");
    assert_eq!(sim.offer().await.deployment, third, "it does not wait for what never begins");
    let (code, words) = no(world.deploy_release("2.0.0", "dev").await);
    assert_eq!((code, words.as_str()), ("release_blocked", "release `2.0.0` is blocked: CVE-1"));
    world.engine.block_release("shop", "2.0.0", None, "eve").await.unwrap();
    world.deploy_release("2.0.0", "dev").await.unwrap();
}

#[tokio::test]
async fn more_priority_is_first_and_else_who_came_first() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (_, offer) = world.running(&mut sim).await;
    let mut ids = Vec::new();
    for priority in [0, 0, 5, 5, -1] {
        ids.push(world.ask(NewDeployment { priority, ..NewDeployment::default() }).await.unwrap());
    }
    let words = world.view(ids[0]).await.waiting_for.unwrap();
    assert!(words.contains("held by"), "{words}");
    sim.finish(&world.engine, offer.fence, 0, code(1)).await.unwrap();
    let mut order = Vec::new();
    for _ in 0..5 {
        let offer = sim.offer().await;
        if order.is_empty() {
            let explained = world.engine.explain(ids[0]).await.unwrap();
            assert!(
                explained.rules.iter().any(|rule| !rule.ok && rule.message.contains(&offer.deployment.to_string()))
            );
        }
        order.push(offer.deployment);
        sim.work(&world.engine, &offer, &[]).await;
    }
    assert_eq!(order, [ids[2], ids[3], ids[0], ids[1], ids[4]]);
}
