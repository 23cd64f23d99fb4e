//! Approvals that are bound to a plan, on the real Pulumi: what was agreed to is what runs, or nothing is.

use std::process::Command;

use longshore_tests::dev::Dev;
use longshore_tests::docker::{TINY, docker};
use longshore_tests::process::run;
use serde_json::Value;

const IMAGE: &str = "longshore/pulumi:3.259.0";

/// A spec with an approval of the plan of `infra`, and steps between the two.
fn spec(image: &str, between: &str) -> String {
    format!(
        "version: 1\nproject: quay\nenvironments:\n  - name: dev\nvariables:\n  passphrase: {{secret: true}}\nsteps:\n  \
         - {{name: go, approval: {{plan: infra}}}}\n{between}  - name: infra\n    image: {image}\n    network: none\n    mounts: [state]\n    \
         pulumi: {{operation: up, backend: \"file:///state\"}}\n    env: {{PULUMI_CONFIG_PASSPHRASE: \"${{{{ secrets.passphrase }}}}\"}}\n"
    )
}

/// Deploys a program with one berth; answers the deployment and its approval once people are asked.
fn asked(dev: &Dev, spec: &str, content: &str) -> (String, Value) {
    let text = format!(
        "name: quay\nruntime: yaml\nconfig:\n  dock:yard:\n    value: /state/yard\nresources:\n  one:\n    type: dock:Berth\n    properties:\n      \
         name: one\n      content: {content}\n      secretOutput: the-hidden-value\n"
    );
    asked_with(dev, spec, &text)
}

/// Deploys a program; answers the deployment and its approval once people are asked.
fn asked_with(dev: &Dev, spec: &str, program: &str) -> (String, Value) {
    assert_eq!(docker(&["image", "inspect", IMAGE]).code, 0, "these tests need `{IMAGE}`: cargo xtask pulumi-image");
    let dir = dev.dir().join("program");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("Pulumi.yaml"), program).unwrap();
    dev.apply(spec);
    dev.set_secret("quay", "passphrase", "pass phrase");
    let id = dev.deploy("quay", &["--package", dir.to_str().unwrap()]);
    let shown = dev
        .wait(&id, "waiting for people", |shown| shown["steps"][0]["state"] == "waiting" || shown["state"] == "failed");
    let log = String::from_utf8_lossy(&dev.raw(&id)).into_owned();
    assert_eq!(shown["steps"][0]["state"], "waiting", "{shown:#}\n{log}");
    assert!(log.contains("to create") || log.contains("to update"), "the preview's log is there: {log}");
    (id.clone(), approval(dev, &id))
}

fn approval(dev: &Dev, id: &str) -> Value {
    let list: Value =
        serde_json::from_str(&dev.cli(&["approvals", "--deployment", id, "-o", "json"]).ok().text()).unwrap();
    list.as_array().unwrap().last().unwrap().clone()
}

fn agree(dev: &Dev, approval: &Value) {
    let _agreed = dev.cli(&["approve", approval["id"].as_str().unwrap(), "--comment", "looks right"]).ok();
}

#[test]
fn a_plan_of_more_than_a_mebibyte_runs() {
    let dev = Dev::start();
    let berth =
        |n: u32| format!("  b{n}:\n    type: dock:Berth\n    properties: {{name: b{n}, content: \"${{long}}\"}}\n");
    let program = format!(
        "name: quay\nruntime: yaml\nconfig:\n  dock:yard:\n    value: /state/yard\nvariables:\n  long: {}\nresources:\n{}",
        "abcdefgh".repeat(7_000),
        (0..24).map(berth).collect::<String>()
    );
    let (id, asked) = asked_with(&dev, &spec(IMAGE, ""), &program);
    let change =
        asked["plan"]["changes"].as_array().unwrap().iter().find(|change| change["urn"].to_string().contains("b7"));
    let value = change.unwrap()["values"][0]["new"].as_str().unwrap();
    assert!(value.ends_with("... [cut: it has 56002 bytes]"), "{value}");
    agree(&dev, &asked);
    let shown = dev.end(&id);
    assert_eq!(shown["state"], "succeeded", "{shown:#}\n{}", String::from_utf8_lossy(&dev.raw(&id)));
    assert!(dev.state().join("yard/b23").exists());
}

/// What the provider has made so far.
fn made(dev: &Dev) -> bool {
    dev.state().join("yard/one").exists()
}

#[test]
fn the_plan_that_was_agreed_to_runs() {
    let dev = Dev::start();
    let (id, first) = asked(&dev, &spec(IMAGE, ""), "x");
    let plan = &first["plan"];
    assert_eq!((&first["state"], &plan["resources"]["create"]), (&"pending".into(), &2.into()), "{first:#}");
    assert_eq!((plan["digest"].as_str().unwrap().len(), plan["checkpoint"].as_str().unwrap().len()), (64, 64));
    assert!(
        plan["changes"]
            .as_array()
            .unwrap()
            .iter()
            .any(|change| change["urn"].as_str().unwrap().ends_with("Berth::one"))
    );
    let table = dev.cli(&["approvals"]).ok().text();
    assert!(table.contains("2 create"), "{table}");
    assert!(!made(&dev), "a preview makes nothing");
    let hits = run(Command::new("grep").args(["-rlaF", "resourcePlans"]).arg(dev.data()), b"").text();
    assert_eq!(hits, "", "a plan on a disk in clear");
    agree(&dev, &first);
    let shown = dev.end(&id);
    assert_eq!(shown["state"], "succeeded", "{shown:#}\n{}", String::from_utf8_lossy(&dev.raw(&id)));
    assert_eq!((&shown["steps"][1]["resources"]["create"], made(&dev)), (&2.into(), true), "{shown:#}");
    assert_eq!(shown["steps"][1]["attempts"].as_array().unwrap().len(), 1, "the preview is no start of the step");

    let (id, second) = asked(&dev, &spec(IMAGE, ""), "y");
    let change = &second["plan"]["changes"][0];
    assert_eq!((&change["op"], &change["properties"][0]), (&"update".into(), &"content".into()), "{second:#}");
    let values = change["values"].as_array().unwrap();
    assert_eq!((&values[0]["old"], &values[0]["new"]), (&"\"x\"".into(), &"\"y\"".into()), "{second:#}");
    let text = dev.cli(&["approval", "show", second["id"].as_str().unwrap()]).ok().text();
    assert!(text.contains("~ content: \"x\" => \"y\""), "{text}");
    assert!(!first.to_string().contains("the-hidden-value") && first.to_string().contains("[secret]"), "{first:#}");
    agree(&dev, &second);
    assert_eq!(dev.end(&id)["state"], "succeeded");
    assert_eq!(approval(&dev, &id)["state"], "granted");
}

#[test]
fn a_state_that_was_written_in_between_voids_it_and_nothing_is_made() {
    let dev = Dev::start();
    let meddle = format!(
        "  - name: meddle\n    image: {IMAGE}\n    network: none\n    mounts: [state]\n    \
         run: 'sed -i /\"time\"/s/20..-/2020-/ /state/.pulumi/stacks/quay/dev.json'\n"
    );
    let (id, first) = asked(&dev, &spec(IMAGE, &meddle), "x");
    agree(&dev, &first);
    let shown = dev.end(&id);
    assert_eq!(
        (&shown["state"], made(&dev)),
        (&"failed".into(), false),
        "{shown:#}\n{}",
        String::from_utf8_lossy(&dev.raw(&id))
    );
    assert!(shown["reason"].as_str().unwrap().contains("state has moved"), "{shown:#}");
    let void = approval(&dev, &id);
    assert_eq!(void["state"], "void", "{void:#}");
    assert!(void["void_reason"].as_str().unwrap().contains("state has moved"), "{void:#}");
}

#[test]
fn a_program_that_was_changed_in_between_voids_it_and_nothing_is_made() {
    let dev = Dev::start();
    let meddle = format!(
        "  - {{name: meddle, image: {IMAGE}, network: none, run: 'sed -i \"s/content: x/content: z/\" Pulumi.yaml'}}\n"
    );
    let (id, first) = asked(&dev, &spec(IMAGE, &meddle), "x");
    agree(&dev, &first);
    let shown = dev.end(&id);
    assert_eq!(
        (&shown["state"], made(&dev)),
        (&"failed".into(), false),
        "{shown:#}\n{}",
        String::from_utf8_lossy(&dev.raw(&id))
    );
    let void = approval(&dev, &id);
    assert_eq!(void["state"], "void", "{void:#}");
    assert!(void["void_reason"].as_str().unwrap().contains("plan"), "{void:#}");
}

#[test]
fn an_image_that_moved_voids_it_before_anything_runs() {
    let dev = Dev::start();
    let moving = format!("longshore-test/moving:{}", std::process::id());
    assert_eq!(docker(&["tag", IMAGE, &moving]).code, 0);
    let (id, first) = asked(&dev, &spec(&moving, ""), "x");
    assert_eq!(docker(&["tag", TINY, &moving]).code, 0);
    agree(&dev, &first);
    let shown = dev.end(&id);
    let _untagged = docker(&["rmi", &moving]);
    assert_eq!((&shown["state"], made(&dev)), (&"failed".into(), false), "{shown:#}");
    let void = approval(&dev, &id);
    assert_eq!(void["state"], "void", "{void:#}");
    assert!(void["void_reason"].as_str().unwrap().contains("has moved"), "{void:#}");
}
