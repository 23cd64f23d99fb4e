//! A controller with a large fleet: what an idle agent costs, how soon all are back, how fast jobs are handed out.
//!
//! The agents are `longshore-fleet`: real certificates, connections and streams, and nothing is run. References that are aims are said
//! to be aims.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;

use super::Bench;
use super::figure::{Figure, median};
use super::serve::Controller;
use crate::sh;

/// Agents that hold a stream.
const IDLE: usize = 2_000;
/// Agents that jobs are handed to, and jobs for each.
const BUSY: (usize, usize) = (50, 200);
/// Environments of one project, as many as a spec may have.
const ENVIRONMENTS: usize = 500;
/// Pickups for each sample that `--runs` asks for.
const PICKUPS: usize = 20;
/// Requests that are made at once while a queue is filled.
const FILLERS: usize = 8;

pub(super) fn build() -> anyhow::Result<()> {
    sh::show(sh::command("cargo", &["build", "--locked", "--release", "--package", "longshore-bench"]))
}

/// Memory of the controller for each agent that holds a stream and does nothing.
pub(super) fn idle(bench: &Bench) -> anyhow::Result<Figure> {
    build()?;
    let controller = Controller::start(bench, "idle")?;
    let before = controller.rss_kib()?;
    let fleet = controller.fleet(IDLE, 1, &[])?;
    fleet.connected(IDLE)?;
    let mut samples = Vec::new();
    for _ in 0..bench.runs {
        // Heartbeats come each few seconds: what they take is part of the cost.
        std::thread::sleep(Duration::from_secs(1));
        samples.push((controller.rss_kib()? - before) / count(IDLE));
    }
    Ok(Figure {
        name: "idle_agents",
        ours: median(samples),
        reference: 50.0,
        unit: "KiB of the controller for each of 2,000 idle agents over mTLS",
        runs: bench.runs,
        against: "the aim",
    })
}

/// From the ready of a controller that was killed until all agents have a stream again.
pub(super) fn storm(bench: &Bench) -> anyhow::Result<Figure> {
    build()?;
    let mut controller = Controller::start(bench, "storm")?;
    let fleet = controller.fleet(IDLE, 1, &[])?;
    fleet.connected(IDLE)?;
    let mut samples = Vec::new();
    let runs = bench.runs.min(5);
    for _ in 0..runs {
        controller.kill()?;
        fleet.until("all agents gone", |line| line["connected"] == 0)?;
        let began = Instant::now();
        controller.again()?;
        samples.push(fleet.connected(IDLE)?.duration_since(began).as_secs_f64());
    }
    Ok(Figure {
        name: "reconnect_storm",
        ours: median(samples),
        reference: 60.0,
        unit: "s from the restart until all of 2,000 agents are back",
        runs,
        against: "the aim",
    })
}

/// Jobs that wait are handed out all at once: durable offers that were taken, a second.
pub(super) fn dispatch(bench: &Bench) -> anyhow::Result<Figure> {
    build()?;
    let (agents, slots) = BUSY;
    let jobs = agents * slots;
    let mut samples = Vec::new();
    let runs = bench.runs.min(3);
    for _ in 0..runs {
        let controller = Controller::start(bench, "dispatch")?;
        controller.call("PUT", "/api/v1/pools/default", r#"{"paused": "the queue is filled"}"#)?;
        for project in 0..jobs.div_ceil(ENVIRONMENTS) {
            controller.project(&format!("p{project}"), ENVIRONMENTS)?;
        }
        fill(&controller, jobs)?;
        let fleet = controller.fleet(agents, slots, &[])?;
        fleet.connected(agents)?;
        let began = Instant::now();
        controller.call("PUT", "/api/v1/pools/default", "{}")?;
        let all = |line: &Value| line["claimed"].as_u64() == u64::try_from(jobs).ok();
        let (ended, _) = fleet.until("all jobs claimed", all)?;
        samples.push(count(jobs) / ended.duration_since(began).as_secs_f64());
    }
    Ok(Figure {
        name: "dispatch_rate",
        ours: median(samples),
        reference: 20_000.0,
        unit: "durable dispatches a second, 10,000 waiting jobs and 50 agents",
        runs,
        against: "the aim",
    })
}

/// From asking for a deployment until an agent has its job.
pub(super) fn pickup(bench: &Bench) -> anyhow::Result<Figure> {
    build()?;
    let controller = Controller::start(bench, "pickup")?;
    let pickups = (bench.runs * PICKUPS).min(ENVIRONMENTS);
    controller.project("fleet", ENVIRONMENTS)?;
    let fleet = controller.fleet(1, ENVIRONMENTS, &["--pickups", &pickups.to_string()])?;
    let (_, line) = fleet.until("the pickups", |line| line["pickup_ms"].is_array())?;
    let samples = line["pickup_ms"].as_array().context("no pickups")?.iter().filter_map(Value::as_f64).collect();
    Ok(Figure {
        name: "pickup_ms",
        ours: median(samples),
        reference: 0.9,
        unit: "ms from the request until an idle agent has the job",
        runs: pickups,
        against: "the aim",
    })
}

/// Asks for so many deployments, each of an environment of its own.
fn fill(controller: &Controller, jobs: usize) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let fill = || -> anyhow::Result<()> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= jobs {
                    return Ok(());
                }
                let body = serde_json::json!({
                    "project": format!("p{}", number / ENVIRONMENTS),
                    "environment": format!("e{}", number % ENVIRONMENTS),
                    "operation_id": format!("filled-{number}"),
                });
                controller.call("POST", "/api/v1/deployments", &body.to_string())?;
            }
        };
        let fillers: Vec<_> = (0..FILLERS).map(|_| scope.spawn(fill)).collect();
        for filler in fillers {
            filler.join().map_err(|_| anyhow::anyhow!("filling the queue panicked"))??;
        }
        Ok(())
    })
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn count(number: usize) -> f64 {
    number as f64
}
