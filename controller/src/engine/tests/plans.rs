//! Approvals that are bound to a plan, with an agent that makes and runs one.

use base64::Engine as _;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use longshore_core::engine_event::EngineEvent;
use longshore_core::init::PLAN;
use longshore_core::offer::{Action, Operation, OutputsKey, Plan};
use longshore_core::pack;
use longshore_core::step::preview_slot;

use super::*;

const SPEC: &str = "version: 1\nproject: shop\nenvironments: [{name: dev}]\nvariables: {key: {secret: true}}\nsteps:\n  \
    - {name: go, approval: {plan: infra}}\n  \
    - {name: infra, image: tiny, pulumi: {operation: up, backend: 'file:///state'}, env: {KEY: '${{ secrets.key }}'}, retries: {max: 2}}\n";
pub(super) const TEXT: &str = "{\"resourcePlans\":\"canary-plan\"}";
/// The approval's first step, and the first try of what it guards.
const PREVIEW: u32 = preview_slot(0);
const UP: u32 = 1;

/// A deployment of [`SPEC`] with a package.
async fn planned(world: &mut World) -> DeploymentId {
    planned_by(world, SPEC).await
}

async fn planned_by(world: &mut World, spec: &str) -> DeploymentId {
    world.engine.apply_project(spec.as_bytes(), "anna").await.unwrap();
    let sha256 = world.program().await;
    let (project, environment, operation_id) = ("shop".to_owned(), "dev".to_owned(), "op".to_owned());
    let wish = NewDeployment { project, environment, operation_id, package: Some(sha256), ..NewDeployment::default() };
    world.engine.create_deployment(wish, "anna").await.unwrap()
}

fn sealed(key: &OutputsKey, text: &[u8]) -> String {
    let cipher = chacha20poly1305::ChaCha20Poly1305::new(&chacha20poly1305::Key::from(key.0));
    let payload = Payload { msg: text, aad: PLAN.as_bytes() };
    let body = cipher.encrypt(&chacha20poly1305::Nonce::from([5; 12]), payload).unwrap();
    base64::engine::general_purpose::STANDARD.encode([&[5; 12][..], &body].concat())
}

fn summary(lines: &[&str]) -> Box<Summary> {
    let mut summary = Summary::default();
    for line in lines {
        let mut event = EngineEvent::parse(line.as_bytes(), &mut str::to_owned).unwrap();
        event.add_values(line.as_bytes(), &mut str::to_owned);
        summary.add(&event);
    }
    Box::new(summary)
}

impl Sim {
    pub(super) async fn ended(
        &mut self,
        world: &World,
        fence: Fence,
        step: u32,
        record: ExitRecord,
        events: &[&str],
    ) -> Option<u32> {
        let (bytes, record) = spool(&[(Stream::Stdout, b"out\n")], record);
        self.ship(&world.engine, fence, step, &bytes).await.unwrap();
        let at = Timestamp::from_micros(1);
        let ending = Ending::Exited {
            record: Box::new(record),
            spool_bytes: bytes.len() as u64,
            summary: Some(summary(events)),
            started_at: at,
            ended_at: at,
            canceled: false,
        };
        world.engine.complete(self.id, Completion { fence, step, ending, took: Vec::new() }).await.unwrap()
    }

    /// Takes the next job and makes the plan.
    async fn preview(&mut self, world: &World) -> Offer {
        self.preview_at(world, PREVIEW, "state-1").await
    }

    async fn preview_at(&mut self, world: &World, slot: u32, checkpoint: &str) -> Offer {
        let offer = self.offer().await;
        self.accept(&world.engine, offer.fence).await;
        assert_eq!(offer.steps.iter().map(|step| step.index).collect::<Vec<_>>(), [slot]);
        let grant = self.grant(&world.engine, offer.fence, slot).await;
        let Action::Pulumi(action) = &grant.action else { panic!("{grant:?}") };
        assert_eq!((action.operation, &action.plan), (Operation::Preview, &Plan::Save));
        assert_eq!(grant.env[0].0, "KEY", "as the step itself has it");
        let plan = Some(sealed(&grant.outputs_key, &self.plan));
        let record = ExitRecord { plan, checkpoint: Some(checkpoint.to_owned()), ..code(0) };
        let events = [
            r#"{"resourcePreEvent":{"metadata":{"op":"update","urn":"urn:one","type":"t","diffs":["content"],"old":{"inputs":{"content":"x"}},"new":{"inputs":{"content":"y"}}},"planning":true}}"#,
            r#"{"summaryEvent":{"resourceChanges":{"update":1},"isPreview":true,"result":"succeeded"}}"#,
        ];
        assert_eq!(self.ended(world, offer.fence, slot, record, &events).await, None);
        offer
    }

    /// Takes the job that runs the plan.
    async fn up(&mut self, world: &World) -> Offer {
        let offer = self.offer().await;
        self.accept(&world.engine, offer.fence).await;
        assert_eq!(offer.steps[0].index, UP);
        offer
    }
}

async fn approval(world: &World, id: DeploymentId) -> ApprovalView {
    world.engine.approvals(Some(id)).await.unwrap().pop().unwrap()
}

async fn agree(world: &World, id: DeploymentId) -> ApprovalView {
    let asked = approval(world, id).await;
    let vote = Vote { granted: true, comment: "fine".to_owned(), person: "bob".to_owned(), teams: Vec::new() };
    world.engine.vote(asked.id.parse().unwrap(), vote).await.unwrap()
}

#[tokio::test]
async fn people_are_asked_about_a_plan_and_that_plan_runs() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let id = planned(&mut world).await;
    assert_eq!(world.engine.approvals(Some(id)).await.unwrap(), [], "there is nothing to agree to yet");
    sim.preview(&world).await;
    let view = world.view(id).await;
    assert_eq!((view.steps[0].state.as_str(), view.steps[1].state.as_str()), ("waiting", "queued"));
    assert_eq!((view.steps[0].attempts.len(), view.steps[0].log.bytes), (1, 4), "its log is the approval's");
    assert!(view.steps[1].attempts.is_empty(), "it is no start of the step");
    let asked = approval(&world, id).await;
    let plan = asked.plan.unwrap();
    assert_eq!((asked.state.as_str(), plan.resources["update"], plan.checkpoint.as_str()), ("pending", 1, "state-1"));
    assert_eq!((plan.image.as_str(), plan.digest.len()), ("sha256:1", 64));
    assert_eq!((plan.changes[0].urn.as_str(), plan.changes[0].op.as_str()), ("urn:one", "update"));
    assert_eq!(plan.changes[0].properties, ["content"]);
    let value = &plan.changes[0].values[0];
    assert_eq!((value.property.as_str(), value.kind.as_str(), value.replaces), ("content", "update", false));
    assert_eq!((value.old.as_deref(), value.new.as_deref()), (Some("\"x\""), Some("\"y\"")));
    world.restart().await;
    sim.hello(&world.engine, &[]).await;
    assert_eq!(agree(&world, id).await.state, "granted");
    let offer = sim.up(&world).await;
    let grant = sim.grant(&world.engine, offer.fence, UP).await;
    let Action::Pulumi(action) = grant.action else { panic!("no pulumi") };
    let (plan, checkpoint) = (Secret::new(TEXT.to_owned()), "state-1".to_owned());
    assert_eq!((action.operation, action.plan), (Operation::Up, Plan::Run { plan, checkpoint }));
    let record = ExitRecord { checkpoint: Some("state-1".to_owned()), ..code(0) };
    let events = [r#"{"summaryEvent":{"resourceChanges":{"update":1},"result":"succeeded"}}"#];
    sim.ended(&world, offer.fence, UP, record, &events).await;
    world.until(id, "succeeded").await;
    let rows = std::fs::read(world.folder.path().join("db-wal")).unwrap();
    assert!(!rows.windows(11).any(|bytes| bytes == b"canary-plan"), "a plan in the rows");
}

#[tokio::test]
async fn a_packed_plan_runs_as_the_text_that_it_was() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let id = planned(&mut world).await;
    let whole = format!("settings\0{}", TEXT.repeat(100_000));
    let digest = crate::hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, whole.as_bytes()).as_ref());
    sim.plan = pack::pack(whole.clone().into_bytes().into(), 700 << 10).unwrap().to_vec();
    assert!(sim.plan.len() < whole.len());
    sim.preview(&world).await;
    world.restart().await;
    sim.hello(&world.engine, &[]).await;
    assert_eq!(agree(&world, id).await.plan.unwrap().digest, digest, "of the plan, however it came");
    let offer = sim.up(&world).await;
    let Action::Pulumi(action) = sim.grant(&world.engine, offer.fence, UP).await.action else { panic!("no pulumi") };
    let (plan, checkpoint) = (Secret::new(whole), "state-1".to_owned());
    assert_eq!(action.plan, Plan::Run { plan, checkpoint });
}

#[tokio::test]
async fn a_packed_plan_that_grows_too_long_is_none() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let id = planned(&mut world).await;
    sim.plan = pack::pack(vec![b'x'; 9 << 20].into(), 700 << 10).unwrap().to_vec();
    sim.preview(&world).await;
    let view = world.until(id, "failed").await;
    assert!(view.reason.unwrap().contains("it is damaged, or has more than"), "nobody is asked");
    assert_eq!(world.engine.approvals(Some(id)).await.unwrap(), []);
}

#[tokio::test]
async fn a_state_that_moved_voids_it_and_is_not_tried_again() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let id = planned(&mut world).await;
    sim.preview(&world).await;
    agree(&world, id).await;
    let offer = sim.up(&world).await;
    sim.grant(&world.engine, offer.fence, UP).await;
    let error = Some("the stack's state has moved".to_owned());
    let record = ExitRecord { checkpoint: Some("state-2".to_owned()), error, ..code(0) };
    assert_eq!(sim.ended(&world, offer.fence, UP, record, &[]).await, None);
    let view = world.until(id, "failed").await;
    assert!(view.reason.unwrap().contains("state has moved"));
    let void = approval(&world, id).await;
    let reason = void.void_reason.unwrap();
    assert!(void.state == "void" && reason.contains("`state-1`") && reason.contains("`state-2`"), "{reason}");
}

#[tokio::test]
async fn what_pulumi_refuses_as_not_planned_voids_it_and_other_failures_do_not() {
    for (says, state) in [("resource urn:one violates plan: properties changed", "void"), ("no room", "granted")] {
        let mut world = World::new().await;
        let mut sim = world.agent().await;
        let id = planned(&mut world).await;
        sim.preview(&world).await;
        agree(&world, id).await;
        let offer = sim.up(&world).await;
        sim.grant(&world.engine, offer.fence, UP).await;
        let record = ExitRecord { checkpoint: Some("state-1".to_owned()), ..code(1) };
        let event = format!(r#"{{"errorEvent":{{"error":"{says}"}}}}"#);
        let next = sim.ended(&world, offer.fence, UP, record, &[event.as_str()]).await;
        assert_eq!((next.is_some(), approval(&world, id).await.state.as_str()), (state == "granted", state), "{says}");
    }
}

#[tokio::test]
async fn an_image_that_moved_voids_it_before_anything_runs() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let id = planned(&mut world).await;
    sim.preview(&world).await;
    agree(&world, id).await;
    let offer = sim.up(&world).await;
    let (container, nonce, image_digest) = ("c".to_owned(), "n".to_owned(), "sha256:2".to_owned());
    let wish = Confirm { fence: offer.fence, step: UP, container, nonce, image_digest, took: Vec::new() };
    assert!(matches!(world.engine.confirm(sim.id, wish).await.unwrap(), Confirmed::Failed(_)));
    world.until(id, "failed").await;
    let void = approval(&world, id).await;
    assert!(void.state == "void" && void.void_reason.unwrap().contains("image `tiny` has moved"));
}

#[tokio::test]
async fn a_preview_that_fails_fails_the_approval_and_nobody_is_asked() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let id = planned(&mut world).await;
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    sim.grant(&world.engine, offer.fence, PREVIEW).await;
    assert_eq!(world.view(id).await.steps[0].state, "running");
    let events = [r#"{"errorEvent":{"error":"no such program"}}"#];
    sim.ended(&world, offer.fence, PREVIEW, code(1), &events).await;
    let view = world.until(id, "failed").await;
    assert_eq!((view.steps[0].state.as_str(), view.steps[1].state.as_str()), ("failed", "skipped"));
    assert!(view.reason.unwrap().contains("no such program"));
    assert_eq!(world.engine.approvals(Some(id)).await.unwrap(), []);
}

#[tokio::test]
async fn a_preview_without_a_plan_is_no_plan_to_agree_to() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let id = planned(&mut world).await;
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    sim.grant(&world.engine, offer.fence, PREVIEW).await;
    let events = [r#"{"summaryEvent":{"resourceChanges":{"create":1},"isPreview":true,"result":"succeeded"}}"#];
    sim.ended(&world, offer.fence, PREVIEW, code(0), &events).await;
    assert!(world.until(id, "failed").await.reason.unwrap().contains("left no plan"));
}

#[tokio::test]
async fn a_preview_that_runs_is_canceled_by_its_agent() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let id = planned(&mut world).await;
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    sim.grant(&world.engine, offer.fence, PREVIEW).await;
    world.engine.cancel(id, "anna").await.unwrap();
    assert_eq!(world.view(id).await.state, "canceling", "it runs until the agent says otherwise");
    let record = ExitRecord { interrupted: true, ..code(1) };
    sim.ended(&world, offer.fence, PREVIEW, record, &[]).await;
    world.until(id, "canceled").await;
    assert_eq!(world.engine.approvals(Some(id)).await.unwrap(), []);
}

#[tokio::test]
async fn nobody_is_asked_about_a_preview_that_a_cancel_came_too_late_for() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let id = planned(&mut world).await;
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    let key = sim.grant(&world.engine, offer.fence, PREVIEW).await.outputs_key;
    world.engine.cancel(id, "anna").await.unwrap();
    let record =
        ExitRecord { plan: Some(sealed(&key, TEXT.as_bytes())), checkpoint: Some("state-1".to_owned()), ..code(0) };
    let events = [r#"{"summaryEvent":{"resourceChanges":{"create":1},"isPreview":true,"result":"succeeded"}}"#];
    sim.ended(&world, offer.fence, PREVIEW, record, &events).await;
    world.until(id, "canceled").await;
    assert_eq!(world.engine.approvals(Some(id)).await.unwrap(), []);
}

#[tokio::test]
async fn an_agent_that_knows_no_plans_is_given_none() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    sim.plans = false;
    sim.hello(&world.engine, &[]).await;
    let id = planned(&mut world).await;
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    let answer = sim.confirm(&world.engine, offer.fence, PREVIEW, "n").await.unwrap();
    assert!(matches!(answer, Confirmed::Failed(reason) if reason.contains("too old")));
    world.until(id, "failed").await;
}

#[tokio::test]
async fn an_approval_without_a_plan_is_bound_to_the_images_of_its_release() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let spec = "version: 1\nproject: shop\nenvironments: [{name: dev}]\nsteps:\n  - {name: zero, image: tiny, run: x}\n  \
                - {name: go, approval: {}}\n  - {name: one, image: tiny, run: x}\n";
    world.engine.apply_project(spec.as_bytes(), "anna").await.unwrap();
    let (id, offer) = world.running(&mut sim).await;
    sim.finish(&world.engine, offer.fence, 0, code(0)).await.unwrap();
    assert_eq!((approval(&world, id).await.plan, agree(&world, id).await.state.as_str()), (None, "granted"));
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    let (container, nonce, image_digest) = ("c".to_owned(), "n".to_owned(), "sha256:2".to_owned());
    let wish = Confirm { fence: offer.fence, step: 2, container, nonce, image_digest, took: Vec::new() };
    assert!(matches!(world.engine.confirm(sim.id, wish).await.unwrap(), Confirmed::Failed(_)));
    world.until(id, "failed").await;
    assert_eq!(approval(&world, id).await.state, "void");
}

#[tokio::test]
async fn a_second_preview_on_another_state_voids_what_was_agreed_to_before() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let twice = SPEC.replace("  - {name: infra", "  - {name: again, approval: {plan: infra}}\n  - {name: infra");
    let id = planned_by(&mut world, &twice).await;
    sim.preview(&world).await;
    let first = agree(&world, id).await.id;
    // Ids made at one instant are in no order.
    world.clock.advance(Duration::from_secs(1));
    sim.preview_at(&world, preview_slot(1), "state-2").await;
    let void = world.engine.approval(first.parse().unwrap()).await.unwrap();
    assert!(void.state == "void" && void.void_reason.unwrap().contains("`state-2`"));
    assert_eq!(agree(&world, id).await.state, "granted");
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    let answer = sim.confirm(&world.engine, offer.fence, 2, "n").await.unwrap();
    assert!(matches!(answer, Confirmed::Failed(reason) if reason.contains("is void")));
    world.until(id, "failed").await;
}
