//! Groups, conditions and tries: which steps run, in which jobs, in which order.

use super::*;

const PAIR: &str = "  - name: both\n    parallel:\n      - {name: a, image: tiny, run: 'true'}\n      - {name: b, image: tiny, run: 'true'}\n";
const FLAKY: &str = "  - {name: flaky, image: tiny, run: 'true', retries: {max: 2, backoff: 1s}}\n  - {name: last, image: tiny, run: 'true'}\n";

#[tokio::test]
async fn a_group_runs_on_two_slots_and_the_next_stage_waits_for_both() {
    let mut world = World::new().await;
    world.steps(&format!("{PAIR}  - {{name: after, image: tiny, run: 'true'}}\n")).await;
    let mut sim = world.agent().await;
    let id = world.deploy().await;
    let [a, b] = sim.offers().await;
    assert_eq!((a.deployment, b.deployment, a.steps.len(), b.steps.len()), (id, id, 1, 1));
    sim.accept(&world.engine, a.fence).await;
    sim.grant(&world.engine, a.fence, 0).await;
    sim.accept(&world.engine, b.fence).await;
    sim.grant(&world.engine, b.fence, 1).await;
    assert_eq!(standing(&world.view(id).await), "a:running b:running after:queued");
    sim.finish(&world.engine, b.fence, 1, code(0)).await.unwrap();
    assert_eq!(standing(&world.view(id).await), "a:running b:succeeded after:queued");
    assert_eq!(world.engine.locks().await.unwrap().len(), 1, "what the deployment keeps does not depend on its jobs");
    sim.finish(&world.engine, a.fence, 0, code(0)).await.unwrap();
    let after = sim.offer().await;
    assert_eq!(sim.work(&world.engine, &after, &[]).await, [2]);
    world.until(id, "succeeded").await;
    assert_eq!(world.engine.locks().await.unwrap(), []);
}

#[tokio::test]
async fn conditions_within_one_job_say_what_runs() {
    let steps = "  - {name: a, image: tiny, run: 'true'}\n  - {name: b, image: tiny, run: 'true'}\n\
        \x20 - {name: mend, image: tiny, run: 'true', when: failure()}\n  - {name: end, image: tiny, run: 'true', when: always()}\n";
    for (codes, ran, state, all) in [
        (&[4][..], &[0, 2, 3][..], "failed", "a:failed b:skipped mend:succeeded end:succeeded"),
        (&[], &[0, 1, 3], "succeeded", "a:succeeded b:succeeded mend:skipped end:succeeded"),
        (&[0, 0, 9], &[0, 1, 3], "failed", "a:succeeded b:succeeded mend:skipped end:failed"),
    ] {
        let mut world = World::new().await;
        world.steps(steps).await;
        let mut sim = world.agent().await;
        let id = world.deploy().await;
        let offer = sim.offer().await;
        assert_eq!(sim.work(&world.engine, &offer, codes).await, ran);
        let view = world.until(id, state).await;
        assert_eq!(standing(&view), all);
        if codes == [4] {
            assert_eq!(view.reason.as_deref(), Some("step `a`: exit code 4"), "what failed first is the reason");
        }
    }
}

#[tokio::test]
async fn conditions_across_jobs_say_what_runs() {
    let mut world = World::new().await;
    let steps = format!(
        "{PAIR}  - {{name: next, image: tiny, run: 'true'}}\n  - {{name: mend, image: tiny, run: 'true', when: failure()}}\n  \
         - {{name: live-only, image: tiny, run: 'true', when: environment == 'live'}}\n  - {{name: end, image: tiny, run: 'true', when: always()}}\n"
    );
    world.steps(&steps).await;
    let mut sim = world.agent().await;
    let id = world.deploy().await;
    let [a, b] = sim.offers().await;
    sim.work(&world.engine, &b, &[3]).await;
    assert_eq!(world.view(id).await.state, "running", "its sibling is not over");
    sim.work(&world.engine, &a, &[]).await;
    let rest = sim.offer().await;
    assert_eq!(sim.work(&world.engine, &rest, &[]).await, [3, 5]);
    let view = world.until(id, "failed").await;
    assert_eq!(standing(&view), "a:succeeded b:failed next:skipped mend:succeeded live-only:skipped end:succeeded");
    assert_eq!(view.reason.as_deref(), Some("step `b`: exit code 3"));
}

#[tokio::test]
async fn what_is_always_run_runs_although_its_job_was_lost_or_never_started() {
    let steps = "  - {name: a, image: tiny, run: 'true'}\n  - {name: end, image: tiny, run: 'true', when: always()}\n";
    for lost in [false, true] {
        let mut world = World::new().await;
        world.steps(steps).await;
        let mut sim = world.agent().await;
        let id = world.deploy().await;
        let offer = sim.offer().await;
        sim.accept(&world.engine, offer.fence).await;
        if lost {
            sim.grant(&world.engine, offer.fence, 0).await;
            sim.hello(&world.engine, &[]).await;
        } else {
            sim.not_started(&world.engine, offer.fence, 0, false).await.unwrap();
        }
        let rest = sim.offer().await;
        assert_eq!(sim.work(&world.engine, &rest, &[]).await, [1]);
        let state = if lost { "lost" } else { "failed" };
        assert_eq!(standing(&world.until(id, state).await), format!("a:{state} end:succeeded"));
    }
}

#[tokio::test]
async fn what_was_lost_between_two_steps_is_not_begun_anew() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, offer) = world.running(&mut sim).await;
    sim.finish(&world.engine, offer.fence, 0, code(0)).await.unwrap();
    sim.hello(&world.engine, &[]).await;
    assert_eq!(standing(&world.until(id, "lost").await), "one:succeeded two:skipped");
}

#[tokio::test]
async fn a_step_that_failed_is_tried_again_when_it_is_due() {
    let mut world = World::new().await;
    world.steps(FLAKY).await;
    let mut sim = world.agent().await;
    let id = world.deploy().await;
    let offer = sim.offer().await;
    let slots: Vec<_> = offer.steps.iter().map(|step| step.index).collect();
    assert_eq!(slots, [0, 1_000, 2_000, 1], "every try that there may be");
    sim.accept(&world.engine, offer.fence).await;
    sim.grant(&world.engine, offer.fence, 0).await;
    assert_eq!(sim.finish(&world.engine, offer.fence, 0, code(4)).await.unwrap(), Some(1_000));
    let view = world.view(id).await;
    assert_eq!((view.state.as_str(), standing(&view).as_str()), ("running", "flaky:queued last:queued"));
    assert_eq!(view.steps[0].reason.as_deref(), Some("try 1 of 3 failed: exit code 4"));
    let early = sim.confirm(&world.engine, offer.fence, 1, "n").await;
    assert!(matches!(early, Err(plane::Error::Fenced(_))), "the step after it is not due: {early:?}");

    // The wait of the first retry is one second: the call is held until then.
    let clock = world.clock.clone();
    let (engine, began) = (world.engine.clone(), clock.now());
    let (granted, ()) =
        tokio::join!(sim.grant(&engine, offer.fence, 1_000), async { clock.advance(Duration::from_secs(1)) });
    assert_eq!((granted.env, clock.now().since(began)), (vec![], Duration::from_secs(1)));
    let view = world.view(id).await;
    let step = &view.steps[0];
    assert_eq!(
        (step.state.as_str(), step.exit_code, step.reason.clone()),
        ("running", None, None),
        "nothing of the first try"
    );
    assert_eq!((step.log.bytes, step.log.sha256.clone()), (0, None));
    assert_eq!(sim.finish(&world.engine, offer.fence, 1_000, code(0)).await.unwrap(), Some(1));
    sim.grant(&world.engine, offer.fence, 1).await;
    sim.finish(&world.engine, offer.fence, 1, code(0)).await.unwrap();
    let view = world.until(id, "succeeded").await;
    let step = &view.steps[0];
    assert_eq!((step.state.as_str(), step.exit_code, step.reason.clone()), ("succeeded", Some(0), None));
    let tries: Vec<_> = step.attempts.iter().map(|start| start.state.as_str()).collect();
    assert_eq!(tries, ["failed", "succeeded"]);
    let logs = world.engine.step_logs(id).await.unwrap().unwrap();
    let logs: Vec<_> = logs.iter().map(|log| (log.name.as_str(), log.index, log.ended)).collect();
    assert_eq!(logs, [("flaky", 0, true), ("flaky", 1_000, true), ("last", 1, true)], "each try has its own log");
}

#[tokio::test]
async fn a_step_has_failed_when_no_try_is_left() {
    let mut world = World::new().await;
    world.steps(&FLAKY.replace("max: 2", "max: 1")).await;
    let mut sim = world.agent().await;
    let id = world.deploy().await;
    let offer = sim.offer().await;
    let (clock, engine) = (world.clock.clone(), world.engine.clone());
    let ran = async {
        let ran = sim.work(&engine, &offer, &[4, 5]).await;
        assert_eq!(ran, [0, 1_000]);
    };
    let move_it = async {
        world
            .until_it(id, |view| view.steps[0].reason.as_deref().is_some_and(|words| words.starts_with("try 1")))
            .await;
        clock.advance(Duration::from_secs(1));
    };
    tokio::join!(ran, move_it);
    let view = world.until(id, "failed").await;
    assert_eq!((standing(&view).as_str(), view.steps[0].exit_code), ("flaky:failed last:skipped", Some(5)));
    assert_eq!(view.reason.as_deref(), Some("step `flaky`: exit code 5"));
}

#[tokio::test]
async fn a_long_wait_for_a_try_is_asked_for_again_and_no_silence() {
    let mut world = World::new().await;
    world.steps(&FLAKY.replace("backoff: 1s", "backoff: 1h")).await;
    let mut sim = world.agent().await;
    let id = world.deploy().await;
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    sim.grant(&world.engine, offer.fence, 0).await;
    sim.finish(&world.engine, offer.fence, 0, code(4)).await.unwrap();
    let (clock, engine) = (world.clock.clone(), world.engine.clone());
    // Asked every ten seconds; what is read meanwhile lets the call see each of them.
    let answer = {
        let mut asked = std::pin::pin!(sim.confirm(&engine, offer.fence, 1_000, "n"));
        loop {
            tokio::select! {
                answer = &mut asked => break answer,
                _view = world.view(id) => clock.advance(Duration::from_secs(1)),
            }
        }
    };
    assert!(matches!(answer, Err(plane::Error::NotDue)), "{answer:?}");
    for _ in 0..200 {
        clock.advance(Duration::from_secs(20));
        sim.heartbeat(&engine).await;
        engine.tick().await.unwrap();
    }
    assert_eq!(world.view(id).await.state, "running", "an hour of waiting is no hour of silence");
    sim.grant(&engine, offer.fence, 1_000).await;
}

#[tokio::test]
async fn an_agent_that_is_lost_while_a_try_runs_leaves_nothing_of_the_one_before() {
    let mut world = World::new().await;
    world.steps(FLAKY).await;
    let mut sim = world.agent().await;
    let id = world.deploy().await;
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    sim.grant(&world.engine, offer.fence, 0).await;
    sim.finish(&world.engine, offer.fence, 0, code(4)).await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    sim.grant(&world.engine, offer.fence, 1_000).await;
    sim.hello(&world.engine, &[]).await;
    let view = world.until(id, "lost").await;
    assert_eq!((view.steps[0].state.as_str(), view.steps[0].exit_code), ("lost", None));
}

/// A package with one Pulumi program in its root.
async fn program(world: &World) -> String {
    let mut archive = tar::Builder::new(Vec::new());
    let text = b"name: infra\nruntime: yaml\n";
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(text.len() as u64);
    archive.append_data(&mut header, "Pulumi.yaml", &text[..]).unwrap();
    let bytes = zstd::encode_all(archive.into_inner().unwrap().as_slice(), 1).unwrap();
    let sha256 = crate::hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes).as_ref());
    let length = bytes.len() as u64;
    let chunks = futures_util::stream::iter([Ok::<_, axum::Error>(bytes::Bytes::from(bytes))]);
    world.engine.blobs().put(&sha256, chunks).await.unwrap();
    world.engine.add_package(&sha256, length, "anna").await.unwrap();
    sha256
}

#[tokio::test]
async fn two_writers_that_may_run_at_once_on_one_stack_are_refused() {
    let mut world = World::new().await;
    let package = program(&world).await;
    let step = |name: &str, stack: &str| {
        format!(
            "      - {{name: {name}, image: tiny, pulumi: {{operation: up, backend: 'file:///state', stack: {stack}}}}}\n"
        )
    };
    let wish = || NewDeployment { package: Some(package.clone()), ..NewDeployment::default() };
    world.steps(&format!("  - name: both\n    parallel:\n{}{}", step("a", "one"), step("b", "one"))).await;
    let (code, words) = no(world.ask(wish()).await);
    assert_eq!(code, "two_writers");
    assert!(words.contains("`a`") && words.contains("`b`") && words.contains("infra/one"), "{words}");
    assert_eq!(world.engine.deployments(DeploymentFilter::default()).await.unwrap(), [], "nothing was queued");

    world.steps(&format!("  - name: both\n    parallel:\n{}{}", step("a", "one"), step("b", "two"))).await;
    let id = world.ask(wish()).await.unwrap();
    let mut sim = world.agent().await;
    let [a, b] = sim.offers().await;
    assert_eq!((a.deployment, b.deployment), (id, id), "two stacks may be written at once");
}
