//! How long it takes to find the next job when many wait, against the same when few do.

use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use super::Bench;
use super::figure::Figure;
use super::scale::{copies, database, id, many, sql_of};
use super::serve::Controller;
use crate::{docker, sh};

/// Jobs that wait in the full and in the nearly empty queue.
const FULL: u32 = 1_000_000;
const EMPTY: u32 = 1_000;
/// Agents, and jobs for each: all of the nearly empty queue.
const FLEET: (usize, usize) = (10, 100);
/// Projects that the jobs are of.
const PROJECTS: u32 = 50;

/// From the resumption of a pool until 1,000 of its waiting jobs are claimed, with many that wait over few.
pub(super) fn growth(bench: &Bench) -> anyhow::Result<Figure> {
    super::fleet::build()?;
    if !sh::succeeds("sqlite3", &["--version"]) {
        docker::install(&["sqlite3"])?;
    }
    let reference = popped(bench, EMPTY)?;
    let ours = popped(bench, FULL)?;
    Ok(Figure {
        name: "queue_growth",
        ours,
        reference,
        unit: "ms until 1,000 jobs are claimed of 1,000,000 that wait",
        runs: 1,
        against: "the same of 1,000 that wait",
    })
}

/// Milliseconds until as many jobs are claimed as the fleet takes.
fn popped(bench: &Bench, jobs: u32) -> anyhow::Result<f64> {
    let (agents, slots) = FLEET;
    let mut controller = Controller::start(bench, &format!("queue-{jobs}"))?;
    controller.call("PUT", "/api/v1/pools/default", r#"{"paused": "the queue is filled"}"#)?;
    controller.project("fleet", 1)?;
    let body = serde_json::json!({ "project": "fleet", "environment": "e0", "operation_id": "model" });
    controller.call("POST", "/api/v1/deployments", &body.to_string())?;
    controller.kill()?;
    fill(&controller.folder(), jobs)?;
    controller.again()?;
    let fleet = controller.fleet(agents, slots, &[])?;
    fleet.connected(agents)?;
    let began = Instant::now();
    controller.call("PUT", "/api/v1/pools/default", "{}")?;
    let all = |line: &Value| line["claimed"].as_u64() == u64::try_from(agents * slots).ok();
    let (ended, _) = fleet.until("all jobs claimed", all)?;
    Ok(ended.duration_since(began).as_secs_f64() * 1e3)
}

/// Copies the one job that waits so many times; each is of a deployment of its own, which keeps a key of its own.
fn fill(folder: &Path, jobs: u32) -> anyhow::Result<()> {
    let db = database(folder)?;
    let (deployment, key) = (id("dep_", "n.i"), "'project/fleet/filled-' || n.i".to_owned());
    let project = format!("'p' || (n.i % {PROJECTS})");
    let of_deployment = copies(
        &db,
        "deployment",
        &[
            ("id", deployment.clone()),
            ("operation_id", "'filled-' || n.i".to_owned()),
            ("locks", format!("json_array({key})")),
        ],
    )?;
    let of_step = copies(&db, "step", &[("deployment", deployment.clone())])?;
    let of_job = copies(
        &db,
        "job",
        &[
            ("id", id("job_", "n.i")),
            ("seq", "n.i + 1000".to_owned()),
            ("deployment", deployment.clone()),
            ("project", project.clone()),
            ("line", format!("{project} || '/' || model.line")),
        ],
    )?;
    let of_reservation =
        copies(&db, "reservation", &[("id", "n.i + 1000".to_owned()), ("lock_key", key), ("deployment", deployment)])?;
    let mut script = String::from("BEGIN IMMEDIATE;");
    for (table, rows) in
        [("deployment", of_deployment), ("step", of_step), ("job", of_job), ("reservation", of_reservation)]
    {
        script += &format!(
            " CREATE TEMP TABLE m_{table} AS SELECT * FROM {table} LIMIT 1; {}{rows} m_{table} AS model;",
            many(jobs)
        );
    }
    script += " COMMIT; ANALYZE;";
    sql_of(&db, &script).map(drop)
}
