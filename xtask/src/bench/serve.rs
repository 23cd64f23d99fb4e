//! A controller of its own and a fleet of agents that run nothing (`longshore-fleet`), as processes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::Bench;
use crate::{build, sh};

/// How long a controller may take to be ready, and a fleet to say what is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);

/// A controller; dropping it ends it and removes its data.
pub(super) struct Controller {
    child: Child,
    binaries: PathBuf,
    data: PathBuf,
    /// HOST:PORT of the API.
    pub(super) api: String,
    agents: String,
    token: String,
}

impl Controller {
    /// Starts it with an empty store.
    pub(super) fn start(bench: &Bench, what: &str) -> anyhow::Result<Self> {
        let data = std::env::temp_dir().join(format!("longshore-bench-{what}-{}", std::process::id()));
        std::fs::create_dir_all(&data)?;
        let (api, agents) = (free_address()?, free_address()?);
        let config = format!(
            "data_dir = \"{}\"\n[api]\nlisten = \"{api}\"\n[agents]\nlisten = \"{agents}\"\n[log]\nlevel = \"warn\"\n",
            data.join("data").display()
        );
        std::fs::write(data.join("controller.toml"), config)?;
        let child = spawn(&bench.binaries, &data)?;
        let mut made = Self { child, binaries: bench.binaries.clone(), data, api, agents, token: String::new() };
        made.ready()?;
        let token = std::fs::read_to_string(made.data.join("data/admin.token"))?;
        token.trim().clone_into(&mut made.token);
        Ok(made)
    }

    /// Ends it at once, as a crash does.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again with what it has.
    pub(super) fn again(&mut self) -> anyhow::Result<()> {
        self.child = spawn(&self.binaries, &self.data)?;
        self.ready()
    }

    fn ready(&self) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if self.call("GET", "/readyz", "").is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("the controller was not ready: see `{}`", self.data.join("log").display())
    }

    /// The folder with its store.
    pub(super) fn folder(&self) -> PathBuf {
        self.data.join("data")
    }

    /// Its resident memory in KiB.
    pub(super) fn rss_kib(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// A request over a connection of its own, and its JSON.
    pub(super) fn call(&self, method: &str, path: &str, body: &str) -> anyhow::Result<Value> {
        let mut stream = TcpStream::connect(&self.api)?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.api,
            self.token,
            body.len()
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").context("no answer")?;
        if !head.starts_with("HTTP/1.1 2") {
            bail!("{method} {path}: {head}\n{body}");
        }
        Ok(serde_json::from_str(body).unwrap_or_default())
    }

    /// A `longshore` command for it.
    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = sh::command(self.binaries.join("longshore"), args);
        command.env("LONGSHORE_URL", format!("http://{}", self.api)).env("LONGSHORE_TOKEN", &self.token);
        command
    }

    /// A project with environments `e0`, `e1` and so on and one step that no agent here runs.
    pub(super) fn project(&self, name: &str, environments: usize) -> anyhow::Result<()> {
        let list: Vec<_> = (0..environments).map(|number| format!("{{name: e{number}}}")).collect();
        let text = format!(
            "version: 1\nproject: {name}\nenvironments: [{}]\nsteps:\n  - {{name: one, image: tiny, run: [\"true\"]}}\n",
            list.join(", ")
        );
        let path = self.data.join(format!("{name}.yaml"));
        std::fs::write(&path, text)?;
        sh::output(self.command(&["apply", "-f", &path.to_string_lossy(), "--yes"])).map(drop)
    }

    /// Starts so many agents with so many slots each.
    pub(super) fn fleet(&self, agents: usize, slots: usize, more: &[&str]) -> anyhow::Result<Fleet> {
        let ca = self.data.join("ca.pem");
        let uses = agents.to_string();
        let token = self.command(&["join-token", "create", "--uses", &uses, "--ca-file", &ca.to_string_lossy()]);
        let (join, api) = (self.data.join("join"), self.data.join("data/admin.token"));
        std::fs::write(&join, sh::output(token)?)?;
        let mut child = Command::new(build::target().join("release/longshore-fleet"))
            .args(["--controller", &self.agents, "--agents", &uses, "--slots", &slots.to_string(), "--api", &self.api])
            .args(["--ca".as_ref(), ca.as_os_str(), "--token-file".as_ref(), join.as_os_str()])
            .args(["--api-token-file".as_ref(), api.as_os_str()])
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .context("`longshore-fleet` cannot be started")?;
        let output = BufReader::new(child.stdout.take().context("the fleet has no standard output")?);
        let (said, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let Ok(line) = serde_json::from_str(&line) else { continue };
                if said.send((Instant::now(), line)).is_err() {
                    break;
                }
            }
        });
        Ok(Fleet { child, lines })
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ended = self.child.kill().is_ok() && self.child.wait().is_ok();
        if let Err(error) = std::fs::remove_dir_all(&self.data) {
            eprintln!("`{}` could not be removed: {error}", self.data.display());
        }
    }
}

/// Agents that run nothing, in one process; dropping it ends them.
pub(super) struct Fleet {
    child: Child,
    lines: Receiver<(Instant, Value)>,
}

impl Fleet {
    /// Waits until it says something that is wanted; when it came, and what it was.
    pub(super) fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<(Instant, Value)> {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let (at, line) = self.lines.recv_timeout(left).with_context(|| format!("{what}: it did not come"))?;
            if wanted(&line) {
                return Ok((at, line));
            }
        }
    }

    /// Waits until so many agents have a stream.
    pub(super) fn connected(&self, agents: usize) -> anyhow::Result<Instant> {
        let all = |line: &Value| line["connected"].as_u64() == u64::try_from(agents).ok();
        Ok(self.until("all agents connected", all)?.0)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ended = self.child.kill().is_ok() && self.child.wait().is_ok();
    }
}

fn spawn(binaries: &Path, data: &Path) -> anyhow::Result<Child> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(data.join("log"))?;
    Command::new(binaries.join("longshore-controller"))
        .args(["serve", "--config"])
        .arg(data.join("controller.toml"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("`longshore-controller` cannot be started")
}

/// An address on this machine that nothing listens on now.
fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
