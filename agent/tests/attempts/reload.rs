//! The configuration is read again while jobs run.

use std::process::Stdio;
use std::time::Duration;

use longshore_agent::lifecycle::StateDir;
use longshore_agent::tasks::Tasks;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{ChildStderr, Command};

use longshore_proto::v1::session_request::Message as Up;
use longshore_proto::v1::session_response::Message as Down;

use crate::controller::{Controller, Seen};
use crate::engine::{self, INFO, VERSION};
use crate::world::{World, offer};

#[tokio::test]
async fn more_slots_are_told_to_the_controller_and_the_running_job_goes_on() {
    let mut world = World::new().await;
    let first = offer(1, 1);
    world.offer(&first).await;
    world.runtime.started(first.fence, 0).await;
    world.about.send_modify(|about| {
        about.slots = 2;
        about.mounts.push("cache".to_owned());
    });
    let hello = world.controller.hello().await;
    let capacity = (hello.slots, hello.mounts.clone());
    assert_eq!(capacity, (2, vec!["state".to_owned(), "cache".to_owned()]));
    assert_eq!((hello.held.len(), hello.held[0].started), (1, true));
    let second = offer(2, 1);
    world.offer(&second).await;
    world.runtime.started(second.fence, 0).await;
    for offer in [first, second] {
        world.runtime.exit(offer.fence, 0, 0);
        world.controller.completed().await;
    }
    world.finish().await;
}

#[tokio::test]
async fn an_agent_that_is_held_back_takes_no_jobs_until_it_is_not() {
    let mut world = World::new().await;
    let running = offer(1, 1);
    world.offer(&running).await;
    world.runtime.started(running.fence, 0).await;
    world.held_back.send_replace(Some("metadata can be reached".to_owned()));
    let said = |seen: &Seen| if let Seen::Said(Up::Draining(said)) = seen { Some(said.reason.clone()) } else { None };
    assert_eq!(world.controller.wait(said).await, "metadata can be reached");
    let next = offer(2, 1);
    world.controller.say(Down::Offer(next.clone().into()));
    let answer = world.controller.answered().await;
    assert_eq!((answer.accepted, answer.reason.as_str()), (false, "metadata can be reached"));

    // An agent that starts anew takes over what runs, and no more.
    world.kill_agent().await;
    // One more slot, so that it does not matter when the first job's is free again.
    world.about.send_modify(|about| about.slots = 2);
    world.start_agent();
    let hello = world.controller.hello().await;
    assert_eq!((hello.draining, hello.held.len()), (true, 1));
    world.runtime.exit(running.fence, 0, 0);
    world.controller.completed().await;

    world.held_back.send_replace(None);
    assert!(!world.controller.hello().await.draining);
    world.offer(&next).await;
    world.runtime.started(next.fence, 0).await;
    world.runtime.exit(next.fence, 0, 0);
    world.controller.completed().await;
    world.finish().await;
}

/// Reads the agent's log until a line says this.
async fn says(log: &mut Lines<BufReader<ChildStderr>>, text: &str) -> String {
    let mut all = String::new();
    let found = async {
        loop {
            let line = log.next_line().await.unwrap().unwrap_or_else(|| panic!("`{text}` was not said:\n{all}"));
            if line.contains(text) {
                return line;
            }
            all.push_str(&line);
        }
    };
    tokio::time::timeout(Duration::from_secs(30), found).await.unwrap()
}

#[tokio::test]
async fn the_program_takes_over_at_sighup_what_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let (mut controller, tasks) = (Controller::start().await, Tasks::new());
    engine::start(&tasks, &dir.path().join("docker.sock"), INFO, VERSION);
    let state = StateDir::open(&dir.path().join("state")).unwrap();
    controller.identity().save(state.path()).unwrap();
    drop(state);
    let path = dir.path().join("agent.toml");
    let address = controller.address.to_string();
    let write = |more: &str| {
        let at = |name: &str| dir.path().join(name);
        let text = format!(
            "controller = \"{}\"\nca_file = \"/none\"\nstate_dir = {:?}\ndocker.socket = {:?}\nmetadata = \"allowed\"\n{more}",
            address,
            at("state"),
            at("docker.sock")
        );
        std::fs::write(&path, text).unwrap();
    };
    write("");
    let mut command = Command::new(env!("CARGO_BIN_EXE_longshore-agent"));
    command.args(["run", "--config"]).arg(&path).env("LONGSHORE_LOG", "info").kill_on_drop(true);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    assert_eq!(controller.wait(hello_slots).await, 1);

    write("slots = \"many\"\n");
    kill(pid, Signal::SIGHUP).unwrap();
    let line = says(&mut log, "nothing was changed").await;
    assert!(line.contains("line 6"), "{line}");
    says(&mut log, "slots = \"many\"").await;

    write("slots = 3\nname = \"another\"\n");
    kill(pid, Signal::SIGHUP).unwrap();
    says(&mut log, "`slots` from 1 to 3").await;
    let line = says(&mut log, "started anew").await;
    assert!(line.contains("name"), "{line}");
    assert_eq!(controller.wait(hello_slots).await, 3);

    kill(pid, Signal::SIGTERM).unwrap();
    assert!(child.wait().await.unwrap().success());
}

fn hello_slots(seen: &Seen) -> Option<u32> {
    if let Seen::Hello(hello) = seen { Some(hello.slots) } else { None }
}
