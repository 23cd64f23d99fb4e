//! The first deployment, shown once from nothing.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::{build, docker, pulumi_image, sh};

/// How long the controller and the agent may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long one deployment may take.
const DEPLOYED_WITHIN: Duration = Duration::from_secs(300);

/// Runs the demo; `keep` leaves the system running and its data in place.
pub(crate) fn run(keep: bool) -> anyhow::Result<()> {
    let mut phases = Phases::default();
    let engine = phases.measure("Docker engine", docker::ensure)?;
    println!("Docker {} answers", engine.version);
    let image = phases.measure("Pulumi image", || pulumi_image::run(pulumi_image::Options::default()))?;
    println!("{} is ready{}", image.reference, if image.cached { " (it was there)" } else { "" });
    let binaries = phases.measure("build", || build::binaries("demo"))?;
    let data = std::env::temp_dir().join(format!("longshore-demo-{}", std::process::id()));
    let dev = phases.measure("controller and agent", || Dev::start(&binaries, &data))?;
    let shown = show(&dev, &mut phases);
    if keep && shown.is_ok() {
        println!("\nkept running as process {}; its data: {}", dev.child.id(), data.display());
        println!("stop it: kill {}", dev.child.id());
        std::mem::forget(dev);
    } else {
        drop(dev);
        engine.stop_if_ours();
    }
    shown?;
    phases.print();
    Ok(())
}

/// Three deployments of the same program: create, nothing to do, and one whose agent is killed in the middle.
fn show(dev: &Dev, phases: &mut Phases) -> anyhow::Result<()> {
    let example = sh::root().join("examples/quickstart");
    let example = example.to_string_lossy();
    dev.cli(&["apply", "-f", &format!("{example}/longshore.yaml")])?;
    dev.set_secret("quickstart", "passphrase", "correct horse battery staple")?;
    let deploy = ["deploy", "quickstart", "--env", "dev", "--package", &example, "-o", "json"];

    println!("\n== first deployment: preview, then up");
    let first = phases.measure("first deployment", || dev.deploy(&deploy, |_| Ok(())))?;
    report(&first)?;
    println!("\n== second deployment: nothing changes");
    let second = phases.measure("second deployment", || dev.deploy(&deploy, |_| Ok(())))?;
    report(&second)?;
    println!("\n== third deployment: kill -9 of the agent in the middle");
    let third = phases.measure("third deployment", || dev.deploy(&deploy, |id| dev.kill_agent_during(id)))?;
    report(&third)?;
    println!("the agent came back, found its container, shipped the rest of the log and reported the true result");

    println!("\nwhere to look next:");
    println!("  examples/quickstart/longshore.yaml   the project as code");
    println!("  ARCHITECTURE.md                      how it works and what it promises");
    println!("  cargo xtask demo --keep              the same, left running for you to try `longshore --help` on");
    Ok(())
}

/// Prints what a deployment did; fails unless it succeeded.
fn report(deployment: &Value) -> anyhow::Result<()> {
    let state = deployment["state"].as_str().unwrap_or_default();
    println!("{} {state}", deployment["id"].as_str().unwrap_or_default());
    for step in deployment["steps"].as_array().into_iter().flatten() {
        let attempts = step["attempts"].as_array().map_or(0, Vec::len);
        println!(
            "  {:<10} {:<10} resources {} · plugins downloaded {} · containers {attempts} · log {} bytes",
            step["name"].as_str().unwrap_or_default(),
            step["state"].as_str().unwrap_or_default(),
            step["resources"],
            step["plugin_downloads"],
            step["log"]["bytes"],
        );
        for (name, value) in step["outputs"].as_object().into_iter().flatten() {
            println!("    {name} = {value}");
        }
    }
    if state != "succeeded" {
        bail!("the deployment is {state}: {}", deployment["reason"]);
    }
    Ok(())
}

/// How long each part took.
#[derive(Default)]
struct Phases(Vec<(&'static str, Duration)>);

impl Phases {
    fn measure<T>(&mut self, name: &'static str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let began = Instant::now();
        let done = work()?;
        self.0.push((name, began.elapsed()));
        Ok(done)
    }

    fn print(&self) {
        println!("\ntime each phase took:");
        for (name, took) in &self.0 {
            println!("  {name:<22} {:>7.1} s", took.as_secs_f64());
        }
    }
}

/// A running `longshore dev`; dropping it ends it and removes its data.
struct Dev {
    child: Child,
    binary: PathBuf,
    data: PathBuf,
    env: Vec<(String, String)>,
}

impl Dev {
    fn start(binaries: &Path, data: &Path) -> anyhow::Result<Self> {
        println!("starting `longshore dev --data {}`", data.display());
        std::fs::create_dir_all(data).with_context(|| format!("`{}` cannot be made", data.display()))?;
        let log = std::fs::File::create(data.with_extension("log"))?;
        let binary = binaries.join("longshore");
        let child = Command::new(&binary)
            .args(["dev", "--data"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("`{}` cannot be started", binary.display()))?;
        let mut dev = Self { child, binary, data: data.to_path_buf(), env: Vec::new() };
        dev.env = wait("the controller and the agent", READY_WITHIN, || dev.read_env())
            .with_context(|| format!("the end of the log:\n{}", dev.log_tail()))?;
        Ok(dev)
    }

    fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.data.with_extension("log")).unwrap_or_default();
        text.lines().rev().take(20).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    fn read_env(&self) -> anyhow::Result<Option<Vec<(String, String)>>> {
        let text = std::fs::read_to_string(self.data.join("dev.env")).unwrap_or_default();
        let pairs: Vec<_> = text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        Ok(Some(pairs).filter(|pairs| pairs.len() >= 2))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = sh::command(&self.binary, args);
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        command
    }

    fn cli(&self, args: &[&str]) -> anyhow::Result<()> {
        sh::show(self.command(args))
    }

    fn json(&self, args: &[&str]) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&sh::output(self.command(args))?)?)
    }

    fn set_secret(&self, project: &str, name: &str, value: &str) -> anyhow::Result<()> {
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
    fn deploy(&self, args: &[&str], meanwhile: impl FnOnce(&str) -> anyhow::Result<()>) -> anyhow::Result<Value> {
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

    /// Kills the agent as soon as the last step's container runs.
    fn kill_agent_during(&self, id: &str) -> anyhow::Result<()> {
        wait("the container", DEPLOYED_WITHIN, || {
            let shown = self.json(&["deployment", "show", id, "-o", "json"])?;
            let running = shown["steps"].as_array().into_iter().flatten().any(|step| step["state"] == "running");
            Ok(running.then_some(()))
        })?;
        let pid = std::fs::read_to_string(self.data.join("agent.pid"))?;
        println!("$ kill -9 {} (the agent)", pid.trim());
        sh::output(sh::command("kill", &["-9", pid.trim()]))?;
        Ok(())
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let stopped = sh::succeeds("kill", &[&self.child.id().to_string()]) && self.child.wait().is_ok();
        if stopped {
            let removed = std::fs::remove_dir_all(&self.data).and_then(|()| std::fs::remove_file(self.data.with_extension("log")));
            if let Err(err) = removed {
                eprintln!("`{}` could not be removed: {err}", self.data.display());
            }
        }
    }
}

/// Asks again until there is an answer.
fn wait<T>(what: &str, within: Duration, probe: impl Fn() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let until = Instant::now() + within;
    while Instant::now() < until {
        if let Some(found) = probe()? {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("waited {} s for {what}", within.as_secs())
}
