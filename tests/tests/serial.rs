//! One stack, one writer; a cancel is one SIGINT; a job that cannot run waits and says why.

use longshore_tests::dev::Dev;
use longshore_tests::spec;

#[test]
fn the_second_deployment_of_a_stack_waits_and_says_for_whom() {
    let dev = Dev::start();
    dev.apply(&spec(
        "serial",
        "echo start >> /state/serial; while [ ! -e /state/go ]; do usleep 20000; done; echo end >> /state/serial",
        "",
        "",
    ));
    let (first, second) = (dev.deploy("serial", &[]), dev.deploy("serial", &[]));
    let _container = dev.container(&first);
    let attempt = dev.try_show(&first).unwrap()["steps"][0]["attempts"][0]["id"].as_str().unwrap().to_owned();
    let waiting = dev.wait(&second, "waiting", |shown| shown["state"] == "waiting");
    let why = waiting["waiting_for"].to_string();
    assert!(why.contains(&first) && why.contains(&attempt), "{why}");
    assert!(dev.cli(&["locks", "-o", "json"]).ok().text().contains(&attempt));
    std::fs::write(dev.state().join("go"), "").unwrap();
    assert_eq!((&dev.end(&first)["state"], &dev.end(&second)["state"]), (&"succeeded".into(), &"succeeded".into()));
    assert_eq!(std::fs::read_to_string(dev.state().join("serial")).unwrap(), "start\nend\nstart\nend\n");
}

#[test]
fn two_projects_of_two_stacks_run_side_by_side() {
    let dev = Dev::start();
    for (me, other) in [("left", "right"), ("right", "left")] {
        dev.apply(&spec(
            me,
            &format!("touch /state/{me}; while [ ! -e /state/{other} ]; do usleep 20000; done"),
            "",
            "",
        ));
    }
    let (left, right) = (dev.deploy("left", &[]), dev.deploy("right", &[]));
    assert_eq!((&dev.end(&left)["state"], &dev.end(&right)["state"]), (&"succeeded".into(), &"succeeded".into()));
}

#[test]
fn a_cancel_is_one_sigint_and_the_tool_ends_by_itself() {
    let dev = Dev::start();
    let script = "trap 'echo INT >> /state/ints' INT; echo ready; while [ ! -s /state/ints ]; do usleep 50000; done; usleep 700000; exit 9";
    dev.apply(&spec("cancel", script, "", ""));
    let id = dev.deploy("cancel", &[]);
    dev.await_log(&id, "ready");
    let _asked = dev.cli(&["cancel", &id]).ok();
    let _again = dev.cli(&["cancel", &id]);
    let shown = dev.end(&id);
    assert_eq!((&shown["state"], &shown["steps"][0]["exit_code"]), (&"canceled".into(), &9.into()), "{shown:#}");
    assert_eq!(std::fs::read_to_string(dev.state().join("ints")).unwrap(), "INT\n");
}

#[test]
fn a_cancel_goes_on_through_a_restart_of_the_agent() {
    let dev = Dev::start();
    let script =
        "trap 'echo INT >> /state/ints' INT; echo ready; while [ ! -e /state/go ]; do usleep 50000; done; exit 9";
    dev.apply(&spec("cancel", script, "", ""));
    let id = dev.deploy("cancel", &[]);
    dev.await_log(&id, "ready");
    let _asked = dev.cli(&["cancel", &id]).ok();
    longshore_tests::process::wait_for("the signal", || {
        (dev.cli(&["agents"]).code == 0 && dev.state().join("ints").exists()).then_some(())
    });
    let old = dev.pid("agent");
    dev.kill9("agent");
    longshore_tests::process::wait_for("a new agent", || {
        (dev.cli(&["agents"]).code == 0 && dev.pid("agent") != old).then_some(())
    });
    std::fs::write(dev.state().join("go"), "").unwrap();
    let shown = dev.end(&id);
    assert_eq!((&shown["state"], &shown["steps"][0]["exit_code"]), (&"canceled".into(), &9.into()), "{shown:#}");
    assert_eq!(
        std::fs::read_to_string(dev.state().join("ints")).unwrap(),
        "INT\n",
        "the restarted agent sent a second one"
    );
}

#[test]
fn a_queued_deployment_is_canceled_at_once() {
    let dev = Dev::start();
    dev.apply(&spec("queued", "while [ ! -e /state/go ]; do usleep 20000; done", "", ""));
    let (first, second) = (dev.deploy("queued", &[]), dev.deploy("queued", &[]));
    let _container = dev.container(&first);
    let _asked = dev.cli(&["cancel", &second]).ok();
    let shown = dev.end(&second);
    assert_eq!((&shown["state"], &shown["steps"][0]["state"]), (&"canceled".into(), &"skipped".into()), "{shown:#}");
    std::fs::write(dev.state().join("go"), "").unwrap();
    assert_eq!(dev.end(&first)["state"], "succeeded");
}

#[test]
fn a_timeout_interrupts_once_and_says_so() {
    let dev = Dev::start();
    let script = "trap 'echo INT >> /state/ints; exit 3' INT; while :; do usleep 50000; done";
    let shown = dev.run("slow", &spec("slow", script, "timeout: 1s", ""));
    assert_eq!((&shown["state"], &shown["steps"][0]["exit_code"]), (&"failed".into(), &3.into()), "{shown:#}");
    assert!(shown["reason"].as_str().unwrap().contains("timeout"), "{shown:#}");
    assert_eq!(std::fs::read_to_string(dev.state().join("ints")).unwrap(), "INT\n");
}

#[test]
fn a_job_for_a_pool_without_agents_waits_and_names_the_predicate() {
    let dev = Dev::start();
    dev.apply(&spec("gpu", "true", "", "pool: gpu\n"));
    let id = dev.deploy("gpu", &[]);
    let shown = dev.wait(&id, "waiting", |shown| shown["waiting_for"].is_string());
    assert!(shown["waiting_for"].as_str().unwrap().contains("gpu"), "{shown:#}");
    let _canceled = dev.cli(&["cancel", &id]).ok();
}
