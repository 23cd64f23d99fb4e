//! Deployments of a working tree: what they go by, where they may go, and what they leave alone.

use super::*;

const PHASES: &str =
    "lifecycle:\n  - {phase: test, environments: [dev]}\n  - {phase: stage, environments: [staging]}\n";
const APPLIED: &str = "steps:\n  - {name: one, image: tiny, run: 'true'}\n";
const OWN: &str = "variables: {word: mine}\nsteps:\n  - {name: mine, image: tiny, run: 'true', env: {W: '${{ vars.word }}'}, timeout: 60s}\n";

/// A wish for the working tree with this below the environments of `shop`.
fn tree(rest: &str, environment: &str) -> NewDeployment {
    let spec = format!("{HEAD}{rest}");
    let local = NewLocal { spec, commit: Some("c0ffee1".to_owned()), dirty: Some(true) };
    NewDeployment { local: Some(local), environment: environment.to_owned(), ..NewDeployment::default() }
}

#[tokio::test]
async fn it_goes_by_its_own_spec_and_leaves_the_project_alone() {
    let mut world = World::new().await;
    world.apply(APPLIED).await;
    let mut sim = world.agent().await;
    world.release("1.0.0").await;
    world.pass(&mut sim, "1.0.0", "dev").await;
    let before = (
        world.engine.spec("shop").await.unwrap(),
        world.engine.releases("shop", ReleaseFilter::default()).await.unwrap(),
    );

    let id = world.ask(tree(OWN, "dev")).await.unwrap();
    let offer = sim.offer().await;
    assert_eq!(offer.deployment, id);
    world.restart().await;
    sim.hello(&world.engine, &[offer.fence]).await;
    sim.accept(&world.engine, offer.fence).await;
    let grant = sim.grant(&world.engine, offer.fence, 0).await;
    assert_eq!(grant.env.iter().map(|(_, value)| value.expose().to_owned()).collect::<Vec<_>>(), ["mine"]);
    sim.finish(&world.engine, offer.fence, 0, code(0)).await.unwrap();
    let view = world.until(id, "succeeded").await;
    assert_eq!(standing(&view), "mine:succeeded");
    let local = view.local.unwrap();
    assert_eq!(
        (local.commit.as_deref(), local.dirty, local.revision),
        (Some("c0ffee1"), Some(true), before.0.revision)
    );
    assert_eq!(
        (
            world.engine.spec("shop").await.unwrap(),
            world.engine.releases("shop", ReleaseFilter::default()).await.unwrap()
        ),
        before
    );
    let event = &world.engine.timeline(id).await.unwrap()[0];
    assert_eq!((event.action.as_str(), event.actor.as_str()), ("deployment.created_local", "anna"));
    assert_eq!(
        (&event.detail["local"]["spec"], &event.detail["local"]["commit"]),
        (&json!(local.spec), &json!("c0ffee1"))
    );

    // What is there now is not 1.0.0, so that is what one goes back to.
    let back = world.engine.rollback_target("shop", "dev").await.unwrap();
    assert_eq!((back.as_str(), world.release("1.0.1").await.version.as_str()), ("1.0.0", "1.0.1"));
    let next = world.engine.create_release("shop", NewRelease::default(), "anna").await.unwrap();
    assert_eq!(next.version, "1.0.2", "no version is counted");
}

#[tokio::test]
async fn nothing_else_deploys_it() {
    let mut world = World::new().await;
    world.apply(&format!("{PHASES}{APPLIED}")).await;
    let id = world.ask(tree(&format!("{PHASES}{OWN}"), "dev")).await.unwrap();
    let version = world.view(id).await.release;
    let listed =
        world.engine.releases("shop", ReleaseFilter { local: true, ..ReleaseFilter::default() }).await.unwrap();
    assert_eq!(
        listed.iter().map(|row| (row.version.as_str(), row.local)).collect::<Vec<_>>(),
        [(version.as_str(), true)]
    );
    assert_eq!(world.engine.release("shop", &version).await.unwrap().steps[0].name, "mine");
    let (code, words) = no(world.deploy_release(&version, "dev").await);
    assert_eq!((code, words.contains("is no release")), ("local_release", true), "{words}");
    let promoted = world.engine.promote("shop", &version, "op", BTreeMap::new(), "anna").await;
    assert_eq!(no(promoted).0, "local_release");
    let above = "version: 1\nproject: above\nenvironments: [{name: dev}]\nsteps:\n  - {name: below, deploy-release: {project: shop}}\n";
    world.engine.apply_project(above.as_bytes(), "anna").await.unwrap();
    let none = world.engine.create_release("above", NewRelease::default(), "anna").await;
    assert_eq!(no(none).0, "no_child_release", "it is not the newest release either");
}

#[tokio::test]
async fn the_project_as_it_was_applied_says_where_it_may_go() {
    let mut world = World::new().await;
    world.apply(&format!("{PHASES}{APPLIED}")).await;
    assert_eq!(no(world.ask(tree(OWN, "live")).await).0, "local_protected");
    let (code, words) = no(world.ask(tree(OWN, "staging")).await);
    assert_eq!((code, words.contains("phase `test`")), ("local_phase", true), "its own spec has no lifecycle: {words}");
    let mut open = tree(OWN, "live");
    open.local = open.local.map(|local| NewLocal { spec: local.spec.replace(", protected: true", ""), ..local });
    assert_eq!(no(world.ask(open).await).0, "local_protected", "it cannot take the protection away");
    let mut new = tree(OWN, "mine");
    new.local = new
        .local
        .map(|local| NewLocal { spec: local.spec.replace("{name: dev}", "{name: dev}, {name: mine}"), ..local });
    assert!(matches!(world.ask(new).await, Err(Error::NotFound { kind: "environment", .. })));
    let mut other = tree(OWN, "dev");
    other.local =
        other.local.map(|local| NewLocal { spec: local.spec.replace("project: shop", "project: other"), ..local });
    assert_eq!(no(world.ask(other).await).0, "other_project");
    let both = NewDeployment { release: Some("1.0.0".to_owned()), ..tree(OWN, "dev") };
    assert!(matches!(world.ask(both).await, Err(Error::Invalid { field, .. }) if field == "local"));
    assert!(matches!(world.ask(tree("steps: []\n", "dev")).await, Err(Error::Spec(_))));
    assert_eq!(world.engine.deployments(DeploymentFilter::default()).await.unwrap().len(), 0, "nothing was queued");
}

#[tokio::test]
async fn it_waits_for_its_turn_and_the_gate_is_asked_again() {
    let mut world = World::new().await;
    world.apply(APPLIED).await;
    let mut sim = world.agent().await;
    let (first, offer) = world.running(&mut sim).await;
    let id = world.ask(tree(OWN, "dev")).await.unwrap();
    assert_eq!(world.view(id).await.state, "waiting", "one at a time in an environment");
    let protected = format!("{HEAD}{APPLIED}").replace("{name: dev}", "{name: dev, protected: true}");
    world.engine.apply_project(protected.as_bytes(), "eve").await.unwrap();
    sim.finish(&world.engine, offer.fence, 0, code(0)).await.unwrap();
    world.until(first, "succeeded").await;
    let view = world.until(id, "failed").await;
    assert!(view.reason.unwrap().contains("is protected"), "the environment was protected meanwhile");
}

#[tokio::test]
async fn the_same_operation_is_the_same_tree() {
    let world = World::new().await;
    world.apply(APPLIED).await;
    let ask = async |new: NewDeployment| {
        let new = NewDeployment { project: "shop".to_owned(), operation_id: "op".to_owned(), ..new };
        world.engine.create_deployment(new, "anna").await
    };
    let id = ask(tree(OWN, "dev")).await.unwrap();
    assert_eq!(ask(tree(OWN, "dev")).await.unwrap(), id);
    assert_eq!(no(ask(tree(APPLIED, "dev")).await).0, "operation_reused");
    let applied = NewDeployment { environment: "dev".to_owned(), ..NewDeployment::default() };
    assert_eq!(no(ask(applied).await).0, "operation_reused");
}
