//! What waits, what for, and in which order.

use super::*;

#[tokio::test]
async fn the_second_of_one_environment_waits_for_the_firsts_attempt() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (first, offer) = world.running(&mut sim).await;
    let (second, third) = (world.deploy().await, world.deploy().await);
    let waiting = world.view(second).await;
    assert_eq!(waiting.state, "waiting");
    let words = waiting.waiting_for.unwrap();
    assert!(words.contains(&offer.fence.attempt.to_string()) && words.contains(&first.to_string()), "{words}");
    let elsewhere = world.deploy_to("live").await;
    let other = sim.offer().await;
    assert_eq!(other.deployment, elsewhere, "another environment does not wait");

    assert_eq!(sim.finish(&world.engine, offer.fence, 0, code(1)).await.unwrap(), None);
    let next = sim.offer().await;
    assert_eq!(next.deployment, second, "first come first served");
    assert!(world.view(third).await.waiting_for.unwrap().contains(&second.to_string()));
    let locks = world.engine.locks().await.unwrap();
    assert_eq!(
        locks.iter().map(|lock| lock.key.as_str()).collect::<Vec<_>>(),
        ["project/shop/dev", "project/shop/live"]
    );
    assert_eq!(locks[0].attempt, Some(next.fence.attempt.to_string()));
}

#[tokio::test]
async fn without_an_agent_it_says_which_predicate_rejects() {
    let mut world = World::new().await;
    let id = world.deploy().await;
    let words = world.view(id).await.waiting_for.unwrap();
    assert!(words.contains("pool `default`"), "{words}");
    let gpu = world.enroll("gpu").await;
    let mut sim = Sim::new(gpu, 1);
    sim.hello(&world.engine, &[]).await;
    let view = world.view(id).await;
    assert_eq!(view.state, "queued");
    assert!(view.waiting_for.unwrap().contains("is in pool `gpu`"));
}

#[tokio::test]
async fn a_paused_pool_starts_nothing_until_it_is_resumed() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let paused = Pool { paused: Some("hosts are updated".to_owned()), ..Pool::default() };
    world.engine.set_pool("default", paused, Some(0), "anna").await.unwrap();
    let id = world.deploy().await;
    let (view, explained) = (world.view(id).await, world.engine.explain(id).await.unwrap());
    assert_eq!(view.state, "queued");
    assert!(view.waiting_for.unwrap().contains("pool `default` is paused (hosts are updated)"));
    assert!(explained.rules.iter().any(|rule| rule.rule == "pool" && !rule.ok), "{explained:?}");
    sim.heartbeat(&world.engine).await;
    assert_eq!(world.view(id).await.state, "queued", "nothing was offered meanwhile");
    world.engine.set_pool("default", Pool::default(), Some(1), "anna").await.unwrap();
    assert_eq!(sim.offer().await.deployment, id);
}

#[tokio::test]
async fn a_full_agent_gets_the_next_job_when_one_has_ended() {
    let mut world = World::new().await;
    let id = world.enroll("default").await;
    let mut sim = Sim::new(id, 1);
    sim.hello(&world.engine, &[]).await;
    let (_, offer) = world.running(&mut sim).await;
    let second = world.deploy_to("live").await;
    assert!(world.view(second).await.waiting_for.unwrap().contains("all 1 slots are taken"));
    sim.finish(&world.engine, offer.fence, 0, code(3)).await.unwrap();
    assert_eq!(sim.offer().await.deployment, second);
}

#[tokio::test]
async fn a_declined_offer_goes_back_to_the_queue() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let id = world.deploy().await;
    let offer = sim.offer().await;
    let (fence, reason) = (offer.fence, "no disk".to_owned());
    sim.say(&world.engine, Said::Answer { fence, accepted: false, reason }).await.unwrap();
    assert!(matches!(sim.told().await, ToAgent::Revoke { .. }));
    // It is not asked again before it says how it is, and the job says so.
    let waiting = world.view(id).await.waiting_for.unwrap();
    assert!(waiting.contains("declined the last offer (no disk)"), "{waiting}");
    sim.say(&world.engine, Said::Heartbeat { free: 2, facts: None, engine: true, disk: plane::Disk::default() })
        .await
        .unwrap();
    let again = sim.offer().await;
    assert_eq!((again.deployment, again.fence.epoch), (id, 2));
}

#[tokio::test]
async fn a_slot_is_free_when_the_agent_says_so() {
    let mut world = World::new().await;
    let id = world.enroll("default").await;
    let mut sim = Sim::new(id, 1);
    sim.hello(&world.engine, &[]).await;
    let (_, offer) = world.running(&mut sim).await;
    sim.say(&world.engine, Said::Heartbeat { free: 0, facts: None, engine: true, disk: plane::Disk::default() })
        .await
        .unwrap();
    let second = world.deploy_to("live").await;
    sim.finish(&world.engine, offer.fence, 0, code(3)).await.unwrap();
    assert!(world.view(second).await.waiting_for.unwrap().contains("all 1 slots are taken"), "it clears away");
    sim.say(&world.engine, Said::Heartbeat { free: 1, facts: None, engine: true, disk: plane::Disk::default() })
        .await
        .unwrap();
    assert_eq!(sim.offer().await.deployment, second);
}

#[tokio::test]
async fn an_agents_own_fault_before_a_start_is_tried_again_a_bad_image_is_not() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let id = world.deploy().await;
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    assert_eq!(sim.not_started(&world.engine, offer.fence, 0, true).await.unwrap(), None);
    assert!(matches!(sim.told().await, ToAgent::Revoke { .. }));
    let again = sim.offer().await;
    sim.accept(&world.engine, again.fence).await;
    assert_eq!(sim.not_started(&world.engine, again.fence, 0, false).await.unwrap(), None);
    let view = world.until(id, "failed").await;
    assert!(view.reason.unwrap().contains("image `tiny` is not there"));
    assert_eq!(view.steps[0].state, "failed");
    assert_eq!(view.steps[0].attempts, [], "nothing was started");
}

#[tokio::test]
async fn the_one_on_top_begins_first() {
    let mut world = World::new().await;
    let (first, second, third) = (world.deploy().await, world.deploy().await, world.deploy().await);
    assert!(matches!(world.engine.move_to_top(first, "anna").await, Err(Error::Conflict { code: "begun", .. })));
    world.engine.move_to_top(third, "bob").await.unwrap();
    world.engine.move_to_top(third, "bob").await.unwrap();
    let moved = world.engine.timeline(third).await.unwrap();
    let moved: Vec<_> = moved.iter().filter(|event| event.action == "deployment.moved_to_top").collect();
    assert_eq!((moved.len(), moved[0].actor.as_str()), (1, "bob"), "asking again changes nothing");
    assert!(world.view(second).await.waiting_for.is_some());
    world.engine.cancel(first, "anna").await.unwrap();
    let mut sim = world.agent().await;
    assert_eq!(sim.offer().await.deployment, third);
}

#[tokio::test]
async fn an_environment_has_agents_of_its_own_by_pool_and_labels() {
    let mut world = World::new().await;
    let spec = "version: 1\nproject: shop\nagents: {os: debian}\nenvironments:\n  - {name: dev}\n  - {name: live, pool: gpu, agents: {zone: b}}\n\
                steps:\n  - {name: one, image: tiny, run: 'true'}\n";
    world.engine.apply_project(spec.as_bytes(), "anna").await.unwrap();
    let agent = async |pool: &str, labels: &[(&str, &str)]| {
        let id = world.enroll(pool).await;
        let labels: BTreeMap<String, String> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let done: Result<()> = world
            .engine
            .change("test", move |tx, _| {
                Box::pin(async move {
                    let row = tx.agent(id).await?.unwrap();
                    Ok(tx
                        .insert_agent(&AgentRow {
                            id: AgentId::new(Timestamp::from_micros(1), *b"labeled-id"),
                            labels,
                            ..row
                        })
                        .await?)
                })
            })
            .await;
        done.unwrap();
    };
    agent("gpu", &[("os", "debian"), ("zone", "b")]).await;
    let labeled = AgentId::new(Timestamp::from_micros(1), *b"labeled-id");
    let mut plain = world.agent().await;
    let dev = world.deploy().await;
    let words = world.view(dev).await.waiting_for.unwrap();
    assert!(words.contains("has no label `os`"), "{words}");
    let live = world.deploy_to("live").await;
    let explained = world.engine.explain(live).await.unwrap();
    let own = explained.agents.iter().find(|agent| agent.agent == plain.id.to_string()).unwrap();
    let rejected: Vec<_> = own.rejected_by.iter().map(|one| one.predicate.as_str()).collect();
    assert_eq!(rejected, ["pool", "label", "label"]);
    let mut labeled = Sim::new(labeled, 1);
    labeled.hello(&world.engine, &[]).await;
    assert_eq!(labeled.offer().await.deployment, live, "what is first in the queue waits for another one");
    assert!(plain.line.as_mut().unwrap().messages.try_recv().is_err());
}
