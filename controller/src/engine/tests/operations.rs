//! Operations on a stack outside the lifecycle.

use longshore_core::offer::{Action, Operation as Offered};
use longshore_core::spec::Operation;
use longshore_core::step::preview_slot;

use super::*;

const PHASES: &str = "lifecycle:\n  - {phase: test, environments: [dev]}\n  - {phase: live, environments: [live]}\n";
const STEPS: &str = "variables:\n  ticket: {prompt: which, required: true}\nsteps:\n  \
    - {name: build, image: tiny, run: 'true'}\n  \
    - {name: infra, image: tiny, pulumi: {operation: up, backend: 'file:///state'}, env: {URL: '${{ steps.build.outputs.url }}', T: '${{ vars.ticket }}'}}\n";
/// Stack of the project in `dev`.
const STACK: &str = "pulumi/file:///state/shop/dev";

fn operation(operation: Operation) -> NewDeployment {
    let confirm = (operation == Operation::Destroy).then(|| "dev".to_owned());
    NewDeployment { operation: Some(NewOperation { operation, step: None, confirm }), ..NewDeployment::default() }
}

/// A world with release 1.0.0, which can be deployed.
async fn world() -> (World, Sim) {
    let world = World::new().await;
    world.apply(&format!("{PHASES}{STEPS}")).await;
    let package = Some(world.program().await);
    let new = NewRelease { version: Some("1.0.0".to_owned()), package, ..NewRelease::default() };
    world.engine.create_release("shop", new, "anna").await.unwrap();
    let sim = world.agent().await;
    (world, sim)
}

/// Deploys release 1.0.0 to `dev`; its first step puts out an URL.
async fn deployed(world: &mut World, sim: &mut Sim, end: i32) -> DeploymentId {
    let wish = NewDeployment {
        release: Some("1.0.0".to_owned()),
        variables: BTreeMap::from([("ticket".to_owned(), "OPS-7".to_owned())]),
        ..NewDeployment::default()
    };
    let id = world.ask(wish).await.unwrap();
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    sim.grant(&world.engine, offer.fence, 0).await;
    let outputs = BTreeMap::from([("url".to_owned(), json!("http://shop"))]);
    sim.finish(&world.engine, offer.fence, 0, ExitRecord { outputs, ..code(0) }).await.unwrap();
    sim.grant(&world.engine, offer.fence, 1).await;
    let state = if end == 0 { "succeeded" } else { "failed" };
    let events = [format!(r#"{{"summaryEvent":{{"resourceChanges":{{"create":1}},"result":"{state}"}}}}"#)];
    sim.ended(world, offer.fence, 1, code(end), &[events[0].as_str()]).await;
    world.until(id, state).await;
    id
}

/// Takes the job of an operation and answers what its only step is to do.
async fn begun(world: &World, sim: &mut Sim) -> (Offer, longshore_core::offer::PulumiAction, Vec<(String, String)>) {
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    assert_eq!(offer.steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(), ["infra"]);
    let grant = sim.grant(&world.engine, offer.fence, offer.steps[0].index).await;
    let env = grant.env.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect();
    let Action::Pulumi(action) = grant.action else { panic!() };
    (offer, action, env)
}

#[tokio::test]
async fn one_step_of_the_release_that_is_there_runs_with_its_values_and_moves_no_release() {
    let (mut world, mut sim) = world().await;
    let first = deployed(&mut world, &mut sim, 0).await;
    for (asked, told) in [
        (Operation::Preview, Offered::Preview),
        (Operation::Up, Offered::Up),
        (Operation::Refresh, Offered::Refresh),
        (Operation::Destroy, Offered::Destroy),
    ] {
        let id = world.ask(operation(asked)).await.unwrap();
        let (offer, action, env) = begun(&world, &mut sim).await;
        assert_eq!((action.operation, action.stack.as_str()), (told, "dev"));
        assert_eq!(env, [("URL".to_owned(), "http://shop".to_owned()), ("T".to_owned(), "OPS-7".to_owned())]);
        let locks: Vec<String> = world.engine.locks().await.unwrap().into_iter().map(|lock| lock.key).collect();
        assert_eq!(locks.contains(&STACK.to_owned()), asked != Operation::Preview, "{locks:?}");
        let events = [r#"{"summaryEvent":{"resourceChanges":{"same":1},"result":"succeeded"}}"#];
        sim.ended(&world, offer.fence, 0, code(0), &events).await;
        let view = world.until(id, "succeeded").await;
        let shown = view.operation.unwrap();
        assert_eq!((shown.kind.as_str(), shown.step.as_str(), shown.drift), (asked.as_str(), "infra", None));
        assert_eq!((view.release.as_str(), view.steps.len()), ("1.0.0", 1));
    }
    assert_eq!(world.view(first).await.operation, None);
    // Destroyed or not: what counts for the lifecycle are deployments.
    let target = world.engine.next_phase("shop", "1.0.0").await.unwrap();
    assert_eq!(target, ("live".to_owned(), vec!["live".to_owned()]));
}

#[tokio::test]
async fn a_destroy_needs_the_name_of_its_stack() {
    let (mut world, mut sim) = world().await;
    deployed(&mut world, &mut sim, 0).await;
    for typed in [None, Some("live"), Some("")] {
        let confirm = typed.map(str::to_owned);
        let operation = Some(NewOperation { operation: Operation::Destroy, step: None, confirm });
        let (code, words) = no(world.ask(NewDeployment { operation, ..NewDeployment::default() }).await);
        assert_eq!(code, "confirm_needed");
        assert!(words.contains("every resource") && words.contains("`dev`"), "{words}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_only_previewed() {
    let (mut world, mut sim) = world().await;
    assert_eq!(no(world.ask(operation(Operation::Drift)).await).0, "nothing_there");
    // A deployment that failed left something, and it has to be possible to clear that away.
    deployed(&mut world, &mut sim, 1).await;
    world.ask(operation(Operation::Destroy)).await.unwrap();
    let (offer, ..) = begun(&world, &mut sim).await;
    sim.ended(&world, offer.fence, 0, code(0), &[r#"{"summaryEvent":{"resourceChanges":{},"result":"succeeded"}}"#])
        .await;
    world.release("2.0.0").await;
    let named = |what| NewDeployment { release: Some("2.0.0".to_owned()), ..operation(what) };
    for what in [Operation::Up, Operation::Refresh, Operation::Destroy, Operation::Unlock] {
        assert_eq!(no(world.ask(named(what)).await).0, "other_release");
    }
    // The second one has no package, so no program: that is what is said, not that it is somewhere else.
    assert_eq!(no(world.ask(named(Operation::Preview)).await).0, "variable_required");
}

#[tokio::test]
async fn a_blocked_release_is_cleared_away_but_not_applied() {
    let (mut world, mut sim) = world().await;
    deployed(&mut world, &mut sim, 0).await;
    world.engine.block_release("shop", "1.0.0", Some("CVE".to_owned()), "anna").await.unwrap();
    assert_eq!(no(world.ask(operation(Operation::Up)).await).0, "release_blocked");
    world.ask(operation(Operation::Destroy)).await.unwrap();
    begun(&world, &mut sim).await;
}

#[tokio::test]
async fn an_operation_waits_for_what_goes_on_and_a_preview_does_not() {
    let (mut world, mut sim) = world().await;
    deployed(&mut world, &mut sim, 0).await;
    world.ask(operation(Operation::Refresh)).await.unwrap();
    let (offer, ..) = begun(&world, &mut sim).await;
    let drift = world.ask(operation(Operation::Drift)).await.unwrap();
    let view = world.view(drift).await;
    assert_eq!(view.state, "waiting", "{view:?}");
    world.ask(operation(Operation::Preview)).await.unwrap();
    let (other, ..) = begun(&world, &mut sim).await;
    assert_ne!(other.deployment, drift);
    let events = [r#"{"summaryEvent":{"resourceChanges":{"same":1},"result":"succeeded"}}"#];
    sim.ended(&world, other.fence, 0, code(0), &events).await;
    assert_eq!(world.view(drift).await.state, "waiting");
    sim.ended(&world, offer.fence, 0, code(0), &events).await;
    let (offer, action, _) = begun(&world, &mut sim).await;
    assert_eq!((offer.deployment, action.operation), (drift, Offered::Drift));
    let moved = [r#"{"summaryEvent":{"resourceChanges":{"same":1,"update":2},"result":"succeeded"}}"#];
    sim.ended(&world, offer.fence, 0, code(0), &moved).await;
    let view = world.until(drift, "failed").await;
    assert_eq!(view.operation.unwrap().drift, Some(true));
    assert!(view.steps[0].reason.as_ref().unwrap().contains("2 to update"), "{:?}", view.steps[0].reason);
}

#[tokio::test]
async fn an_unlock_is_told_of_attempts_at_this_stack_that_are_over_and_of_no_other() {
    let (mut world, mut sim) = world().await;
    deployed(&mut world, &mut sim, 0).await;
    let host = |offer: &Offer| longshore_core::attempt::hostname(offer.fence.attempt);
    world.ask(operation(Operation::Refresh)).await.unwrap();
    let (refresh, ..) = begun(&world, &mut sim).await;
    let events = [r#"{"summaryEvent":{"resourceChanges":{"same":1},"result":"succeeded"}}"#];
    sim.ended(&world, refresh.fence, 0, code(0), &events).await;
    world.ask(operation(Operation::Preview)).await.unwrap();
    let (preview, ..) = begun(&world, &mut sim).await;
    sim.ended(&world, preview.fence, 0, code(0), &events).await;
    world.ask(operation(Operation::Unlock)).await.unwrap();
    let (unlock, action, _) = begun(&world, &mut sim).await;
    assert_eq!(action.operation, Offered::Unlock);
    assert!(action.over.contains(&host(&refresh)));
    assert_eq!(action.over.len(), 2, "and that of the deployment");
    assert!(!action.over.contains(&host(&preview)), "it never held the stack");
    assert!(!action.over.contains(&host(&unlock)), "it is not over");
    sim.finish(&world.engine, unlock.fence, 0, code(0)).await.unwrap();
    world.until(unlock.deployment, "succeeded").await;
}

#[tokio::test]
async fn an_agent_that_does_not_know_an_operation_starts_nothing() {
    let (mut world, mut sim) = world().await;
    deployed(&mut world, &mut sim, 0).await;
    sim.operations = false;
    sim.hello(&world.engine, &[]).await;
    let id = world.ask(operation(Operation::Drift)).await.unwrap();
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    let said = sim.confirm(&world.engine, offer.fence, 0, "n").await.unwrap();
    assert!(matches!(said, Confirmed::Failed(_)), "{said:?}");
    assert!(world.until(id, "failed").await.steps[0].reason.as_ref().unwrap().contains("too old"));
}

#[tokio::test]
async fn what_writes_to_a_protected_environment_is_approved_first() {
    let (mut world, mut sim) = world().await;
    deployed(&mut world, &mut sim, 0).await;
    let ticket = || BTreeMap::from([("ticket".to_owned(), "OPS-8".to_owned())]);
    let live = |what: NewDeployment| NewDeployment { environment: "live".to_owned(), variables: ticket(), ..what };
    let release = Some("1.0.0".to_owned());
    world.ask(live(NewDeployment { release, ..NewDeployment::default() })).await.unwrap();
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    sim.grant(&world.engine, offer.fence, 0).await;
    let outputs = BTreeMap::from([("url".to_owned(), json!("http://shop"))]);
    sim.finish(&world.engine, offer.fence, 0, ExitRecord { outputs, ..code(0) }).await.unwrap();
    sim.grant(&world.engine, offer.fence, 1).await;
    sim.finish(&world.engine, offer.fence, 1, code(1)).await.unwrap();
    let confirm = Some("live".to_owned());
    let operation = Some(NewOperation { operation: Operation::Destroy, step: None, confirm });
    let id = world.ask(live(NewDeployment { operation, ..NewDeployment::default() })).await.unwrap();
    let view = world.until(id, "waiting").await;
    assert_eq!(standing(&view), "approve:waiting infra:queued");
    let asked = world.engine.approvals(Some(id)).await.unwrap().pop().unwrap();
    let vote =
        |person: &str| Vote { granted: true, comment: "fine".to_owned(), person: person.to_owned(), teams: Vec::new() };
    assert_eq!(no(world.engine.vote(asked.id.parse().unwrap(), vote("anna")).await).0, "own_deployment");
    world.engine.vote(asked.id.parse().unwrap(), vote("bob")).await.unwrap();
    let offer = sim.offer().await;
    assert_eq!((offer.deployment, offer.steps[0].index), (id, 1));
    sim.accept(&world.engine, offer.fence).await;
    sim.grant(&world.engine, offer.fence, 1).await;
    let events = [r#"{"summaryEvent":{"resourceChanges":{"delete":1},"result":"succeeded"}}"#];
    sim.ended(&world, offer.fence, 1, code(0), &events).await;
    world.until(id, "succeeded").await;
    // `up` there is bound to its plan, as in a deployment.
    let operation = Some(NewOperation { operation: Operation::Up, step: None, confirm: None });
    let up = world.ask(live(NewDeployment { operation, ..NewDeployment::default() })).await.unwrap();
    let preview = sim.offer().await;
    assert_eq!((preview.deployment, preview.steps[0].index), (up, preview_slot(0)));
}

/// It keeps nothing to itself, so nothing but its time tells of it.
#[tokio::test]
async fn a_preview_whose_time_came_while_nobody_was_there_begins_at_the_next_start() {
    let (mut world, mut sim) = world().await;
    deployed(&mut world, &mut sim, 0).await;
    let not_before = Some(world.clock.now().after(Duration::from_secs(60)));
    let id = world.ask(NewDeployment { not_before, ..operation(Operation::Preview) }).await.unwrap();
    assert_eq!(world.view(id).await.state, "waiting");
    world.clock.advance(Duration::from_secs(3_600));
    world.restart().await;
    sim.hello(&world.engine, &[]).await;
    assert_eq!(begun(&world, &mut sim).await.0.deployment, id);
}
