//! What an idle agent costs. The references are aims, stated as such: there is no peer on the machine.

use std::time::Duration;

use anyhow::{Context as _, bail};

use super::Bench;
use super::deploy::TINY;
use super::figure::{Figure, median};
use crate::dev::Dev;
use crate::sh;

/// How long the processor time of an idle agent is watched, a sample.
const WATCHED: Duration = Duration::from_secs(6);
/// Clock ticks a second in `/proc/PID/stat` (`getconf CLK_TCK`; 100 on every Linux there is today).
const TICKS: f64 = 100.0;
/// Jobs that run at once.
const JOBS: usize = 8;
const MIB: f64 = 1_048_576.0;

/// Resident memory of a program's agent in MiB.
fn resident(dev: &Dev) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", dev.pid_of("agent")?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0 / MIB)
}

/// Resident memory of an agent that runs eight jobs.
pub(super) fn rss_with_jobs(bench: &Bench) -> anyhow::Result<Figure> {
    let data = std::env::temp_dir().join(format!("longshore-bench-eight-{}", std::process::id()));
    let dev = Dev::start_with(&bench.binaries, &data, &["--slots", &JOBS.to_string()])?;
    let idle = (0..bench.runs).map(|_| resident(&dev)).collect::<anyhow::Result<_>>()?;
    let environments: Vec<_> = (0..JOBS).map(|number| format!("{{name: e{number}}}")).collect();
    let spec = format!(
        "version: 1\nproject: eight\nenvironments: [{}]\nsteps:\n  - {{name: one, image: \"{TINY}\", network: none, run: [sleep, \"20\"]}}\n",
        environments.join(", ")
    );
    let path = data.with_extension("yaml");
    std::fs::write(&path, spec)?;
    sh::output(dev.command(&["apply", "-f", &path.to_string_lossy()]))?;
    std::fs::remove_file(&path)?;
    for number in 0..JOBS {
        sh::output(dev.command(&["deploy", "eight", "--env", &format!("e{number}")]))?;
    }
    until(JOBS)?;
    let samples = (0..bench.runs).map(|_| resident(&dev)).collect::<anyhow::Result<_>>()?;
    until(0)?;
    Ok(Figure {
        name: "agent_rss_8_mib",
        ours: median(samples),
        reference: median(idle),
        unit: "MiB with eight running jobs",
        runs: bench.runs,
        against: "the same agent before, idle",
    })
}

/// Waits until so many containers of jobs run.
fn until(jobs: usize) -> anyhow::Result<()> {
    for _ in 0..600 {
        let list = sh::output(sh::command("docker", &["ps", "-q", "--filter", "label=longshore.attempt"]))?;
        if list.lines().count() == jobs {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("there are not {jobs} containers of jobs")
}

/// Resident memory of an agent that has just run nothing.
pub(super) fn rss(bench: &Bench) -> anyhow::Result<Figure> {
    let samples = (0..bench.runs).map(|_| resident(&bench.dev)).collect::<anyhow::Result<_>>()?;
    Ok(Figure {
        name: "agent_rss_mib",
        ours: median(samples),
        reference: 12.0,
        unit: "MiB",
        runs: bench.runs,
        against: "the aim",
    })
}

/// Size of the agent with init inside.
#[expect(clippy::cast_precision_loss, reason = "a file size in MiB for people")]
pub(super) fn binary(bench: &Bench) -> anyhow::Result<Figure> {
    let bytes = std::fs::metadata(bench.binaries.join("longshore-agent"))?.len();
    Ok(Figure {
        name: "agent_binary_mib",
        ours: bytes as f64 / MIB,
        reference: 8.0,
        unit: "MiB",
        runs: 1,
        against: "the aim",
    })
}

/// Processor time of an agent that holds its stream and does nothing.
pub(super) fn idle_cpu(bench: &Bench) -> anyhow::Result<Figure> {
    let ticks = || -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", bench.dev.pid_of("agent")?))?;
        let after_name = stat.rsplit_once(')').context("`stat` has no name")?.1;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let field = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).context("`stat` is short");
        Ok(field(11)? + field(12)?)
    };
    let mut samples = Vec::new();
    for _ in 0..bench.runs {
        let before = ticks()?;
        std::thread::sleep(WATCHED);
        samples.push((ticks()? - before) / TICKS / WATCHED.as_secs_f64() * 100.0);
    }
    let mean = samples.iter().sum::<f64>() / samples.len().max(1) as f64;
    Ok(Figure {
        name: "agent_idle_cpu_percent",
        ours: mean,
        reference: 0.05,
        unit: "% of a core, mean",
        runs: bench.runs,
        against: "the aim",
    })
}
