//! What is asked of a controller that holds much, against the same of one that holds little, turn about.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail};

use super::Bench;
use super::deploy::TINY;
use super::figure::Figure;
use crate::dev::Dev;
use crate::{docker, sh};

/// Releases and deployments of the full and of the nearly empty one.
const FULL: (u32, u32) = (10_000, 100_000);
const EMPTY: (u32, u32) = (10, 100);
/// Samples for each that `--runs` asks for: the 99th percentile needs many.
const SAMPLES: usize = 20;

/// A controller whose store was filled, and its project.
struct Filled(Dev);

impl Filled {
    fn start(bench: &Bench, what: &str, (releases, deployments): (u32, u32)) -> anyhow::Result<Self> {
        if !sh::succeeds("sqlite3", &["--version"]) {
            docker::install(&["sqlite3"])?;
        }
        let data = std::env::temp_dir().join(format!("longshore-bench-{what}-{}", std::process::id()));
        let dev = Dev::start(&bench.binaries, &data)?;
        // No agent is in that pool, so what is asked for stays in the queue.
        let text = format!(
            "version: 1\nproject: scale\npool: nowhere\nenvironments: [{{name: dev}}]\nsteps:\n  - {{name: one, image: \"{TINY}\", run: [\"true\"]}}\n"
        );
        let path = data.join("scale.yaml");
        std::fs::write(&path, text)?;
        sh::output(dev.command(&["apply", "-f", &path.to_string_lossy()]))?;
        let filled = Self(dev);
        filled.asked("model")?;
        fill(&data.join("controller"), releases, deployments)?;
        Ok(filled)
    }

    /// Milliseconds of one deployment that is asked for; it is canceled again.
    fn asked(&self, operation: &str) -> anyhow::Result<f64> {
        let body = serde_json::json!({ "project": "scale", "environment": "dev", "operation_id": operation });
        let (took, answer) = self.call("POST", "/api/v1/deployments", &body.to_string())?;
        let id = answer["deployment"].as_str().context("no deployment id came back")?;
        self.call("POST", &format!("/api/v1/deployments/{id}/cancel"), "{}")?;
        Ok(took)
    }

    fn explained(&self, operation: &str) -> anyhow::Result<f64> {
        let body = serde_json::json!({ "project": "scale", "environment": "dev", "operation_id": operation });
        let (_, answer) = self.call("POST", "/api/v1/deployments", &body.to_string())?;
        let id = answer["deployment"].as_str().context("no deployment id came back")?;
        let (took, _) = self.call("GET", &format!("/api/v1/deployments/{id}/explain"), "")?;
        self.call("POST", &format!("/api/v1/deployments/{id}/cancel"), "{}")?;
        Ok(took)
    }

    fn listed(&self) -> anyhow::Result<f64> {
        Ok(self.call("GET", "/api/v1/deployments?project=scale&limit=50", "")?.0)
    }

    /// Milliseconds of a request over a connection of its own, and its JSON.
    fn call(&self, method: &str, path: &str, body: &str) -> anyhow::Result<(f64, serde_json::Value)> {
        let (address, token) = self.0.address()?;
        let began = Instant::now();
        let mut stream = std::net::TcpStream::connect(&address)?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let took = began.elapsed().as_secs_f64() * 1e3;
        let (head, body) = text.split_once("\r\n\r\n").context("no answer")?;
        if !head.starts_with("HTTP/1.1 2") {
            bail!("{method} {path}: {head}\n{body}");
        }
        Ok((took, serde_json::from_str(body).unwrap_or_default()))
    }
}

/// An id of `n`, in the form of all ids.
pub(super) fn id(prefix: &str, n: &str) -> String {
    format!("'{prefix}' || printf('%012x7%03x8%015x', {n}, {n} % 4096, {n})")
}

/// The numbers from 1 on as a table `n` with the column `i`.
pub(super) fn many(count: u32) -> String {
    format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) ")
}

/// A row of a table for each row of `n`, as that of `model` with some columns changed; the model's table has to follow.
pub(super) fn copies(db: &Path, table: &str, changed: &[(&str, String)]) -> anyhow::Result<String> {
    let sql = format!("SELECT name FROM pragma_table_info('{table}')");
    let names: Vec<_> = sql_of(db, &sql)?.lines().map(str::to_owned).collect();
    let value = |name: &String| match changed.iter().find(|(column, _)| column == name) {
        Some((_, value)) => value.clone(),
        None => format!("model.{name}"),
    };
    let values: Vec<_> = names.iter().map(value).collect();
    Ok(format!("INSERT INTO {table} ({}) SELECT {} FROM n, ", names.join(", "), values.join(", ")))
}

/// Copies the one deployment that there is, and its release, so many times.
fn fill(folder: &Path, releases: u32, deployments: u32) -> anyhow::Result<()> {
    let db = database(folder)?;
    let release = format!("1 + n.i % {releases}");
    let pick = |table: &str, changed: &[(&str, String)]| copies(&db, table, changed);
    let version = "printf('0.1.%d', n.i)".to_owned();
    let key = "printf('%020d.%020d.%020d~', 0, 1, n.i)".to_owned();
    let of_release = pick(
        "release",
        &[("id", id("rel_", "n.i")), ("version", version), ("sort_key", key), ("digest", "''".to_owned())],
    )?;
    let changed = [
        ("id", id("dep_", "n.i")),
        ("operation_id", "'filled-' || n.i".to_owned()),
        ("release", id("rel_", &format!("({release})"))),
        ("state", "'succeeded'".to_owned()),
    ];
    let of_deployment = pick("deployment", &changed)?;
    let of_step = pick("step", &[("deployment", id("dep_", "n.i")), ("state", "'succeeded'".to_owned())])?;
    let script = format!(
        "BEGIN IMMEDIATE; CREATE TEMP TABLE m_r AS SELECT * FROM release LIMIT 1; CREATE TEMP TABLE m_d AS SELECT * FROM deployment LIMIT 1; \
         CREATE TEMP TABLE m_s AS SELECT * FROM step LIMIT 1; {}{of_release} m_r AS model; {}{of_deployment} m_d AS model; {}{of_step} m_s AS model; COMMIT; ANALYZE;",
        many(releases),
        many(deployments),
        many(deployments)
    );
    let script = script.replace("WITH RECURSIVE", " WITH RECURSIVE");
    sql_of(&db, &script).map(drop)
}

pub(super) fn database(folder: &Path) -> anyhow::Result<PathBuf> {
    let files = std::fs::read_dir(folder).with_context(|| format!("`{}` cannot be read", folder.display()))?;
    let found =
        files.filter_map(Result::ok).map(|entry| entry.path()).find(|path| path.extension().is_some_and(|e| e == "db"));
    found.with_context(|| format!("no database in `{}`", folder.display()))
}

pub(super) fn sql_of(db: &Path, sql: &str) -> anyhow::Result<String> {
    sh::output(sh::command("sqlite3", &["-cmd", ".timeout 60000", &db.to_string_lossy(), sql]))
}

/// The sample that 99 of 100 do not exceed.
fn p99(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    let at = (samples.len() * 99).div_ceil(100).saturating_sub(1);
    samples.get(at).copied().unwrap_or(f64::NAN)
}

fn figure(
    bench: &Bench,
    name: &'static str,
    one: impl Fn(&Filled, &str) -> anyhow::Result<f64>,
) -> anyhow::Result<Figure> {
    let (full, empty) = (Filled::start(bench, "full", FULL)?, Filled::start(bench, "empty", EMPTY)?);
    let (mut ours, mut reference) = (Vec::new(), Vec::new());
    for n in 0..bench.runs * SAMPLES {
        reference.push(one(&empty, &format!("empty-{n}"))?);
        ours.push(one(&full, &format!("full-{n}"))?);
    }
    Ok(Figure {
        name,
        ours: p99(ours),
        reference: p99(reference),
        unit: "ms, 99th percentile",
        runs: bench.runs * SAMPLES,
        against: "the same with 10 releases and 100 deployments; ours has 10,000 and 100,000",
    })
}

/// Asking for a deployment.
pub(super) fn deploy(bench: &Bench) -> anyhow::Result<Figure> {
    figure(bench, "scale_deploy", Filled::asked)
}

/// Asking why it waits.
pub(super) fn explain(bench: &Bench) -> anyhow::Result<Figure> {
    figure(bench, "scale_explain", Filled::explained)
}

/// The first page of a project's deployments.
pub(super) fn list(bench: &Bench) -> anyhow::Result<Figure> {
    figure(bench, "scale_list", |filled, _| filled.listed())
}
