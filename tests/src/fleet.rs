//! A controller and several agents, each a process of its own, with a short lease.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::dev::binaries;
use crate::docker;
use crate::process::{Done, run, wait_for};

/// A controller and its agents. Dropping it ends all of them.
#[derive(Debug)]
pub struct Fleet {
    dir: TempDir,
    controller: Child,
    agents: BTreeMap<String, Child>,
    ports: (u16, u16),
    token: String,
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn spawn(binary: &str, args: &[&str], log: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
    let mut command = Command::new(binaries().join(binary));
    command.args(args).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

impl Fleet {
    /// Starts a controller whose leases lapse after two seconds.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with("2s", "")
    }

    /// Starts a controller whose leases lapse after this, with more sections in its configuration.
    #[must_use]
    pub fn start_with(lease: &str, more: &str) -> Self {
        docker::tiny_image();
        let dir = tempfile::tempdir().unwrap();
        let ports = (free_port(), free_port());
        let config = dir.path().join("controller.toml");
        let data = dir.path().join("controller");
        std::fs::create_dir(dir.path().join("state")).unwrap();
        let text = format!(
            "data_dir = {data:?}\nlease = {lease:?}\n\n[api]\nlisten = \"127.0.0.1:{}\"\n\n[agents]\nlisten = \"127.0.0.1:{}\"\n\n{more}",
            ports.0, ports.1
        );
        std::fs::write(&config, text).unwrap();
        let controller = spawn(
            "longshore-controller",
            &["serve", "--config", config.to_str().unwrap()],
            &dir.path().join("controller.log"),
        );
        let mut fleet = Self { dir, controller, agents: BTreeMap::new(), ports, token: String::new() };
        fleet.token = wait_for("the admin token", || {
            let _paced = run(&mut Command::new("true"), b"");
            std::fs::read_to_string(data.join("admin.token")).ok()
        })
        .trim()
        .to_owned();
        wait_for("the controller", || (fleet.cli(&["agents"]).code == 0).then_some(()));
        fleet
    }

    /// The mount `state` as the host sees it.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Runs a `longshore` command.
    #[must_use]
    pub fn cli(&self, args: &[&str]) -> Done {
        let mut command = Command::new(binaries().join("longshore"));
        command.env("LONGSHORE_URL", format!("http://127.0.0.1:{}", self.ports.0)).env("LONGSHORE_TOKEN", &self.token);
        run(command.args(args), b"")
    }

    /// The JSON a `longshore` command prints.
    #[must_use]
    pub fn json(&self, args: &[&str]) -> Value {
        let mut args = args.to_vec();
        args.extend(["-o", "json"]);
        serde_json::from_str(&self.cli(&args).ok().text()).unwrap()
    }

    fn config(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.toml"))
    }

    /// Enrols an agent, starts it and waits until it is connected.
    pub fn add_agent(&mut self, name: &str) {
        let _id = self.enrol(name, "drain_timeout = \"0s\"\n", "");
        self.start_agent(name);
        let agents = self.agents.len();
        wait_for("the agent", || {
            (self.cli(&["agents", "-o", "json"]).text().matches("\"agt_").count() >= agents).then_some(())
        });
    }

    /// Enrols an agent with further settings, at the top of its configuration and at its end; answers its id.
    pub fn enrol(&mut self, name: &str, top: &str, end: &str) -> String {
        let made = self.json(&["join-token", "create"]);
        self.write_agent(name, made["ca_pem"].as_str().unwrap(), (top, end));
        let at = |file: &str| self.dir.path().join(file);
        std::fs::write(at("join"), made["token"].as_str().unwrap()).unwrap();
        let mut enroll = Command::new(binaries().join("longshore-agent"));
        enroll.arg("enroll").arg("--config").arg(self.config(name)).arg("--token-file").arg(at("join"));
        let enrolled = run(&mut enroll, b"").ok();
        docker::agent_words(&(enrolled.text() + &enrolled.stderr)).expect("it says its id")
    }

    /// The process of an agent has ended, if it has.
    pub fn has_ended(&mut self, name: &str) -> bool {
        self.agents.get_mut(name).is_none_or(|child| child.try_wait().unwrap().is_some())
    }

    /// Writes the configuration of an agent, with more at its top and at its end.
    pub fn write_agent(&self, name: &str, ca_pem: &str, (top, end): (&str, &str)) {
        let at = |file: &str| self.dir.path().join(file);
        std::fs::write(at("ca.pem"), ca_pem).unwrap();
        let text = format!(
            "controller = \"https://127.0.0.1:{}\"\nca_file = {:?}\nstate_dir = {:?}\nname = \"{name}\"\nslots = 1\nmetadata = \"allowed\"\n{top}\n\
             [[mounts]]\nname = \"state\"\nsource = {:?}\ntarget = \"/state\"\nread_only = false\n{end}",
            self.ports.1,
            at("ca.pem"),
            at(name),
            self.state(),
        );
        std::fs::write(self.config(name), text).unwrap();
    }

    /// Removes what an agent that does not run knows of who it is.
    pub fn forget_identity(&self, name: &str) {
        std::fs::remove_file(self.dir.path().join(name).join("identity.json")).unwrap();
    }

    /// Starts an agent that was enrolled before, or enrolls itself.
    pub fn start_agent(&mut self, name: &str) {
        let config = self.config(name);
        let child = spawn(
            "longshore-agent",
            &["run", "--config", config.to_str().unwrap()],
            &self.dir.path().join("agents.log"),
        );
        self.agents.insert(name.to_owned(), child);
    }

    /// Sends an agent a signal; after SIGKILL it is reaped.
    pub fn signal(&mut self, name: &str, which: Signal) {
        let child = self.agents.get_mut(name).unwrap();
        signal(child, which);
        if which == Signal::SIGKILL {
            let _status = child.wait().unwrap();
        }
    }

    /// Applies a spec.
    pub fn apply(&self, spec: &str) {
        let path = self.dir.path().join("longshore.yaml");
        std::fs::write(&path, spec).unwrap();
        let _applied = self.cli(&["apply", "-f", path.to_str().unwrap()]).ok();
    }

    /// Starts a deployment to `dev` and returns its id.
    #[must_use]
    pub fn deploy(&self, project: &str) -> String {
        self.json(&["deploy", project, "--env", "dev"])["deployment"].as_str().unwrap().to_owned()
    }

    /// Waits until `deployment show` satisfies `is`.
    pub fn wait(&self, id: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let show = || self.json(&["deployment", "show", id]);
        wait_for(&format!("{id} to be {what}; {}", show()), || Some(show()).filter(&is))
    }

    /// What the processes printed.
    #[must_use]
    pub fn logs(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        format!("{}\n{}", read("controller.log"), read("agents.log"))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let agents = docker::agent_ids(&self.cli(&["agents", "--all", "-o", "json"]).text());
        for child in self.agents.values_mut() {
            if child.try_wait().unwrap().is_none() {
                signal(child, Signal::SIGCONT);
                // The second of another kind: whatever it waits for, it ends now.
                signal(child, Signal::SIGTERM);
                signal(child, Signal::SIGINT);
                let _status = child.wait();
            }
        }
        signal(&self.controller, Signal::SIGTERM);
        let _status = self.controller.wait();
        docker::remove_leftovers(&agents);
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}
