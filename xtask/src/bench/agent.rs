//! What an idle agent costs. The references are aims, stated as such: there is no peer on the machine.

use std::time::Duration;

use anyhow::Context as _;

use super::Bench;
use super::figure::{Figure, median};

/// How long the processor time of an idle agent is watched, a sample.
const WATCHED: Duration = Duration::from_secs(6);
/// Clock ticks a second in `/proc/PID/stat` (`getconf CLK_TCK`; 100 on every Linux there is today).
const TICKS: f64 = 100.0;
const MIB: f64 = 1_048_576.0;

/// Resident memory of an agent that has just run nothing.
pub(super) fn rss(bench: &Bench) -> anyhow::Result<Figure> {
    let read = || -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", bench.dev.pid_of("agent")?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0 / MIB)
    };
    let samples = (0..bench.runs).map(|_| read()).collect::<anyhow::Result<_>>()?;
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
