//! Deployments that a step of another deployment begins.

use super::*;
use crate::engine::approve::Vote;

const HEAD: &str = "environments: [{name: dev}, {name: live}]\nsteps:\n";

fn deploys(project: &str, child: &str) -> String {
    format!("version: 1\nproject: {project}\n{HEAD}  - {{name: below, deploy-release: {{project: {child}}}}}\n")
}

/// Asks people first, so that a test says when the child is begun.
fn asks(project: &str, child: &str) -> String {
    deploys(project, child).replace("steps:\n", "steps:\n  - {name: go, approval: {}}\n")
}

fn runs(project: &str) -> String {
    format!("version: 1\nproject: {project}\n{HEAD}  - {{name: one, image: tiny, run: 'true'}}\n")
}

fn refused(done: Result<impl std::fmt::Debug>) -> (&'static str, String) {
    match done.unwrap_err() {
        Error::Refused { code, message, hint: Some(_) } => (code, message),
        other => panic!("{other:?}"),
    }
}

impl World {
    async fn apply_spec(&self, spec: &str) {
        self.engine.apply_project(spec.as_bytes(), "anna").await.unwrap();
    }

    async fn make_release(&self, project: &str) -> Result<ReleaseView> {
        self.engine.create_release(project, NewRelease::default(), "anna").await
    }

    async fn start(&self, project: &str) -> DeploymentId {
        let new = NewDeployment {
            project: project.to_owned(),
            environment: "dev".to_owned(),
            operation_id: format!("start-{project}"),
            ..NewDeployment::default()
        };
        self.engine.create_deployment(new, "anna").await.unwrap()
    }

    /// Waits for the child of the last step.
    async fn child(&self, id: DeploymentId) -> DeploymentId {
        let mut changes = self.engine.subscribe(id);
        loop {
            if let Some(child) = &self.view(id).await.steps.last().unwrap().child {
                return child.parse().unwrap();
            }
            changes.next().await.unwrap();
        }
    }

    async fn grant(&self, id: DeploymentId) {
        let approval = self.engine.approvals(Some(id)).await.unwrap().remove(0);
        let vote = Vote { granted: true, comment: "go".to_owned(), person: "bob".to_owned(), teams: Vec::new() };
        self.engine.vote(approval.id.parse().unwrap(), vote).await.unwrap();
    }

    /// With `base`, which runs something, and `top`, which deploys it.
    async fn with_child() -> Self {
        let world = Self::new().await;
        world.apply_spec(&runs("base")).await;
        world.make_release("base").await.unwrap();
        world.apply_spec(&deploys("top", "base")).await;
        world
    }
}

#[tokio::test]
async fn a_child_is_the_release_that_the_parents_release_holds() {
    let world = World::with_child().await;
    let mut sim = world.agent().await;
    let held = world.make_release("top").await.unwrap();
    let child = held.steps[0].child.clone().unwrap();
    assert_eq!((child.project.as_str(), child.version.as_str()), ("base", "0.0.1"));
    world.make_release("base").await.unwrap();
    assert_eq!(world.engine.release("top", "0.0.1").await.unwrap().steps[0].child, Some(child), "it never changes");
    let new = NewDeployment {
        project: "top".to_owned(),
        environment: "dev".to_owned(),
        release: Some("0.0.1".to_owned()),
        priority: 7,
        operation_id: "x".to_owned(),
        ..NewDeployment::default()
    };
    let top = world.engine.create_deployment(new, "anna").await.unwrap();
    let below = world.child(top).await;
    let offer = sim.offer().await;
    assert_eq!((offer.deployment, offer.project.as_str()), (below, "base"));
    let (parent, child) = (world.view(top).await, world.view(below).await);
    assert_eq!((parent.state.as_str(), parent.steps[0].state.as_str()), ("running", "running"));
    assert_eq!(
        (child.parent, child.release, child.created_by),
        (Some(top.to_string()), "0.0.1".to_owned(), "anna".to_owned())
    );
    sim.accept(&world.engine, offer.fence).await;
    sim.grant(&world.engine, offer.fence, 0).await;
    sim.finish(&world.engine, offer.fence, 0, code(0)).await.unwrap();
    let view = world.until(top, "succeeded").await;
    assert_eq!((view.steps[0].reason.as_ref(), world.view(below).await.state.as_str()), (None, "succeeded"));
    assert_eq!(world.engine.locks().await.unwrap(), []);
}

#[tokio::test]
async fn a_child_that_fails_fails_its_step_by_name() {
    let world = World::with_child().await;
    let mut sim = world.agent().await;
    let top = world.start("top").await;
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    sim.grant(&world.engine, offer.fence, 0).await;
    sim.finish(&world.engine, offer.fence, 0, code(7)).await.unwrap();
    let view = world.until(top, "failed").await;
    let reason = view.steps[0].reason.clone().unwrap();
    let expected = format!("deployment `{}` of project `base` is failed: step `one`: exit code 7", offer.deployment);
    assert_eq!(reason, expected);
    assert_eq!(view.reason, Some(format!("step `below`: {expected}")));
}

#[tokio::test]
async fn a_cancel_reaches_children_whether_they_run_or_wait() {
    for begun in [true, false] {
        let world = World::with_child().await;
        let top = world.start("top").await;
        let child = world.child(top).await;
        if begun {
            let mut sim = world.agent().await;
            let offer = sim.offer().await;
            sim.accept(&world.engine, offer.fence).await;
            sim.grant(&world.engine, offer.fence, 0).await;
            world.engine.cancel(top, "anna").await.unwrap();
            assert!(matches!(sim.told().await, ToAgent::Cancel { fence, .. } if fence == offer.fence));
            assert_eq!(
                (world.view(top).await.state.as_str(), world.view(child).await.state.as_str()),
                ("canceling", "canceling")
            );
            let record = ExitRecord { interrupted: true, ..code(1) };
            let (bytes, record) = spool(&[], record);
            sim.ship(&world.engine, offer.fence, 0, &bytes).await.unwrap();
            sim.report(&world.engine, offer.fence, 0, record, bytes.len() as u64, true).await.unwrap();
        } else {
            world.engine.cancel(top, "anna").await.unwrap();
        }
        assert_eq!(world.until(child, "canceled").await.state, "canceled");
        let view = world.until(top, "canceled").await;
        assert!(view.steps[0].reason.as_ref().unwrap().contains("is canceled"), "{view:?}");
        assert_eq!(world.engine.locks().await.unwrap(), []);
    }
}

#[tokio::test]
async fn what_cannot_be_held_is_refused_when_the_release_is_made() {
    let world = World::new().await;
    world.apply_spec(&deploys("top", "base")).await;
    assert!(matches!(world.make_release("top").await, Err(Error::NotFound { kind: "project", hint: Some(_), .. })));
    world.apply_spec(&runs("base")).await;
    let (code, message) = refused(world.make_release("top").await);
    assert_eq!(code, "no_child_release");
    assert!(message.contains("step `below`") && message.contains("nothing was made"), "{message}");
    let release = world.make_release("base").await.unwrap();
    let block = world.engine.block_release("base", &release.version, Some("CVE".to_owned()), "anna");
    block.await.unwrap();
    assert_eq!(refused(world.make_release("top").await).0, "no_child_release", "a blocked one does not count");
    world.apply_spec(&deploys("top", "base").replace("base}", "base, version: 0.0.1}")).await;
    assert_eq!(refused(world.make_release("top").await).0, "release_blocked");
    let two = deploys("top", "base").replace("base}", "base, version: \"${{ vars.v }}\"}");
    let two = two.replace("steps:\n", "variables: {v: {value: 1.0.0, environments: {live: 2.0.0}}}\nsteps:\n");
    world.apply_spec(&two).await;
    let mixed = world.make_release("top").await.unwrap_err();
    assert!(
        matches!(&mixed, Error::Invalid { message, .. } if message.contains("`1.0.0`") && message.contains("`2.0.0`")),
        "{mixed:?}"
    );
}

#[tokio::test]
async fn a_circle_of_projects_and_a_way_too_deep_are_refused() {
    let world = World::with_child().await;
    world.make_release("top").await.unwrap();
    world.apply_spec(&deploys("base", "top")).await;
    let (code, message) = refused(world.make_release("base").await);
    assert_eq!(code, "child_circle");
    assert!(message.contains("deploys project `base`"), "{message}");
    let mut below = "top".to_owned();
    for deep in 3..=6 {
        let project = format!("p{deep}");
        world.apply_spec(&deploys(&project, &below)).await;
        world.make_release(&project).await.unwrap();
        below = project;
    }
    world.apply_spec(&deploys("p7", &below)).await;
    assert_eq!(refused(world.make_release("p7").await).0, "child_depth");
}

#[tokio::test]
async fn what_the_gate_says_to_a_child_ends_its_step() {
    let world = World::with_child().await;
    world.apply_spec(&asks("top", "base")).await;
    let top = world.start("top").await;
    world.engine.block_release("base", "0.0.1", Some("CVE-1".to_owned()), "anna").await.unwrap();
    world.grant(top).await;
    let view = world.until(top, "failed").await;
    let reason = view.steps[1].reason.clone().unwrap();
    assert!(reason.contains("release `0.0.1` is blocked: CVE-1") && reason.contains("unblock"), "{reason}");
    assert_eq!(view.steps[1].child, None);
}

#[tokio::test]
async fn two_that_deploy_each_other_do_not_wait_for_ever() {
    let world = World::new().await;
    for project in ["a", "b"] {
        world.apply_spec(&runs(project)).await;
        world.make_release(project).await.unwrap();
    }
    world.apply_spec(&asks("a", "b")).await;
    // `a` holds the `b` that deploys nothing, and `b` the `a` that deploys nothing.
    world.apply_spec(&asks("b", "a").replace("a}", "a, version: 0.0.1}")).await;
    let (a, b) = (world.start("a").await, world.start("b").await);
    world.grant(a).await;
    let child = world.child(a).await;
    let waits = world.view(child).await;
    assert_eq!(waits.state, "waiting");
    assert!(waits.waiting_for.as_ref().unwrap().contains(&b.to_string()), "{waits:?}");
    world.grant(b).await;
    let failed = world.until(b, "failed").await;
    let reason = failed.steps[1].reason.as_ref().unwrap();
    assert!(reason.contains("wait for ever") && reason.contains("project/a/dev"), "{reason}");
    let mut sim = world.agent().await;
    let offer = sim.offer().await;
    assert_eq!(offer.deployment, child, "it goes on when the other one has ended");
    sim.accept(&world.engine, offer.fence).await;
    sim.grant(&world.engine, offer.fence, 0).await;
    sim.finish(&world.engine, offer.fence, 0, code(0)).await.unwrap();
    world.until(a, "succeeded").await;
}

#[tokio::test]
async fn a_child_goes_before_those_that_wait_in_the_queue() {
    let mut world = World::with_child().await;
    world.apply_spec(&asks("top", "base")).await;
    let top = world.start("top").await;
    let first = world.start("base").await;
    let new = |n: u32| NewDeployment {
        project: "base".to_owned(),
        environment: "dev".to_owned(),
        operation_id: format!("queued-{n}"),
        priority: 9,
        ..NewDeployment::default()
    };
    let queued = world.engine.create_deployment(new(1), "anna").await.unwrap();
    world.grant(top).await;
    let child = world.child(top).await;
    world.engine.cancel(first, "anna").await.unwrap();
    world.restart().await;
    let mut sim = world.agent().await;
    let offer = sim.offer().await;
    assert_eq!(offer.deployment, child);
    let waits = world.view(queued).await.waiting_for.unwrap();
    assert!(waits.contains(&child.to_string()), "{waits}");
}

#[tokio::test]
async fn a_controller_that_is_killed_makes_one_child_and_hears_of_its_end() {
    let mut world = World::with_child().await;
    let top = world.start("top").await;
    // Before or after the child was made: both are right.
    world.restart().await;
    let child = world.child(top).await;
    world.restart().await;
    let mut sim = world.agent().await;
    let offer = sim.offer().await;
    assert_eq!(offer.deployment, child);
    sim.accept(&world.engine, offer.fence).await;
    sim.grant(&world.engine, offer.fence, 0).await;
    world.restart().await;
    sim.hello(&world.engine, &[offer.fence]).await;
    sim.finish(&world.engine, offer.fence, 0, code(0)).await.unwrap();
    world.until(top, "succeeded").await;
    assert_eq!(world.engine.deployments(DeploymentFilter::default()).await.unwrap().len(), 2);
}
