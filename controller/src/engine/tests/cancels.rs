//! A cancel at every state that a deployment can be in.

use super::*;

const FLAKY: &str = "  - {name: flaky, image: tiny, run: 'true', retries: {max: 2, backoff: 10s}}\n  - {name: last, image: tiny, run: 'true', when: always()}\n";
const GROUP: &str = "  - name: both\n    parallel:\n      - {name: a, image: tiny, run: 'true'}\n      - {name: b, image: tiny, run: 'true'}\n  - {name: end, image: tiny, run: 'true', when: always()}\n";

#[tokio::test]
async fn before_it_began() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (first, offer) = world.running(&mut sim).await;
    let (waiting, next) = (world.deploy().await, world.deploy().await);
    let not_before = Some(world.clock.now().after(Duration::from_secs(60)));
    let scheduled = world.ask(NewDeployment { not_before, ..NewDeployment::default() }).await.unwrap();
    for id in [waiting, scheduled] {
        world.engine.cancel(id, "anna").await.unwrap();
        let view = world.view(id).await;
        assert_eq!((view.state.as_str(), standing(&view).as_str()), ("canceled", "one:skipped two:skipped"));
    }
    assert_eq!(world.view(first).await.state, "running");
    sim.finish(&world.engine, offer.fence, 0, code(1)).await.unwrap();
    assert_eq!(sim.offer().await.deployment, next, "who was behind the one that is gone");
}

#[tokio::test]
async fn queued() {
    let mut world = World::new().await;
    let id = world.deploy().await;
    assert_eq!(world.view(id).await.state, "queued");
    world.engine.cancel(id, "anna").await.unwrap();
    assert_eq!(standing(&world.until(id, "canceled").await), "one:skipped two:skipped");
    assert_eq!(world.engine.locks().await.unwrap(), []);
}

#[tokio::test]
async fn one_of_a_group_runs_and_one_was_never_started() {
    let mut world = World::new().await;
    world.steps(GROUP).await;
    let mut sim = world.agent().await;
    let id = world.deploy().await;
    let [a, b] = sim.offers().await;
    sim.accept(&world.engine, a.fence).await;
    sim.grant(&world.engine, a.fence, 0).await;
    world.engine.cancel(id, "anna").await.unwrap();
    let view = world.view(id).await;
    assert_eq!((view.state.as_str(), standing(&view).as_str()), ("canceling", "a:canceling b:skipped end:skipped"));
    assert_eq!(sim.confirm(&world.engine, b.fence, 1, "n").await.unwrap(), Confirmed::Canceled);
    assert_eq!(world.engine.locks().await.unwrap().len(), 1, "kept while something runs");
    let (bytes, record) = spool(&[], ExitRecord { interrupted: true, ..code(0) });
    sim.ship(&world.engine, a.fence, 0, &bytes).await.unwrap();
    sim.report(&world.engine, a.fence, 0, record, bytes.len() as u64, true).await.unwrap();
    assert_eq!(standing(&world.until(id, "canceled").await), "a:canceled b:skipped end:skipped");
    assert_eq!(world.engine.locks().await.unwrap(), []);
}

#[tokio::test]
async fn between_two_tries() {
    let mut world = World::new().await;
    world.steps(FLAKY).await;
    let mut sim = world.agent().await;
    let id = world.deploy().await;
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    sim.grant(&world.engine, offer.fence, 0).await;
    assert_eq!(sim.finish(&world.engine, offer.fence, 0, code(4)).await.unwrap(), Some(1_000));
    world.engine.cancel(id, "anna").await.unwrap();
    assert_eq!(standing(&world.until(id, "canceled").await), "flaky:canceled last:skipped");
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(sim.confirm(&world.engine, offer.fence, 1_000, "n").await.unwrap(), Confirmed::Canceled);
    assert_eq!(world.engine.locks().await.unwrap(), []);
}

#[tokio::test]
async fn a_try_that_is_canceled_is_not_tried_again() {
    let mut world = World::new().await;
    world.steps(FLAKY).await;
    let mut sim = world.agent().await;
    let id = world.deploy().await;
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    sim.grant(&world.engine, offer.fence, 0).await;
    world.engine.cancel(id, "anna").await.unwrap();
    // The signal came too late: the tool had failed by itself.
    assert_eq!(sim.finish(&world.engine, offer.fence, 0, code(4)).await.unwrap(), None);
    let view = world.view(id).await;
    assert_eq!(standing(&view), "flaky:failed last:skipped");
    assert_eq!((view.state.as_str(), view.reason.as_deref()), ("failed", Some("step `flaky`: exit code 4")));
}
