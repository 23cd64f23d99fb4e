//! Accounts: what they give to the steps that name them, and to no other.

use longshore_core::account::Kind;

use super::*;

const SPEC: &str = "version: 1\nproject: web\nenvironments: [{name: dev}, {name: live}]\nsteps:\n\
    \x20 - {name: one, image: tiny, run: x, accounts: [aws, cloud]}\n  - {name: two, image: tiny, run: x}\n";

impl World {
    async fn account(
        &self,
        name: &str,
        kind: Kind,
        environment: Option<&str>,
        fields: &[(&str, &str)],
    ) -> Result<AccountView> {
        let fields =
            fields.iter().map(|(name, value)| ((*name).to_owned(), Secret::new((*value).to_owned()))).collect();
        self.engine
            .set_account(name, NewAccount { kind, environment: environment.map(str::to_owned), fields }, "anna")
            .await
    }

    async fn deploy_web(&self, environment: &str, operation: &str, release: Option<&str>) -> Result<DeploymentId> {
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

/// Runs both steps of what waits; environment of each, and what is masked in the first.
async fn run(world: &World, sim: &mut Sim) -> (Vec<BTreeMap<String, String>>, Vec<String>) {
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    let (mut env, mut masked) = (Vec::new(), Vec::new());
    for step in 0..2 {
        let grant = sim.grant(&world.engine, offer.fence, step).await;
        env.push(grant.env.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect());
        if step == 0 {
            masked = grant.secrets.iter().map(|secret| secret.expose().to_owned()).collect();
        }
        sim.finish(&world.engine, offer.fence, step, code(0)).await.unwrap();
    }
    (env, masked)
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn a_step_gets_the_accounts_it_names_and_a_release_holds_them() {
    let world = World::new().await;
    let mut sim = world.agent().await;
    let missing = world.engine.apply_project(SPEC.as_bytes(), "anna").await.unwrap_err();
    assert!(matches!(missing, Error::Spec(errors) if errors.len() == 2 && errors[0].line == 5));
    let aws = [
        ("access_key_id", "AKIA"),
        ("secret_access_key", "canary-aws"),
        ("session_token", "canary-session"),
        ("region", "eu"),
    ];
    world.account("aws", Kind::Aws, None, &aws).await.unwrap();
    world.account("cloud", Kind::Pulumi, Some("dev"), &[("access_token", "canary-pul")]).await.unwrap();
    world.engine.apply_project(SPEC.as_bytes(), "anna").await.unwrap();
    let refused = world.deploy_web("live", "0", None).await;
    assert!(matches!(refused, Err(Error::Refused { code: "account_missing", .. })), "{refused:?}");

    world.deploy_web("dev", "1", None).await.unwrap();
    let (env, masked) = run(&world, &mut sim).await;
    let all = [
        ("AWS_ACCESS_KEY_ID", "AKIA"),
        ("AWS_REGION", "eu"),
        ("AWS_SECRET_ACCESS_KEY", "canary-aws"),
        ("AWS_SESSION_TOKEN", "canary-session"),
        ("PULUMI_ACCESS_TOKEN", "canary-pul"),
    ];
    assert_eq!(env, [map(&all), map(&[])]);
    for secret in ["canary-aws", "canary-session", "canary-pul"] {
        assert!(masked.iter().any(|masked| masked == secret), "{masked:?}");
    }
    assert!(!masked.iter().any(|masked| ["eu", "AKIA", ""].contains(&masked.as_str())), "{masked:?}");

    // New values are a whole bundle, and reach the next release only.
    world
        .account("aws", Kind::Aws, None, &[("access_key_id", "B"), ("secret_access_key", "canary-new")])
        .await
        .unwrap();
    world.deploy_web("dev", "2", Some("0.0.1")).await.unwrap();
    assert_eq!(run(&world, &mut sim).await.0[0], map(&all));
    world.deploy_web("dev", "3", None).await.unwrap();
    let expected =
        [("AWS_ACCESS_KEY_ID", "B"), ("AWS_SECRET_ACCESS_KEY", "canary-new"), ("PULUMI_ACCESS_TOKEN", "canary-pul")];
    assert_eq!(run(&world, &mut sim).await.0[0], map(&expected));
    let held = world.engine.release("web", "0.0.1").await.unwrap().variables;
    let of = |name: &str| held.iter().find(|held| held.name == name).unwrap();
    assert_eq!((of("region").account.as_deref(), of("region").value.as_deref()), (Some("aws"), Some("eu")));
    assert_eq!((of("access_token").library.as_deref(), of("access_token").value.as_deref()), (None, None));
}

#[tokio::test]
async fn an_account_is_whole_keeps_its_type_and_is_no_library() {
    let world = World::new().await;
    let gcp = [("credentials", "{\"k\": \"canary\"}")];
    for (kind, fields, words) in [
        (Kind::Aws, &[("access_key_id", "a")][..], "needs `secret_access_key`"),
        (Kind::Pulumi, &[("access_token", "a"), ("region", "b")], "no field `region`"),
        (Kind::Gcp, &[("credentials", "canary")], "is no JSON"),
    ] {
        let error = world.account("a", kind, None, fields).await.unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains("canary"), "{error}");
    }
    let made = world.account("a", Kind::Gcp, None, &gcp).await.unwrap();
    assert_eq!((made.kind.as_str(), made.environments), ("gcp", vec![None]));
    world.account("a", Kind::Gcp, Some("live"), &gcp).await.unwrap();
    assert_eq!(world.engine.accounts().await.unwrap()[0].environments, [None, Some("live".to_owned())]);
    let other = world.account("a", Kind::Pulumi, None, &[("access_token", "x")]).await;
    assert!(matches!(other, Err(Error::Conflict { .. })), "{other:?}");
    assert!(matches!(world.engine.library("a").await, Err(Error::NotFound { .. })));
    assert!(matches!(world.engine.create_library("a", "anna").await, Err(Error::Conflict { .. })));
    assert_eq!(world.engine.libraries().await.unwrap(), []);
}
