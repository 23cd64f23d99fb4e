//! `examples/webshop` as its README walks through it: to production with a second person, the next release, and back.

use std::path::PathBuf;

use longshore_tests::dev::{Dev, checkout};
use longshore_tests::docker::docker;
use longshore_tests::process::run;
use serde_json::Value;

const IMAGE: &str = "longshore/pulumi:3.259.0";

fn json(dev: &Dev, args: &[&str]) -> Value {
    let args: Vec<&str> = args.iter().copied().chain(["-o", "json"]).collect();
    serde_json::from_str(&dev.cli(&args).ok().text()).unwrap()
}

fn set(dev: &Dev, args: &[&str], value: &str) {
    let args: Vec<&str> = ["variable", "set", "webshop"].iter().chain(args).copied().collect();
    let _set = run(&mut dev.command(&args), value.as_bytes()).ok();
}

fn log(dev: &Dev, id: &str) -> String {
    String::from_utf8_lossy(&dev.raw(id)).into_owned()
}

/// Promotes a release; the deployment of the one environment of the phase.
fn promote(dev: &Dev, version: &str, environment: &str) -> String {
    let went = json(dev, &["promote", "webshop", "--release", version]);
    assert_eq!(went["deployments"][0]["environment"], environment, "{went:#}");
    went["deployments"][0]["deployment"].as_str().unwrap().to_owned()
}

fn succeeded(dev: &Dev, id: &str) -> Value {
    let shown = dev.end(id);
    assert_eq!(shown["state"], "succeeded", "{shown:#}\n{}", log(dev, id));
    shown
}

fn step<'a>(shown: &'a Value, name: &str) -> &'a Value {
    shown["steps"].as_array().unwrap().iter().find(|step| step["name"] == name).unwrap()
}

/// A copy of the example that a test may change.
fn copy(dev: &Dev) -> PathBuf {
    let to = dev.dir().join("webshop");
    let _copied =
        run(std::process::Command::new("cp").arg("-r").arg(checkout().join("examples/webshop")).arg(&to), b"").ok();
    to
}

fn set_up(dev: &Dev) -> (PathBuf, String) {
    assert_eq!(docker(&["image", "inspect", IMAGE]).code, 0, "this test needs `{IMAGE}`: cargo xtask pulumi-image");
    let example = copy(dev);
    let _applied = dev.cli(&["apply", "-f", example.join("longshore.yaml").to_str().unwrap()]).ok();
    set(dev, &["passphrase", "--secret"], "correct horse");
    set(dev, &["payment_key", "--secret"], "pk-test-canary");
    set(dev, &["payment_key", "--secret", "--env", "production"], "pk-live-canary");
    set(dev, &["health_url"], &format!("{}/healthz", dev.url()));
    for args in [
        &["user", "create", "kim"][..],
        &["role", "grant", "--user", "kim", "approver", "--project", "webshop"],
        &["team", "create", "keepers", "--member", "kim", "--member", "admin"],
    ] {
        let _done = dev.cli(args).ok();
    }
    let kim = json(dev, &["token", "create", "--user", "kim", "--expires", "1h"]);
    (example, kim["token"].as_str().unwrap().to_owned())
}

#[test]
fn a_release_goes_to_production_with_a_second_person_and_the_next_one_comes_back() {
    let dev = Dev::start();
    let (example, kim) = set_up(&dev);
    let folder = example.to_str().unwrap();
    let why = json(&dev, &["variable", "explain", "webshop", "shelves", "--env", "production"]);
    assert_eq!((&why["value"], why["beaten"].as_array().unwrap().len()), (&"6".into(), 1), "{why:#}");
    let made = json(&dev, &["release", "create", "webshop", "--version", "1.0.0", "--package", folder]);
    assert_eq!(made["version"], "1.0.0");
    let early = dev.cli(&["deploy", "webshop", "--release", "1.0.0", "--env", "production"]);
    assert!(early.code == 5 && early.stderr.contains("phase `test`"), "{}", early.stderr);

    let first = succeeded(&dev, &promote(&dev, "1.0.0", "dev"));
    assert_eq!((&step(&first, "go")["state"], &step(&first, "close")["state"]), (&"skipped".into(), &"skipped".into()));
    assert_eq!(step(&first, "infra")["resources"]["create"], 3, "{first:#}");
    assert_eq!(step(&first, "till")["outputs"]["receipt"], "[secret]", "{first:#}");
    let text = log(&dev, first["id"].as_str().unwrap());
    assert!(text.contains("open at /state/yard/dev-counter with 6 goods, the till answers to [secret]"), "{text}");
    assert!(!text.contains("canary"), "{text}");
    succeeded(&dev, &promote(&dev, "1.0.0", "staging"));

    let live = promote(&dev, "1.0.0", "production");
    let waiting =
        dev.wait(&live, "waiting", |shown| shown["state"] == "waiting" && step(shown, "go")["state"] == "waiting");
    assert!(waiting["waiting_for"].as_str().unwrap().contains("keepers"), "{waiting:#}");
    let approvals = json(&dev, &["approvals", "--deployment", &live]);
    let approval = approvals[0]["id"].as_str().unwrap();
    let own = dev.cli(&["approve", approval, "--comment", "my own"]);
    assert!(own.code == 5 && own.stderr.contains("somebody else has to decide"), "{}", own.stderr);
    let mut approve = dev.command(&["approve", approval, "--comment", "seen it in staging"]);
    let _approved = run(approve.env("LONGSHORE_TOKEN", &kim), b"").ok();
    succeeded(&dev, &live);
    let text = log(&dev, &live);
    assert!(text.contains("18 goods on 6 shelves"), "the narrowest value counts: {text}");
    assert_eq!(
        std::fs::read_to_string(dev.state().join("yard/production-counter")).unwrap(),
        "a counter under 3 lamps\n"
    );

    the_next_one_and_back(&dev, &example);
}

fn the_next_one_and_back(dev: &Dev, example: &std::path::Path) {
    let program = example.join("infra/Pulumi.yaml");
    let text = std::fs::read_to_string(&program).unwrap().replace("default: 3", "default: 4");
    std::fs::write(&program, text).unwrap();
    let counter = || std::fs::read_to_string(dev.state().join("yard/dev-counter")).unwrap();
    let made = json(dev, &["release", "create", "webshop", "--package", example.to_str().unwrap()]);
    assert_eq!(made["version"], "1.0.1");
    let next = succeeded(dev, &promote(dev, "1.0.1", "dev"));
    assert_eq!(step(&next, "infra")["resources"]["update"], 1, "{next:#}");
    assert_eq!(counter(), "a counter under 4 lamps\n");
    let back = json(dev, &["rollback", "webshop", "--env", "dev"]);
    assert_eq!(back["release"], "1.0.0");
    succeeded(dev, back["deployment"].as_str().unwrap());
    assert_eq!(counter(), "a counter under 3 lamps\n");
    let _blocked = dev.cli(&["release", "block", "webshop", "1.0.1", "--reason", "prices are wrong"]).ok();
    let refused = dev.cli(&["deploy", "webshop", "--release", "1.0.1", "--env", "dev"]);
    assert!(refused.code == 5 && refused.stderr.contains("prices are wrong"), "{}", refused.stderr);
}
