//! Files that a step left are brought before its end is reported, whatever happens in between.

use longshore_core::artifacts::{Artifact, Kind};
use longshore_core::fence::Fence;
use longshore_core::init::ExitRecord;
use longshore_proto::v1::CompleteRequest;
use longshore_proto::v1::complete_request::Outcome;
use tonic::Status;

use crate::controller::sha256;
use crate::world::{World, offer};

fn file(fill: u8, length: usize) -> Vec<u8> {
    vec![fill; length]
}

/// The list that init leaves of these files.
fn record(files: &[Vec<u8>]) -> ExitRecord {
    let artifact = |(index, file): (usize, &Vec<u8>)| Artifact {
        path: format!("f{index}"),
        bytes: file.len() as u64,
        sha256: sha256(file),
        kind: Kind::File,
    };
    ExitRecord { code: Some(1), artifacts: files.iter().enumerate().map(artifact).collect(), ..ExitRecord::default() }
}

fn reported(report: &CompleteRequest) -> ExitRecord {
    let Some(Outcome::Exited(exited)) = &report.outcome else { panic!("not exited") };
    serde_json::from_slice(&exited.record).unwrap()
}

/// A step that runs, with these files in its folder when it ends.
async fn running(files: &[Vec<u8>]) -> (World, Fence) {
    let mut world = World::new().await;
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.runtime.started(offer.fence, 0).await;
    *world.runtime.kept.lock().unwrap() = files.to_vec();
    (world, offer.fence)
}

#[tokio::test]
async fn each_listed_file_is_brought_as_it_is_and_no_other() {
    let files = [file(1, 2_500), file(2, 0), file(3, 300_000)];
    let (mut world, fence) = running(&[&files[..], &[file(9, 10)]].concat()).await;
    world.runtime.exit_with(fence, 0, record(&files));
    let report = world.controller.completed().await;
    assert_eq!(reported(&report), record(&files));
    for file in &files {
        assert!(world.controller.artifact(&sha256(file)).as_ref() == Some(file), "before the end was reported");
    }
    assert_eq!(world.controller.artifact(&sha256(&file(9, 10))), None);
    world.finish().await;
}

#[tokio::test]
async fn a_killed_agent_leaves_them_to_the_next() {
    let files = [file(1, 5_000), file(2, 5_000)];
    let (mut world, fence) = running(&files).await;
    // The second is never answered.
    world.controller.plan(|state| state.ship.extend([Some(Status::unavailable("again")), None]));
    world.runtime.exit_with(fence, 0, record(&files));
    assert_eq!(
        (world.controller.shipped().await, world.controller.shipped().await),
        (sha256(&files[0]), sha256(&files[0]))
    );
    world.kill_agent().await;
    world.start_agent();
    assert_eq!(reported(&world.controller.completed().await), record(&files));
    for file in &files {
        assert!(world.controller.artifact(&sha256(file)).as_ref() == Some(file));
    }
    world.finish().await;
}

#[tokio::test]
async fn a_reading_that_breaks_off_is_begun_anew() {
    let files = [file(1, 50), file(2, 60_000)];
    let (mut world, fence) = running(&files).await;
    *world.runtime.breaks.lock().unwrap() = 3;
    world.runtime.exit_with(fence, 0, record(&files));
    world.controller.completed().await;
    assert!(files.iter().all(|file| world.controller.artifact(&sha256(file)).as_ref() == Some(file)));
    world.finish().await;
}

#[tokio::test]
async fn a_file_that_cannot_be_brought_does_not_hold_the_end_up() {
    let files = [file(1, 50), file(2, 60), file(3, 70), file(4, 80)];
    let (mut world, fence) = running(&files).await;
    {
        let mut kept = world.runtime.kept.lock().unwrap();
        // Changed, and of another length.
        (kept[1], kept[2]) = (file(9, 60), file(9, 71));
    }
    world.controller.plan(|state| state.ship.push_back(Some(Status::unimplemented("an old controller"))));
    world.runtime.exit_with(fence, 0, record(&files));
    assert_eq!(reported(&world.controller.completed().await), record(&files));
    let there = files.iter().map(|file| world.controller.artifact(&sha256(file)).is_some());
    assert_eq!(there.collect::<Vec<_>>(), [false, false, false, true]);
    world.finish().await;
}

#[tokio::test]
async fn a_controller_that_fails_again_and_again_is_told_the_end_all_the_same() {
    let files = [file(1, 50)];
    let (mut world, fence) = running(&files).await;
    world.controller.plan(|state| state.ship.extend((0..50).map(|_| Some(Status::unavailable("full")))));
    world.runtime.exit_with(fence, 0, record(&files));
    world.controller.completed().await;
    world.finish().await;
}

#[tokio::test]
async fn a_fenced_attempt_reports_nothing() {
    let files = [file(1, 50)];
    let (mut world, fence) = running(&files).await;
    world
        .controller
        .plan(|state| state.ship.push_back(Some(Status::failed_precondition("FENCED: epoch 2 is current"))));
    world.runtime.exit_with(fence, 0, record(&files));
    world.controller.shipped().await;
    world.runtime.emptied().await;
    assert!(world.controller.artifact(&sha256(&files[0])).is_none());
}
