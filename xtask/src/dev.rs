//! A running `longshore dev`, driven by its command line.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::sh;

/// How long the controller and the agent may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long one deployment may take.
const DEPLOYED_WITHIN: Duration = Duration::from_secs(300);

/// A running `longshore dev`; dropping it ends it and removes its data.
pub(crate) struct Dev {
    child: Child,
    binary: PathBuf,
    data: PathBuf,
    env: Vec<(String, String)>,
    kept: bool,
}

impl Dev {
    /// Starts it in `data` and waits until its agent is connected.
    pub(crate) fn start(binaries: &Path, data: &Path) -> anyhow::Result<Self> {
        Self::start_with(binaries, data, &[])
    }

    /// The same with further arguments.
    pub(crate) fn start_with(binaries: &Path, data: &Path, more: &[&str]) -> anyhow::Result<Self> {
        println!("starting `longshore dev --data {}`", data.display());
        std::fs::create_dir_all(data).with_context(|| format!("`{}` cannot be made", data.display()))?;
        let log = std::fs::File::create(data.with_extension("log"))?;
        let binary = binaries.join("longshore");
        let child = Command::new(&binary)
            .args(["dev", "--data"])
            .arg(data)
            .args(more)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("`{}` cannot be started", binary.display()))?;
        let mut dev = Self { child, binary, data: data.to_path_buf(), env: Vec::new(), kept: false };
        dev.env = wait("the controller and the agent", READY_WITHIN, || dev.read_env())
            .with_context(|| format!("the end of the log:\n{}", dev.log_tail()))?;
        Ok(dev)
    }

    /// Process id of `longshore dev`.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Process id of `agent` or `controller`.
    pub(crate) fn pid_of(&self, who: &str) -> anyhow::Result<u32> {
        let text = std::fs::read_to_string(self.data.join(format!("{who}.pid")))?;
        text.trim().parse().with_context(|| format!("`{who}.pid` holds no process id"))
    }

    /// Leaves it running when this value goes.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }

    fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.data.with_extension("log")).unwrap_or_default();
        text.lines().rev().take(20).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    fn read_env(&self) -> anyhow::Result<Option<Vec<(String, String)>>> {
        let text = std::fs::read_to_string(self.data.join("dev.env")).unwrap_or_default();
        let pairs: Vec<_> =
            text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        Ok(Some(pairs).filter(|pairs| pairs.len() >= 2))
    }

    /// A `longshore` command, not yet started.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = sh::command(&self.binary, args);
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Runs a `longshore` command with our own output.
    pub(crate) fn cli(&self, args: &[&str]) -> anyhow::Result<()> {
        sh::show(self.command(args))
    }

    /// Runs a `longshore` command and reads its JSON.
    pub(crate) fn json(&self, args: &[&str]) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&sh::output(self.command(args))?)?)
    }

    /// Sets a secret variable.
    pub(crate) fn set_secret(&self, project: &str, name: &str, value: &str) -> anyhow::Result<()> {
        use std::io::Write as _;
        println!("$ longshore variable set {project} {name} --secret");
        let mut child = self.command(&["variable", "set", project, name, "--secret"]).stdin(Stdio::piped()).spawn()?;
        child.stdin.take().context("the command has no standard input")?.write_all(value.as_bytes())?;
        if !child.wait()?.success() {
            bail!("the secret `{name}` could not be set");
        }
        Ok(())
    }

    /// Deploys, follows the log, and returns the deployment at its end.
    pub(crate) fn deploy(
        &self,
        args: &[&str],
        meanwhile: impl FnOnce(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<Value> {
        let accepted = self.json(args)?;
        let id = accepted["deployment"].as_str().context("no deployment id came back")?;
        let mut log = self.command(&["logs", id, "-f"]).spawn()?;
        meanwhile(id)?;
        let done = wait("the deployment's end", DEPLOYED_WITHIN, || {
            let shown = self.json(&["deployment", "show", id, "-o", "json"])?;
            let over = shown["ended_at"].is_string();
            Ok(over.then_some(shown))
        })?;
        log.wait()?;
        Ok(done)
    }

    /// Deploys to `dev`, shows nothing, and returns the deployment at its end.
    pub(crate) fn deploy_quietly(&self, project: &str) -> anyhow::Result<Value> {
        self.json(&["deploy", project, "--env", "dev", "--wait", "-o", "json"])
    }

    /// Deploys to `dev`, reads nothing of the log, and returns the deployment at its end.
    pub(crate) fn deploy_unwatched(&self, project: &str) -> anyhow::Result<Value> {
        let accepted = self.json(&["deploy", project, "--env", "dev", "-o", "json"])?;
        let id = accepted["deployment"].as_str().context("no deployment id came back")?;
        wait("the deployment's end", DEPLOYED_WITHIN, || {
            let shown = self.json(&["deployment", "show", id, "-o", "json"])?;
            Ok(shown["ended_at"].is_string().then_some(shown))
        })
    }

    /// Address and token of the API.
    pub(crate) fn address(&self) -> anyhow::Result<(String, String)> {
        let get = |name: &str| {
            let found = self.env.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone()).with_context(|| format!("no {name}"))
        };
        let url = get("LONGSHORE_URL")?;
        let address = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        Ok((address, get("LONGSHORE_TOKEN")?))
    }

    /// A value of the controller's `/metrics`; 0 when it is not there yet.
    pub(crate) fn metric(&self, name: &str) -> anyhow::Result<f64> {
        use std::io::{Read as _, Write as _};
        let url = self.env.iter().find(|(key, _)| key == "LONGSHORE_URL").context("no LONGSHORE_URL")?;
        let address = url.1.trim_start_matches("http://").trim_end_matches('/');
        let mut stream = std::net::TcpStream::connect(address)?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let line = text.lines().find(|line| line.split(['{', ' ']).next() == Some(name));
        line.and_then(|line| line.rsplit(' ').next()).map_or(Ok(0.0), |value| Ok(value.parse()?))
    }

    /// Kills the agent as soon as the last step's program has begun to print.
    pub(crate) fn kill_agent_during(&self, id: &str) -> anyhow::Result<()> {
        wait("the last step's output", DEPLOYED_WITHIN, || {
            let shown = self.json(&["deployment", "show", id, "-o", "json"])?;
            let last = shown["steps"].as_array().and_then(|steps| steps.last());
            let name = last.and_then(|step| step["name"].as_str()).unwrap_or_default();
            let log = sh::output(self.command(&["logs", id, "--raw", "--step", name]))?;
            Ok((!log.is_empty()).then_some(()))
        })?;
        let pid = std::fs::read_to_string(self.data.join("agent.pid"))?;
        println!("$ kill -9 {} (the agent)", pid.trim());
        sh::output(sh::command("kill", &["-9", pid.trim()]))?;
        Ok(())
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let stopped = sh::succeeds("kill", &[&self.child.id().to_string()]) && self.child.wait().is_ok();
        if stopped {
            let removed = std::fs::remove_dir_all(&self.data)
                .and_then(|()| std::fs::remove_file(self.data.with_extension("log")));
            if let Err(err) = removed {
                eprintln!("`{}` could not be removed: {err}", self.data.display());
            }
        }
    }
}

/// Asks again until there is an answer.
pub(crate) fn wait<T>(
    what: &str,
    within: Duration,
    probe: impl Fn() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let until = Instant::now() + within;
    while Instant::now() < until {
        if let Some(found) = probe()? {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("waited {} s for {what}", within.as_secs())
}
