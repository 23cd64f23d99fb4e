//! How steps end: by themselves, by a signal, by a deadline, behind the agent's back, with the engine.

use bollard::query_parameters::{KillContainerOptions, RemoveContainerOptionsBuilder, StopContainerOptions};
use longshore_agent::clock;
use longshore_agent::executor::{End, Error, Signalled};
use longshore_core::init::control::Deadlines;
use sha2::{Digest as _, Sha256};

use crate::bench::{Bench, TINY, plan};

/// Waits for as long as the test wants: `wait` returns when a trap has run.
const HANGING: &str = "trap 'echo int' INT; trap '' TERM; echo ready; sleep 600 & wait $!; wait $!; exit 9";

#[tokio::test]
async fn exit_codes_and_bytes_are_those_of_the_job() {
    let bench = Bench::new().await;
    let script =
        "head -c 3000000 /dev/urandom | tee /state/bytes; printf 'a\\000b\\377\\n' | tee -a /state/bytes; exit 7";
    let mut one = plan(TINY, script);
    one.mounts = vec!["state".to_owned()];
    let outcome = bench.run(&one).await;
    let want = std::fs::read(bench.shared().join("bytes")).unwrap();
    assert!(outcome.out == want, "{} bytes came, {} were written", outcome.out.len(), want.len());
    let sha256: String = Sha256::digest(&want).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        (outcome.record.code, outcome.record.bytes, outcome.record.sha256),
        (Some(7), want.len() as u64, sha256)
    );
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let bench = Bench::new().await;
    let outcome = bench.run(&plan(TINY, "exec /no/such/program")).await;
    assert!(outcome.record.code != Some(0) && outcome.text().contains("/no/such/program"), "{outcome:?}");
}

#[tokio::test]
async fn a_cancel_is_one_sigint() {
    let bench = Bench::new().await;
    let script =
        "trap 'echo int; n=1' INT; echo ready; while [ -z \"$n\" ]; do usleep 20000; done; usleep 300000; exit 9";
    let (dir, created) = bench.started(&mut bench.attempt(), &plan(TINY, script)).await.unwrap();
    bench.prints(&dir, "ready").await;
    assert_eq!(bench.executor.interrupt(&created.id).await.unwrap(), Signalled::Sent);
    bench.executor.interrupt(&created.id).await.unwrap();
    let outcome = bench.ended(&dir, &created.id).await;
    assert_eq!(
        (outcome.text().as_str(), outcome.record.code, outcome.record.interrupted),
        ("ready\nint\n", Some(9), true)
    );
    bench.executor.remove(&created.id).await.unwrap();
    assert_eq!(bench.executor.interrupt(&created.id).await.unwrap(), Signalled::NotRunning);
}

#[tokio::test]
async fn a_hard_deadline_kills_what_does_not_listen() {
    let bench = Bench::new().await;
    let script = "trap '' INT TERM; echo ready; sleep 600";
    let (dir, created) = bench.started(&mut bench.attempt(), &plan(TINY, script)).await.unwrap();
    bench.prints(&dir, "ready").await;
    let now = clock::boot_micros();
    dir.set_deadlines(Deadlines { soft: now, hard: now + 1 }).unwrap();
    let record = bench.ended(&dir, &created.id).await.record;
    assert!(record.deadline && record.killed && record.code != Some(0), "{record:?}");
}

#[tokio::test]
async fn a_container_killed_behind_our_back_is_gone() {
    let bench = Bench::new().await;
    let (dir, created) = bench.started(&mut bench.attempt(), &plan(TINY, HANGING)).await.unwrap();
    bench.prints(&dir, "ready").await;
    bench.docker().kill_container(&created.id, None::<KillContainerOptions>).await.unwrap();
    let End::Gone { detail } = bench.end(&dir, &created.id).await else { panic!("it ended in order") };
    assert!(detail.contains("killed") && detail.contains("137"), "{detail}");
}

#[tokio::test]
async fn a_container_removed_behind_our_back_is_gone() {
    let bench = Bench::new().await;
    let (dir, created) = bench.started(&mut bench.attempt(), &plan(TINY, HANGING)).await.unwrap();
    bench.prints(&dir, "ready").await;
    let options = RemoveContainerOptionsBuilder::new().force(true).build();
    let docker = bench.docker();
    let (end, removed) =
        tokio::join!(bench.end(&dir, &created.id), docker.remove_container(&created.id, Some(options)));
    removed.unwrap();
    let End::Gone { detail } = end else { panic!("it ended in order") };
    assert!(detail.contains("gone") || detail.contains("killed"), "{detail}");
}

#[tokio::test]
async fn a_stop_from_outside_says_so() {
    let bench = Bench::new().await;
    let script = "trap 'exit 0' INT; echo ready; sleep 600 & wait $!; exit 3";
    let (dir, created) = bench.started(&mut bench.attempt(), &plan(TINY, script)).await.unwrap();
    bench.prints(&dir, "ready").await;
    bench.docker().stop_container(&created.id, None::<StopContainerOptions>).await.unwrap();
    let record = bench.ended(&dir, &created.id).await.record;
    assert!(record.outside_stop && record.code == Some(0), "{record:?}");
}

#[tokio::test]
async fn a_new_agent_finds_its_container_and_how_it_ended() {
    let bench = Bench::new().await;
    let mut attempt = bench.attempt();
    let (dir, created) = bench.started(&mut attempt, &plan(TINY, HANGING)).await.unwrap();
    bench.prints(&dir, "ready").await;
    let later = bench.restarted().await;
    let found = later.list().await.unwrap();
    assert_eq!((found.len(), found[0].id.as_str(), found[0].epoch), (1, created.id.as_str(), 1));
    later.interrupt(&created.id).await.unwrap();
    bench.prints(&dir, "int").await;
    let now = clock::boot_micros();
    later.step_dir(attempt.offer.fence.attempt, 0).set_deadlines(Deadlines { soft: 0, hard: now }).unwrap();
    let End::Exit(record) = later.wait_end(&dir, &created.id, 0).await else { panic!("no exit record") };
    assert!(record.interrupted && record.killed, "{record:?}");
}

#[tokio::test]
async fn a_step_is_started_once() {
    let bench = Bench::new().await;
    let mut attempt = bench.attempt();
    let one = plan(TINY, "echo once");
    let (step, image, created) = bench.created(&mut attempt, &one).await.unwrap();
    let orders =
        longshore_agent::executor::handover(&step, &attempt.offer, &crate::bench::grant(&one), &image).unwrap();
    bench.executor.start(&step, &created, &orders, Deadlines::default()).await.unwrap();
    let error = bench.executor.start(&step, &created, &orders, Deadlines::default()).await.unwrap_err();
    assert!(matches!(error, Error::File { .. }), "{error}");
    let outcome = bench.ended(&bench.executor.step_dir(step.fence.attempt, 0), &created.id).await;
    assert_eq!((outcome.text().as_str(), outcome.record.code), ("once\n", Some(0)));
}

/// In place of init: what the kernel cannot run, and what ends before it calls.
#[tokio::test]
async fn what_cannot_be_started_says_why_and_ran_nothing() {
    let bench = Bench::new().await;
    for program in ["\u{7f}ELF", "#!/bin/busybox false\n"] {
        let mut attempt = bench.attempt();
        let one = plan(TINY, "true");
        let (step, image, created) = bench.created(&mut attempt, &one).await.unwrap();
        let dir = bench.executor.step_dir(step.fence.attempt, 0);
        std::fs::remove_file(dir.mnt().join("init")).unwrap();
        std::fs::write(dir.mnt().join("init"), program).unwrap();
        std::fs::set_permissions(dir.mnt().join("init"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let orders =
            longshore_agent::executor::handover(&step, &attempt.offer, &crate::bench::grant(&one), &image).unwrap();
        let error = bench.executor.start(&step, &created, &orders, Deadlines::default()).await.unwrap_err();
        assert!(!error.may_have_run() && error.to_string().contains("exit code 1"), "{error}");
        let End::Gone { .. } = bench.end(&dir, &created.id).await else { panic!("there is an exit record") };
    }
}
