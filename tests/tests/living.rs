//! Living with an agent: what it says of itself, of its host, and a configuration that changes while a job runs.

use std::process::Command;

use longshore_tests::dev::{Dev, binaries};
use longshore_tests::process::{Done, run, wait_for};
use longshore_tests::spec;
use nix::sys::signal::{Signal, kill};

fn agent(dev: &Dev, command: &str) -> Done {
    let mut asked = Command::new(binaries().join("longshore-agent"));
    run(asked.args([command, "-o", "json", "--config"]).arg(dev.data().join("agent.toml")), b"")
}

fn json(done: &Done) -> serde_json::Value {
    serde_json::from_str(&done.text()).unwrap()
}

#[test]
fn a_running_agent_is_looked_at_and_gets_more_slots() {
    let dev = Dev::start();
    dev.apply(&spec("living", "while [ ! -e /state/go ]; do usleep 20000; done", "", ""));
    let id = dev.deploy("living", &[]);
    let container = dev.container(&id);
    let attempt = dev.try_show(&id).unwrap()["steps"][0]["attempts"][0]["id"].as_str().unwrap().to_owned();

    let status = wait_for("a running step", || {
        let status = json(&agent(&dev, "status").ok());
        (status["live"]["jobs"][0]["phase"] == "running").then_some(status)
    });
    assert_eq!((&status["running"], &status["live"]["connected"]), (&true.into(), &true.into()), "{status}");
    assert_eq!(status["live"]["jobs"][0]["attempt"], attempt, "{status}");
    assert_eq!((&status["live"]["slots"], &status["live"]["free_slots"]), (&2.into(), &1.into()), "{status}");
    let present = status["containers"].as_array().unwrap();
    assert!(present.iter().any(|present| present["attempt"] == attempt && present["state"] == "running"), "{status}");
    assert!(!container.is_empty());

    let doctor = json(&agent(&dev, "doctor").ok());
    let result = |name: &str| {
        let checks = doctor["checks"].as_array().unwrap();
        checks.iter().find(|check| check["check"] == name).map(|check| check["result"].clone())
    };
    for name in ["engine version", "enrolment", "certificate", "tls", "controller", "clock"] {
        assert_eq!(result(name), Some("ok".into()), "{name}: {doctor}");
    }

    let path = dev.data().join("agent.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("slots = 2", "slots = 3")).unwrap();
    kill(dev.pid("agent"), Signal::SIGHUP).unwrap();
    wait_for("another slot", || dev.cli(&["agents"]).text().contains("1 of 3").then_some(()));
    std::fs::write(dev.state().join("go"), "").unwrap();
    assert_eq!(dev.end(&id)["state"], "succeeded");
    assert!(dev.log().contains("`slots` from 2 to 3"), "{}", dev.log());
}
