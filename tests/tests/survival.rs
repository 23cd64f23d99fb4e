//! Whatever dies in the middle of a job: one start, one container, the log byte for byte, the true exit code.

use longshore_tests::dev::Dev;
use longshore_tests::docker::docker;
use longshore_tests::spec;

const LINES: usize = 80;

/// A job of about three seconds that counts, notes its start outside, and ends with 7.
fn counter() -> String {
    let script = format!(
        "echo start >> /state/starts\ni=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo line $i; usleep 40000; done; exit 7"
    );
    spec("counter", &script, "", "")
}

fn counted() -> Vec<u8> {
    (1..=LINES).flat_map(|n| format!("line {n}\n").into_bytes()).collect()
}

/// Runs the counter, disturbs it in the middle, and checks that nobody can tell.
fn nothing_shows(dev: &mut Dev, disturb: impl FnOnce(&mut Dev)) {
    dev.apply(&counter());
    let id = dev.deploy("counter", &[]);
    let container = dev.container(&id);
    dev.await_log(&id, "line 10\n");
    disturb(dev);
    let shown = dev.end(&id);
    let step = &shown["steps"][0];
    assert_eq!((&shown["state"], &step["exit_code"]), (&"failed".into(), &7.into()), "{shown:#}");
    assert_eq!(dev.raw(&id), counted());
    assert_eq!(step["log"]["bytes"], counted().len());
    assert_eq!(step["attempts"].as_array().unwrap().len(), 1, "{shown:#}");
    assert_eq!(step["attempts"][0]["container"], container.as_str());
    assert_eq!(std::fs::read_to_string(dev.state().join("starts")).unwrap(), "start\n");
    longshore_tests::process::wait_for("the container to be removed: log and result are durable", || {
        docker(&["ps", "-aq", "--filter", &format!("id={container}")]).ok().text().is_empty().then_some(())
    });
}

#[test]
fn kill_9_of_the_agent() {
    let mut dev = Dev::start();
    nothing_shows(&mut dev, |dev| {
        let old = dev.pid("agent");
        dev.kill9("agent");
        longshore_tests::process::wait_for("a new agent", || {
            (dev.pid("agent") != old && dev.cli(&["agents"]).code == 0).then_some(())
        });
    });
}

#[test]
fn kill_9_of_the_controller() {
    nothing_shows(&mut Dev::start(), |dev| dev.kill9("controller"));
}

#[test]
fn kill_9_of_both() {
    nothing_shows(&mut Dev::start(), |dev| {
        dev.kill9("agent");
        dev.kill9("controller");
    });
}

#[test]
fn everything_stopped_and_started() {
    nothing_shows(&mut Dev::start(), Dev::restart);
}

#[test]
fn a_container_killed_behind_our_back_is_lost() {
    let dev = Dev::start();
    dev.apply(&spec("behind", "echo begun; sleep 600", "", ""));
    let id = dev.deploy("behind", &[]);
    let container = dev.container(&id);
    dev.await_log(&id, "begun");
    let _killed = docker(&["kill", &container]).ok();
    let shown = dev.end(&id);
    assert_eq!(shown["state"], "lost", "{shown:#}");
    assert!(shown["reason"].is_string(), "{shown:#}");
    assert_eq!(dev.raw(&id), b"begun\n");
}

/// `docker stop` lets the tool end by itself with 0, which is still not what was asked for.
#[test]
fn a_container_stopped_from_outside_is_lost_even_when_it_ends_with_0() {
    let dev = Dev::start();
    dev.apply(&spec("stopped", "trap 'exit 0' INT; echo begun; while :; do usleep 50000; done", "", ""));
    let id = dev.deploy("stopped", &[]);
    let container = dev.container(&id);
    dev.await_log(&id, "begun");
    let _stopped = docker(&["stop", "-t", "10", &container]).ok();
    let shown = dev.end(&id);
    assert_eq!(
        (shown["state"].as_str(), shown["steps"][0]["exit_code"].as_i64()),
        (Some("lost"), Some(0)),
        "{shown:#}"
    );
}
