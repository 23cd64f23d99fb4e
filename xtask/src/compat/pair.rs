//! A controller of one version and an agent of another, as two processes with configurations that every version reads.

use std::fmt;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::dev::wait;
use crate::{build, sh};

/// How long either may take to be there.
const WITHIN: Duration = Duration::from_secs(60);
/// What a controller says to an agent that came too early.
const ORDER: &str = "upgrade the controller first";
/// What the job prints.
const LINES: usize = 1000;

/// Folders of binaries, and an image to run a job in.
pub(super) struct Pair<'a> {
    pub(super) controller: &'a Path,
    pub(super) agent: &'a Path,
    pub(super) image: &'a str,
}

/// What came of it.
pub(super) enum End {
    /// A deployment ran, with every byte of its log.
    Worked,
    /// The agent was told the upgrade order.
    Refused(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worked => f.write_str("a deployment ran to its end, and its log is whole"),
            Self::Refused(words) => write!(f, "refused as documented: {words}"),
        }
    }
}

/// A process that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let asked = sh::succeeds("kill", &[&self.0.id().to_string()]);
        let _ended = asked && self.0.wait().is_ok();
    }
}

impl Pair<'_> {
    /// Starts both and deploys.
    pub(super) fn run(&self) -> anyhow::Result<End> {
        let dir = build::target().join("compat/run");
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        let place = Place { dir, ports: (free_port()?, free_port()?) };
        let done = self.drive(&place);
        if done.is_ok() {
            fs::remove_dir_all(&place.dir)?;
        }
        done.with_context(|| format!("configurations and logs are in `{}`", place.dir.display()))
    }

    fn drive(&self, place: &Place) -> anyhow::Result<End> {
        let _controller = self.start_controller(place)?;
        let made = self.json(place, &["join-token", "create"])?;
        let text = |field: &str| made[field].as_str().with_context(|| format!("no `{field}` in a join token"));
        fs::write(place.at("ca.pem"), text("ca_pem")?)?;
        fs::write(place.at("join"), text("token")?)?;
        self.configure_agent(place)?;
        let enroll = self.agent(place, &["enroll"]).arg("--token-file").arg(place.at("join")).output()?;
        if !enroll.status.success() {
            let words = String::from_utf8_lossy(&enroll.stderr).trim().to_owned();
            ensure!(words.contains(ORDER), "the agent was not enrolled: {words}");
            return Ok(End::Refused(words));
        }
        let agent = Running(spawn(self.agent(place, &["run"]), &place.at("agent.log"))?);
        wait("the agent", WITHIN, || {
            let agents = self.json(place, &["agents"])?;
            Ok((agents[0]["state"] != "disconnected" && agents[0]["id"].is_string()).then_some(()))
        })?;
        self.deploy(place)?;
        drop(agent);
        Ok(End::Worked)
    }

    fn start_controller(&self, place: &Place) -> anyhow::Result<Running> {
        let data = place.at("controller");
        let (api, agents) = place.ports;
        let text = format!(
            "data_dir = {data:?}\n[api]\nlisten = \"127.0.0.1:{api}\"\n[agents]\nlisten = \"127.0.0.1:{agents}\"\n"
        );
        fs::write(place.at("controller.toml"), text)?;
        let mut serve = Command::new(self.controller.join("longshore-controller"));
        serve.args(["serve", "--config"]).arg(place.at("controller.toml"));
        let running = Running(spawn(serve, &place.at("controller.log"))?);
        wait("the controller", WITHIN, || {
            Ok((data.join("admin.token").exists() && self.json(place, &["agents"]).is_ok()).then_some(()))
        })?;
        Ok(running)
    }

    /// With what later versions ask for beside, where this one knows it.
    fn configure_agent(&self, place: &Place) -> anyhow::Result<()> {
        let (path, ca, state) = (place.at("agent.toml"), place.at("ca.pem"), place.at("agent"));
        let least = format!(
            "controller = \"https://127.0.0.1:{}\"\nca_file = {ca:?}\nstate_dir = {state:?}\ndrain_timeout = \"0s\"\n",
            place.ports.1
        );
        fs::write(&path, format!("{least}metadata = \"allowed\"\n"))?;
        if !self.agent(place, &["check-config"]).output()?.status.success() {
            fs::write(&path, least)?;
        }
        Ok(())
    }

    fn agent(&self, place: &Place, args: &[&str]) -> Command {
        let mut agent = Command::new(self.agent.join("longshore-agent"));
        agent.args(args).arg("--config").arg(place.at("agent.toml"));
        agent
    }

    fn cli(&self, place: &Place, args: &[&str]) -> anyhow::Result<String> {
        let token = fs::read_to_string(place.at("controller/admin.token"))?;
        let mut cli = Command::new(self.controller.join("longshore"));
        cli.args(args).env("LONGSHORE_URL", format!("http://127.0.0.1:{}", place.ports.0));
        cli.env("LONGSHORE_TOKEN", token.trim());
        sh::output(cli)
    }

    fn json(&self, place: &Place, args: &[&str]) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.cli(place, &[args, &["-o", "json"]].concat())?)?)
    }

    /// A job of many lines and a result of its own.
    fn deploy(&self, place: &Place) -> anyhow::Result<()> {
        let spec = format!(
            "version: 1\nproject: both\nenvironments:\n  - name: dev\nsteps:\n  - name: one\n    image: {}\n    network: none\n    \
             run: |\n      i=0\n      while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); done\n",
            self.image
        );
        let file = place.at("longshore.yaml");
        fs::write(&file, spec)?;
        self.cli(place, &["apply", "--yes", "-f", &file.to_string_lossy()])?;
        let shown = self.json(place, &["deploy", "both", "--env", "dev", "--wait"])?;
        ensure!(shown["state"] == "succeeded", "the deployment did not succeed: {shown:#}");
        let id = shown["id"].as_str().context("a deployment without an id")?;
        let expected: String = (0..LINES).map(|line| format!("line {line}\n")).collect();
        if self.cli(place, &["logs", id, "--raw"])? != expected {
            bail!("the log of {id} is not what the job printed");
        }
        Ok(())
    }
}

/// Where one pair lives.
struct Place {
    dir: PathBuf,
    ports: (u16, u16),
}

impl Place {
    fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn spawn(mut command: Command, log: &Path) -> anyhow::Result<Child> {
    let log = fs::File::create(log)?;
    let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
    child.with_context(|| format!("`{}` cannot be started", command.get_program().to_string_lossy()))
}
