//! The first deployment, shown once from nothing.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::Value;

use crate::dev::Dev;
use crate::{build, docker, pulumi_image, sh};

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
        println!("\nkept running as process {}; its data: {}", dev.pid(), data.display());
        println!("stop it: kill {}", dev.pid());
        dev.keep();
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
    println!("\n== third deployment: more ballast takes a while to load; kill -9 of the agent in the middle");
    let slower = SlowerProgram::make()?;
    let deploy = ["deploy", "quickstart", "--env", "dev", "--package", &slower.path(), "-o", "json"];
    let third = phases.measure("third deployment", || dev.deploy(&deploy, |id| dev.kill_agent_during(id)))?;
    report(&third)?;
    println!("the agent came back, found its container, shipped the rest of the log and reported the true result");

    println!("\nwhere to look next:");
    println!("  examples/quickstart/longshore.yaml   the project as code");
    println!("  ARCHITECTURE.md                      how it works and what it promises");
    println!("  cargo xtask demo --keep              the same, left running for you to try `longshore --help` on");
    Ok(())
}

/// A copy of the example's program with a change that takes three seconds to apply.
struct SlowerProgram(PathBuf);

impl SlowerProgram {
    fn make() -> anyhow::Result<Self> {
        let copy = Self(std::env::temp_dir().join(format!("longshore-demo-program-{}", std::process::id())));
        let infra = copy.0.join("infra");
        std::fs::create_dir_all(&infra)?;
        let program = std::fs::read_to_string(sh::root().join("examples/quickstart/infra/Pulumi.yaml"))?;
        let changed = program.replacen("default: 40", "default: 55", 1).replacen("default: 0", "default: 3", 1);
        if changed == program {
            bail!("`examples/quickstart/infra/Pulumi.yaml` has no ballast to change any more");
        }
        std::fs::write(infra.join("Pulumi.yaml"), changed)?;
        Ok(copy)
    }

    fn path(&self) -> String {
        self.0.to_string_lossy().into_owned()
    }
}

impl Drop for SlowerProgram {
    fn drop(&mut self) {
        if let Err(err) = std::fs::remove_dir_all(&self.0) {
            eprintln!("`{}` could not be removed: {err}", self.0.display());
        }
    }
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
