//! The agent's log as JSON: every line can be read, and says what it is about.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use longshore_agent::lifecycle::StateDir;
use longshore_agent::tasks::Tasks;
use longshore_proto::v1;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tonic::Status;

use crate::controller::Controller;
use crate::engine::{self, INFO, VERSION};
use crate::world::{World, offer};

#[tokio::test]
async fn lines_about_an_attempt_name_it_and_its_deployment_and_its_step() {
    let written = tempfile::NamedTempFile::new().unwrap();
    let filter = "info".parse().unwrap();
    // Of this thread, on which all of the agent runs but its control stream.
    let log = tracing::subscriber::set_default(longshore_logging::json_to(filter, Arc::new(written.reopen().unwrap())));
    let mut world = World::new().await;
    world.controller.plan(|state| {
        state.confirm.push_back(Some(Err(Status::unavailable("restart"))));
        state.complete.push_back(Ok(v1::CompleteResponse { next_step: Some(1) }));
        state.complete.push_back(Err(Status::unavailable("restart")));
    });
    let offer = offer(1, 2);
    world.offer(&offer).await;
    for step in 0..2 {
        world.runtime.started(offer.fence, step).await;
        world.runtime.print(offer.fence, step, "canary-55");
        world.runtime.exit(offer.fence, step, 0);
        let report = world.controller.completed().await;
        let told: Vec<_> = report.took.iter().map(|took| took.what.as_str()).collect();
        assert_eq!(told, ["confirm", "ship"]);
    }
    world.finish().await;
    drop(log);
    let text = std::fs::read_to_string(written.path()).unwrap();
    assert!(!text.contains("canary-55"), "what jobs print is no affair of the agent's log");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (attempt, deployment) = (offer.fence.attempt.to_string(), offer.deployment.to_string());
    let one = |words: &str| {
        let found = lines.iter().find(|line| line["message"].as_str().unwrap().contains(words));
        let line = found.unwrap_or_else(|| panic!("`{words}` is not in {lines:#?}"));
        assert_eq!(
            (&line["attempt"], &line["deployment"]),
            (&Value::from(attempt.as_str()), &Value::from(deployment.as_str()))
        );
        line
    };
    one("claimed");
    assert_eq!(one("the start could not be confirmed")["step"], "step-0");
    assert_eq!(one("the end of a step could not be reported")["step"], "step-1");
    one("reported to its end");
}

#[tokio::test]
async fn every_line_of_the_program_is_json_and_says_which_agent_it_is() {
    let (dir, controller, tasks) = (tempfile::tempdir().unwrap(), Controller::start().await, Tasks::new());
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("ca.pem"), &controller.authority.ca_pem).unwrap();
    let state = StateDir::open(&at("state")).unwrap();
    let identity = controller.identity();
    identity.save(state.path()).unwrap();
    drop(state);
    engine::start(&tasks, &at("docker.sock"), INFO, VERSION);
    let text = format!(
        "controller = \"{}\"\nca_file = {:?}\nstate_dir = {:?}\ndocker.socket = {:?}\nmetadata = \"allowed\"\n",
        controller.address,
        at("ca.pem"),
        at("state"),
        at("docker.sock")
    );
    std::fs::write(at("agent.toml"), text).unwrap();
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_longshore-agent"))
        .args(["run", "--config"])
        .arg(at("agent.toml"))
        .env("LONGSHORE_LOG_FORMAT", "json")
        .env_remove("LONGSHORE_LOG")
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    loop {
        let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await.unwrap().unwrap();
        let line = line.expect("the program goes on");
        let value: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(value["agent"], identity.agent.to_string(), "{line}");
        assert!(value["timestamp"].is_string() && value["level"].is_string() && value["message"].is_string(), "{line}");
        // Said by the thread of the control stream.
        if value["message"] == "connected to the controller" {
            break;
        }
    }
    tasks.end().await;
}
