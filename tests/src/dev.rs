//! One `longshore dev` in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::docker;
use crate::process::{Done, run, wait_for};

/// States in which a deployment has ended.
const ENDED: [&str; 4] = ["succeeded", "failed", "canceled", "lost"];

/// A running `longshore dev`. Dropping it ends it.
#[derive(Debug)]
pub struct Dev {
    dir: TempDir,
    child: Child,
    env: Vec<(String, String)>,
    more_env: Vec<(String, String)>,
}

/// Folder of the binaries under test: `LONGSHORE_BIN_DIR`, or the release build.
#[must_use]
pub fn binaries() -> PathBuf {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/release");
    let dir = std::env::var_os("LONGSHORE_BIN_DIR").map_or_else(built, PathBuf::from);
    assert!(
        dir.join("longshore").exists(),
        "`{}` has no `longshore`: run `cargo build --release` first",
        dir.display()
    );
    dir
}

/// The checkout.
#[must_use]
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

impl Dev {
    /// Starts one with two slots and waits until its agent is connected.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(tempfile::tempdir().unwrap(), &[])
    }

    /// Starts one in `dir` with further environment variables.
    #[must_use]
    pub fn start_with(dir: TempDir, env: &[(&str, &str)]) -> Self {
        docker::tiny_image();
        let more_env: Vec<_> = env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let child = Self::spawn(dir.path(), &more_env);
        let mut dev = Self { dir, child, env: Vec::new(), more_env };
        dev.await_ready();
        dev
    }

    fn spawn(dir: &Path, env: &[(String, String)]) -> Child {
        let _stale = std::fs::remove_file(dir.join("data/dev.env"));
        let log = std::fs::File::options().create(true).append(true).open(dir.join("dev.log")).unwrap();
        let mut command = Command::new(binaries().join("longshore"));
        command.args(["dev", "--data"]).arg(dir.join("data")).args(["--slots", "2"]).envs(env.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    fn await_ready(&mut self) {
        let text = wait_for("dev.env", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("`longshore dev` ended with {status}:\n{}", self.log());
            }
            // `true` paces the loop as every other probe does.
            let _paced = run(&mut Command::new("true"), b"");
            std::fs::read_to_string(self.data().join("dev.env")).ok()
        });
        self.env =
            text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        wait_for("an agent", || self.cli(&["agents", "-o", "json"]).text().contains("agt_").then_some(()));
    }

    /// What `longshore dev` printed.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("dev.log")).unwrap_or_default()
    }

    /// The folder of this test.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `--data`.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The mount `state` as the host sees it.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.data().join("state")
    }

    /// `LONGSHORE_URL`.
    #[must_use]
    pub fn url(&self) -> String {
        self.env.iter().find(|(key, _)| key == "LONGSHORE_URL").unwrap().1.clone()
    }

    /// A `longshore` command, not yet started.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binaries().join("longshore"));
        command.args(args).envs(self.env.iter().cloned());
        command
    }

    /// Runs a `longshore` command.
    #[must_use]
    pub fn cli(&self, args: &[&str]) -> Done {
        run(&mut self.command(args), b"")
    }

    /// Runs a command that answers with JSON.
    ///
    /// # Panics
    /// When it fails or answers something else.
    #[must_use]
    pub fn json(&self, args: &[&str]) -> Value {
        serde_json::from_slice(&self.cli(&[args, &["-o", "json"]].concat()).ok().stdout).unwrap()
    }

    /// Applies a spec.
    pub fn apply(&self, spec: &str) {
        let path = self.dir.path().join("longshore.yaml");
        std::fs::write(&path, spec).unwrap();
        let _applied = self.cli(&["apply", "-f", path.to_str().unwrap(), "-o", "json"]).ok();
    }

    /// Sets a secret variable.
    pub fn set_secret(&self, project: &str, name: &str, value: &str) {
        let _set = run(&mut self.command(&["variable", "set", project, name, "--secret"]), value.as_bytes()).ok();
    }

    /// Starts a deployment to `dev` and returns its id.
    #[must_use]
    pub fn deploy(&self, project: &str, more: &[&str]) -> String {
        let mut args = vec!["deploy", project, "--env", "dev", "-o", "json"];
        args.extend(more);
        let accepted: Value = serde_json::from_str(&self.cli(&args).ok().text()).unwrap();
        accepted["deployment"].as_str().unwrap().to_owned()
    }

    /// `deployment show`, or `None` while the server does not answer.
    #[must_use]
    pub fn try_show(&self, id: &str) -> Option<Value> {
        serde_json::from_str(&self.cli(&["deployment", "show", id, "-o", "json"]).text()).ok()
    }

    /// Waits until `deployment show` satisfies `is`.
    pub fn wait(&self, id: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        wait_for(&format!("{id} to be {what}; {:?}", self.try_show(id)), || self.try_show(id).filter(&is))
    }

    /// Waits for the end of a deployment.
    pub fn end(&self, id: &str) -> Value {
        self.wait(id, "ended", |shown| ENDED.contains(&shown["state"].as_str().unwrap_or_default()))
    }

    /// Waits until the first step's container runs and returns its engine id.
    #[must_use]
    pub fn container(&self, id: &str) -> String {
        let shown = self.wait(id, "running with a container", |shown| {
            shown["state"] == "running" && shown["steps"][0]["attempts"][0]["container"].is_string()
        });
        shown["steps"][0]["attempts"][0]["container"].as_str().unwrap().to_owned()
    }

    /// Applies, deploys and waits for the end.
    #[must_use]
    pub fn run(&self, project: &str, spec: &str) -> Value {
        self.apply(spec);
        self.end(&self.deploy(project, &[]))
    }

    /// The log, byte for byte.
    #[must_use]
    pub fn raw(&self, id: &str) -> Vec<u8> {
        self.cli(&["logs", id, "--raw"]).stdout
    }

    /// Waits until the log holds `needle`.
    pub fn await_log(&self, id: &str, needle: &str) {
        wait_for(&format!("{needle:?} in the log"), || {
            String::from_utf8_lossy(&self.raw(id)).contains(needle).then_some(())
        });
    }

    /// Process id of `controller` or `agent`.
    #[must_use]
    pub fn pid(&self, who: &str) -> Pid {
        let path = self.data().join(format!("{who}.pid"));
        Pid::from_raw(wait_for("a pid file", || std::fs::read_to_string(&path).ok()?.trim().parse().ok()))
    }

    /// `kill -9` of `controller` or `agent`.
    pub fn kill9(&self, who: &str) {
        kill(self.pid(who), Signal::SIGKILL).unwrap();
    }

    /// Ends `longshore dev` with SIGTERM and waits for it.
    pub fn stop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
            let _status = self.child.wait().unwrap();
        }
    }

    /// Stops and starts it on the same data.
    pub fn restart(&mut self) {
        self.stop();
        self.child = Self::spawn(self.dir.path(), &self.more_env);
        self.await_ready();
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let agents = docker::agent_ids(&self.cli(&["agents", "-o", "json"]).text());
        self.stop();
        docker::remove_leftovers(&agents);
        if std::thread::panicking() {
            eprintln!(
                "--- what `longshore dev` printed:\n{}",
                self.log().lines().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
    }
}
