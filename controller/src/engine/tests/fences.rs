//! Who may do what to which attempt, and what comes twice.

use super::*;

fn stale(fence: Fence) -> [Fence; 2] {
    [Fence { epoch: fence.epoch + 1, ..fence }, Fence { incarnation: fence.incarnation + 1, ..fence }]
}

#[tokio::test]
async fn another_agents_attempt_is_not_there() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, offer) = world.running(&mut sim).await;
    let mut other = world.agent().await;
    let engine = &world.engine;
    let nowhere = Fence { attempt: world.clock.attempt_id(), ..offer.fence };
    for fence in [offer.fence, nowhere] {
        assert!(matches!(other.confirm(engine, fence, 0, "n0").await, Err(plane::Error::Foreign)));
        assert!(matches!(other.lost(engine, fence, 0, "x").await, Err(plane::Error::Foreign)));
        assert!(matches!(other.not_started(engine, fence, 0, false).await, Err(plane::Error::Foreign)));
        assert!(matches!(engine.log_of(other.id, fence, 0).await, Err(plane::Error::Foreign)));
        assert!(matches!(engine.package_of(other.id, fence, &"a".repeat(64)).await, Err(plane::Error::Foreign)));
        other.accept(engine, fence).await;
        let verdicts = other.hello(engine, &[fence]).await;
        assert!(!verdicts[0].keep);
    }
    assert_eq!(world.view(id).await.steps[0].state, "running");
}

#[tokio::test]
async fn a_stale_fence_is_refused_everywhere() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, offer) = world.running(&mut sim).await;
    let engine = &world.engine;
    for fence in stale(offer.fence) {
        assert!(matches!(sim.confirm(engine, fence, 0, "n0").await, Err(plane::Error::Fenced(_))));
        assert!(matches!(sim.lost(engine, fence, 0, "x").await, Err(plane::Error::Fenced(_))));
        assert!(matches!(engine.log_of(sim.id, fence, 0).await, Err(plane::Error::Fenced(_))));
        assert!(matches!(engine.package_of(sim.id, fence, &"a".repeat(64)).await, Err(plane::Error::Fenced(_))));
    }
    assert_eq!(world.view(id).await.steps[0].state, "running");
}

#[tokio::test]
async fn the_same_nonce_gets_the_same_grant_another_one_none() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, offer) = world.running(&mut sim).await;
    let first = sim.confirm(&world.engine, offer.fence, 0, "n0").await.unwrap();
    assert!(matches!(first, Confirmed::Granted(_)));
    world.restart().await;
    assert_eq!(sim.confirm(&world.engine, offer.fence, 0, "n0").await.unwrap(), first, "also by another process");
    assert_eq!(sim.confirm(&world.engine, offer.fence, 0, "other").await.unwrap(), Confirmed::AlreadyStarted);
    assert_eq!(world.view(id).await.steps[0].attempts.len(), 1);
    let early = sim.confirm(&world.engine, offer.fence, 1, "n1").await;
    assert!(matches!(early, Err(plane::Error::Fenced(_))), "the next step is not due: {early:?}");
}

#[tokio::test]
async fn a_report_waits_for_its_log_and_is_answered_the_same_each_time() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, offer) = world.running(&mut sim).await;
    let (bytes, record) = spool(&[(Stream::Stdout, b"out")], code(0));
    let length = bytes.len() as u64;
    sim.ship(&world.engine, offer.fence, 0, &bytes[..10]).await.unwrap();
    let early = sim.report(&world.engine, offer.fence, 0, record.clone(), length, false).await;
    assert!(matches!(early, Err(plane::Error::NotDurable { durable: 10, .. })), "{early:?}");
    sim.ship(&world.engine, offer.fence, 0, &bytes).await.unwrap();
    for _ in 0..2 {
        assert_eq!(sim.report(&world.engine, offer.fence, 0, record.clone(), length, false).await.unwrap(), Some(1));
    }
    sim.grant(&world.engine, offer.fence, 1).await;
    assert_eq!(sim.report(&world.engine, offer.fence, 0, record, length, false).await.unwrap(), Some(1));
    sim.finish(&world.engine, offer.fence, 1, code(0)).await.unwrap();
    assert_eq!(sim.finish(&world.engine, offer.fence, 1, code(5)).await.unwrap(), None, "the first report stands");
    assert_eq!(world.view(id).await.state, "succeeded");
    let more = sim.ship(&world.engine, offer.fence, 1, &[0; 10_000]).await;
    assert!(more.is_err(), "nothing follows in a log that has ended");
}

#[tokio::test]
async fn a_log_that_is_not_the_one_that_was_written_is_no_success() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, offer) = world.running(&mut sim).await;
    let (bytes, mut record) = spool(&[(Stream::Stdout, b"out")], code(0));
    record.sha256 = "0".repeat(64);
    sim.ship(&world.engine, offer.fence, 0, &bytes).await.unwrap();
    assert_eq!(sim.report(&world.engine, offer.fence, 0, record, bytes.len() as u64, false).await.unwrap(), None);
    let view = world.view(id).await;
    assert_eq!(view.state, "lost");
    assert!(view.reason.unwrap().contains("the log does not match its digest"));
}

#[tokio::test]
async fn an_agent_that_was_cut_off_is_heard_no_more() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, _) = world.running(&mut sim).await;
    world.engine.revoke_agent(sim.id, "anna").await.unwrap();
    assert!(sim.line.as_ref().unwrap().cut.is_cancelled());
    assert!(matches!(world.engine.admit(sim.id).await, Err(plane::Error::Unknown)));
    assert!(matches!(
        sim.say(&world.engine, Said::Draining(draining("spot notice"))).await,
        Err(plane::Error::Replaced)
    ));
    world.clock.advance(Duration::from_secs(31));
    world.until(id, "unknown").await;
}

#[tokio::test]
async fn a_newer_stream_replaces_the_older() {
    let world = World::new().await;
    let mut sim = world.agent().await;
    let old = sim.line.take().unwrap();
    sim.hello(&world.engine, &[]).await;
    assert!(old.cut.is_cancelled());
    assert!(matches!(
        world.engine.said(sim.id, old.number(), Said::Draining(draining("spot notice"))).await,
        Err(plane::Error::Replaced)
    ));
    world.engine.goodbye(sim.id, old.number());
    assert_eq!(world.engine.agents().await.unwrap()[0].state, "connected", "the old one's end is not the new one's");
}

#[tokio::test]
async fn a_second_process_with_the_same_identity_is_refused_and_told_of() {
    let world = World::new().await;
    let mut first = world.agent().await;
    first.instance = "one".to_owned();
    first.hello(&world.engine, &[]).await;
    let mut copy = Sim::new(first.id, 2);
    (copy.instance, copy.boot) = ("two".to_owned(), "boot-of-the-copy".to_owned());
    world.clock.advance(Duration::from_secs(9));
    assert!(matches!(copy.try_hello(&world.engine, &[]).await, Err(plane::Error::Twice)));
    let told = async || {
        let lines = world.engine.audit(None, None, None).await.unwrap().events;
        lines.into_iter().filter(|line| line.action == "agent.second_session").collect::<Vec<_>>()
    };
    assert!(told().await.is_empty(), "the first one may have ended without a word");
    assert!(!first.line.as_ref().unwrap().cut.is_cancelled());
    // It lives: there are two.
    first.heartbeat(&world.engine).await;
    let lines = told().await;
    assert_eq!((lines.len(), lines[0].outcome), (1, "refused"));
    assert_eq!(lines[0].detail["second_boot_id"], "boot-of-the-copy");
    assert!(world.engine.agents().await.unwrap()[0].cloned);
    // Not once for each try.
    assert!(matches!(copy.try_hello(&world.engine, &[]).await, Err(plane::Error::Twice)));
    first.heartbeat(&world.engine).await;
    assert_eq!(told().await.len(), 1);
    // The same process may always say hello again, and a new one does when the former is silent: an agent that was started anew.
    first.hello(&world.engine, &[]).await;
    world.clock.advance(Duration::from_secs(10));
    copy.try_hello(&world.engine, &[]).await.unwrap();
    assert!(first.line.as_ref().unwrap().cut.is_cancelled());
}
