//! `longshore artifact` as a process, against a fake server.

use std::fs;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::fake::{Fake, Reply};

const DEP: &str = "dep_0193a0c5c4007aaaaaaaaaaaaaaaaaaa";

fn file(id: u32, step: &str, number: u32, path: &str, kind: &str, text: &[u8]) -> Value {
    let sha256: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    json!({"id": id, "step": step, "try": number, "preview": false, "attempt": "att_1", "kind": kind, "path": path,
        "bytes": text.len(), "sha256": sha256, "created_at": "2026-11-21T10:00:00.000Z"})
}

fn list() -> Reply {
    let artifacts = [
        file(1, "build", 1, "out/a.txt", "file", b"of the first try"),
        file(2, "build", 2, "out/a.txt", "file", b"a"),
        file(3, "infra", 1, "state-before.json", "state", b"{}"),
        file(4, "test", 1, "out/a.txt", "file", b"t"),
    ];
    let left_out = json!([
        {"step": "build", "try": 2, "preview": false, "attempt": "att_1", "kind": "file", "path": "dump", "reason": "secret", "message": "it holds a secret", "count": 1},
        {"step": "build", "try": 2, "preview": false, "attempt": "att_1", "kind": "file", "path": "", "reason": "too_many", "message": "too many", "count": 7},
    ]);
    Reply::json(200, &json!({"artifacts": artifacts, "left_out": left_out}).to_string())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_was_kept_and_what_was_not_is_listed() {
    let fake = Fake::start([list(), list(), Reply::json(200, r#"{"artifacts":[],"left_out":[]}"#)]);
    let done = fake.run(&["artifact", "list", DEP]);
    let out = text(&done.stdout);
    assert!(done.status.success() && fake.lines() == [format!("GET deployments/{DEP}/artifacts")], "{out}");
    for words in ["state-before.json", "out/a.txt", "dump", "it holds a secret", "(7 files)"] {
        assert!(out.contains(words), "{words}: {out}");
    }
    let done = fake.run(&["artifact", "list", DEP, "-o", "json"]);
    let shown: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((shown["artifacts"].as_array().unwrap().len(), &shown["left_out"][1]["count"]), (4, &json!(7)));
    let done = fake.run(&["artifact", "list", DEP]);
    assert!(done.stdout.is_empty() && text(&done.stderr).contains("no files were kept"));
    let done = fake.run(&["artifact", "list", "job_1"]);
    assert_eq!(done.status.code(), Some(2));
}

#[test]
fn files_come_by_step_and_last_try_and_read_on_after_a_break() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("to");
    let folder = to.to_str().unwrap();
    let fake = Fake::start([list(), Reply::bytes(b"a"), Reply::Cut(Vec::new()), Reply::bytes(b"t")]);
    let done = fake.run(&["artifact", "download", DEP, "--to", folder, "-o", "json"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let at = |number: u32| format!("GET deployments/{DEP}/artifacts/{number}");
    assert_eq!(fake.lines()[1..], [at(2), at(4), at(4)]);
    assert_eq!(
        (fs::read(to.join("build/out/a.txt")).unwrap(), fs::read(to.join("test/out/a.txt")).unwrap()),
        (b"a".to_vec(), b"t".to_vec())
    );
    let shown: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((shown["files"].as_array().unwrap().len(), &shown["files"][0]["step"]), (2, &json!("build")));

    let fake = Fake::start([list(), Reply::bytes(b"of the first try"), list(), Reply::bytes(b"{}")]);
    let done = fake.run(&["artifact", "download", DEP, "--step", "build", "--try", "1", "--to", folder]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(fs::read(to.join("out/a.txt")).unwrap(), b"of the first try");
    // A state has to be named.
    let done = fake.run(&["artifact", "download", DEP, "state-before.json", "--to", folder]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(fs::read(to.join("infra/state-before.json")).unwrap(), b"{}");
}

#[test]
fn nothing_is_overwritten_and_nothing_half_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, path) = (dir.path().to_str().unwrap(), dir.path().join("out/a.txt"));
    let args = ["artifact", "download", DEP, "--step", "test", "--to", folder];
    let fake = Fake::start([list(), Reply::bytes(b"x"), list(), Reply::problem(403, "forbidden", "no", "ask"), list()]);
    let done = fake.run(&args);
    assert_eq!(done.status.code(), Some(1), "another content: {}", text(&done.stderr));
    assert_eq!(fake.run(&args).status.code(), Some(5));
    assert_eq!(fs::read_dir(dir.path().join("out")).unwrap().count(), 0);
    fs::write(&path, "mine").unwrap();
    let done = fake.run(&args);
    assert_eq!((done.status.code(), fake.lines().len()), (Some(1), 5), "not even asked for");
    assert!(text(&done.stderr).contains("--force") && fs::read(&path).unwrap() == b"mine");
    let fake = Fake::start([list(), Reply::bytes(b"t"), list()]);
    assert!(fake.run(&[&args[..], &["--force"]].concat()).status.success());
    assert_eq!(fs::read(&path).unwrap(), b"t");
    let done = fake.run(&["artifact", "download", DEP, "gone", "--to", folder]);
    assert_eq!(done.status.code(), Some(5), "{}", text(&done.stderr));
}

#[test]
fn a_name_that_leads_out_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("to");
    for path in ["../out", "/etc/x", "a/../../out"] {
        let bad = json!({"artifacts": [file(1, "good", 1, "a", "file", b""), file(2, "bad", 1, path, "file", b"")], "left_out": []});
        let fake = Fake::start([Reply::json(200, &bad.to_string())]);
        let done = fake.run(&["artifact", "download", DEP, "--to", to.to_str().unwrap()]);
        assert_eq!((done.status.code(), fake.lines().len()), (Some(1), 1), "{}", text(&done.stderr));
    }
    assert!(!to.exists() && !dir.path().join("out").exists());
}
