//! A Docker engine that answers: the one that is there, or Debian's, installed and started as root.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::sh;

const HOW: &str = "no Docker engine answers. Install one and start it, then run this again:
  Debian, Ubuntu:  sudo apt-get install docker.io && sudo systemctl start docker
  others:          https://docs.docker.com/engine/install/
and let your user reach it: sudo usermod -aG docker \"$USER\", then log in anew";

/// An engine that answers.
pub(crate) struct Engine {
    /// Its version.
    pub(crate) version: String,
    /// It was not running before.
    started_by_us: bool,
}

impl Engine {
    /// Stops the engine if it was started by us; containers of others cannot be there then.
    pub(crate) fn stop_if_ours(&self) {
        let pid = std::fs::read_to_string("/var/run/docker.pid").unwrap_or_default();
        if self.started_by_us && !pid.trim().is_empty() && sh::succeeds("kill", &[pid.trim()]) {
            println!("the Docker engine that was started for this is stopped again; its package stays installed");
        }
    }
}

/// Makes sure that an engine answers.
///
/// As root on Debian or Ubuntu the engine is installed from the distribution's packages and started when none answers.
pub(crate) fn ensure() -> anyhow::Result<Engine> {
    if let Some(version) = version() {
        return Ok(Engine { version, started_by_us: false });
    }
    if !(is_root() && is_debian()) {
        bail!("{HOW}");
    }
    if !sh::succeeds("sh", &["-c", "command -v dockerd"]) {
        install(&["docker.io", "iptables"])?;
    }
    start()
}

/// Installs Debian packages, named before it is done.
pub(crate) fn install(packages: &[&str]) -> anyhow::Result<()> {
    println!("installing from the distribution: {}", packages.join(", "));
    let apt = |args: &[&str]| -> anyhow::Result<String> {
        let mut command = sh::command("apt-get", args);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        sh::output(command)
    };
    apt(&["update", "-q"])?;
    let mut args = vec!["install", "-q", "-y", "--no-install-recommends"];
    args.extend(packages);
    apt(&args)?;
    Ok(())
}

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    sh::output(sh::command("id", &["-u"])).is_ok_and(|uid| uid.trim() == "0")
}

/// Whether the system has Debian's packages.
pub(crate) fn is_debian() -> bool {
    sh::succeeds("sh", &["-c", "command -v apt-get && command -v dpkg"])
}

fn version() -> Option<String> {
    let text = sh::output(sh::command("docker", &["version", "--format", "{{.Server.Version}}"])).ok()?;
    Some(text.trim().to_owned()).filter(|version| !version.is_empty())
}

/// Starts the engine: by the system's service manager where one runs, else as a process of its own that outlives us.
fn start() -> anyhow::Result<Engine> {
    println!("starting the Docker engine");
    if std::path::Path::new("/run/systemd/system").exists() {
        sh::output(sh::command("systemctl", &["start", "docker"]))?;
    } else {
        let log = File::create("/var/log/dockerd.log").context("`/var/log/dockerd.log` cannot be written")?;
        Command::new("setsid")
            .args(["--fork", "dockerd"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .status()
            .context("`dockerd` cannot be started")?;
    }
    let until = Instant::now() + Duration::from_secs(60);
    while Instant::now() < until {
        if let Some(version) = version() {
            return Ok(Engine { version, started_by_us: true });
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    bail!("the Docker engine was started and does not answer within 60 s; its log: /var/log/dockerd.log")
}
