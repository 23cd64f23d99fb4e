//! Turns, requests, limits, quarantine and low water, through the dispatcher.

use longshore_core::placement::{LowWater, Scarce, Strategy};
use longshore_core::pool::Pool;

use super::*;

const GIB: u64 = 1 << 30;

fn spec(project: &str, more: &str) -> String {
    let steps = "steps: [{name: one, image: tiny, run: 'true'}]\n";
    let environments: Vec<_> = (0..40).map(|n| format!("{{name: e{n}}}")).collect();
    format!("version: 1\nproject: {project}\n{more}environments: [{}]\n{steps}", environments.join(", "))
}

impl World {
    async fn apply_small(&self, project: &str, more: &str) {
        self.engine.apply_project(spec(project, more).as_bytes(), "anna").await.unwrap();
    }

    /// Asks for a deployment of a project to one of its environments, which all stand alone.
    async fn go(&mut self, project: &str, environment: usize, priority: i64) -> DeploymentId {
        self.operations += 1;
        let operation_id = format!("op-{}", self.operations);
        let (project, environment) = (project.to_owned(), format!("e{environment}"));
        let new = NewDeployment { project, environment, operation_id, priority, ..NewDeployment::default() };
        self.engine.create_deployment(new, "anna").await.unwrap()
    }

    async fn agent_with(&self, slots: u32, room: Resources) -> Sim {
        let mut sim = Sim { room, ..Sim::new(self.enroll("default").await, slots) };
        sim.hello(&self.engine, &[]).await;
        sim
    }

    async fn set_pool(&self, pool: Pool) {
        self.engine.set_pool("default", pool, None, "anna").await.unwrap();
    }

    async fn rejected_by(&self, id: DeploymentId, agent: AgentId) -> Vec<String> {
        let explained = self.engine.explain(id).await.unwrap();
        let found = explained.agents.into_iter().find(|found| found.agent == agent.to_string()).unwrap();
        found.rejected_by.into_iter().map(|one| format!("{}: {}", one.predicate, one.message)).collect()
    }

    async fn failing_rule(&self, id: DeploymentId, name: &str) -> Option<String> {
        let rules = self.engine.explain(id).await.unwrap().rules;
        rules.into_iter().find(|rule| rule.rule == name && !rule.ok).map(|rule| rule.message)
    }

    /// Projects by the letters of their deployments' turns on one agent.
    async fn turns(&self, sim: &mut Sim, names: &[(DeploymentId, &str)]) -> String {
        let mut order = String::new();
        for _ in 0..names.len() {
            let offer = sim.offer().await;
            order.push_str(names.iter().find(|(id, _)| *id == offer.deployment).unwrap().1);
            sim.work(&self.engine, &offer, &[]).await;
            sim.heartbeat(&self.engine).await;
        }
        order
    }
}

fn room(cpus: u64, memory: u64, disk: u64) -> Resources {
    Resources { cpus: Cpus(cpus * 1_000), memory: Bytes(memory * GIB), disk: Bytes(disk * GIB) }
}

#[tokio::test]
async fn one_job_of_a_project_is_not_behind_many_of_another() {
    let mut world = World::new().await;
    world.apply_small("aa", "").await;
    world.apply_small("bb", "").await;
    let mut all = Vec::new();
    for n in 0..6 {
        all.push((world.go("aa", n, 0).await, "a"));
    }
    for n in 0..2 {
        all.push((world.go("bb", n, 0).await, "b"));
    }
    let mut sim = world.agent_with(1, Resources::default()).await;
    assert_eq!(world.turns(&mut sim, &all).await, "ababaaaa");
}

#[tokio::test]
async fn more_priority_is_first_across_projects() {
    let mut world = World::new().await;
    world.apply_small("aa", "").await;
    world.apply_small("bb", "").await;
    let mut all = vec![(world.go("aa", 0, 0).await, "a"), (world.go("aa", 1, 0).await, "a")];
    for n in 0..3 {
        all.push((world.go("bb", n, 5).await, "B"));
    }
    let mut sim = world.agent_with(1, Resources::default()).await;
    assert_eq!(world.turns(&mut sim, &all).await, "BBBaa");
}

#[tokio::test]
async fn limits_of_a_project_and_of_a_pool_hold() {
    let mut world = World::new().await;
    world.apply_small("aa", "max_running: 2\n").await;
    let mut sim = world.agent_with(8, Resources::default()).await;
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(world.go("aa", n, 0).await);
    }
    let first = sim.offer().await;
    assert_eq!([first.deployment, sim.offer().await.deployment], [ids[0], ids[1]]);
    let words = world.view(ids[2]).await.waiting_for.unwrap();
    assert_eq!(words, "a job of project `aa` to end: 2 run, which is its `max_running`");
    assert!(world.failing_rule(ids[2], "limit").await.is_some());
    sim.work(&world.engine, &first, &[]).await;
    assert_eq!(sim.offer().await.deployment, ids[2]);

    world.apply_small("bb", "").await;
    world.set_pool(Pool { max_per_project: Some(1), ..Pool::default() }).await;
    let (b1, b2) = (world.go("bb", 0, 0).await, world.go("bb", 1, 0).await);
    let offer = sim.offer().await;
    assert_eq!(offer.deployment, b1);
    assert!(world.view(b2).await.waiting_for.unwrap().contains("`max_per_project`"));
    sim.work(&world.engine, &offer, &[]).await;
    assert_eq!(sim.offer().await.deployment, b2);
}

#[tokio::test]
async fn what_jobs_ask_for_is_reserved_and_a_large_one_is_not_starved_by_small_ones() {
    let mut world = World::new().await;
    world.apply_small("small", "resources: {cpus: 1}\n").await;
    world.apply_small("large", "resources: {cpus: 4, memory: 2GiB}\n").await;
    let mut sim = world.agent_with(8, room(4, 8, 100)).await;
    world.go("small", 0, 0).await;
    let small = sim.offer().await;
    assert_eq!(small.steps[0].resources.cpus, Cpus(1_000));
    let large = world.go("large", 0, 0).await;
    let other = world.go("small", 1, 0).await;
    sim.accept(&world.engine, small.fence).await;
    assert_eq!(
        world.rejected_by(large, sim.id).await,
        ["cpus: has 3 of 4 cpus free, the job asks for 4"],
        "the numbers are said"
    );
    let kept = world.rejected_by(other, sim.id).await;
    assert!(kept[0].starts_with(&format!("kept: is being emptied for deployment `{large}`")), "{kept:?}");
    let agents = world.engine.agents().await.unwrap();
    assert_eq!(
        (agents[0].room, agents[0].reserved),
        (Some(sim.room), Resources { cpus: Cpus(1_000), ..Resources::default() })
    );
    sim.grant(&world.engine, small.fence, 0).await;
    sim.finish(&world.engine, small.fence, 0, code(0)).await.unwrap();
    let offer = sim.offer().await;
    assert_eq!(offer.deployment, large, "its turn, and now there is room");
    sim.work(&world.engine, &offer, &[]).await;
    assert_eq!(sim.offer().await.deployment, other);
}

#[tokio::test]
async fn what_no_agent_could_ever_do_is_said() {
    let mut world = World::new().await;
    world.apply_small("aa", "resources: {memory: 64GiB}\n").await;
    let sim = world.agent_with(2, room(4, 8, 100)).await;
    let id = world.go("aa", 0, 0).await;
    assert_eq!(
        world.rejected_by(id, sim.id).await,
        ["memory: gives a job at most 8GiB memory, the job asks for 64GiB"]
    );
    assert!(world.failing_rule(id, "possible").await.unwrap().starts_with("no agent of pool `default` could ever"));
    let _large = world.agent_with(2, room(4, 128, 100)).await;
    assert_eq!(world.failing_rule(id, "possible").await, None);
}

#[tokio::test]
async fn a_pool_spreads_or_packs_its_jobs() {
    let mut world = World::new().await;
    world.apply_small("aa", "").await;
    let (mut one, mut two) = (world.agent_with(4, room(4, 8, 9)).await, world.agent_with(4, room(4, 8, 9)).await);
    for n in 0..2 {
        world.go("aa", n, 0).await;
    }
    let (first, second) = (one.offer().await, two.offer().await);
    assert_ne!(first.deployment, second.deployment, "one each");
    world.set_pool(Pool { placement: Strategy::Pack, ..Pool::default() }).await;
    two.work(&world.engine, &second, &[]).await;
    two.heartbeat(&world.engine).await;
    let ids = [world.go("aa", 2, 0).await, world.go("aa", 3, 0).await];
    assert_eq!([one.offer().await.deployment, one.offer().await.deployment], ids, "the fuller one fills up");
}

#[tokio::test]
async fn a_job_that_waits_too_long_ends_and_one_that_was_claimed_does_not() {
    let mut world = World::new().await;
    world.apply_small("aa", "max_queue_wait: 2h\n").await;
    let mut sim = world.agent_with(1, Resources::default()).await;
    let claimed = world.go("aa", 0, 0).await;
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    sim.grant(&world.engine, offer.fence, 0).await;
    let waiting = world.go("aa", 1, 0).await;
    world.clock.advance(Duration::from_secs(2 * 3_600 - 1));
    sim.heartbeat(&world.engine).await;
    world.engine.tick().await.unwrap();
    assert_eq!(world.view(waiting).await.state, "queued");
    world.clock.advance(Duration::from_secs(2));
    sim.heartbeat(&world.engine).await;
    let view = world.until(waiting, "failed").await;
    assert!(view.reason.unwrap().contains("waited 2h for an agent to take it"));
    assert_ne!(world.view(claimed).await.state, "failed", "it was claimed in time");
}

/// An agent that fails at its own work until it is quarantined; answers the deployment that wanders back to the queue.
async fn quarantined(world: &mut World, sim: &mut Sim) -> DeploymentId {
    let id = world.go("aa", 0, 0).await;
    for _ in 0..3 {
        fail(world, sim).await;
    }
    id
}

/// Takes a job and fails before it is started, by the agent's own fault.
async fn fail(world: &World, sim: &mut Sim) {
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    sim.not_started(&world.engine, offer.fence, 0, true).await.unwrap();
    assert!(matches!(sim.told().await, ToAgent::Revoke { .. }));
    sim.heartbeat(&world.engine).await;
}

#[tokio::test]
async fn an_agent_that_fails_three_times_is_quarantined_until_a_probe_passes() {
    let mut world = World::new().await;
    world.apply_small("aa", "").await;
    let mut sim = world.agent_with(1, Resources::default()).await;
    let id = quarantined(&mut world, &mut sim).await;
    let why = world.rejected_by(id, sim.id).await;
    assert!(
        why[0].starts_with("quarantined: is quarantined since") && why[0].contains("image `tiny` is not there"),
        "{why:?}"
    );
    let shown = world.engine.agents().await.unwrap().remove(0);
    assert_eq!(shown.state, "quarantined");
    assert!(shown.quarantined.unwrap().contains("after 3 failures of its own"));

    let probe = async |world: &World, sim: &mut Sim, seconds: u64| {
        world.clock.advance(Duration::from_secs(seconds));
        sim.heartbeat(&world.engine).await;
        match sim.told().await {
            ToAgent::Probe { request } => request,
            other => panic!("{other:?}"),
        }
    };
    let request = probe(&world, &mut sim, 61).await;
    let answer = |request, error: Option<&str>| Said::Probed { request, error: error.map(str::to_owned) };
    sim.say(&world.engine, answer(request, Some("no engine"))).await.unwrap();
    assert!(world.rejected_by(id, sim.id).await[0].contains("the last: probe: no engine"));
    // The next one comes later, and the answer to the first counts no more.
    let second = probe(&world, &mut sim, 121).await;
    sim.say(&world.engine, answer(request, None)).await.unwrap();
    assert!(world.rejected_by(id, sim.id).await[0].starts_with("quarantined"));
    sim.say(&world.engine, answer(second, None)).await.unwrap();
    assert_eq!(sim.offer().await.deployment, id);
    let (object, lines) = (format!("agent/{}", sim.id), world.engine.audit(None, None, None).await.unwrap().events);
    let audit: Vec<_> = lines.into_iter().filter(|line| line.object == object).map(|line| line.action).collect();
    assert_eq!(audit, ["agent.quarantined", "agent.probe_failed", "agent.released"]);
}

#[tokio::test]
async fn a_person_releases_an_agent_and_a_probe_that_is_not_answered_has_failed() {
    let mut world = World::new().await;
    world.apply_small("aa", "").await;
    let mut sim = world.agent_with(1, Resources::default()).await;
    let id = quarantined(&mut world, &mut sim).await;
    world.clock.advance(Duration::from_secs(61));
    sim.heartbeat(&world.engine).await;
    assert!(matches!(sim.told().await, ToAgent::Probe { .. }));
    world.clock.advance(Duration::from_secs(121));
    sim.heartbeat(&world.engine).await;
    world.engine.tick().await.unwrap();
    assert!(world.rejected_by(id, sim.id).await[0].contains("it did not answer within 120 s"));
    world.restart().await;
    sim.hello(&world.engine, &[]).await;
    assert!(world.rejected_by(id, sim.id).await[0].starts_with("quarantined"), "a restart forgets nothing");
    world.engine.release_agent(sim.id, "anna").await.unwrap();
    assert_eq!(sim.offer().await.deployment, id);
    let nobody = AgentId::new(Timestamp::from_micros(1), [7; 10]);
    assert!(matches!(world.engine.release_agent(nobody, "anna").await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn a_job_that_runs_between_failures_keeps_an_agent_out_of_quarantine() {
    let mut world = World::new().await;
    world.apply_small("aa", "").await;
    let mut sim = world.agent_with(1, Resources::default()).await;
    world.go("aa", 0, 0).await;
    for fails in [2, 2] {
        for _ in 0..fails {
            fail(&world, &mut sim).await;
        }
        let offer = sim.offer().await;
        // The job itself fails, which says nothing against the agent.
        sim.work(&world.engine, &offer, &[1]).await;
        world.go("aa", 1, 0).await;
        sim.heartbeat(&world.engine).await;
    }
    assert_eq!(world.engine.agents().await.unwrap()[0].state, "connected");
}

#[tokio::test]
async fn an_agent_with_too_little_disk_gets_nothing_until_it_has_more() {
    let mut world = World::new().await;
    world.apply_small("aa", "resources: {disk: 5GiB}\n").await;
    let mut sim = world.agent_with(1, room(4, 8, 100)).await;
    let beat = async |world: &World, sim: &Sim, disk: plane::Disk| {
        let said = Said::Heartbeat { facts: Some(json!({})), engine: true, free: 1, disk };
        sim.say(&world.engine, said).await.unwrap();
    };
    let low = |what, left| LowWater { what, engine_root: None, left, low: 2 * GIB, again: 3 * GIB };
    let disk = plane::Disk { left: Some(GIB), low: vec![low(Scarce::Disk, GIB), low(Scarce::Inodes, 9)] };
    beat(&world, &sim, disk).await;
    let id = world.go("aa", 0, 0).await;
    let why = world.rejected_by(id, sim.id).await;
    assert_eq!(
        why[..2],
        [
            "disk: its disk has 1GiB left beyond its reserve, the job asks for 5GiB",
            "disk: its disk has 1GiB left, below 2GiB; it takes jobs again at 3GiB"
        ]
    );
    assert!(why[2].starts_with("inodes: "), "{why:?}");
    assert_eq!(world.engine.agents().await.unwrap()[0].low.len(), 2);
    beat(&world, &sim, plane::Disk { left: Some(4 * GIB), low: vec![] }).await;
    assert_eq!(
        world.rejected_by(id, sim.id).await,
        ["disk: its disk has 4GiB left beyond its reserve, the job asks for 5GiB"]
    );
    beat(&world, &sim, plane::Disk { left: Some(6 * GIB), low: vec![] }).await;
    assert_eq!(sim.offer().await.deployment, id);
}
