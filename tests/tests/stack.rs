//! Operations on a stack outside of releases, on the real Pulumi.

use longshore_tests::dev::Dev;
use longshore_tests::docker::docker;
use longshore_tests::process::Done;
use serde_json::Value;

const IMAGE: &str = "longshore/pulumi:3.259.0";
/// Seconds that `one` takes to be made: time to pull the plug.
const SLOW: &str = "60";

fn spec() -> String {
    format!(
        "version: 1\nproject: quay\nenvironments:\n  - name: dev\nvariables:\n  passphrase: {{secret: true}}\nsteps:\n  \
         - name: infra\n    image: {IMAGE}\n    network: none\n    mounts: [state]\n    \
         pulumi: {{operation: up, backend: \"file:///state\"}}\n    env: {{PULUMI_CONFIG_PASSPHRASE: \"${{{{ secrets.passphrase }}}}\"}}\n"
    )
}

/// Deploys a program with one berth.
fn deployed(dev: &Dev, delay: &str) -> String {
    assert_eq!(docker(&["image", "inspect", IMAGE]).code, 0, "these tests need `{IMAGE}`: cargo xtask pulumi-image");
    let dir = dev.dir().join("program");
    std::fs::create_dir_all(&dir).unwrap();
    let text = format!(
        "name: quay\nruntime: yaml\nconfig:\n  dock:yard:\n    value: /state/yard\nresources:\n  one:\n    type: dock:Berth\n    properties:\n      \
         name: one\n      content: as deployed\n      delay: {delay}\n"
    );
    std::fs::write(dir.join("Pulumi.yaml"), text).unwrap();
    dev.apply(&spec());
    dev.set_secret("quay", "passphrase", "pass phrase");
    dev.deploy("quay", &["--package", dir.to_str().unwrap()])
}

/// Runs an operation to its end.
fn stack(dev: &Dev, operation: &str, more: &[&str]) -> (Done, Value) {
    let mut words = vec!["stack", operation, "quay", "--env", "dev", "--wait", "-o", "json"];
    words.extend(more);
    let done = dev.cli(&words);
    let shown = serde_json::from_slice(&done.stdout).unwrap_or(Value::Null);
    (done, shown)
}

fn berth(dev: &Dev) -> Option<String> {
    std::fs::read_to_string(dev.state().join("yard/one")).ok()
}

#[test]
fn drift_is_found_taken_over_or_put_back_and_a_stack_is_removed() {
    let dev = Dev::start();
    let first = deployed(&dev, "0");
    assert_eq!(dev.end(&first)["state"], "succeeded");
    let (done, clean) = stack(&dev, "drift", &[]);
    assert_eq!((done.code, &clean["operation"]["drift"]), (0, &false.into()), "{clean:#}");
    assert_eq!((&clean["operation"]["kind"], &clean["operation"]["stack"]), (&"drift".into(), &"dev".into()));

    std::fs::write(dev.state().join("yard/one"), "tampered").unwrap();
    let (done, drifted) = stack(&dev, "drift", &[]);
    assert_eq!((done.code, &drifted["operation"]["drift"]), (1, &true.into()), "{drifted:#}");
    assert_eq!(drifted["steps"][0]["resources"]["update"], 1, "{drifted:#}");
    assert!(drifted["steps"][0]["reason"].as_str().unwrap().contains("1 to update"), "{drifted:#}");
    assert_eq!(berth(&dev).as_deref(), Some("tampered"), "a look changes nothing");

    let (done, _) = stack(&dev, "refresh", &[]);
    assert_eq!(done.code, 0, "{}", done.text());
    assert_eq!(stack(&dev, "drift", &[]).0.code, 0, "the state says now what is there");
    let (done, planned) = stack(&dev, "preview", &[]);
    assert_eq!((done.code, &planned["steps"][0]["resources"]["update"]), (0, &1.into()), "{planned:#}");
    let (done, up) = stack(&dev, "up", &[]);
    assert_eq!((done.code, berth(&dev).as_deref()), (0, Some("as deployed")), "{up:#}");

    let (done, _) = stack(&dev, "destroy", &[]);
    assert_eq!(done.code, 5, "without the name of the stack nothing is removed");
    assert!(berth(&dev).is_some());
    let (done, gone) = stack(&dev, "destroy", &["--confirm", "dev"]);
    assert_eq!((done.code, berth(&dev)), (0, None), "{gone:#}");
    let list: Value = serde_json::from_str(&dev.cli(&["deployment", "list", "-o", "json"]).ok().text()).unwrap();
    assert_eq!(list[0]["operation"]["kind"], "destroy", "{list:#}");
    assert_eq!(list.as_array().unwrap().last().unwrap()["operation"], Value::Null);
}

#[test]
fn only_the_lock_of_what_is_proven_over_is_removed() {
    let dev = Dev::start();
    let id = deployed(&dev, SLOW);
    dev.await_log(&id, "creating");
    let _killed = docker(&["kill", &dev.container(&id)]);
    let shown = dev.end(&id);
    assert!(shown["state"] == "lost" || shown["state"] == "failed", "{shown:#}");
    let locks = dev.state().join(".pulumi/locks/organization/quay/dev");
    // Beside each lock the backend keeps a file with its attributes.
    let is_lock = |path: std::path::PathBuf| path.extension().is_some_and(|extension| extension == "json");
    let held = || {
        let files = std::fs::read_dir(&locks).into_iter().flatten();
        files.filter(|file| file.as_ref().is_ok_and(|file| is_lock(file.path()))).count()
    };
    assert_eq!(held(), 1, "what was killed leaves its lock");
    let (done, refused) = stack(&dev, "refresh", &[]);
    assert_eq!(done.code, 1, "{refused:#}");

    // Somebody else works on the stack beside Longshore.
    let foreign = r#"{"pid":7,"username":"eve","hostname":"laptop","timestamp":"2026-11-28T10:00:00Z"}"#;
    std::fs::write(locks.join("11111111-1111-4111-8111-111111111111.json"), foreign).unwrap();
    let (done, kept) = stack(&dev, "unlock", &[]);
    assert_eq!((done.code, held()), (1, 2), "{kept:#}");
    assert!(kept["steps"][0]["reason"].as_str().unwrap().contains("`eve@laptop`"), "{kept:#}");

    std::fs::remove_file(locks.join("11111111-1111-4111-8111-111111111111.json")).unwrap();
    let (done, freed) = stack(&dev, "unlock", &[]);
    assert_eq!((done.code, held()), (0, 0), "{freed:#}\n{}", done.text());
    assert_eq!(freed["steps"][0]["outputs"]["unlocked"], true, "{freed:#}");
    let (done, free) = stack(&dev, "unlock", &[]);
    assert_eq!((done.code, &free["steps"][0]["outputs"]["unlocked"]), (0, &false.into()), "{free:#}");
    assert_eq!(stack(&dev, "refresh", &[]).0.code, 0, "the stack is usable again");
}
