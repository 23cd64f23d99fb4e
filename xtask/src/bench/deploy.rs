//! Deployments against `docker run` of the same image and command, turn about.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};

use super::Bench;
use super::figure::{Figure, median};
use crate::{docker, sh};

pub(super) const TINY: &str = "longshore/tiny:1";
/// Bytes of the log whose way is timed.
const LOG_BYTES: u32 = 268_435_456;

/// Makes a small image of Debian's `busybox-static` when it is not there.
pub(super) fn tiny_image() -> anyhow::Result<()> {
    if sh::succeeds("docker", &["image", "inspect", TINY]) {
        return Ok(());
    }
    if !Path::new("/bin/busybox").exists() {
        docker::install(&["busybox-static"])?;
    }
    let script = format!(
        "set -e; d=$(mktemp -d); mkdir $d/bin $d/tmp; cp /bin/busybox $d/bin; for a in $(/bin/busybox --list); do [ $a = busybox ] || ln -s busybox $d/bin/$a; done; \
         tar -C $d -c . | docker import - {TINY}; rm -r $d"
    );
    sh::output(sh::command("sh", &["-c", &script])).map(drop)
}

fn spec(bench: &Bench, project: &str, argv: &str) -> anyhow::Result<()> {
    let text = format!(
        "version: 1\nproject: {project}\nenvironments:\n  - name: dev\nsteps:\n  - name: one\n    image: {TINY}\n    network: none\n    timeout: 10m\n    run: {argv}\n"
    );
    let path = std::env::temp_dir().join(format!("longshore-bench-{project}-{}.yaml", std::process::id()));
    std::fs::write(&path, text)?;
    let applied = sh::output(bench.dev.command(&["apply", "-f", &path.to_string_lossy()]));
    std::fs::remove_file(&path)?;
    applied.map(drop)
}

fn docker_run(argv: &[&str]) -> Command {
    let mut args = vec!["run", "--rm", "--network", "none", TINY];
    args.extend(argv);
    sh::command("docker", &args)
}

/// Milliseconds until a command ends; its output goes nowhere.
pub(super) fn wall(mut command: Command) -> anyhow::Result<f64> {
    let began = Instant::now();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    if !status.success() {
        bail!("the measured command ended with {status}");
    }
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// Milliseconds until a command's first byte on standard output.
fn first_byte(mut command: Command) -> anyhow::Result<f64> {
    let began = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut out = child.stdout.take().context("no standard output")?;
    out.read_exact(&mut [0])?;
    let took = began.elapsed().as_secs_f64() * 1e3;
    std::io::copy(&mut out, &mut std::io::sink())?;
    child.wait()?;
    Ok(took)
}

/// Takes ours and the reference turn about and returns both medians.
pub(super) fn in_turn(
    runs: usize,
    ours: impl Fn() -> anyhow::Result<f64>,
    reference: impl Fn() -> anyhow::Result<f64>,
) -> anyhow::Result<(f64, f64)> {
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        theirs.push(reference()?);
        mine.push(ours()?);
    }
    Ok((median(mine), median(theirs)))
}

/// A no-op job from typing `deploy --wait` to its end.
pub(super) fn job_wall(bench: &Bench) -> anyhow::Result<Figure> {
    spec(bench, "noop", "[\"true\"]")?;
    let deploy = || wall(bench.dev.command(&["deploy", "noop", "--env", "dev", "--wait"]));
    let (ours, reference) = in_turn(bench.runs, deploy, || wall(docker_run(&["true"])))?;
    Ok(Figure {
        name: "job_wall",
        ours,
        reference,
        unit: "ms",
        runs: bench.runs,
        against: "`docker run --rm` of the same image and command",
    })
}

/// From typing `deploy --wait` to the first byte of the log on the terminal.
pub(super) fn first_log_byte(bench: &Bench) -> anyhow::Result<Figure> {
    spec(bench, "first", "[echo, hello]")?;
    let deploy = || first_byte(bench.dev.command(&["deploy", "first", "--env", "dev", "--wait"]));
    let (ours, reference) = in_turn(bench.runs, deploy, || first_byte(docker_run(&["echo", "hello"])))?;
    Ok(Figure {
        name: "first_log_byte",
        ours,
        reference,
        unit: "ms",
        runs: bench.runs,
        against: "`docker run --rm` of the same image and command",
    })
}

/// Bytes a second of a long log, from the job to the controller's disk.
pub(super) fn log_throughput(bench: &Bench) -> anyhow::Result<Figure> {
    let line = "x".repeat(99);
    let script = format!("yes {line} | head -c {LOG_BYTES}");
    spec(bench, "flood", &format!("[sh, -c, \"{script}\"]"))?;
    let rate = |took: f64| f64::from(LOG_BYTES) / 1e6 / (took / 1e3);
    let ours = || {
        let began = Instant::now();
        let shown = bench.dev.deploy_unwatched("flood")?;
        if shown["steps"][0]["log"]["bytes"] != LOG_BYTES {
            bail!("the log is not whole: {shown}");
        }
        Ok(rate(began.elapsed().as_secs_f64() * 1e3))
    };
    let reference = || wall(docker_run(&["sh", "-c", &script])).map(rate);
    let runs = bench.runs.min(5);
    let (ours, reference) = in_turn(runs, ours, reference)?;
    Ok(Figure {
        name: "log_throughput",
        ours,
        reference,
        unit: "MB/s, more is better",
        runs,
        against: "`docker run --rm` with its default log driver",
    })
}

/// A deployment of ten steps, each step of it.
pub(super) fn steps_10(bench: &Bench) -> anyhow::Result<Figure> {
    steps(bench, "steps_10", 10, bench.runs)
}

/// A deployment of a hundred steps, each step of it.
pub(super) fn steps_100(bench: &Bench) -> anyhow::Result<Figure> {
    steps(bench, "steps_100", 100, bench.runs.div_ceil(5))
}

fn steps(bench: &Bench, name: &'static str, count: u32, runs: usize) -> anyhow::Result<Figure> {
    spec(bench, "noop", "[\"true\"]")?;
    let step = |n| format!("  - {{name: s{n}, image: \"{TINY}\", network: none, run: [\"true\"]}}\n");
    let all: String = (0..count).map(step).collect();
    let text = format!("version: 1\nproject: many\nenvironments: [{{name: dev}}]\nsteps:\n{all}");
    let path = std::env::temp_dir().join(format!("longshore-bench-many-{}.yaml", std::process::id()));
    std::fs::write(&path, text)?;
    let applied = sh::output(bench.dev.command(&["apply", "-f", &path.to_string_lossy()]));
    std::fs::remove_file(&path)?;
    applied?;
    let deploy = |project: &str| wall(bench.dev.command(&["deploy", project, "--env", "dev", "--wait"]));
    let each = || deploy("many").map(|took| took / f64::from(count));
    let (ours, reference) = in_turn(runs, each, || deploy("noop"))?;
    Ok(Figure { name, ours, reference, unit: "ms a step", runs, against: "a deployment of one step" })
}

/// From the acceptance of a deployment to the agent's acceptance of its job, by the controller's own clock.
pub(super) fn deploy_to_agent(bench: &Bench) -> anyhow::Result<Figure> {
    spec(bench, "noop", "[\"true\"]")?;
    let one = || -> anyhow::Result<f64> {
        let before = bench.dev.metric("longshore_deploy_to_agent_seconds_sum")?;
        bench.dev.deploy_quietly("noop")?;
        Ok((bench.dev.metric("longshore_deploy_to_agent_seconds_sum")? - before) * 1e3)
    };
    let floor = two_syncs;
    let (ours, reference) = in_turn(bench.runs, one, floor)?;
    Ok(Figure {
        name: "deploy_to_agent_ms",
        ours,
        reference,
        unit: "ms",
        runs: bench.runs,
        against: "two writes with fdatasync, which durability costs at least",
    })
}

/// Milliseconds of two small durable writes: what accepting and dispatching cannot do without.
fn two_syncs() -> anyhow::Result<f64> {
    use std::io::Write as _;
    let path = std::env::temp_dir().join(format!("longshore-bench-sync-{}", std::process::id()));
    let mut file = std::fs::File::create(&path)?;
    let began = Instant::now();
    for _ in 0..2 {
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
    }
    let took = began.elapsed().as_secs_f64() * 1e3;
    std::fs::remove_file(&path)?;
    Ok(took)
}
