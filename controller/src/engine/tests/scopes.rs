//! Values that are set on the server for a step, a channel or a pool, secrets among them.

use super::*;

/// The second step has a name that keys of accounts begin with.
const SPEC: &str = "channels:\n  - {name: stable, prerelease: none, default: true}\n  - {name: beta, prerelease: 'beta'}\n\
    variables:\n  key: {secret: true}\n  word: file\nsteps:\n  \
    - {name: one, image: tiny, run: 'true', env: {K: '${{ secrets.key }}', W: '${{ vars.word }}'}}\n  \
    - {name: account, image: tiny, run: 'true', env: {K: '${{ secrets.key }}', W: '${{ vars.word }}'}}\n";

async fn set(world: &World, name: &str, value: &str, scope: Scope) -> Result<VariableView> {
    let new = NewVariable { name: name.to_owned(), value: Secret::new(value.to_owned()), secret: name == "key", scope };
    world.engine.set_variable("shop", new, "anna").await
}

/// What both steps of a release are given, and what is masked in the first.
async fn given(world: &mut World, sim: &mut Sim, version: &str) -> (Vec<String>, Vec<String>) {
    world.deploy_release(version, "dev").await.unwrap();
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    let (mut values, mut masked) = (Vec::new(), Vec::new());
    for slot in [0, 1] {
        let grant = sim.grant(&world.engine, offer.fence, slot).await;
        values.extend(grant.env.iter().map(|(_, value)| value.expose().to_owned()));
        if slot == 0 {
            masked = grant.secrets.iter().map(|secret| secret.expose().to_owned()).collect();
            masked.sort();
        }
        sim.finish(&world.engine, offer.fence, slot, code(0)).await.unwrap();
    }
    (values, masked)
}

#[tokio::test]
async fn a_step_and_a_channel_have_secrets_and_values_of_their_own() {
    let mut world = World::new().await;
    world.apply(SPEC).await;
    let mut sim = world.agent().await;
    for (name, value, scope) in [
        ("key", "canary-all", Scope::All),
        ("key", "canary-beta", Scope::Channel("beta".to_owned())),
        ("key", "canary-two", Scope::Step("account".to_owned())),
        ("word", "pool", Scope::Pool("default".to_owned())),
        ("word", "two", Scope::Step("account".to_owned())),
    ] {
        set(&world, name, value, scope).await.unwrap();
    }
    world.release("1.0.0").await;
    world.release("2.0.0-beta").await;
    // What is set afterwards is for later releases.
    set(&world, "key", "canary-late", Scope::Step("one".to_owned())).await.unwrap();
    let (values, masked) = given(&mut world, &mut sim, "1.0.0").await;
    assert_eq!(values, ["canary-all", "pool", "canary-two", "two"]);
    assert_eq!(masked, ["canary-all", "canary-two"], "another step's secret is masked all the same");
    let (values, masked) = given(&mut world, &mut sim, "2.0.0-beta").await;
    assert_eq!(values, ["canary-beta", "pool", "canary-two", "two"]);
    assert_eq!(masked, ["canary-beta", "canary-two"]);
    world.restart().await;
    let told = world
        .engine
        .explain_variable("shop", "key", "dev", (Some("beta".to_owned()), Some("account".to_owned())))
        .await;
    let told = told.unwrap();
    assert!(told.from.ends_with("for step `account`"), "{told:?}");
    assert_eq!(told.beaten.len(), 2);
    let shown = serde_json::to_string(&world.engine.variables("shop").await.unwrap()).unwrap();
    assert!(
        shown.contains(r#""step":"account""#) && shown.contains(r#""channel":"beta""#) && !shown.contains("canary"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_scope_has_to_be_one_that_there_is() {
    let world = World::new().await;
    world.apply(SPEC).await;
    for scope in
        [Scope::Step("three".to_owned()), Scope::Channel("nightly".to_owned()), Scope::Environment("moon".to_owned())]
    {
        assert!(matches!(set(&world, "word", "x", scope).await, Err(Error::NotFound { .. })));
    }
    assert!(matches!(set(&world, "word", "x", Scope::Pool("No Name".to_owned())).await, Err(Error::Invalid { .. })));
    world.engine.create_library("common", "anna").await.unwrap();
    let new = NewVariable {
        name: "a".to_owned(),
        value: Secret::new("x".to_owned()),
        secret: false,
        scope: Scope::Step("one".to_owned()),
    };
    assert!(matches!(world.engine.set_library_variable("common", new, "anna").await, Err(Error::Invalid { .. })));
}

#[tokio::test]
async fn what_is_asked_for_has_to_be_of_its_type() {
    let mut world = World::new().await;
    world
        .apply("variables:\n  n: {prompt: how many, type: number, options: [1, 2]}\nsteps:\n  - {name: one, image: tiny, run: 'true'}\n")
        .await;
    let with = |value: &str| NewDeployment {
        variables: BTreeMap::from([("n".to_owned(), value.to_owned())]),
        ..NewDeployment::default()
    };
    for (value, words) in [("many", "a number is wanted"), ("3", "one of `1`, `2` is wanted")] {
        let refused = world.ask(with(value)).await.unwrap_err();
        assert!(matches!(&refused, Error::Invalid { .. }) && refused.to_string().contains(words), "{refused}");
    }
    world.ask(with("2")).await.unwrap();
    world.ask(with("")).await.unwrap();
}
