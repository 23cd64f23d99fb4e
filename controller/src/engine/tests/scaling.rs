//! What is seen of a pool, and the scaler with fakes of groups: no cloud has said any of it.

use longshore_cloud_fakes::{GroupKind, Groups};
use longshore_core::scaling::{Settings as Scaling, Target};

use super::*;
use crate::scaler::{self, Scaler};

const MINUTE: Duration = Duration::from_secs(60);
const ONE: &str = "steps:\n  - {name: one, image: tiny, run: echo one}\n";

impl World {
    /// An agent with one slot on a machine of the group, connected.
    async fn member(&self, instance: &str) -> Sim {
        let labels = BTreeMap::from([("instance-id".to_owned(), instance.to_owned())]);
        let mut sim = Sim::new(self.enroll_with("default", labels).await, 1);
        sim.hello(&self.engine, &[]).await;
        sim
    }

    async fn scale(&self, settings: Scaling) {
        let pool = Pool { scaling: Some(settings), ..Pool::default() };
        self.engine.set_pool("default", pool, None, "anna").await.unwrap();
    }

    fn scaler(&self, fake: &Groups) -> Scaler {
        let endpoint = Some(fake.endpoint().parse().unwrap());
        let settings = scaler::Settings {
            aws_endpoint: endpoint.clone(),
            gcp_endpoint: endpoint.clone(),
            azure_endpoint: endpoint.clone(),
            metadata_endpoint: endpoint,
            ..scaler::Settings::default()
        };
        Scaler::new(self.engine.clone(), settings, self.clock.clone())
    }

    async fn seen(&self) -> ScalingView {
        self.engine.scaling("default").await.unwrap()
    }

    /// Time passes, and the agents go on saying how they are.
    async fn pass_time(&self, sims: &[&Sim], by: Duration) {
        let mut left = by;
        while !left.is_zero() {
            let step = left.min(Duration::from_secs(10));
            self.clock.advance(step);
            for sim in sims {
                sim.say(
                    &self.engine,
                    Said::Heartbeat { facts: None, engine: true, free: sim.slots, disk: plane::Disk::default() },
                )
                .await
                .unwrap();
            }
            left -= step;
        }
    }
}

fn aws() -> Target {
    Target::Aws { region: "eu-west-1".to_owned(), group: "workers".to_owned() }
}

fn on(target: Target) -> Scaling {
    Scaling { warm: 0, ..Scaling::new(4, target) }
}

fn actions(view: &ScalingView) -> Vec<&str> {
    view.events.iter().rev().map(|event| event.action.as_str()).collect()
}

#[tokio::test]
async fn every_queued_job_is_counted_once_under_one_reason() {
    let mut world = World::new().await;
    world.apply(ONE).await;
    assert_eq!(world.seen().await, ScalingView { pool: "default".to_owned(), ..ScalingView::default() });
    world.deploy_to("dev").await;
    let view = world.seen().await;
    assert_eq!((view.queued, view.helped), (1, 1));
    assert_eq!(view.waiting, BTreeMap::from([("no_agent".to_owned(), 1)]));
    let mut sim = world.member("i-0000000a").await;
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    sim.confirm(&world.engine, offer.fence, 0, "n0").await.unwrap();
    world.deploy_to("staging").await;
    world.pass_time(&[&sim], MINUTE).await;
    let view = world.seen().await;
    assert_eq!(view.waiting, BTreeMap::from([("slots".to_owned(), 1)]));
    assert_eq!((view.queued, view.helped, view.oldest_wait_seconds), (1, 1, Some(60)));
    assert_eq!(view.slots, SlotsView { total: 1, busy: 1, free: 0 });
    assert_eq!(view.agents, PoolAgentsView { connected: 1, draining: 0, disconnected: 0 });
    // The same environment is kept by the first deployment: the other has not begun and has no job.
    world.deploy_to("dev").await;
    assert_eq!(world.seen().await.queued, 1);
    let paused = Pool { paused: Some("hosts are updated".to_owned()), ..Pool::default() };
    world.engine.set_pool("default", paused, None, "anna").await.unwrap();
    let view = world.seen().await;
    assert_eq!((view.waiting, view.helped), (BTreeMap::from([("paused".to_owned(), 1)]), 0));
    let one = Pool { max_per_project: Some(1), ..Pool::default() };
    world.engine.set_pool("default", one, None, "anna").await.unwrap();
    let view = world.seen().await;
    assert_eq!((view.waiting, view.helped), (BTreeMap::from([("limit".to_owned(), 1)]), 0));
    let all = world.engine.scaling_of_all().await.unwrap();
    assert_eq!(all.iter().map(|view| view.pool.as_str()).collect::<Vec<_>>(), ["default"]);
    assert!(world.engine.scaling("No Pool").await.is_err());
}

#[tokio::test]
async fn nothing_is_offered_to_an_agent_whose_machine_goes() {
    let mut world = World::new().await;
    world.apply(ONE).await;
    let mut sim = world.member("i-0000000a").await;
    let machine = (sim.id, "i-0000000a".to_owned());
    assert_eq!(world.engine.hold("default", vec![machine.clone()], 1).await.unwrap(), [sim.id]);
    let id = world.deploy().await;
    assert_eq!(world.seen().await.waiting, BTreeMap::from([("draining".to_owned(), 1)]));
    // Nor after a restart, nor by its own word that it is free.
    world.restart().await;
    sim.hello(&world.engine, &[]).await;
    sim.heartbeat(&world.engine).await;
    assert_eq!(world.view(id).await.state, "queued");
    assert_eq!(world.engine.agents().await.unwrap()[0].state, "draining");
    let rows = world.engine.read(|tx| Box::pin(async move { Ok(tx.scale_ins().await?) })).await.unwrap();
    world.engine.unhold(&rows[0], Some("it stays".to_owned())).await.unwrap();
    let offer = sim.offer().await;
    assert_eq!(offer.deployment, id);
    // An agent with something to do is not held.
    assert_eq!(world.engine.hold("default", vec![machine], 1).await.unwrap(), []);
    assert_eq!(actions(&world.seen().await), ["shrink", "released"]);
    sim.work(&world.engine, &offer, &[]).await;
    world.until(id, "succeeded").await;
}

#[tokio::test]
async fn a_group_grows_for_a_job_and_loses_the_machine_that_is_idle_and_no_other() {
    let mut world = World::new().await;
    world.apply(ONE).await;
    let fake = Groups::of(GroupKind::Aws, &["i-0000000a"]);
    let mut scaler = world.scaler(&fake);
    world.scale(on(aws())).await;
    let mut busy = world.member("i-0000000a").await;
    let first = world.deploy_to("dev").await;
    let offer = busy.offer().await;
    busy.accept(&world.engine, offer.fence).await;
    busy.confirm(&world.engine, offer.fence, 0, "n0").await.unwrap();
    scaler.tick().await;
    assert_eq!(world.seen().await.scaler.unwrap().decision.as_deref(), Some("enough"));
    world.deploy_to("staging").await;
    scaler.tick().await;
    assert_eq!(fake.with(|group| group.capacity), 2, "one job waits for a machine");
    scaler.tick().await;
    assert_eq!(fake.with(|group| group.capacity), 2, "it is on its way");
    let view = world.seen().await;
    assert_eq!((actions(&view), view.scaler.as_ref().unwrap().absent), (vec!["grow"], Some(1)));
    let mut idle = world.member("i-0000000b").await;
    fake.with(|group| group.machines.push("i-0000000b".to_owned()));
    let second = idle.offer().await;
    idle.work(&world.engine, &second, &[]).await;
    // A row that is left of the same machine says nothing.
    world.enroll_with("default", BTreeMap::from([("instance-id".to_owned(), "i-0000000b".to_owned())])).await;
    for _ in 0..4 {
        world.pass_time(&[&idle], MINUTE).await;
        busy.say(&world.engine, Said::Heartbeat { facts: None, engine: true, free: 0, disk: plane::Disk::default() })
            .await
            .unwrap();
        scaler.tick().await;
    }
    let ended = fake.with(|group| (group.capacity, group.ended.clone()));
    assert_eq!(ended, (1, vec!["i-0000000b".to_owned()]));
    let view = world.seen().await;
    assert_eq!(actions(&view), ["grow", "shrink"]);
    let leaving = view.scaler.unwrap().leaving;
    assert!(leaving.len() == 1 && leaving[0].told && leaving[0].instance == "i-0000000b", "{leaving:?}");
    let audit = world.engine.audit(None, None, None).await.unwrap().events;
    assert!(audit.iter().any(|event| event.action == "pool.shrink" && event.actor == "scaler"), "{audit:?}");
    assert_eq!(world.view(first).await.state, "running");
}

#[tokio::test]
async fn the_other_clouds_and_a_command_do_the_same() {
    let gcp = Target::Gcp {
        project: "shop".to_owned(),
        location: "zones/europe-west3-a".to_owned(),
        group: "workers".to_owned(),
    };
    let azure = Target::Azure {
        subscription: "sub".to_owned(),
        resource_group: "shop".to_owned(),
        scale_set: "workers".to_owned(),
    };
    for (kind, target) in [(GroupKind::Gcp, gcp), (GroupKind::Azure, azure)] {
        let mut world = World::new().await;
        world.apply(ONE).await;
        let fake = Groups::of(kind, &[]);
        let mut scaler = world.scaler(&fake);
        world.scale(on(target)).await;
        world.deploy_to("dev").await;
        scaler.tick().await;
        assert_eq!(fake.with(|group| group.capacity), 1);
        fake.with(|group| group.machines.push("workers-x1".to_owned()));
        let mut sim = world.member("workers-x1").await;
        let offer = sim.offer().await;
        sim.work(&world.engine, &offer, &[]).await;
        for _ in 0..4 {
            world.pass_time(&[&sim], MINUTE).await;
            scaler.tick().await;
        }
        let ended = fake.with(|group| (group.capacity, group.ended.clone()));
        assert_eq!(ended, (0, vec!["workers-x1".to_owned()]), "{kind:?}");
    }
}

#[tokio::test]
async fn a_command_is_told_what_to_do_by_its_environment() {
    let mut world = World::new().await;
    world.apply(ONE).await;
    let said = world.folder.path().join("said");
    let script = format!(
        "echo \"$LONGSHORE_POOL $LONGSHORE_ACTION $LONGSHORE_CURRENT $LONGSHORE_DESIRED $LONGSHORE_REMOVE\" >> '{}'; test ! -e '{}'",
        said.display(),
        world.folder.path().join("broken").display()
    );
    let argv = ["sh", "-c", &script].map(str::to_owned).to_vec();
    let commands = BTreeMap::from([("mine".to_owned(), argv)]);
    let settings = scaler::Settings { commands, ..scaler::Settings::default() };
    let mut scaler = Scaler::new(world.engine.clone(), settings, world.clock.clone());
    world.scale(on(Target::Command { name: "other".to_owned() })).await;
    world.deploy_to("dev").await;
    scaler.tick().await;
    let view = world.seen().await;
    assert!(actions(&view) == ["refused"] && view.events[0].message.contains("has no `other`"), "{view:?}");
    world.scale(on(Target::Command { name: "mine".to_owned() })).await;
    std::fs::write(world.folder.path().join("broken"), "").unwrap();
    scaler.tick().await;
    assert_eq!(actions(&world.seen().await), ["refused", "grow", "failed"]);
    // What failed is tried again, but not at once.
    std::fs::remove_file(world.folder.path().join("broken")).unwrap();
    scaler.tick().await;
    world.clock.advance(MINUTE);
    scaler.tick().await;
    let mut sim = world.member("m-1").await;
    let offer = sim.offer().await;
    sim.work(&world.engine, &offer, &[]).await;
    for _ in 0..4 {
        world.pass_time(&[&sim], MINUTE).await;
        scaler.tick().await;
    }
    let lines = std::fs::read_to_string(said).unwrap();
    let lines: Vec<&str> = lines.lines().map(str::trim_end).collect();
    assert_eq!(lines, ["default grow 0 1", "default grow 0 1", "default shrink 1 0 m-1"]);
}

#[tokio::test]
async fn nothing_is_scaled_until_the_agents_are_back_after_a_restart() {
    let mut world = World::new().await;
    world.apply(ONE).await;
    let fake = Groups::of(GroupKind::Aws, &["i-0000000a"]);
    world.scale(on(aws())).await;
    let mut sim = world.member("i-0000000a").await;
    world.deploy_to("dev").await;
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    world.deploy_to("staging").await;
    world.restart().await;
    let mut scaler = world.scaler(&fake);
    scaler.tick().await;
    let view = world.seen().await;
    assert_eq!(view.scaler.unwrap().decision.as_deref(), Some("unsure_returning"));
    assert_eq!((actions(&world.seen().await), fake.with(|group| group.capacity)), (vec!["refused"], 1));
    sim.hello(&world.engine, &[offer.fence]).await;
    scaler.tick().await;
    assert_eq!(fake.with(|group| group.capacity), 2);
}

#[tokio::test]
async fn a_group_that_refuses_or_does_not_answer_loses_nothing() {
    let world = World::new().await;
    world.apply(ONE).await;
    let fake = Groups::of(GroupKind::Aws, &["i-0000000a", "i-0000000b"]);
    let mut scaler = world.scaler(&fake);
    world.scale(on(aws())).await;
    let sim = world.member("i-0000000a").await;
    let stranger = world.member("i-0000000f").await;
    let both = [&sim, &stranger];
    fake.with(|group| group.min = 2);
    scaler.tick().await;
    world.pass_time(&both, 3 * MINUTE).await;
    scaler.tick().await;
    // The group's own least is above ours; and it does not know the other machine. Both agents work on.
    let view = world.seen().await;
    assert!(view.scaler.as_ref().unwrap().leaving.is_empty(), "{view:?}");
    assert!(view.events.iter().any(|event| event.message.contains("min size constraint")), "{view:?}");
    assert!(
        view.events.iter().all(|event| !event.message.contains("i-0000000f")),
        "a stranger is not chosen: {view:?}"
    );
    assert_eq!((view.agents.draining, fake.with(|group| group.ended.len())), (0, 0));
    // A failure of the service itself may have come after it was done: the agent stays held, and the order is given again.
    fake.with(|group| group.min = 0);
    world.pass_time(&both, 2 * MINUTE).await;
    fake.with(|group| group.refuses = Some(503));
    scaler.tick().await;
    assert_eq!(world.seen().await.scaler.unwrap().decision.as_deref(), Some("unsure_group"));
    fake.with(|group| group.refuses = None);
    scaler.tick().await;
    assert_eq!(fake.with(|group| group.ended.clone()), ["i-0000000a"]);
}

fn clouds() -> [(GroupKind, Target); 3] {
    let gcp = Target::Gcp {
        project: "shop".to_owned(),
        location: "zones/europe-west3-a".to_owned(),
        group: "workers".to_owned(),
    };
    let azure = Target::Azure {
        subscription: "sub".to_owned(),
        resource_group: "shop".to_owned(),
        scale_set: "workers".to_owned(),
    };
    [(GroupKind::Aws, aws()), (GroupKind::Gcp, gcp), (GroupKind::Azure, azure)]
}

/// How often the group was told how many machines it shall have.
fn orders(fake: &Groups) -> usize {
    let told = |asked: &&longshore_cloud_fakes::Asked| {
        asked.parameter("Action").as_deref() == Some("SetDesiredCapacity")
            || asked.path.contains("/resize")
            || asked.method == "PATCH"
    };
    fake.asked().iter().filter(told).count()
}

#[tokio::test]
async fn an_order_to_grow_whose_answer_is_lost_is_not_given_twice_nor_beyond_the_most() {
    for (kind, target) in clouds() {
        let mut world = World::new().await;
        world.apply(ONE).await;
        let fake = Groups::of(kind, &[]);
        fake.with(|group| group.loses = true);
        let mut scaler = world.scaler(&fake);
        world.scale(Scaling { max: 2, ..on(target) }).await;
        world.deploy_to("dev").await;
        scaler.tick().await;
        assert_eq!((actions(&world.seen().await), orders(&fake)), (vec!["grow", "failed"], 1), "{kind:?}");
        // Neither at once, nor by a scaler that remembers nothing, nor when the pause is over: what is there is read.
        scaler.tick().await;
        scaler = world.scaler(&fake);
        for _ in 0..5 {
            scaler.tick().await;
            world.clock.advance(MINUTE);
        }
        let view = world.seen().await;
        assert_eq!((fake.with(|group| group.capacity), orders(&fake)), (1, 1), "{kind:?}: {view:?}");
        assert_eq!(
            (view.scaler.as_ref().unwrap().absent, view.scaler.unwrap().decision.as_deref()),
            (Some(1), Some("enough"))
        );
        // More jobs than machines that there may be.
        world.deploy_to("staging").await;
        world.deploy_to("live").await;
        for _ in 0..5 {
            scaler.tick().await;
            world.clock.advance(MINUTE);
        }
        let view = world.seen().await;
        assert_eq!((view.helped, fake.with(|group| group.capacity), orders(&fake)), (3, 2, 2), "{kind:?}");
        assert_eq!(view.scaler.unwrap().decision.as_deref(), Some("at_most"));
    }
}

#[tokio::test]
async fn an_order_to_shrink_whose_answer_is_lost_is_done_once_and_its_machine_gets_no_more_jobs() {
    for (kind, target) in clouds() {
        let mut world = World::new().await;
        world.apply(ONE).await;
        let fake = Groups::of(kind, &["i-0000000a"]);
        let mut scaler = world.scaler(&fake);
        world.scale(on(target)).await;
        let mut sim = world.member("i-0000000a").await;
        scaler.tick().await;
        world.pass_time(&[&sim], 3 * MINUTE).await;
        fake.with(|group| group.loses = true);
        scaler.tick().await;
        assert_eq!(fake.with(|group| (group.capacity, group.ended.len())), (0, 1), "{kind:?}");
        assert!(!world.seen().await.scaler.unwrap().leaving[0].told, "{kind:?}: nobody said that it was done");
        fake.with(|group| group.loses = false);
        world.pass_time(&[&sim], MINUTE).await;
        scaler.tick().await;
        let leaving = world.seen().await.scaler.unwrap().leaving;
        assert!(leaving.len() == 1 && leaving[0].told, "{kind:?}: the group has it no more: {leaving:?}");
        // A job that comes now waits for another machine.
        world.deploy_to("dev").await;
        scaler.tick().await;
        assert_eq!(fake.with(|group| (group.capacity, group.ended.len())), (1, 1), "{kind:?}");
        assert!(sim.line.as_mut().unwrap().messages.try_recv().is_err(), "{kind:?}: its machine goes");
    }
}

#[tokio::test]
async fn a_command_that_failed_after_it_was_done_is_not_taken_for_fewer_machines_than_are_there() {
    let mut world = World::new().await;
    world.apply(ONE).await;
    let said = world.folder.path().join("said");
    let script =
        format!("echo \"$LONGSHORE_ACTION $LONGSHORE_CURRENT $LONGSHORE_DESIRED\" >> '{}'; false", said.display());
    let commands = BTreeMap::from([("mine".to_owned(), ["sh", "-c", &script].map(str::to_owned).to_vec())]);
    let settings = scaler::Settings { commands, ..scaler::Settings::default() };
    let mut scaler = Scaler::new(world.engine.clone(), settings, world.clock.clone());
    world.scale(on(Target::Command { name: "mine".to_owned() })).await;
    world.deploy_to("dev").await;
    world.deploy_to("staging").await;
    scaler.tick().await;
    // It says that it failed, and both machines come.
    let (mut one, mut two) = (world.member("m-1").await, world.member("m-2").await);
    for sim in [&mut one, &mut two] {
        let offer = sim.offer().await;
        sim.accept(&world.engine, offer.fence).await;
        sim.confirm(&world.engine, offer.fence, 0, "n0").await.unwrap();
    }
    world.deploy_to("live").await;
    world.clock.advance(MINUTE);
    for sim in [&one, &two] {
        let busy = Said::Heartbeat { facts: None, engine: true, free: 0, disk: plane::Disk::default() };
        sim.say(&world.engine, busy).await.unwrap();
    }
    scaler.tick().await;
    let lines = std::fs::read_to_string(said).unwrap();
    assert_eq!(lines.lines().collect::<Vec<_>>(), ["grow 0 2", "grow 2 3"]);
}

/// A store that takes no changes while it is told so: a full disk.
#[derive(Debug)]
struct Full {
    inner: Arc<dyn Store>,
    full: AtomicBool,
}

#[async_trait::async_trait]
impl Store for Full {
    async fn run_write(&self, operation: store::Operation) -> Result<(), store::Error> {
        if self.full.load(Ordering::SeqCst) { Err(store::Error::Full) } else { self.inner.run_write(operation).await }
    }

    async fn run_read(&self, operation: store::Operation) -> Result<(), store::Error> {
        self.inner.run_read(operation).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[tokio::test]
async fn a_store_that_takes_no_changes_stops_the_scaler_before_the_group_hears_of_anything() {
    let mut world = World::new().await;
    world.apply(ONE).await;
    world.scale(on(aws())).await;
    let fake = Groups::of(GroupKind::Aws, &[]);
    world.deploy_to("dev").await;
    let parts = world.engine.0.parts.clone();
    let store = Arc::new(Full { inner: Arc::clone(&parts.store), full: AtomicBool::new(true) });
    world.engine = Engine::start(Parts { store: Arc::<Full>::clone(&store), ..parts }).await.unwrap();
    let mut scaler = world.scaler(&fake);
    for _ in 0..2 {
        scaler.tick().await;
        let view = world.seen().await;
        assert_eq!((view.helped, view.scaler.unwrap().decision.as_deref()), (1, Some("unsure_store")));
        assert_eq!(fake.with(|group| group.capacity), 0);
    }
    store.full.store(false, Ordering::SeqCst);
    scaler.tick().await;
    assert_eq!((actions(&world.seen().await), fake.with(|group| group.capacity)), (vec!["refused", "grow"], 1));
}
