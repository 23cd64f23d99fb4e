//! What a library gives to the projects that include it.

use super::*;

const SPEC: &str = "version: 1\nproject: web\nenvironments: [{name: dev}, {name: live}]\nlibraries: [common, team]\n\
    variables: {region: file, token: {secret: true}}\nsteps:\n  - name: one\n    image: tiny\n    run: x\n    env:\n\
    \x20     REGION: ${{ vars.region }}\n      TIER: ${{ vars.tier }}\n      KEY: ${{ secrets.key }}\n      TOKEN: ${{ secrets.token }}\n";

impl World {
    async fn library(&self, library: &str, name: &str, value: &str, (secret, environment): (bool, Option<&str>)) {
        let value = Secret::new(value.to_owned());
        let scope = environment.map_or(Scope::All, |name| Scope::Environment(name.to_owned()));
        let new = NewVariable { name: name.to_owned(), value, secret, scope };
        self.engine.set_library_variable(library, new, "anna").await.unwrap();
    }

    async fn web(&self, environment: &str, operation: &str, release: Option<&str>) -> Result<DeploymentId> {
        let new = NewDeployment {
            project: "web".to_owned(),
            environment: environment.to_owned(),
            operation_id: operation.to_owned(),
            release: release.map(str::to_owned),
            ..NewDeployment::default()
        };
        self.engine.create_deployment(new, "anna").await
    }
}

/// Starts the first step of what waits; its environment, and what is masked.
async fn started(world: &World, sim: &mut Sim) -> (Vec<(String, String)>, Vec<String>) {
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    let grant = sim.grant(&world.engine, offer.fence, 0).await;
    assert_eq!(sim.finish(&world.engine, offer.fence, 0, code(0)).await.unwrap(), None);
    let env = grant.env.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect();
    (env, grant.secrets.iter().map(|secret| secret.expose().to_owned()).collect())
}

#[tokio::test]
async fn values_reach_the_step_by_the_documented_order_and_are_frozen() {
    let world = World::new().await;
    let mut sim = world.agent().await;
    let unknown = world.engine.apply_project(SPEC.as_bytes(), "anna").await.unwrap_err();
    assert!(matches!(unknown, Error::Spec(errors) if errors[0].line == 4), "no library yet");
    for name in ["common", "team"] {
        world.engine.create_library(name, "anna").await.unwrap();
    }
    world.library("common", "tier", "common", (false, None)).await;
    let missing = world.engine.apply_project(SPEC.as_bytes(), "anna").await.unwrap_err();
    assert!(
        matches!(missing, Error::Spec(errors) if errors.len() == 1 && errors[0].line == 13 && errors[0].message.contains("`key`"))
    );
    world.library("common", "key", "canary-common", (true, None)).await;
    world.library("team", "tier", "team", (false, None)).await;
    world.library("team", "region", "team-live", (false, Some("live"))).await;
    world.library("team", "unused", "canary-unused", (true, None)).await;
    world.library("team", "token", "canary-token", (true, None)).await;
    assert!(world.engine.apply_project(SPEC.as_bytes(), "anna").await.unwrap().changed);

    world.web("dev", "1", None).await.unwrap();
    let (env, masked) = started(&world, &mut sim).await;
    let expected = [("REGION", "file"), ("TIER", "team"), ("KEY", "canary-common"), ("TOKEN", "canary-token")];
    assert_eq!(env, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert!(
        masked.contains(&"canary-common".to_owned()) && !masked.contains(&"canary-unused".to_owned()),
        "{masked:?}"
    );

    // The release holds what was there when it was made.
    world.library("team", "tier", "new", (false, None)).await;
    world.library("common", "key", "canary-new", (true, None)).await;
    world.web("live", "2", Some("0.0.1")).await.unwrap();
    let (env, _) = started(&world, &mut sim).await;
    assert_eq!(env[0].1, "team-live", "narrower wins");
    assert_eq!((env[1].1.as_str(), env[2].1.as_str()), ("team", "canary-common"));
    let held = world.engine.release("web", "0.0.1").await.unwrap().variables;
    let of =
        |name: &str| held.iter().filter(|held| held.name == name).map(|held| held.library.clone()).collect::<Vec<_>>();
    assert_eq!(of("tier"), [Some("common".to_owned()), Some("team".to_owned())]);
    assert_eq!(of("region"), [None, Some("team".to_owned())]);
    assert!(held.iter().all(|held| !held.secret || held.value.is_none()));
    world.web("live", "3", None).await.unwrap();
    let (env, _) = started(&world, &mut sim).await;
    assert_eq!((env[1].1.as_str(), env[2].1.as_str()), ("new", "canary-new"));

    let explained = world.engine.explain_variable("web", "tier", "dev", (None, None)).await.unwrap();
    assert_eq!((explained.value.as_deref(), explained.from.as_str()), (Some("new"), "library `team` for everything"));
    assert_eq!(explained.beaten[0].from, "library `common` for everything");
    let explained = world.engine.explain_variable("web", "key", "dev", (None, None)).await.unwrap();
    assert_eq!((explained.value, explained.from.as_str()), (None, "library `common` for everything"));
    assert!(world.engine.explain_variable("web", "nothing", "dev", (None, None)).await.is_err());
}

#[tokio::test]
async fn a_variable_of_a_library_keeps_its_kind() {
    let world = World::new().await;
    world.engine.create_library("common", "anna").await.unwrap();
    assert!(matches!(world.engine.create_library("common", "anna").await, Err(Error::Conflict { .. })));
    assert!(matches!(world.engine.create_library("No", "anna").await, Err(Error::Invalid { .. })));
    world.library("common", "key", "canary", (true, None)).await;
    let new = |library: &'static str, name: &str, environment: Option<&str>| {
        let new = NewVariable {
            name: name.to_owned(),
            value: Secret::new("x".to_owned()),
            secret: false,
            scope: environment.map_or(Scope::All, |name| Scope::Environment(name.to_owned())),
        };
        world.engine.set_library_variable(library, new, "anna")
    };
    assert!(matches!(new("common", "key", Some("dev")).await, Err(Error::Invalid { .. })));
    assert!(matches!(new("common", "1", None).await, Err(Error::Invalid { .. })));
    assert!(matches!(new("common", "a", Some("A B")).await, Err(Error::Invalid { .. })));
    assert!(matches!(new("other", "a", None).await, Err(Error::NotFound { .. })));
}
