//! The images made of the packages: a controller and an agent in containers of the tests' engine, as docs/containers.md runs them.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use longshore_tests::dev::{binaries, checkout};
use longshore_tests::docker::{agent_ids, docker, remove_leftovers, tiny_image};
use longshore_tests::process::{Done, run, wait_for};
use longshore_tests::spec;
use serde_json::Value;

use super::packages;

/// Where Docker's socket is, outside and inside.
const SOCKET: &str = "/var/run/docker.sock";

/// Two containers and what they leave.
struct Pair {
    name: String,
    ports: (u16, u16),
    token: String,
}

impl Pair {
    fn cli(&self, args: &[&str]) -> Done {
        let mut cli = Command::new(binaries().join("longshore"));
        cli.args(args).env("LONGSHORE_URL", format!("http://127.0.0.1:{}", self.ports.0));
        run(cli.env("LONGSHORE_TOKEN", &self.token), b"")
    }

    fn controller(&self) -> String {
        format!("{}-controller", self.name)
    }

    fn agent(&self) -> String {
        format!("{}-agent", self.name)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let agents = agent_ids(&self.cli(&["agents", "-o", "json"]).text());
        for container in [self.agent(), self.controller()] {
            if std::thread::panicking() {
                let log = docker(&["logs", "--tail", "40", &container]);
                eprintln!("{container}:\n{}{}", log.text(), log.stderr);
            }
            let _removed = docker(&["rm", "--force", "--volumes", &container]);
        }
        let _removed = docker(&["volume", "rm", "--force", &self.controller()]);
        remove_leftovers(&agents);
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// `docker run` with what both have in common, and the version's image.
fn start(name: &str, options: &[&str], program: &str, args: &[&str]) -> Done {
    let image = format!("{program}:{}", env!("CARGO_PKG_VERSION"));
    let common = ["run", "--name", name, "--network", "host", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"];
    let secure = ["--security-opt", "no-new-privileges", "--health-interval", "1s"];
    docker(&[&common[..], &secure[..], options, &[&image], args].concat())
}

fn await_health(container: &str) {
    wait_for(&format!("the health of {container}"), || {
        let shown = docker(&["inspect", "--format", "{{.State.Health.Status}}", container]).text();
        (shown.trim() == "healthy").then_some(())
    });
}

/// As docs/containers.md starts it: its volume, and nobody's privileges.
fn start_controller(name: &str, ports: (u16, u16)) -> Pair {
    let mut pair = Pair { name: name.to_owned(), ports, token: String::new() };
    let container = pair.controller();
    let volume = format!("{container}:/var/lib/longshore-controller");
    let api = format!("LONGSHORE_CONTROLLER__API__LISTEN=127.0.0.1:{}", ports.0);
    let agents = format!("LONGSHORE_CONTROLLER__AGENTS__LISTEN=127.0.0.1:{}", ports.1);
    let options = ["--detach", "--volume", &volume, "--env", &api, "--env", &agents];
    let _started = start(&container, &options, "longshore-controller", &[]).ok();
    await_health(&container);
    pair.token = docker(&["exec", &container, "cat", "/var/lib/longshore-controller/admin.token"]).ok().text();
    pair.token = pair.token.trim().to_owned();
    pair
}

/// The state directory has one path, outside and inside: the engine binds what is in it into jobs' containers.
fn start_agent(pair: &Pair, dir: &Path) {
    let state = dir.join("agent");
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(&state, Some(10002), Some(10002)).unwrap();
    let made: Value = serde_json::from_str(&pair.cli(&["join-token", "create", "-o", "json"]).ok().text()).unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let config = format!(
        "controller = \"https://127.0.0.1:{}\"\nca_file = \"/etc/longshore/ca.pem\"\nstate_dir = {state:?}\nmetadata = \"allowed\"\n",
        pair.ports.1
    );
    let config = file("agent.toml", &config, 0o644);
    let ca = file("ca.pem", made["ca_pem"].as_str().unwrap(), 0o644);
    let token = file("join-token", made["token"].as_str().unwrap(), 0o600);
    std::os::unix::fs::chown(&token, Some(10002), Some(10002)).unwrap();
    let bind = |from: &Path, to: &str| format!("--volume={}:{to}", from.display());
    let group = format!("--group-add={}", std::fs::metadata(SOCKET).unwrap().gid());
    let volumes = [
        bind(&state, state.to_str().unwrap()),
        bind(&config, "/etc/longshore/agent.toml:ro"),
        bind(&ca, "/etc/longshore/ca.pem:ro"),
        bind(Path::new(SOCKET), SOCKET),
        bind(&token, "/run/join-token:ro"),
        group,
    ];
    let volumes: Vec<&str> = volumes.iter().map(String::as_str).collect();
    let (config, token) = (["--config", "/etc/longshore/agent.toml"], ["--token-file", "/run/join-token"]);
    let options = [&["--rm"], &volumes[..]].concat();
    let enroll = start(&pair.agent(), &options, "longshore-agent", &[&["enroll"], &config[..], &token[..]].concat());
    let _enrolled = enroll.ok();
    // The agent tells the processes of its containers apart by their numbers.
    let options = [&["--detach", "--pid", "host"], &volumes[..]].concat();
    let _started = start(&pair.agent(), &options, "longshore-agent", &[]).ok();
    await_health(&pair.agent());
}

#[test]
fn images_of_the_packages_run_a_deployment() {
    tiny_image();
    let mut make = Command::new(env!("CARGO"));
    make.args(["run", "--quiet", "--package", "xtask", "--", "images", "--packages"]).arg(packages().join("1"));
    let _made = run(make.current_dir(checkout()), b"").ok();
    let dir = tempfile::tempdir().unwrap();
    let pair = start_controller(&format!("longshore-test-image-{}", std::process::id()), (free_port(), free_port()));
    let user = |container: &str| docker(&["exec", container, "id", "--user", "--name"]).ok().text();
    assert_eq!(user(&pair.controller()), "longshore-controller\n");
    start_agent(&pair, dir.path());
    assert_eq!(user(&pair.agent()), "longshore-agent\n");

    let file = dir.path().join("longshore.yaml");
    std::fs::write(&file, spec("site", "echo $((6 * 7))", "", "").replace("    mounts: [state]\n", "")).unwrap();
    let _applied = pair.cli(&["apply", "--yes", "-f", file.to_str().unwrap()]).ok();
    let shown = pair.cli(&["deploy", "site", "--env", "dev", "--wait", "-o", "json"]);
    let shown: Value = serde_json::from_str(&shown.ok().text()).unwrap();
    assert_eq!(shown["state"], "succeeded", "{shown:#}");
    assert_eq!(pair.cli(&["logs", shown["id"].as_str().unwrap(), "--raw"]).text(), "42\n");

    // A new container of the same volume knows everything, and the agent comes back to it.
    let _removed = docker(&["rm", "--force", &pair.controller()]).ok();
    let again = start_controller(&pair.name, pair.ports);
    assert_eq!(again.token, pair.token);
    assert_eq!(again.cli(&["deployment", "show", shown["id"].as_str().unwrap()]).code, 0);
    wait_for("the agent", || again.cli(&["agents"]).text().contains("connected").then_some(()));
    // One of both names is enough to clear up.
    std::mem::forget(pair);
}
