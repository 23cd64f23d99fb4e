//! The controller is killed at any point and started anew on the same folder.

use super::*;

#[tokio::test]
async fn the_controller_may_be_killed_after_every_acknowledgement() {
    for killed_after in 0..7 {
        let mut world = World::new().await;
        let mut sim = world.agent().await;
        let mut point = 0;
        // Restarts at the one point of this round; the agent says hello again with what it has.
        macro_rules! kill_point {
            ($held:expr) => {
                if point == killed_after {
                    world.restart().await;
                    let verdicts = sim.hello(&world.engine, $held).await;
                    assert!(verdicts.iter().all(|verdict| verdict.keep), "killed at point {point}: {verdicts:?}");
                }
                point += 1;
            };
        }
        let id = world.deploy().await;
        kill_point!(&[]);
        // One that was lost with the old process is given up first; the agent has nothing of it.
        let offer = loop {
            match sim.told().await {
                ToAgent::Offer(offer) => break offer,
                told => assert!(matches!(told, ToAgent::Revoke { .. }), "{told:?}"),
            }
        };
        let held = [offer.fence];
        kill_point!(&held);
        // Said again by the hello, if it was lost.
        sim.accept(&world.engine, offer.fence).await;
        kill_point!(&held);
        sim.grant(&world.engine, offer.fence, 0).await;
        kill_point!(&held);
        let (bytes, record) = spool(&[(Stream::Stdout, b"out\n"), (Stream::Stderr, b"err\n")], code(0));
        sim.ship(&world.engine, offer.fence, 0, &bytes).await.unwrap();
        kill_point!(&held);
        let next = sim.report(&world.engine, offer.fence, 0, record, bytes.len() as u64, false).await.unwrap();
        assert_eq!(next, Some(1));
        kill_point!(&held);
        sim.grant(&world.engine, offer.fence, 1).await;
        sim.finish(&world.engine, offer.fence, 1, code(0)).await.unwrap();
        kill_point!(&[]);
        let view = world.view(id).await;
        assert_eq!(view.state, "succeeded", "killed after {killed_after} of {point}");
        assert!(view.steps.iter().all(|step| step.attempts.len() == 1 && step.log.bytes == 8));
        assert_eq!(world.engine.locks().await.unwrap(), []);
    }
}

#[tokio::test]
async fn an_outage_of_the_controller_expires_nothing() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, offer) = world.running(&mut sim).await;
    assert!(world.tasks.shut_down(Duration::from_secs(20)).await);
    world.clock.advance(Duration::from_secs(3 * 86_400));
    (world.tasks, world.engine) = start(world.folder.path(), &world.clock).await;
    world.engine.tick().await.unwrap();
    assert_eq!(world.view(id).await.state, "running");
    world.clock.advance(Duration::from_secs(29));
    world.engine.tick().await.unwrap();
    assert_eq!(world.view(id).await.state, "running");
    sim.hello(&world.engine, &[offer.fence]).await;
    sim.finish(&world.engine, offer.fence, 0, code(0)).await.unwrap();
}

#[tokio::test]
async fn an_agent_that_stays_away_after_a_restart_becomes_unknown() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, _) = world.running(&mut sim).await;
    world.restart().await;
    world.clock.advance(Duration::from_secs(31));
    world.until(id, "unknown").await;
    assert_eq!(world.engine.locks().await.unwrap().len(), 1);
}
