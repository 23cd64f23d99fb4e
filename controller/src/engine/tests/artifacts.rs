//! Files of steps: what an exit record lists and the same try brought, and nothing else.

use bytes::Bytes;
use futures_util::stream;
use longshore_core::artifacts::{Artifact, Kind, LeftOut, Limits, Reason};

use super::*;

const TEXT: &[u8] = b"a report\n";

fn sha(bytes: &[u8]) -> String {
    crate::hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

fn listed(path: &str, bytes: &[u8]) -> Artifact {
    Artifact { path: path.to_owned(), bytes: bytes.len() as u64, sha256: sha(bytes), kind: Kind::File }
}

fn leaving(artifacts: &[Artifact], left_out: &[LeftOut]) -> ExitRecord {
    ExitRecord { artifacts: artifacts.to_vec(), left_out: left_out.to_vec(), ..code(1) }
}

/// Brings a file as the agent plane does.
async fn bring(engine: &Engine, agent: AgentId, fence: Fence, slot: u32, bytes: &[u8]) -> Result<(), plane::Error> {
    let (sha256, length) = (sha(bytes), bytes.len() as u64);
    engine.may_bring(agent, fence, slot, &sha256, length).await?;
    let body = stream::iter(bytes.chunks(4).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect::<Vec<_>>());
    engine.artifact_blobs().put_file(&sha256, length, body).await.unwrap();
    engine.brought(agent, fence, slot, sha256, length).await
}

fn refused(done: Result<(), plane::Error>) -> String {
    match done.unwrap_err() {
        plane::Error::Invalid(why) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_listed_and_was_brought_is_kept_with_the_end_of_the_step() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, offer) = world.running(&mut sim).await;
    for _ in 0..2 {
        bring(&world.engine, sim.id, offer.fence, 0, TEXT).await.unwrap();
    }
    bring(&world.engine, sim.id, offer.fence, 0, b"not listed").await.unwrap();
    assert_eq!(world.engine.artifacts(id).await.unwrap().artifacts, [], "not before the end");
    let left = LeftOut { path: "dump".to_owned(), kind: Kind::State, reason: Reason::Secret, count: 1 };
    let list = [listed("a/report", TEXT), listed("copy", TEXT), listed("copy", TEXT), listed("gone", b"gone")];
    let odd = [listed("../up", TEXT), Artifact { bytes: 1, ..listed("short", TEXT) }];
    sim.finish(&world.engine, offer.fence, 0, leaving(&[&list[..], &odd].concat(), &[left])).await.unwrap();
    let view = world.engine.artifacts(id).await.unwrap();
    let kept: Vec<_> =
        view.artifacts.iter().map(|one| (one.path.as_str(), one.bytes, one.origin.step.as_str())).collect();
    assert_eq!(kept, [("a/report", 9, "one"), ("copy", 9, "one")]);
    assert_eq!((view.artifacts[0].origin.number, view.artifacts[0].origin.preview), (1, false));
    let missing: Vec<_> = view.left_out.iter().map(|one| (one.path.as_str(), one.kind, one.reason)).collect();
    let gone = |path| (path, "file", "not_delivered");
    assert_eq!(missing, [gone("copy"), gone("gone"), gone("../up"), gone("short"), ("dump", "state", "secret")]);
    assert!(view.left_out[4].message.contains("a secret to Pulumi"));
    let step = &world.view(id).await.steps[0];
    assert_eq!((step.artifacts, step.state.as_str()), (ArtifactCountView { kept: 2, left_out: 5 }, "failed"));
    let (kind, path, bytes, sha256) = world.engine.artifact(id, view.artifacts[0].id).await.unwrap();
    assert_eq!((kind, path.as_str(), bytes, sha256), (Kind::File, "a/report", 9, sha(TEXT)));
    // Neither another deployment's nor one that is not kept.
    let other = world.deploy_to("live").await;
    assert!(world.engine.artifact(other, view.artifacts[0].id).await.is_err());
    assert!(world.engine.artifact(id, view.artifacts[1].id + 1).await.is_err());
}

#[tokio::test]
async fn only_the_own_confirmed_and_running_step_takes_files() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (_, offer) = world.running(&mut sim).await;
    let (engine, fence) = (world.engine.clone(), offer.fence);
    let stranger = world.enroll("default").await;
    assert!(matches!(bring(&engine, stranger, fence, 0, TEXT).await, Err(plane::Error::Foreign)));
    let stale = Fence { epoch: fence.epoch + 1, ..fence };
    assert!(matches!(bring(&engine, sim.id, stale, 0, TEXT).await, Err(plane::Error::Fenced(_))));
    let restored = Fence { incarnation: 2, ..fence };
    assert!(matches!(bring(&engine, sim.id, restored, 0, TEXT).await, Err(plane::Error::Fenced(_))));
    assert!(refused(bring(&engine, sim.id, fence, 1, TEXT).await).contains("was not confirmed"));
    assert!(refused(engine.may_bring(sim.id, fence, 0, "../../etc", 1).await).contains("is not a SHA-256"));
    sim.finish(&engine, fence, 0, code(0)).await.unwrap();
    assert!(refused(bring(&engine, sim.id, fence, 0, TEXT).await).contains("has ended"));
    // Superseded between the bytes and the row: the row is not written.
    assert!(matches!(engine.brought(sim.id, stale, 1, sha(TEXT), 9).await, Err(plane::Error::Fenced(_))));
}

#[tokio::test]
async fn no_more_is_taken_than_is_granted() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    world.deploy().await;
    let fence = sim.offer().await.fence;
    sim.accept(&world.engine, fence).await;
    let limits = sim.grant(&world.engine, fence, 0).await.artifacts.unwrap();
    assert_eq!(limits, Limits { file_bytes: 64 << 20, total_bytes: 256 << 20 });
    let may = async |n: u8, bytes| world.engine.may_bring(sim.id, fence, 0, &sha(&[n]), bytes).await;
    assert!(refused(may(0, limits.file_bytes + 1).await).contains("more than is kept"));
    for n in 0..4 {
        may(n, limits.file_bytes).await.unwrap();
        world.engine.brought(sim.id, fence, 0, sha(&[n]), limits.file_bytes).await.unwrap();
    }
    may(3, limits.file_bytes).await.unwrap();
    assert!(refused(may(4, 1).await).contains("more than is kept"));
}

#[tokio::test]
async fn a_digest_alone_gets_at_nothing() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (_, offer) = world.running(&mut sim).await;
    bring(&world.engine, sim.id, offer.fence, 0, TEXT).await.unwrap();
    sim.finish(&world.engine, offer.fence, 0, leaving(&[listed("a", TEXT)], &[])).await.unwrap();
    // Another deployment lists the same file and never had it.
    let id = world.deploy_to("live").await;
    let fence = sim.offer().await.fence;
    sim.accept(&world.engine, fence).await;
    sim.grant(&world.engine, fence, 0).await;
    sim.finish(&world.engine, fence, 0, leaving(&[listed("a", TEXT)], &[])).await.unwrap();
    let view = world.engine.artifacts(id).await.unwrap();
    assert_eq!((view.artifacts.len(), view.left_out[0].reason), (0, "not_delivered"));
}

#[tokio::test]
async fn what_was_brought_outlives_both_sides() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, offer) = world.running(&mut sim).await;
    bring(&world.engine, sim.id, offer.fence, 0, TEXT).await.unwrap();
    world.restart().await;
    sim.hello(&world.engine, &[offer.fence]).await;
    bring(&world.engine, sim.id, offer.fence, 0, b"more").await.unwrap();
    let record = leaving(&[listed("a", TEXT), listed("b", b"more")], &[]);
    sim.finish(&world.engine, offer.fence, 0, record.clone()).await.unwrap();
    // The answer was lost: the same end is reported again, and nothing is written twice.
    sim.finish(&world.engine, offer.fence, 0, record).await.unwrap();
    let view = world.engine.artifacts(id).await.unwrap();
    assert_eq!(view.artifacts.iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), ["a", "b"]);
}

#[tokio::test]
async fn each_try_has_files_of_its_own() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    world.steps("  - {name: one, image: tiny, run: a, retries: {max: 1, backoff: 1s}}").await;
    let (id, offer) = world.running(&mut sim).await;
    bring(&world.engine, sim.id, offer.fence, 0, TEXT).await.unwrap();
    let next = sim.finish(&world.engine, offer.fence, 0, leaving(&[listed("a", TEXT)], &[])).await.unwrap().unwrap();
    world.clock.advance(Duration::from_secs(2));
    sim.grant(&world.engine, offer.fence, next).await;
    bring(&world.engine, sim.id, offer.fence, next, b"second").await.unwrap();
    let record = ExitRecord { code: Some(0), ..leaving(&[listed("a", b"second")], &[]) };
    sim.finish(&world.engine, offer.fence, next, record).await.unwrap();
    let view = world.engine.artifacts(id).await.unwrap();
    let tries: Vec<_> = view.artifacts.iter().map(|one| (one.origin.number, one.sha256.clone())).collect();
    assert_eq!(tries, [(1, sha(TEXT)), (2, sha(b"second"))]);
    assert_eq!(world.view(id).await.steps[0].artifacts.kept, 2);
}

#[tokio::test]
async fn what_a_lost_attempt_has_brought_is_forgotten() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let (id, offer) = world.running(&mut sim).await;
    bring(&world.engine, sim.id, offer.fence, 0, TEXT).await.unwrap();
    let attempt = offer.fence.attempt;
    let uploads = async || {
        world.engine.read(move |tx| Box::pin(async move { Ok(tx.uploads(attempt, 0).await?) })).await.unwrap().len()
    };
    assert_eq!(uploads().await, 1);
    // The host was restarted and has nothing of it any more.
    sim.boot = "boot-2".to_owned();
    sim.hello(&world.engine, &[]).await;
    assert_eq!(world.view(id).await.state, "lost");
    assert_eq!((uploads().await, world.engine.artifacts(id).await.unwrap().artifacts.len()), (0, 0));
}
