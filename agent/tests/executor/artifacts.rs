//! Files that steps leave, in every kind of container, read out of it when it has ended.

use longshore_agent::executor::Piece;
use longshore_core::artifacts::Reason;
use longshore_core::offer::Profile;
use tokio::sync::mpsc;

use crate::bench::{Bench, SCRATCH, TINY, TINY_1234, TINY_NAMED, plan};

/// The kept files of an ended container, in the order of the list.
async fn read(bench: &Bench, container: &str, step: u32) -> Vec<Vec<u8>> {
    let (to, mut from) = mpsc::channel(1);
    let gather = async {
        let mut files = std::collections::BTreeMap::<usize, Vec<u8>>::new();
        let mut last = 0;
        while let Some(piece) = from.recv().await {
            match piece {
                Piece::File { index, .. } => {
                    last = index;
                    files.insert(index, Vec::new());
                }
                Piece::Data(bytes) => files.get_mut(&last).unwrap().extend(bytes),
            }
        }
        files.into_values().collect()
    };
    let (done, files) = tokio::join!(bench.executor.artifacts(container, step, to), gather);
    done.unwrap();
    files
}

#[tokio::test]
async fn files_come_from_any_image_user_and_profile() {
    let bench = Bench::new().await;
    let script = "mkdir -p $LONGSHORE_ARTIFACTS/sub; echo one > $LONGSHORE_ARTIFACTS/sub/a; : > $LONGSHORE_ARTIFACTS/b; \
        echo hunter2 > $LONGSHORE_ARTIFACTS/secret; ln -s /etc/passwd $LONGSHORE_ARTIFACTS/link; exit 4";
    for image in [TINY, TINY_1234, TINY_NAMED, SCRATCH] {
        for profile in [Profile::Standard, Profile::Locked] {
            let mut attempt = bench.attempt();
            let mut one = plan(image, script);
            one.profile = profile;
            one.secrets = vec!["hunter2".to_owned()];
            let (dir, created) = bench.started(&mut attempt, &one).await.unwrap();
            let outcome = bench.ended(&dir, &created.id).await;
            let record = &outcome.record;
            assert_eq!((&record.error, record.code), (&None, Some(4)), "{image} {profile:?}: {}", outcome.text());
            let listed: Vec<_> = record.artifacts.iter().map(|one| one.path.as_str()).collect();
            assert_eq!(listed, ["b", "sub/a"], "{image} {profile:?}: {:?}", record.left_out);
            let left: Vec<_> = record.left_out.iter().map(|one| (one.path.as_str(), one.reason)).collect();
            assert_eq!(left, [("link", Reason::NotRegular), ("secret", Reason::Secret)]);
            for _ in 0..2 {
                assert_eq!(read(&bench, &created.id, 0).await, [&b""[..], b"one\n"]);
            }
            assert!(read(&bench, &created.id, 7).await.is_empty(), "a step that is not there left nothing");
        }
    }
}

#[tokio::test]
async fn each_step_has_a_folder_of_its_own_outside_of_the_workspace() {
    let bench = Bench::new().await;
    let mut attempt = bench.attempt();
    let one = plan(
        TINY,
        "echo 1 > $LONGSHORE_ARTIFACTS/same; ls -A; su -s /bin/sh pulumi -c 'echo u > $LONGSHORE_ARTIFACTS/user'",
    );
    let (dir, created) = bench.started(&mut attempt, &one).await.unwrap();
    let outcome = bench.ended(&dir, &created.id).await;
    assert_eq!((outcome.text().as_str(), outcome.record.artifacts.len()), ("", 2), "any user of it may add to it");
    bench.executor.remove(&created.id).await.unwrap();
    // The next one has another user, to whom everything is handed over.
    let mut two = plan(TINY_1234, "ls -A $LONGSHORE_ARTIFACTS; head -c 3000000 /dev/zero > $LONGSHORE_ARTIFACTS/same");
    two.index = 1;
    let (dir, created) = bench.started(&mut attempt, &two).await.unwrap();
    let outcome = bench.ended(&dir, &created.id).await;
    assert_eq!((outcome.text().as_str(), outcome.record.code, outcome.record.artifacts.len()), ("", Some(0), 1));
    assert!(read(&bench, &created.id, 1).await == [vec![0; 3_000_000]]);
    bench.executor.remove(&created.id).await.unwrap();
    bench.executor.remove_volume(attempt.offer.fence.attempt).await.unwrap();
}

#[tokio::test]
async fn a_step_cannot_make_anything_else_be_read() {
    let bench = Bench::new().await;
    for script in [
        "/bin/busybox mv $LONGSHORE_ARTIFACTS /longshore/moved; ln -s /etc $LONGSHORE_ARTIFACTS",
        "mkdir ${LONGSHORE_ARTIFACTS%files}kept; cp /etc/passwd ${LONGSHORE_ARTIFACTS%files}kept/0",
        "rm -r /longshore/artifacts; ln -s /etc /longshore/artifacts",
    ] {
        let mut attempt = bench.attempt();
        let (dir, created) = bench.started(&mut attempt, &plan(TINY, script)).await.unwrap();
        let outcome = bench.ended(&dir, &created.id).await;
        assert!(outcome.record.artifacts.is_empty(), "{script}: {:?}", outcome.record.artifacts);
    }
}
