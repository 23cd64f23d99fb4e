//! What a step leaves in its folder, through a whole life of init.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::harness::{Init, handover, run, sh};
use longshore_core::artifacts::{Collect, Kind, Limits, Reason};
use longshore_core::init::{Command, Handover, Stdout};
use nix::sys::signal::Signal;
use std::fs;
use tempfile::TempDir;

/// A step with a folder for its files; `$FILES` names it.
fn leaving(commands: Vec<Command>, secrets: &[&str]) -> (Handover, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("artifacts/0").to_string_lossy().into_owned();
    let mut handover = handover(commands, secrets);
    handover.env.push(("FILES".into(), format!("{folder}/files")));
    handover.artifacts = Some(Collect { folder, limits: Limits { file_bytes: 1 << 20, total_bytes: 1 << 20 } });
    (handover, dir)
}

fn kept(dir: &TempDir, index: usize) -> String {
    fs::read_to_string(dir.path().join(format!("artifacts/0/kept/{index}"))).unwrap()
}

#[test]
fn files_of_a_step_that_failed_are_kept_too() {
    let script =
        "mkdir $FILES/sub; echo report > $FILES/sub/a; echo hunter2 > $FILES/b; (umask 077; echo c > $FILES/c); exit 3";
    let (handover, dir) = leaving(vec![sh(script), sh("echo never > $FILES/never")], &["hunter2"]);
    let record = run(handover).record;
    assert_eq!((record.code, record.error), (Some(3), None));
    let listed: Vec<_> = record.artifacts.iter().map(|one| (one.path.as_str(), one.bytes, one.kind)).collect();
    assert_eq!(listed, [("c", 2, Kind::File), ("sub/a", 7, Kind::File)]);
    assert_eq!((kept(&dir, 0), kept(&dir, 1)), ("c\n".into(), "report\n".into()));
    let [left] = record.left_out.try_into().unwrap();
    assert_eq!((left.path.as_str(), left.reason, left.count), ("b", Reason::Secret, 1));
}

#[test]
fn what_a_canceled_step_left_is_read_when_its_last_process_is_dead() {
    // It is there before the step says that it is ready.
    let script = r#"trap 'echo late > $FILES/late; exit 1' INT; echo x > $FILES/growing
        (trap '' INT; while :; do echo x >> $FILES/growing; done) &
        cat "$DIR/down" & echo ready > "$DIR/up"; wait $!"#;
    let (handover, dir) = leaving(vec![sh(script)], &[]);
    let init = Init::start(handover);
    init.hear();
    init.signal(Signal::SIGINT);
    let record = init.end().record;
    assert!(record.interrupted);
    let late = record.artifacts.iter().position(|one| one.path == "late").unwrap();
    assert_eq!(kept(&dir, late), "late\n");
    // It grew until its writer was killed: then it is whole, or was too long.
    assert_eq!(record.artifacts.len() + record.left_out.len(), 2);
    assert!(record.left_out.iter().all(|one| one.reason == Reason::TooLarge), "{:?}", record.left_out);
}

#[test]
fn a_secret_that_the_step_itself_names_keeps_a_file_out() {
    let file = tempfile::tempdir().unwrap();
    let path = file.path().join("output").to_string_lossy().into_owned();
    let script = format!(
        r#"echo '{{"name":"pw","value":"made-up-4711","secret":true}}' > {path}; echo made-up-4711 > $FILES/a; exit 1"#
    );
    let (mut handover, _dir) = leaving(vec![sh(&script)], &[]);
    handover.output_file = Some(path);
    let record = run(handover).record;
    assert!(record.artifacts.is_empty());
    assert_eq!(record.left_out[0].reason, Reason::Secret);
}

#[test]
fn the_state_is_what_one_export_printed_before_anything_was_written() {
    let export = |script: &str| Command { stdout: Stdout::Checkpoint, keeps_state: true, ..sh(script) };
    let (handover, dir) = leaving(vec![export("printf '{\"n\":1}'; echo said >&2"), sh("exit 1")], &[]);
    let left = run(handover);
    assert_eq!((left.record.code, left.stdout.len(), left.stderr.as_slice()), (Some(1), 0, &b"said\n"[..]));
    let [state] = left.record.artifacts.try_into().unwrap();
    assert_eq!((state.path.as_str(), state.kind, state.bytes), ("state-before.json", Kind::State, 7));
    assert_eq!(left.record.checkpoint, Some(state.sha256));
    assert_eq!(kept(&dir, 0), "{\"n\":1}");
    // An export that fails ends the step, and nothing is kept of it.
    let (handover, _dir) = leaving(vec![export("printf '{'; echo why >&2; exit 255"), sh("echo never")], &[]);
    let left = run(handover);
    assert_eq!((left.record.code, left.record.command, left.stderr.as_slice()), (Some(255), 0, &b"why\n"[..]));
    assert!(left.record.artifacts.is_empty() && left.record.left_out.is_empty());
    // One that holds a secret leaves nothing of it behind.
    let (handover, dir) = leaving(vec![export("printf 'a hunter2-secret'"), sh("true")], &["hunter2-secret"]);
    let record = run(handover).record;
    assert_eq!(
        (record.code, record.left_out[0].reason, record.left_out[0].kind),
        (Some(0), Reason::Secret, Kind::State)
    );
    assert_eq!(fs::metadata(dir.path().join("artifacts/0/state")).unwrap().len(), 0);
}

#[test]
fn a_folder_that_cannot_be_made_fails_no_step() {
    let (mut handover, _dir) = leaving(vec![sh("echo fine")], &[]);
    handover.artifacts.as_mut().unwrap().folder = "/proc/no/where".into();
    let left = run(handover);
    assert_eq!((left.record.code, left.record.error), (Some(0), None));
    assert_eq!(left.record.left_out[0].reason, Reason::Unreadable);
}
