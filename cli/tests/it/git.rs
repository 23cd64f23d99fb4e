//! `package push --git` as a process, against a fake server and a repository of this machine.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::fake::{Fake, Reply};

fn git(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(dir).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    let done = command.args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(args).output().unwrap();
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_commit_is_pushed_and_named() {
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "--quiet", "--initial-branch=main"]);
    std::fs::write(folder.path().join("main.sh"), "echo hello\n").unwrap();
    git(folder.path(), &["add", "--all"]);
    git(folder.path(), &["commit", "--quiet", "-m", "one"]);
    let url = format!("file://{}", folder.path().display());
    let fake = Fake::start([Reply::With { status: 404, header: "x: y", body: "" }, Reply::json(201, "{}")]);
    let refused = fake.run(&["package", "push", "--git", &url, "--ref", "main"]);
    assert_eq!(refused.status.code(), Some(2));
    let mut push = fake.command(&["package", "push", "--git", &url, "--ref", "main", "--allow-file", "-o", "json"]);
    // What a caller's own git left in the environment leads nowhere else.
    let done = push.env("GIT_DIR", "/nowhere").env("GIT_WORK_TREE", "/nowhere").output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(0), "{said}");
    let pushed: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(pushed["commit"], git(folder.path(), &["rev-parse", "HEAD"]).as_str());
    assert_eq!(fake.lines()[1], format!("PUT packages/{}", pushed["sha256"].as_str().unwrap()));
}

#[test]
fn a_password_in_an_address_is_refused_and_not_repeated() {
    let fake = Fake::start([]);
    let done = fake.run(&["package", "push", "--git", "https://u:hunter2@git.example/x", "--ref", "main"]);
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(2), "{said}");
    assert!(said.contains("holds a password") && !said.contains("hunter2"), "{said}");
    for args in [
        &["package", "push"][..],
        &["package", "push", "--git", "https://h/x"],
        &["package", "push", ".", "--dir", "x"],
    ] {
        assert_eq!(fake.run(args).status.code(), Some(2), "{args:?}");
    }
    assert!(fake.seen().is_empty());
}

#[test]
fn the_server_makes_packages_releases_and_deployments_of_commits() {
    let made = r#"{"sha256":"ab","bytes":1,"source":{"url":"https://e/x","ref":"v1","commit":"c0ffee"}}"#;
    let fake = Fake::start([
        Reply::json(201, made),
        Reply::json(201, r#"{"id":"rel_1","version":"1.0.0"}"#),
        Reply::json(202, r#"{"deployment":"dep_1"}"#),
        Reply::json(200, &format!("[{made}]")),
    ]);
    let done = fake.run(&["package", "push", "--project", "shop", "--ref", "v1"]);
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!((done.status.code(), String::from_utf8(done.stdout).unwrap().as_str()), (Some(0), "ab\n"), "{said}");
    assert!(said.contains("it is commit c0ffee (v1 of https://e/x)"), "{said}");
    assert_eq!(fake.run(&["release", "create", "shop", "--ref", "v1"]).status.code(), Some(0));
    assert_eq!(fake.run(&["deploy", "shop", "--env", "dev", "--ref", "v1"]).status.code(), Some(0));
    let list = String::from_utf8(fake.run(&["package", "list"]).stdout).unwrap();
    assert!(list.contains("commit c0ffee (v1 of https://e/x)"), "{list}");
    let seen = fake.seen();
    assert_eq!(fake.lines()[..3], ["POST projects/shop/packages", "POST projects/shop/releases", "POST deployments"]);
    assert!(seen[..3].iter().all(|seen| seen.json()["ref"] == "v1"));
    for args in [
        &["deploy", "shop", "--env", "dev", "--ref", "v1", "--package", "."][..],
        &["deploy", "shop", "--env", "dev", "--ref", "v1", "--release", "1.0.0"],
        &["release", "create", "shop", "--ref", "v1", "--package", "."],
        &["package", "push", "--ref", "v1"],
        &["package", "push", ".", "--ref", "v1"],
        &["package", "push", "--git", "https://e/x", "--ref", "v1", "--project", "shop"],
    ] {
        assert_eq!(fake.run(args).status.code(), Some(2), "{args:?}");
    }
}
