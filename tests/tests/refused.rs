//! What is refused, with its message and its exit code, through the binaries that users run.

use std::process::Command;

use longshore_tests::dev::Dev;
use longshore_tests::docker::TINY;
use longshore_tests::process::{Done, run};
use serde_json::Value;

const HEAD: &str = "environments: [{name: dev}, {name: staging}, {name: production, protected: true}]\n";
const PHASES: &str = "lifecycle: [{phase: test, environments: [dev]}, {phase: stage, environments: [staging]}, {phase: live, environments: [production]}]\n";

/// A project whose one step runs `script`; `top` are further top-level lines.
fn project(dev: &Dev, name: &str, top: &str, steps: &str, script: &str) {
    dev.apply(&format!(
        "version: 1\nproject: {name}\n{HEAD}{top}steps:\n{steps}  - {{name: one, image: '{TINY}', network: none, mounts: [state], run: '{script}'}}\n"
    ));
}

fn json(dev: &Dev, args: &[&str]) -> Value {
    let args: Vec<&str> = args.iter().copied().chain(["-o", "json"]).collect();
    serde_json::from_str(&dev.cli(&args).ok().text()).unwrap()
}

/// The server says no, with these words.
fn refused(done: &Done, words: &[&str]) {
    assert_eq!(done.code, 5, "{}", done.stderr);
    for word in words {
        assert!(done.stderr.contains(word), "`{word}` is not in: {}", done.stderr);
    }
}

fn release(dev: &Dev, project: &str, version: &str) {
    let _made = dev.cli(&["release", "create", project, "--version", version]).ok();
}

/// A new user with a role; answers the token.
fn person(dev: &Dev, name: &str, role: &[&str]) -> String {
    let _made = dev.cli(&["user", "create", name]).ok();
    let args: Vec<&str> = ["role", "grant", "--user", name].iter().chain(role).copied().collect();
    let _given = dev.cli(&args).ok();
    json(dev, &["token", "create", "--user", name, "--expires", "1h"])["token"].as_str().unwrap().to_owned()
}

fn as_person(dev: &Dev, token: &str, args: &[&str]) -> Done {
    run(dev.command(args).env("LONGSHORE_TOKEN", token), b"")
}

#[test]
fn what_breaks_a_rule_of_releases() {
    let dev = Dev::start();
    project(&dev, "rules", PHASES, "", "true");
    release(&dev, "rules", "1.0.0");
    let past = dev.cli(&["deploy", "rules", "--release", "1.0.0", "--env", "production"]);
    refused(
        &past,
        &["release `1.0.0` has not passed phase `test`", "it has not succeeded in `dev`", "longshore promote"],
    );
    let twice = dev.cli(&["release", "create", "rules", "--version", "1.0.0"]);
    refused(&twice, &["release `1.0.0` of project `rules` is there already", "a release never changes"]);
    let _blocked = dev.cli(&["release", "block", "rules", "1.0.0", "--reason", "CVE-2026-1"]).ok();
    // Nor is the same thing under another version a way around it.
    for args in [
        &["deploy", "rules", "--release", "1.0.0", "--env", "dev"][..],
        &["promote", "rules", "--release", "1.0.0"],
        &["deploy", "rules", "--env", "dev"],
    ] {
        refused(&dev.cli(args), &["release `1.0.0` is blocked: CVE-2026-1", "longshore release unblock"]);
    }
    refused(&dev.cli(&["rollback", "rules", "--env", "dev"]), &["nothing to go back to"]);
    assert_eq!(json(&dev, &["deployment", "list"]), serde_json::json!([]), "nothing was queued");
    let _unblocked = dev.cli(&["release", "unblock", "rules", "1.0.0"]).ok();
    let late = ["deploy", "rules", "--env", "dev", "--expires-at", "2020-01-01T00:00:00Z"];
    refused(&dev.cli(&late), &["it was not to begin after 2020-01-01T00:00:00.000Z, and that has passed"]);
    let never = [
        "deploy",
        "rules",
        "--env",
        "dev",
        "--not-before",
        "2100-01-02T00:00:00Z",
        "--expires-at",
        "2100-01-01T00:00:00Z",
    ];
    refused(&dev.cli(&never), &["it could never begin", "--not-before"]);
}

#[test]
fn what_does_not_fit_a_channel() {
    let dev = Dev::start();
    let beta = "{name: beta, prerelease: beta, lifecycle: [{phase: try, environments: [dev]}]}";
    let channels = format!("{PHASES}channels: [{{name: stable, prerelease: none, default: true}}, {beta}]\n");
    project(&dev, "lines", &channels, "", "true");
    let create = |more: &[&str]| dev.cli(&[&["release", "create", "lines", "--version"], more].concat());
    let nowhere = create(&["1.0.0-rc.1"]);
    refused(
        &nowhere,
        &["no channel takes version `1.0.0-rc.1`", "of `beta`, its `prerelease` is `beta`", "no_channel"],
    );
    refused(&create(&["1.0.0", "--channel", "beta"]), &["channel `beta` does not take version `1.0.0`", "--channel"]);
    refused(&create(&["1.0.0", "--channel", "bata"]), &["there is no channel `bata`", "did you mean `beta`?"]);
    release(&dev, "lines", "1.0.0");
    release(&dev, "lines", "2.0.0-beta.1");
    let shown = json(&dev, &["release", "list", "lines", "--channel", "beta"]);
    assert_eq!((&shown[0]["version"], &shown[1]), (&"2.0.0-beta.1".into(), &Value::Null), "{shown:#}");
    let out = dev.cli(&["deploy", "lines", "--release", "2.0.0-beta.1", "--env", "staging"]);
    refused(&out, &["environment `staging` is in no phase of the lifecycle of channel `beta`"]);
    refused(
        &dev.cli(&["deploy", "lines", "--env", "dev", "--channel", "beta"]),
        &["does not take version", "--version"],
    );
    assert_eq!(json(&dev, &["deployment", "list"]), serde_json::json!([]), "nothing was queued");
    let _rest = dev.cli(&["deploy", "lines", "--release", "2.0.0-beta.1", "--env", "dev", "--wait"]).ok();
    refused(&dev.cli(&["promote", "lines", "--release", "2.0.0-beta.1"]), &["has passed every phase"]);
}

#[test]
fn what_only_another_person_may_decide() {
    let dev = Dev::start();
    project(&dev, "own", "", "  - {name: go, approval: {needs: 1}}\n", "true");
    let id = json(&dev, &["deploy", "own", "--env", "production"])["deployment"].as_str().unwrap().to_owned();
    let approvals = json(&dev, &["approvals", "--deployment", &id]);
    let approval = approvals[0]["id"].as_str().unwrap();
    let own = dev.cli(&["approve", approval, "--comment", "my own"]);
    refused(&own, &["`admin` started this deployment, and the environment is protected", "ask a colleague"]);
    let vic = person(&dev, "vic", &["viewer"]);
    refused(&as_person(&dev, &vic, &["approve", approval, "--comment", "a viewer"]), &["vic", "approve"]);
    let ann = person(&dev, "ann", &["approver", "--project", "own"]);
    assert_eq!(as_person(&dev, &ann, &["reject", approval, "--comment", "not today"]).code, 0);
    refused(&as_person(&dev, &ann, &["approve", approval, "--comment", "or so"]), &["is rejected already"]);
    let shown = dev.end(&id);
    assert_eq!((&shown["state"], &shown["reason"]), (&"failed".into(), &"step `go`: rejected by `ann`".into()));
}

#[test]
fn the_second_of_one_environment_waits_and_says_why() {
    let dev = Dev::start();
    project(&dev, "two", "", "", "while [ ! -e /state/go ]; do usleep 20000; done");
    let first = dev.deploy("two", &[]);
    let _container = dev.container(&first);
    let second = dev.deploy("two", &[]);
    let shown = dev.wait(&second, "waiting", |shown| shown["state"] == "waiting");
    let words = shown["waiting_for"].as_str().unwrap();
    assert!(words.contains("lock `project/two/dev`, held by") && words.contains(&first), "{words}");
    let why = json(&dev, &["explain", &second]);
    let rules = why["rules"].as_array().unwrap();
    assert!(
        rules.iter().any(|rule| rule["ok"] == false && rule["message"].as_str().unwrap().contains(&first)),
        "{why:#}"
    );
    std::fs::write(dev.state().join("go"), "").unwrap();
    assert_eq!(dev.end(&second)["state"], "succeeded");
    let (first, second) = (dev.end(&first), dev.end(&second));
    let at = |shown: &Value, what: &str| shown["steps"][0]["attempts"][0][what].as_str().unwrap().to_owned();
    assert!(at(&first, "ended_at") <= at(&second, "started_at"), "one after the other");
}

#[test]
fn a_role_reaches_no_further_than_it_was_given() {
    let dev = Dev::start();
    project(&dev, "roles", "", "", "true");
    project(&dev, "others", "", "", "true");
    let dan = person(&dev, "dan", &["deployer", "--project", "roles", "--env", "dev"]);
    assert_eq!(as_person(&dev, &dan, &["deploy", "roles", "--env", "dev", "--wait"]).code, 0);
    for args in [
        &["deploy", "roles", "--env", "production"][..],
        &["deploy", "others", "--env", "dev"],
        &["release", "block", "roles", "0.0.1", "--reason", "just so"],
        &["user", "create", "eve"],
        &["token", "create", "--user", "admin"],
        &["audit"],
    ] {
        refused(&as_person(&dev, &dan, args), &["dan"]);
    }
    let lines = dev.cli(&["audit", "-o", "json"]).ok().text();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let refusals = lines.iter().filter(|line| line["actor"] == "dan" && line["outcome"] == "refused").count();
    assert_eq!(refusals, 6, "each of them is written down");
}

#[test]
fn a_secret_is_read_back_by_nothing() {
    let canary = "Zq7canary4711";
    let dev = Dev::start();
    let top = "variables: {key: {secret: true}}\n";
    let spec = format!(
        "version: 1\nproject: vault\n{HEAD}{top}steps:\n  - {{name: go, approval: {{needs: 1}}}}\n  - {{name: one, image: '{TINY}', network: none, run: 'echo $K; exit 1', env: {{K: '${{{{ secrets.key }}}}'}}}}\n"
    );
    dev.apply(&spec);
    dev.set_secret("vault", "key", canary);
    release(&dev, "vault", "1.0.0");
    let id = json(&dev, &["deploy", "vault", "--release", "1.0.0", "--env", "dev"])["deployment"]
        .as_str()
        .unwrap()
        .to_owned();
    let approval = json(&dev, &["approvals"])[0]["id"].as_str().unwrap().to_owned();
    let before = dev.cli(&["explain", &id, "-o", "json"]).ok().text();
    let _approved = dev.cli(&["approve", &approval, "--comment", "go"]).ok();
    assert_eq!(dev.end(&id)["state"], "failed");
    assert_eq!(String::from_utf8_lossy(&dev.raw(&id)), "[secret]\n");
    let mut said = vec![before];
    for args in [
        &["deployment", "show", &id][..],
        &["deployment", "list"],
        &["explain", &id],
        &["logs", &id],
        &["approvals", "--deployment", &id],
        &["release", "show", "vault", "1.0.0"],
        &["release", "list", "vault"],
        &["release", "diff", "vault", "1.0.0", "1.0.0"],
        &["variable", "explain", "vault", "key", "--env", "dev"],
        &["package", "list"],
        &["agents"],
        &["locks"],
        &["user", "list"],
        &["token", "list"],
        &["whoami"],
        &["audit"],
        &["deploy", "vault", "--env", "dev", "--var", "key=other"],
        &["rollback", "vault", "--env", "dev"],
    ] {
        let args: Vec<&str> = args.iter().copied().chain(["-o", "json"]).collect();
        let done = dev.cli(&args);
        assert!(done.code != 2 || args[0] == "deploy", "each is a command that there is: {args:?}: {}", done.stderr);
        said.push(done.text() + &done.stderr);
    }
    let again =
        run(&mut dev.command(&["variable", "set", "vault", "key", "--secret", "-o", "json"]), canary.as_bytes()).ok();
    said.push(again.text() + &again.stderr);
    for text in said {
        assert!(!text.contains(canary), "{text}");
    }
}

#[test]
fn archives_that_reach_outside_or_grow_are_refused_by_name() {
    let dev = Dev::start();
    project(&dev, "zip", "", "", "true");
    let work = dev.dir().join("archives");
    std::fs::create_dir_all(work.join("in")).unwrap();
    let script = "set -e; cd \"$1\"; echo x > escape; ln -s /etc/passwd in/out; \
        tar -C in -czPf up.tar.gz ../escape; tar -C in -czf link.tar.gz out; \
        head -c 300M /dev/zero > in/zeros; tar -C in -czf bomb.tar.gz zeros; rm in/zeros";
    let _made = run(Command::new("sh").args(["-c", script, "sh"]).arg(&work), b"").ok();
    for (name, words) in [("up", "escape"), ("link", "out"), ("bomb", "grows more than 200-fold")] {
        let path = work.join(format!("{name}.tar.gz"));
        let done = dev.cli(&["deploy", "zip", "--env", "dev", "--package", path.to_str().unwrap()]);
        assert!([2, 5].contains(&done.code) && done.stderr.contains(words), "{name}: {} {}", done.code, done.stderr);
    }
    assert_eq!(json(&dev, &["deployment", "list"]), serde_json::json!([]), "nothing was queued");
}

#[test]
fn exit_codes_say_how_it_went() {
    let dev = Dev::start();
    let code = |script: &str| {
        project(&dev, "codes", "", "", script);
        dev.cli(&["deploy", "codes", "--env", "dev", "--wait"]).code
    };
    assert_eq!((code("true"), code("exit 7")), (0, 1));
    project(&dev, "codes", "", "  - {name: go, approval: {needs: 1}}\n", "true");
    let id = dev.deploy("codes", &[]);
    assert_eq!(dev.cli(&["cancel", &id]).code, 0);
    assert_eq!(dev.end(&id)["state"], "canceled");
    let bad = dev.dir().join("bad.yaml");
    std::fs::write(&bad, "version: 1\nproject: codes\n").unwrap();
    assert_eq!(dev.cli(&["apply", "-f", bad.to_str().unwrap()]).code, 2);
    assert_eq!(dev.cli(&["deploy", "codes", "--env", "nowhere"]).code, 5);
    assert_eq!(dev.cli(&["cancel", &id]).code, 5, "it has ended");
    let gone = run(dev.command(&["locks"]).env("LONGSHORE_URL", "http://127.0.0.1:9"), b"");
    assert_eq!(gone.code, 6);
}
