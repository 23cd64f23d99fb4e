//! `apply` as a process against a fake server: what it shows, asks and refuses.

use std::io::{Read as _, Write as _};
use std::process::{Output, Stdio};

use longshore_core::spec;
use serde_json::{Value, json};

use crate::fake::{Fake, Reply};

const SPEC: &str = "version: 1\nproject: shop\nenvironments:\n  - name: dev\nvariables: {key: {secret: true}}\nsteps:\n  - name: one\n    image: longshore/tiny:1\n    run: echo hello\n";

fn folder(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("longshore.yaml");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

fn known(text: &str) -> Reply {
    let spec = serde_json::to_value(spec::parse(text).unwrap()).unwrap();
    let answer = json!({ "project": "shop", "revision": 4, "created_at": "2026-11-21T10:00:00.000Z", "created_by": "alice", "spec": spec });
    Reply::json(200, &answer.to_string())
}

fn applied() -> Reply {
    Reply::json(200, r#"{"project":"shop","revision":5,"changed":true}"#)
}

fn told(done: &Output) -> String {
    String::from_utf8(done.stderr.clone()).unwrap()
}

#[test]
fn what_changes_is_shown_and_nothing_is_asked_without_a_terminal() {
    let (_folder, path) = folder(&SPEC.replace("hello", "goodbye"));
    let fake = Fake::start([known(SPEC), applied()]);
    let done = fake.run(&["apply", "-f", &path]);
    assert_eq!(done.status.code(), Some(0), "{}", told(&done));
    assert_eq!(
        told(&done),
        "project shop, from revision 4 (by alice at 2026-11-21 10:00:00Z) to the file:\n  ~ step one\n      - run: echo hello\n      + run: echo goodbye\n"
    );
    assert_eq!(String::from_utf8(done.stdout).unwrap(), "project shop: applied (revision 5)\n");
    assert_eq!(fake.lines(), ["GET projects/shop/spec", "PUT projects/shop"]);
    let same = Fake::start([known(SPEC), Reply::json(200, r#"{"project":"shop","revision":4,"changed":false}"#)]);
    let (_folder, path) = folder(&format!("# a comment\n{SPEC}"));
    assert_eq!(told(&same.run(&["apply", "-f", &path])), "");
}

#[test]
fn a_dry_run_changes_nothing() {
    let (_folder, path) = folder(&SPEC.replace("hello", "goodbye"));
    let fake = Fake::start([known(SPEC), known(SPEC), Reply::problem(404, "not_found", "there is none", "")]);
    let done = fake.run(&["apply", "-f", &path, "--dry-run", "-o", "json"]);
    let shown: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&shown["changed"], &shown["dry_run"], &shown["revision"]), (&json!(true), &json!(true), &json!(4)));
    let field = json!({ "field": "run", "before": "echo hello", "after": "echo goodbye" });
    assert_eq!(shown["changes"], json!([{ "change": "changed", "what": "step `one`", "fields": [field] }]));
    let moved = fake.run(&["apply", "-f", &path, "--dry-run", "--if-revision", "3"]);
    assert_eq!(moved.status.code(), Some(5));
    assert!(told(&moved).contains("is at revision 4, made by alice at"), "{}", told(&moved));
    let new = String::from_utf8(fake.run(&["apply", "-f", &path, "--dry-run"]).stdout).unwrap();
    assert!(
        new.starts_with("project shop is new:\n  + environment dev\n")
            && new.contains("  + variable key\n      secret: true"),
        "{new}"
    );
    assert!(fake.lines().iter().all(|line| line.starts_with("GET ")));
}

#[test]
fn a_project_that_moved_is_refused_with_5() {
    let (_folder, path) = folder(SPEC);
    let refusal = Reply::problem(409, "revision_moved", "project `shop` is at revision 4, made by `alice`", "look");
    let fake = Fake::start([known(&SPEC.replace("hello", "other")), refusal]);
    let done = fake.run(&["apply", "-f", &path, "--if-revision", "3", "--yes"]);
    assert_eq!(done.status.code(), Some(5), "{}", told(&done));
    assert_eq!(fake.lines()[1], "PUT projects/shop?if_revision=3");
    assert!(told(&done).contains("made by `alice`\nunchanged: project `shop` is as it was\n"), "{}", told(&done));
}

#[test]
fn a_spec_of_a_newer_server_is_no_obstacle() {
    let (_folder, path) = folder(SPEC);
    let answer = json!({ "project": "shop", "revision": 4, "created_by": "alice", "spec": { "new": true } });
    let fake = Fake::start([Reply::json(200, &answer.to_string()), applied()]);
    let done = fake.run(&["apply", "-f", &path]);
    assert_eq!(done.status.code(), Some(0));
    assert!(told(&done).contains("the server is newer"), "{}", told(&done));
}

#[test]
fn at_a_terminal_it_is_asked_and_only_what_was_shown_is_done() {
    let (_folder, path) = folder(&SPEC.replace("hello", "goodbye"));
    for (typed, code, lines) in [
        ("y\n", 0, &["GET projects/shop/spec", "PUT projects/shop?if_revision=4"][..]),
        ("\n", 3, &["GET projects/shop/spec"]),
        ("no\n", 3, &["GET projects/shop/spec"]),
    ] {
        let fake = Fake::start([known(SPEC), applied()]);
        let terminal = nix::pty::openpty(None, None).unwrap();
        let mut command = fake.command(&["apply", "-f", &path, "--no-color"]);
        command.stdin(terminal.slave.try_clone().unwrap()).stderr(terminal.slave).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        // The command's own copies of the slave end with it, so that the reader sees the end.
        drop(command);
        let mut master = std::fs::File::from(terminal.master);
        let mut shown = Vec::new();
        let mut byte = [0];
        while !shown.ends_with(b"apply? [y/N] ") {
            master.read_exact(&mut byte).unwrap();
            shown.extend(byte);
        }
        master.write_all(typed.as_bytes()).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{typed:?}");
        assert!(String::from_utf8(shown).unwrap().contains("+ run: echo goodbye"));
        assert_eq!(fake.lines(), lines);
    }
}

#[test]
fn a_working_tree_is_deployed_as_it_stands() {
    let (folder, path) = folder(&SPEC.replace("hello", "goodbye"));
    let git = |args: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.current_dir(folder.path()).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        let done = command.args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(args).output().unwrap();
        assert!(done.status.success(), "{}", told(&done));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "--quiet"]);
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "-m", "one"]);
    let commit = git(&["rev-parse", "HEAD"]);
    let dir = folder.path().to_str().unwrap();
    let accepted = || Reply::json(202, r#"{"deployment":"dep_1"}"#);
    for dirty in [false, true] {
        if dirty {
            std::fs::write(folder.path().join("new.txt"), "new").unwrap();
        }
        let fake = Fake::start([known(SPEC), Reply::json(200, ""), accepted()]);
        let done = fake.run(&["deploy", "--local", dir, "--env", "dev"]);
        assert_eq!(done.status.code(), Some(0), "{}", told(&done));
        let changes = if dirty { " with changes" } else { "" };
        assert!(told(&done).starts_with(&format!(
            "working tree `{dir}` (commit {}{changes}); the project stays as it is\nproject shop, from revision 4",
            commit.get(..12).unwrap()
        )));
        assert!(told(&done).contains("  ~ step one\n      - run: echo hello\n      + run: echo goodbye\n"));
        let sent = fake.seen().pop().unwrap().json();
        assert_eq!((&sent["project"], &sent["release"]), (&json!("shop"), &Value::Null));
        let local = json!({ "spec": std::fs::read_to_string(&path).unwrap(), "commit": commit, "dirty": dirty });
        assert_eq!(sent["local"], local);
        assert!(fake.lines()[1].starts_with(&format!("HEAD packages/{}", sent["package"].as_str().unwrap())));
    }
}

#[test]
fn a_working_tree_that_cannot_be_deployed_is_not_sent() {
    let (folder, path) = folder(SPEC);
    let dir = folder.path().to_str().unwrap();
    let fake = Fake::start([Reply::problem(404, "not_found", "there is none", "")]);
    let other = fake.run(&["deploy", "pay", "--local", dir, "--env", "dev"]);
    assert_eq!(other.status.code(), Some(2), "{}", told(&other));
    assert!(told(&other).contains("is of project `shop`, not of `pay`"), "{}", told(&other));
    assert_eq!(fake.run(&["deploy", "--local", dir, "--package", dir, "--env", "dev"]).status.code(), Some(2));
    let new = fake.run(&["deploy", "--local", dir, "--env", "dev"]);
    assert_eq!(new.status.code(), Some(5), "{}", told(&new));
    assert!(told(&new).contains("there is no project `shop` on the server\nunchanged: nothing was deployed"));
    std::fs::write(&path, SPEC.replace("run:", "rum:")).unwrap();
    let bad = fake.run(&["deploy", "--local", dir, "--env", "dev"]);
    assert_eq!(bad.status.code(), Some(2));
    assert!(told(&bad).contains("longshore.yaml:9: steps[0].rum"), "{}", told(&bad));
    assert_eq!(fake.lines(), ["GET projects/shop/spec"]);
}
