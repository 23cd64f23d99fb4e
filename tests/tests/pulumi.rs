//! The real Pulumi, through the real image: `cargo xtask pulumi-image` made it.

use std::process::Command;

use longshore_tests::dev::{Dev, checkout};
use longshore_tests::docker::docker;
use longshore_tests::process::run;
use serde_json::Value;

const IMAGE: &str = "longshore/pulumi:3.259.0";

/// A program with one berth whose inputs are `inputs`, as a package folder.
fn program(dev: &Dev, name: &str, inputs: &str) -> String {
    assert_eq!(docker(&["image", "inspect", IMAGE]).code, 0, "these tests need `{IMAGE}`: cargo xtask pulumi-image");
    let dir = dev.dir().join(format!("program-{name}"));
    std::fs::create_dir_all(&dir).unwrap();
    let text = format!(
        "name: {name}\nruntime: yaml\nconfig:\n  dock:yard:\n    value: /state/yard\nresources:\n  one:\n    type: dock:Berth\n    properties:\n      name: {name}\n{inputs}outputs:\n  path: ${{one.path}}\n"
    );
    std::fs::write(dir.join("Pulumi.yaml"), text).unwrap();
    dir.to_str().unwrap().to_owned()
}

fn spec(project: &str, operation: &str, more: &str) -> String {
    format!(
        "version: 1\nproject: {project}\nenvironments:\n  - name: dev\nvariables:\n  passphrase: {{secret: true}}\nsteps:\n  - name: infra\n    image: {IMAGE}\n    network: none\n    mounts: [state]\n    \
         pulumi: {{operation: {operation}, backend: \"file:///state\"}}\n    env: {{PULUMI_CONFIG_PASSPHRASE: \"${{{{ secrets.passphrase }}}}\"}}\n{more}"
    )
}

fn deploy(dev: &Dev, project: &str, package: &str) -> Value {
    dev.end(&dev.deploy(project, &["--package", package]))
}

#[test]
fn the_quickstart_creates_then_finds_nothing_to_do_with_any_passphrase() {
    let example = checkout().join("examples/quickstart");
    // Words and digits that stand in every engine event: masking them must not change what is counted.
    for passphrase in ["correct horse", "create", "3", ""] {
        let dev = Dev::start();
        let _applied = dev.cli(&["apply", "-f", example.join("longshore.yaml").to_str().unwrap()]).ok();
        dev.set_secret("quickstart", "passphrase", passphrase);
        let first = deploy(&dev, "quickstart", example.to_str().unwrap());
        assert_eq!(
            first["state"],
            "succeeded",
            "{passphrase:?}: {first:#}\n{}",
            String::from_utf8_lossy(&dev.raw(first["id"].as_str().unwrap()))
        );
        let up = &first["steps"][1];
        assert_eq!(
            (&up["resources"]["create"], &up["plugin_downloads"]),
            (&4.into(), &0.into()),
            "{passphrase:?}: {up:#}"
        );
        assert_eq!(first["steps"][0]["resources"]["create"], 4, "{first:#}");
        assert_eq!(up["outputs"]["password"], "[secret]", "{up:#}");
        if passphrase == "correct horse" {
            let second = deploy(&dev, "quickstart", example.to_str().unwrap());
            assert_eq!(
                (
                    &second["steps"][1]["resources"]["same"],
                    &second["steps"][1]["resources"]["create"].as_u64().unwrap_or(0)
                ),
                (&4.into(), &0),
                "{second:#}"
            );
            assert!(up["outputs"]["quay"].as_str().unwrap().starts_with("/state/yard"), "{up:#}");
            let yard: Vec<_> =
                std::fs::read_dir(dev.state().join("yard")).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert!(yard.len() >= 4, "three berths and the journal: {yard:?}");
        }
    }
}

#[test]
fn a_resource_that_fails_fails_the_step_with_the_provider_s_words() {
    let dev = Dev::start();
    let package = program(&dev, "fails", "      content: x\n      fail: no room at the quay\n");
    dev.apply(&spec("fails", "up", ""));
    dev.set_secret("fails", "passphrase", "pass phrase");
    let shown = deploy(&dev, "fails", &package);
    assert_eq!((&shown["state"], &shown["steps"][0]["exit_code"]), (&"failed".into(), &1.into()), "{shown:#}");
    assert!(shown["reason"].as_str().unwrap().contains("no room at the quay"), "{shown:#}");
}

#[test]
fn outputs_reach_later_steps_and_secret_ones_only_there() {
    let dev = Dev::start();
    let package = program(&dev, "outs", "      content: x\n      secretOutput: the-hidden-value\n");
    let text = std::fs::read_to_string(format!("{package}/Pulumi.yaml")).unwrap()
        + "  hidden: ${one.secret}\n  list: [1, two]\n";
    std::fs::write(format!("{package}/Pulumi.yaml"), text).unwrap();
    let more = format!(
        "  - name: use\n    image: {IMAGE}\n    network: none\n    mounts: [state]\n    env: {{P: \"${{{{ steps.infra.outputs.path }}}}\", H: \"${{{{ steps.infra.outputs.hidden }}}}\"}}\n    run: |\n      echo \"path $P\"; echo \"hidden $H\"; printf %s \"$H\" > /state/hidden\n"
    );
    dev.apply(&spec("outs", "up", &more));
    dev.set_secret("outs", "passphrase", "pass phrase");
    let shown = deploy(&dev, "outs", &package);
    let log = String::from_utf8_lossy(&dev.raw(shown["id"].as_str().unwrap())).into_owned();
    assert_eq!(shown["state"], "succeeded", "{shown:#}\n{log}");
    assert!(log.contains("path /state/yard/outs") && log.contains("hidden [secret]"), "{log}");
    assert_eq!(std::fs::read_to_string(dev.state().join("hidden")).unwrap(), "the-hidden-value");
    for dir in ["agent", "controller"] {
        let hits = run(Command::new("grep").args(["-rlaF", "the-hidden-value"]).arg(dev.data().join(dir)), b"").text();
        assert_eq!(hits.lines().filter(|hit| !hit.contains("/packages/")).count(), 0, "{hits}");
    }
}

#[test]
fn a_cancel_lets_pulumi_save_its_state_and_the_next_up_goes_on() {
    let dev = Dev::start();
    let slow = program(&dev, "slow", "      content: x\n      hang: true\n");
    dev.apply(&spec("slow", "up", ""));
    dev.set_secret("slow", "passphrase", "pass phrase");
    let id = dev.deploy("slow", &["--package", &slow]);
    longshore_tests::process::wait_for("the operation to begin", || {
        (dev.cli(&["agents"]).code == 0
            && std::fs::read_to_string(dev.state().join("yard/journal")).is_ok_and(|j| j.contains("start")))
        .then_some(())
    });
    let _asked = dev.cli(&["cancel", &id]).ok();
    let shown = dev.end(&id);
    assert_eq!(shown["state"], "canceled", "{shown:#}\n{}", String::from_utf8_lossy(&dev.raw(&id)));
    let quick = program(&dev, "slow", "      content: x\n");
    let next = deploy(&dev, "slow", &quick);
    assert_eq!(
        next["state"],
        "succeeded",
        "no lock is left: {next:#}\n{}",
        String::from_utf8_lossy(&dev.raw(next["id"].as_str().unwrap()))
    );
}

/// What was in the stack before a write is kept with the deployment, and is what an export of that time printed.
#[test]
fn the_state_before_each_write_is_kept() {
    let dev = Dev::start();
    let export = format!(
        "  - name: export\n    image: {IMAGE}\n    network: none\n    mounts: [state]\n    run: pulumi stack export --stack dev > $LONGSHORE_ARTIFACTS/after.json\n    \
         env: {{USER: me, PULUMI_BACKEND_URL: \"file:///state\", PULUMI_CONFIG_PASSPHRASE: \"${{{{ secrets.passphrase }}}}\"}}\n"
    );
    dev.apply(&spec("before", "up", &export));
    dev.set_secret("before", "passphrase", "pass phrase");
    let mut ids = Vec::new();
    for content in ["one", "two"] {
        let package = program(&dev, "before", &format!("      content: {content}\n"));
        let shown = deploy(&dev, "before", &package);
        let id = shown["id"].as_str().unwrap().to_owned();
        assert_eq!(shown["state"], "succeeded", "{shown:#}\n{}", String::from_utf8_lossy(&dev.raw(&id)));
        assert_eq!(shown["steps"][0]["artifacts"], serde_json::json!({"kept": 1, "left_out": 0}), "{shown:#}");
        let to = dev.dir().join(&id);
        let names = ["infra/state-before.json", "export/after.json"].map(|name| to.join(name));
        let args = ["artifact", "download", &id, "state-before.json", "after.json", "--to", to.to_str().unwrap()];
        let _downloaded = dev.cli(&args).ok();
        ids.push(names.map(|name| std::fs::read(name).unwrap()));
    }
    let [[nothing, after_first], [before_second, after_second]] = ids.try_into().unwrap();
    assert!(before_second == after_first && after_first != after_second);
    let resources = |state: &[u8]| {
        let state: Value = serde_json::from_slice(state).unwrap();
        state["deployment"]["resources"].as_array().map_or(0, Vec::len)
    };
    assert!(resources(&nothing) == 0 && resources(&before_second) > 1, "a new stack has no resources");

    // A value that the program knows as plain and the project as secret is in no state that is kept.
    let plain = program(&dev, "before", "      content: the-plain-canary\n");
    let _first = deploy(&dev, "before", &plain);
    let secret = spec("before", "up", "").replace("variables:\n", "variables:\n  canary: {secret: true}\n");
    let secret = secret.replacen("    env: {", "    env: {CANARY: \"${{ secrets.canary }}\", ", 1);
    dev.apply(&secret);
    dev.set_secret("before", "canary", "the-plain-canary");
    let shown = deploy(&dev, "before", &plain);
    let id = shown["id"].as_str().unwrap();
    assert_eq!(shown["steps"][0]["state"], "succeeded", "{shown:#}\n{}", String::from_utf8_lossy(&dev.raw(id)));
    let list = dev.json(&["artifact", "list", id]);
    let left = &list["left_out"][0];
    assert_eq!((&left["path"], &left["reason"]), (&"state-before.json".into(), &"secret".into()), "{list:#}");
    assert!(left["message"].as_str().unwrap().contains("make the value a secret to Pulumi"), "{left}");
}

/// Two projects, one stack: the journal shows that no two attempts ever overlapped.
#[test]
fn two_projects_of_one_stack_never_overlap() {
    let dev = Dev::start();
    let package = program(&dev, "shared", "      content: x\n      delay: 1\n");
    for project in ["left", "right"] {
        dev.apply(&spec(project, "up", ""));
        dev.set_secret(project, "passphrase", "pass phrase");
    }
    let ids = [dev.deploy("left", &["--package", &package]), dev.deploy("right", &["--package", &package])];
    for id in &ids {
        let shown = dev.end(id);
        assert_eq!(shown["state"], "succeeded", "{shown:#}\n{}", String::from_utf8_lossy(&dev.raw(id)));
    }
    let span = |id: &String| {
        let attempt = dev.try_show(id).unwrap()["steps"][0]["attempts"][0].clone();
        (attempt["started_at"].as_str().unwrap().to_owned(), attempt["ended_at"].as_str().unwrap().to_owned())
    };
    let (left, right) = (span(&ids[0]), span(&ids[1]));
    assert!(left.1 <= right.0 || right.1 <= left.0, "{left:?} {right:?}");
}

#[test]
fn a_wrong_dir_or_a_missing_package_is_refused_before_anything_runs() {
    let dev = Dev::start();
    dev.apply(&spec("nopkg", "up", ""));
    dev.set_secret("nopkg", "passphrase", "pass phrase");
    let refused = dev.cli(&["deploy", "nopkg", "--env", "dev"]);
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    assert!(refused.stderr.contains("Pulumi.yaml") && refused.stderr.contains("infra"), "{}", refused.stderr);
}

/// What cannot be locked is not run: a backend that only a secret knows would let two writers onto one stack.
#[test]
fn a_backend_that_is_not_known_before_the_start_is_refused() {
    let dev = Dev::start();
    let package = program(&dev, "hidden", "      content: x\n");
    let text = spec("hidden", "up", "")
        .replace(", backend: \"file:///state\"", "")
        .replace("env: {", "env: {PULUMI_BACKEND_URL: \"${{ secrets.passphrase }}\", ");
    dev.apply(&text);
    dev.set_secret("hidden", "passphrase", "file:///state");
    let refused = dev.cli(&["deploy", "hidden", "--env", "dev", "--package", &package]);
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    assert!(refused.stderr.contains("PULUMI_BACKEND_URL") && refused.stderr.contains("backend"), "{}", refused.stderr);
}
