//! What goes well, and what is refused before anything is queued.

use super::*;

#[tokio::test]
async fn a_deployment_runs_step_by_step_to_its_end() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let id = world.deploy().await;
    let offer = sim.offer().await;
    assert_eq!((offer.deployment, offer.steps.len(), offer.project.as_str()), (id, 2, "shop"));
    assert!(!format!("{offer:?}").contains(SECRET));
    sim.accept(&world.engine, offer.fence).await;
    assert_eq!(world.view(id).await.state, "running");

    let grant = sim.grant(&world.engine, offer.fence, 0).await;
    let env: Vec<_> = grant.env.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(env, [("KEY", SECRET), ("REGION", "eu")]);
    assert_eq!(grant.secrets, [Secret::new(SECRET.to_owned())]);
    assert_eq!(grant.timeout, Duration::from_secs(60));
    assert_eq!(sim.finish(&world.engine, offer.fence, 0, code(0)).await.unwrap(), Some(1));
    assert_eq!(sim.grant(&world.engine, offer.fence, 1).await.env, []);
    assert_eq!(sim.finish(&world.engine, offer.fence, 1, code(0)).await.unwrap(), None);

    let view = world.until(id, "succeeded").await;
    assert_eq!((view.reason, view.waiting_for), (None, None));
    let step = &view.steps[0];
    assert_eq!((step.state.as_str(), step.exit_code, step.log.bytes), ("succeeded", Some(0), 8));
    assert_eq!(step.attempts.len(), 1);
    assert_eq!(step.attempts[0].container.as_deref(), Some("container-0"));
    assert_eq!(world.engine.locks().await.unwrap(), []);
    let log = world.engine.step_logs(id).await.unwrap().unwrap()[0].clone();
    assert!(log.ended);
    let mut reader = world.engine.logs().reader(log.attempt.unwrap(), 0, 0);
    assert_eq!(&reader.next_live().await.unwrap().unwrap().data[..], b"out\n");
    let rows = std::fs::read(world.folder.path().join("db-wal")).unwrap();
    assert!(!rows.windows(SECRET.len()).any(|bytes| bytes == SECRET.as_bytes()), "a secret in the rows");
}

#[tokio::test]
async fn a_step_that_fails_ends_it_and_the_next_ones_are_skipped() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, offer) = world.running(&mut sim).await;
    assert_eq!(sim.finish(&world.engine, offer.fence, 0, code(7)).await.unwrap(), None);
    let view = world.until(id, "failed").await;
    assert_eq!(view.reason.as_deref(), Some("step `one`: exit code 7"));
    let steps: Vec<_> = view.steps.iter().map(|step| (step.state.as_str(), step.exit_code)).collect();
    assert_eq!(steps, [("failed", Some(7)), ("skipped", None)]);
}

#[tokio::test]
async fn secret_outputs_are_kept_sealed_and_reach_later_steps() {
    use base64::Engine as _;
    use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, offer) = world.running(&mut sim).await;
    let key = sim.grant(&world.engine, offer.fence, 0).await.outputs_key;
    let cipher = chacha20poly1305::ChaCha20Poly1305::new(&chacha20poly1305::Key::from(key.0));
    let nonce = [5; 12];
    let payload = Payload { msg: br#""hunter2-output""#, aad: b"password" };
    let mut sealed = nonce.to_vec();
    sealed.extend(cipher.encrypt(&chacha20poly1305::Nonce::from(nonce), payload).unwrap());
    let mut record = code(0);
    record.outputs.insert("url".to_owned(), json!("https://x"));
    record.secret_outputs.insert("password".to_owned(), base64::engine::general_purpose::STANDARD.encode(sealed));
    sim.finish(&world.engine, offer.fence, 0, record).await.unwrap();
    let view = world.view(id).await;
    assert_eq!(json!(view.steps[0].outputs), json!({ "url": "https://x", "password": "[secret]" }));
    let masked = sim.grant(&world.engine, offer.fence, 1).await.secrets;
    assert!(masked.contains(&Secret::new("hunter2-output".to_owned())), "later steps mask it");
    let rows = std::fs::read(world.folder.path().join("db-wal")).unwrap();
    assert!(!rows.windows(7).any(|bytes| bytes == b"hunter2"), "an output in the rows");
}

#[tokio::test]
async fn what_cannot_work_is_refused_with_what_to_do() {
    let world = World::new().await;
    let ask = async |project: &str, environment: &str, package: Option<String>| {
        let (project, environment, operation_id) = (project.to_owned(), environment.to_owned(), "op".to_owned());
        world
            .engine
            .create_deployment(
                NewDeployment { project, environment, package, operation_id, ..NewDeployment::default() },
                "anna",
            )
            .await
            .unwrap_err()
    };
    assert!(matches!(ask("shoe", "dev", None).await, Error::NotFound { kind: "project", hint: Some(_), .. }));
    assert!(
        matches!(ask("shop", "prod", None).await, Error::NotFound { kind: "environment", hint: Some(hint), .. } if hint.contains("`dev`"))
    );
    assert!(matches!(ask("shop", "dev", Some("a".repeat(64))).await, Error::NotFound { kind: "package", .. }));
    let other = "version: 1\nproject: other\nenvironments: [{name: dev}]\nvariables: {key: {secret: true}}\nsteps:\n  - {name: one, image: i, pulumi: {operation: up}}\n";
    world.engine.apply_project(other.as_bytes(), "anna").await.unwrap();
    assert!(matches!(ask("other", "dev", None).await, Error::Refused { code: "no_program", hint: Some(_), .. }));
    let other = other.replace("pulumi: {operation: up}", "run: 'true', env: {K: '${{ secrets.key }}'}");
    world.engine.apply_project(other.as_bytes(), "anna").await.unwrap();
    assert!(
        matches!(ask("other", "dev", None).await, Error::Refused { code: "secret_missing", hint: Some(hint), .. } if hint.contains("variable set other key"))
    );
    assert_eq!(world.engine.deployments(DeploymentFilter::default()).await.unwrap(), [], "nothing was queued");
}

#[tokio::test]
async fn the_same_operation_makes_one_deployment() {
    let world = World::new().await;
    let ask = async |environment: &str| {
        let (project, environment, operation_id) = ("shop".to_owned(), environment.to_owned(), "op".to_owned());
        world
            .engine
            .create_deployment(NewDeployment { project, environment, operation_id, ..NewDeployment::default() }, "anna")
            .await
    };
    let (first, second) = tokio::join!(ask("dev"), ask("dev"));
    assert_eq!(first.unwrap(), second.unwrap());
    assert!(matches!(ask("live").await, Err(Error::Conflict { code: "operation_reused", .. })));
}

#[tokio::test]
async fn applying_the_same_again_changes_nothing() {
    let world = World::new().await;
    let again = world.engine.apply_project(format!("# comment\n{TWO_STEPS}").as_bytes(), "anna").await.unwrap();
    assert_eq!((again.revision, again.changed), (1, false));
    let other = world.engine.apply_project(TWO_STEPS.replace("eu", "us").as_bytes(), "anna").await.unwrap();
    assert_eq!((other.revision, other.changed), (2, true));
}

#[tokio::test]
async fn what_an_attempt_does_is_heard() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, offer) = world.running(&mut sim).await;
    let mut changes = world.engine.subscribe(id);
    let (phase, message) = ("running".to_owned(), "half".to_owned());
    sim.say(&world.engine, Said::Progress { fence: offer.fence, step: 0, phase, message, current: 1, total: 2 })
        .await
        .unwrap();
    let Some(Change::Progress(progress)) = changes.next().await else { panic!("no progress") };
    assert_eq!((progress.step.as_str(), progress.current), ("one", 1));
    assert_eq!(world.engine.progress(id), Some(progress));
}

#[tokio::test]
async fn who_asks_and_goes_away_at_once_is_served_all_the_same() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (project, environment, operation_id) = ("shop".to_owned(), "dev".to_owned(), "op".to_owned());
    let wish = NewDeployment { project, environment, operation_id, ..NewDeployment::default() };
    for (asked_before, polls) in (0..200).cycle().enumerate() {
        // On a busy machine nobody may have stayed for long enough: then they come again.
        if asked_before >= 200 && !world.engine.deployments(DeploymentFilter::default()).await.unwrap().is_empty() {
            break;
        }
        let mut asked = Box::pin(world.engine.create_deployment(wish.clone(), "anna"));
        for _ in 0..polls {
            if futures_util::poll!(&mut asked).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    let offer = sim.offer().await;
    world.deploy().await;
    sim.accept(&world.engine, offer.fence).await;
    sim.run(&world.engine, offer.fence).await;
    world.until(offer.deployment, "succeeded").await;
}

#[tokio::test]
async fn a_step_is_left_out_where_that_is_allowed() {
    let world = World::new().await;
    let spec = "version: 1\nproject: shop\nenvironments: [{name: dev}]\nsteps:\n  - {name: must, image: tiny, run: 'true'}\n  \
                - {name: may, image: tiny, run: 'true', skippable: true}\n  - {name: last, image: tiny, run: 'true'}\n";
    world.engine.apply_project(spec.as_bytes(), "anna").await.unwrap();
    let ask = async |skip: &str| {
        let new = NewDeployment {
            project: "shop".to_owned(),
            environment: "dev".to_owned(),
            operation_id: format!("skip-{skip}"),
            skip: vec![skip.to_owned()],
            ..NewDeployment::default()
        };
        world.engine.create_deployment(new, "anna").await
    };
    assert!(
        matches!(ask("must").await, Err(Error::Refused { code: "not_skippable", message, .. }) if message.contains("`must`"))
    );
    assert!(
        matches!(ask("mya").await, Err(Error::NotFound { kind: "step", hint: Some(hint), .. }) if hint.contains("`may`"))
    );
    let id = ask("may").await.unwrap();
    let mut sim = world.agent().await;
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    sim.grant(&world.engine, offer.fence, 0).await;
    assert_eq!(
        sim.finish(&world.engine, offer.fence, 0, code(0)).await.unwrap(),
        Some(2),
        "the one between is left out"
    );
    sim.grant(&world.engine, offer.fence, 2).await;
    sim.finish(&world.engine, offer.fence, 2, code(0)).await.unwrap();
    let view = world.until(id, "succeeded").await;
    assert_eq!((view.steps[1].state.as_str(), view.steps[1].reason.as_deref()), ("skipped", Some("skipped by anna")));
}
