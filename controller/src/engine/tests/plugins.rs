//! Plugins of a pool: who is told of them and who gets no job before it has them. And what else a pool says of images.

use longshore_core::offer::Pull;
use longshore_core::plugins::{Kind, Origin, Plugin, Readiness, digest};
use longshore_core::pool::Pool;

use super::*;

fn plugin(name: &str) -> Plugin {
    Plugin {
        kind: Kind::Resource,
        name: name.to_owned(),
        version: "1.0.0".to_owned(),
        checksum: format!("sha256:{}", "a".repeat(64)),
        from: Origin::Folder { folder: "/srv".to_owned() },
    }
}

fn readiness(set: &[Plugin], ready: bool, message: &str) -> Said {
    Said::Plugins(Readiness { digest: digest(set), ready, message: message.to_owned() })
}

async fn set(world: &World, plugins: Vec<Plugin>) {
    let pool = Pool { plugins, ..Pool::default() };
    world.engine.set_pool("default", pool, None, "anna").await.unwrap();
}

async fn rejected(world: &World, id: DeploymentId) -> Vec<(String, String)> {
    let explained = world.engine.explain(id).await.unwrap();
    let all = explained.agents.into_iter().flat_map(|agent| agent.rejected_by);
    all.map(|found| (found.predicate, found.message)).collect()
}

/// What the list of agents says of the first one's plugins: ready, and the words.
async fn shown(world: &World) -> Option<(bool, String)> {
    let plugins = world.engine.agents().await.unwrap().remove(0).plugins?;
    assert!(!plugins.digest.is_empty());
    Some((plugins.ready, plugins.message))
}

#[tokio::test]
async fn an_agent_gets_no_job_before_it_has_the_pool_s_plugins() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let wanted = vec![plugin("random")];
    assert_eq!(shown(&world).await, None, "the pool lists none");
    set(&world, wanted.clone()).await;
    assert_eq!(sim.told().await, ToAgent::Plugins(wanted.clone()));
    assert_eq!(shown(&world).await, Some((false, "has not begun with the pool's plugins yet".to_owned())));
    let id = world.deploy().await;
    let why = rejected(&world, id).await;
    assert!(why[0].0 == "plugins" && why[0].1.contains("not begun"), "{why:?}");
    sim.say(&world.engine, readiness(&wanted, false, "0 of 1 plugins are there")).await.unwrap();
    let why = rejected(&world, id).await;
    assert!(why[0].0 == "plugins" && why[0].1.contains("0 of 1 plugins"), "{why:?}");
    assert_eq!(shown(&world).await, Some((false, "0 of 1 plugins are there".to_owned())));
    sim.say(&world.engine, readiness(&wanted, true, "1 plugins")).await.unwrap();
    assert_eq!(shown(&world).await, Some((true, "1 plugins".to_owned())));
    let offer = sim.offer().await;
    assert_eq!(offer.deployment, id);
    let listed = serde_json::to_value(world.engine.agents().await.unwrap().remove(0)).unwrap();
    assert_eq!(listed["plugins"]["ready"], json!(true));
    set(&world, vec![]).await;
    assert!(serde_json::to_value(world.engine.agents().await.unwrap().remove(0)).unwrap().get("plugins").is_none());
}

#[tokio::test]
async fn a_welcome_says_the_plugins_and_an_agent_that_knows_none_is_not_asked() {
    let mut world = World::new().await;
    let wanted = vec![plugin("random")];
    set(&world, wanted.clone()).await;
    let agent = world.enroll("default").await;
    let mut sim = Sim { plugins: None, ..Sim::new(agent, 1) };
    sim.hello(&world.engine, &[]).await;
    let id = world.deploy().await;
    let why = rejected(&world, id).await;
    assert!(why[0].0 == "plugins" && why[0].1.contains("upgrade it"), "{why:?}");
    // It has them from before: the job is its own at once.
    sim.plugins = Some(Readiness { digest: digest(&wanted), ready: true, message: String::new() });
    sim.hello(&world.engine, &[]).await;
    let offer = sim.offer().await;
    assert_eq!(offer.deployment, id);
    // Another set means other plugins; the same ones from elsewhere do not.
    let moved = Plugin { from: Origin::Mirror { mirror: "https://m".to_owned() }, ..plugin("random") };
    set(&world, vec![moved]).await;
    set(&world, vec![plugin("aws")]).await;
    assert_eq!(sim.told().await, ToAgent::Plugins(vec![plugin("aws")]));
    // A pool that wants none any more.
    set(&world, vec![]).await;
    assert_eq!(sim.told().await, ToAgent::Plugins(vec![]));
}

#[tokio::test]
async fn an_offer_says_the_pool_s_policy_and_what_the_release_holds() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (first, running) = world.running(&mut sim).await;
    let version = world.view(first).await.release;
    sim.finish(&world.engine, running.fence, 0, code(1)).await.unwrap();
    let pool = Pool { pull: Some(Pull::Always), ..Pool::default() };
    world.engine.set_pool("default", pool, None, "anna").await.unwrap();
    let new = NewDeployment {
        project: "shop".to_owned(),
        environment: "dev".to_owned(),
        release: Some(version),
        operation_id: "again".to_owned(),
        ..NewDeployment::default()
    };
    world.engine.create_deployment(new, "anna").await.unwrap();
    let offer = sim.offer().await;
    let step = &offer.steps[0];
    assert_eq!((step.pull, step.digest.as_deref()), (Pull::Always, Some("sha256:1")));
}

#[tokio::test]
async fn what_an_agent_notes_of_a_step_is_in_the_timeline() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, running) = world.running(&mut sim).await;
    let fence = running.fence;
    let note =
        |message: String| Said::Progress { fence, step: 0, phase: "note".to_owned(), message, current: 0, total: 0 };
    sim.say(&world.engine, note("the registry is away".to_owned())).await.unwrap();
    sim.say(&world.engine, note("x".repeat(5_000))).await.unwrap();
    let timeline = world.engine.timeline(id).await.unwrap();
    let notes: Vec<_> = timeline.iter().filter(|event| event.action == "step.note").collect();
    assert_eq!((notes.len(), &notes[0].detail["message"]), (2, &json!("the registry is away")));
    assert_eq!(notes[1].detail["message"].as_str().unwrap().len(), 1_000);
    assert_eq!(notes[0].detail["step"], json!("one"));
}
