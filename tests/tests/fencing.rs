//! What becomes of a job whose agent is gone: before a start it moves, after it nobody guesses.

use longshore_tests::docker::docker;
use longshore_tests::fleet::Fleet;
use longshore_tests::spec;
use nix::sys::signal::Signal;

const WAITS: &str =
    "echo start >> /state/starts; while [ ! -e /state/go ]; do usleep 20000; done; echo end >> /state/starts; exit 3";

fn agent_of(shown: &serde_json::Value) -> String {
    let attempts = shown["steps"][0]["attempts"].as_array().unwrap();
    attempts.last().unwrap()["agent"].as_str().unwrap().to_owned()
}

fn ended(shown: &serde_json::Value) -> bool {
    shown["ended_at"].is_string()
}

#[test]
fn a_job_whose_agent_is_gone_before_the_start_runs_elsewhere() {
    let mut fleet = Fleet::start();
    fleet.add_agent("first");
    let first = fleet.json(&["agents"])[0]["id"].as_str().unwrap().to_owned();
    fleet.add_agent("second");
    // It is connected and free, and answers nothing any more.
    fleet.signal("first", Signal::SIGSTOP);
    fleet.apply(&spec("moves", "echo start >> /state/starts", "", ""));
    let ids = [fleet.deploy("moves")];
    for id in &ids {
        let shown = fleet.wait(id, "ended", ended);
        assert_eq!(shown["state"], "succeeded", "{shown:#}");
        assert_ne!(agent_of(&shown), first);
    }
    fleet.signal("first", Signal::SIGCONT);
    fleet.apply(&spec("after", "true", "", ""));
    let after = fleet.deploy("after");
    assert_eq!(fleet.wait(&after, "ended", ended)["state"], "succeeded");
    assert_eq!(std::fs::read_to_string(fleet.state().join("starts")).unwrap(), "start\n", "one start in all");
}

#[test]
fn jobs_that_share_one_slot_all_run() {
    let mut fleet = Fleet::start();
    fleet.add_agent("only");
    let ids: Vec<String> = (0..6)
        .map(|n| {
            let name = format!("queued-{n}");
            fleet.apply(&spec(&name, "echo start >> /state/starts", "", ""));
            fleet.deploy(&name)
        })
        .collect();
    for id in &ids {
        let shown = fleet.wait(id, "ended", ended);
        assert_eq!(shown["state"], "succeeded", "{shown:#}");
        assert_eq!(
            shown["steps"][0]["attempts"].as_array().unwrap().len(),
            1,
            "nothing was offered in vain: {shown:#}"
        );
    }
    assert!(!fleet.logs().contains("offer declined"), "{}", fleet.logs());
}

#[test]
fn a_job_whose_agent_is_gone_after_the_start_is_unknown_and_its_stack_stays_locked() {
    let mut fleet = Fleet::start();
    fleet.add_agent("first");
    fleet.apply(&spec("gone", WAITS, "", ""));
    let id = fleet.deploy("gone");
    fleet.wait(&id, "running", |shown| {
        shown["steps"][0]["attempts"][0]["container"].is_string() && fleet.state().join("starts").exists()
    });
    fleet.signal("first", Signal::SIGKILL);
    let shown = fleet.wait(&id, "unknown", |shown| shown["state"] == "unknown");
    assert!(shown["reason"].is_string(), "{shown:#}");

    // The stack stays locked even for an agent that is free, and says for whom.
    fleet.add_agent("second");
    let next = fleet.deploy("gone");
    let waiting = fleet.wait(&next, "waiting", |shown| shown["state"] == "waiting");
    let attempt = shown["steps"][0]["attempts"][0]["id"].as_str().unwrap();
    assert!(waiting["waiting_for"].to_string().contains(attempt), "{waiting:#}");
    assert!(fleet.cli(&["locks", "-o", "json"]).ok().text().contains(attempt));

    // The agent is back: the same container, the true result, and only then the next one.
    fleet.start_agent("first");
    fleet.wait(&id, "running again", |shown| shown["state"] == "running");
    std::fs::write(fleet.state().join("go"), "").unwrap();
    let shown = fleet.wait(&id, "ended", ended);
    assert_eq!((&shown["state"], &shown["steps"][0]["exit_code"]), (&"failed".into(), &3.into()), "{shown:#}");
    fleet.wait(&next, "ended", ended);
    assert_eq!(std::fs::read_to_string(fleet.state().join("starts")).unwrap(), "start\nend\nstart\nend\n");
}

#[test]
fn an_agent_that_comes_back_to_an_engine_without_the_container_is_proof() {
    let mut fleet = Fleet::start();
    fleet.add_agent("first");
    fleet.apply(&spec("removed", WAITS, "", ""));
    let id = fleet.deploy("removed");
    let shown = fleet.wait(&id, "running", |shown| {
        shown["steps"][0]["attempts"][0]["container"].is_string() && fleet.state().join("starts").exists()
    });
    fleet.signal("first", Signal::SIGKILL);
    fleet.wait(&id, "unknown", |shown| shown["state"] == "unknown");
    let container = shown["steps"][0]["attempts"][0]["container"].as_str().unwrap();
    let _removed = docker(&["rm", "-f", container]).ok();
    fleet.start_agent("first");
    let shown = fleet.wait(&id, "ended", ended);
    assert_eq!(shown["state"], "lost", "{shown:#}");
    assert!(fleet.cli(&["locks", "-o", "json"]).ok().text().contains("[]"), "the stack is free again");
}

#[test]
fn a_person_may_declare_the_unknown_lost_and_the_zombie_is_fenced() {
    let mut fleet = Fleet::start();
    fleet.add_agent("first");
    fleet.apply(&spec("zombie", WAITS, "", ""));
    let id = fleet.deploy("zombie");
    let shown = fleet.wait(&id, "running", |shown| {
        shown["steps"][0]["attempts"][0]["container"].is_string() && fleet.state().join("starts").exists()
    });
    assert_eq!(fleet.cli(&["deployment", "resolve", &id, "--reason", "too early"]).code, 5, "it is not unknown");
    fleet.signal("first", Signal::SIGSTOP);
    fleet.wait(&id, "unknown", |shown| shown["state"] == "unknown");
    let _resolved = fleet.cli(&["deployment", "resolve", &id, "--reason", "the machine burned"]).ok();
    let ended_as = fleet.wait(&id, "ended", ended);
    assert_eq!(ended_as["state"], "lost");
    assert!(ended_as["reason"].as_str().unwrap().contains("the machine burned"), "{ended_as:#}");
    // It was not burned after all.
    fleet.signal("first", Signal::SIGCONT);
    let container = shown["steps"][0]["attempts"][0]["container"].as_str().unwrap().to_owned();
    longshore_tests::process::wait_for("the fenced container to be stopped", || {
        docker(&["ps", "-q", "--no-trunc", "--filter", &format!("id={container}")]).ok().text().is_empty().then_some(())
    });
    assert_eq!(fleet.wait(&id, "ended", ended)["state"], "lost", "its late report changes nothing");
}
