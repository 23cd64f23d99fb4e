//! Steps and their confirmed starts.

use longshore_core::attempt::Attempt;
use longshore_core::id::{AttemptId, DeploymentId};
use longshore_core::step::SkippedBy;

use super::column::{
    blob, count, int, json, opt_count, opt_micros, opt_text, opt_time, opt_word, parsed, text, time, to_int, to_json,
    word,
};
use super::db::{Db, Row, query};
use crate::store::Error;
use crate::store::rows::{StepAttemptRow, StepRow};

type Result<T> = std::result::Result<T, Error>;

/// The states that nothing follows, for statements.
macro_rules! terminal {
    () => {
        "('succeeded', 'failed', 'canceled', 'lost', 'skipped')"
    };
}

fn step_row(row: &Row) -> Result<StepRow> {
    Ok(StepRow {
        deployment: parsed(row, "deployment")?,
        index: count(row, "idx")?,
        name: text(row, "name")?,
        state: word(row, "state")?,
        exit_code: opt_count(row, "exit_code")?,
        signal: opt_count(row, "signal")?,
        reason: opt_text(row, "reason")?,
        outputs: json(row, "outputs")?,
        resources: json(row, "resources")?,
        plugin_downloads: count(row, "plugin_downloads")?,
        plugin_hits: count(row, "plugin_hits")?,
        log_bytes: count(row, "log_bytes")?,
        log_sha256: opt_text(row, "log_sha256")?,
        log_truncated: int(row, "log_truncated")? != 0,
        skipped: opt_word(row, "skipped")?,
        due_at: opt_time(row, "due_at")?,
        tries: count(row, "tries")?,
        guided: int(row, "guided")? != 0,
        started_at: opt_time(row, "started_at")?,
        ended_at: opt_time(row, "ended_at")?,
    })
}

pub(super) fn insert_step(c: &Db, row: &StepRow) -> Result<()> {
    query(
        "INSERT INTO step (deployment, idx, name, state, exit_code, signal, reason, outputs, resources, plugin_downloads, \
         log_bytes, log_sha256, log_truncated, started_at, ended_at, skipped, due_at, tries, guided, plugin_hits) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)",
    )
    .bind(row.deployment.to_string())
    .bind(i64::from(row.index))
    .bind(&row.name)
    .bind(row.state.as_str())
    .bind(row.exit_code)
    .bind(row.signal)
    .bind(&row.reason)
    .bind(to_json("outputs", &row.outputs)?)
    .bind(to_json("resources", &row.resources)?)
    .bind(to_int("plugin_downloads", row.plugin_downloads)?)
    .bind(to_int("log_bytes", row.log_bytes)?)
    .bind(&row.log_sha256)
    .bind(i64::from(row.log_truncated))
    .bind(opt_micros(row.started_at))
    .bind(opt_micros(row.ended_at))
    .bind(row.skipped.map(SkippedBy::as_str))
    .bind(opt_micros(row.due_at))
    .bind(i64::from(row.tries))
    .bind(i64::from(row.guided))
    .bind(to_int("plugin_hits", row.plugin_hits)?)
    .execute(c)?;
    Ok(())
}

pub(super) fn steps(c: &Db, deployment: DeploymentId) -> Result<Vec<StepRow>> {
    let rows =
        query("SELECT * FROM step WHERE deployment = $1 ORDER BY idx").bind(deployment.to_string()).fetch_all(c)?;
    rows.iter().map(step_row).collect()
}

pub(super) fn due_steps(c: &Db) -> Result<Vec<StepRow>> {
    query("SELECT * FROM step WHERE state = 'running' AND due_at IS NOT NULL ORDER BY due_at")
        .fetch_all(c)?
        .iter()
        .map(step_row)
        .collect()
}

pub(super) fn update_step(c: &Db, row: &StepRow) -> Result<bool> {
    let done = query(concat!(
        "UPDATE step SET state = $3, exit_code = $4, signal = $5, reason = $6, outputs = $7, resources = $8, \
         plugin_downloads = $9, log_bytes = $10, log_sha256 = $11, log_truncated = $12, started_at = $13, ended_at = $14, \
         skipped = $15, due_at = $16, tries = $17, guided = $18, plugin_hits = $19 \
         WHERE deployment = $1 AND idx = $2 AND state NOT IN ",
        terminal!()
    ))
    .bind(row.deployment.to_string())
    .bind(i64::from(row.index))
    .bind(row.state.as_str())
    .bind(row.exit_code)
    .bind(row.signal)
    .bind(&row.reason)
    .bind(to_json("outputs", &row.outputs)?)
    .bind(to_json("resources", &row.resources)?)
    .bind(to_int("plugin_downloads", row.plugin_downloads)?)
    .bind(to_int("log_bytes", row.log_bytes)?)
    .bind(&row.log_sha256)
    .bind(i64::from(row.log_truncated))
    .bind(opt_micros(row.started_at))
    .bind(opt_micros(row.ended_at))
    .bind(row.skipped.map(SkippedBy::as_str))
    .bind(opt_micros(row.due_at))
    .bind(i64::from(row.tries))
    .bind(i64::from(row.guided))
    .bind(to_int("plugin_hits", row.plugin_hits)?)
    .execute(c)?;
    Ok(done.rows_affected() == 1)
}

fn step_attempt_row(row: &Row) -> Result<StepAttemptRow> {
    Ok(StepAttemptRow {
        attempt: parsed(row, "attempt")?,
        step: count(row, "step")?,
        deployment: parsed(row, "deployment")?,
        agent: parsed(row, "agent")?,
        container: text(row, "container")?,
        image_digest: text(row, "image_digest")?,
        nonce: text(row, "nonce")?,
        outputs_key: blob(row, "outputs_key")?,
        state: word(row, "state")?,
        started_at: time(row, "started_at")?,
        ended_at: opt_time(row, "ended_at")?,
    })
}

pub(super) fn insert_step_attempt(c: &Db, row: &StepAttemptRow, from: &Attempt) -> Result<bool> {
    let done = query(
        "INSERT INTO step_attempt (attempt, step, deployment, agent, container, image_digest, nonce, outputs_key, state, \
         started_at, ended_at) \
         SELECT attempt.id, $4, attempt.deployment, attempt.agent, $5, $6, $7, $8, $9, $10, NULL \
         FROM attempt JOIN job ON job.id = attempt.job JOIN meta \
         WHERE attempt.id = $1 AND attempt.agent = $2 AND attempt.epoch = $3 AND attempt.incarnation = $11 \
         AND attempt.epoch = job.epoch AND attempt.incarnation = meta.incarnation AND attempt.phase <> 'ended'",
    )
    .bind(row.attempt.to_string())
    .bind(from.agent.to_string())
    .bind(to_int("epoch", from.epoch)?)
    .bind(i64::from(row.step))
    .bind(&row.container)
    .bind(&row.image_digest)
    .bind(&row.nonce)
    .bind(&row.outputs_key)
    .bind(row.state.as_str())
    .bind(row.started_at.as_micros())
    .bind(to_int("incarnation", from.incarnation)?)
    .execute(c)?;
    Ok(done.rows_affected() == 1)
}

pub(super) fn step_attempt(c: &Db, attempt: AttemptId, step: u32) -> Result<Option<StepAttemptRow>> {
    let row = query("SELECT * FROM step_attempt WHERE attempt = $1 AND step = $2")
        .bind(attempt.to_string())
        .bind(i64::from(step))
        .fetch_optional(c)?;
    row.as_ref().map(step_attempt_row).transpose()
}

pub(super) fn step_attempts(c: &Db, deployment: DeploymentId) -> Result<Vec<StepAttemptRow>> {
    let rows = query("SELECT * FROM step_attempt WHERE deployment = $1 ORDER BY seq")
        .bind(deployment.to_string())
        .fetch_all(c)?;
    rows.iter().map(step_attempt_row).collect()
}

pub(super) fn update_step_attempt(c: &Db, row: &StepAttemptRow) -> Result<bool> {
    let done = query(concat!(
        "UPDATE step_attempt SET state = $3, ended_at = $4 WHERE attempt = $1 AND step = $2 AND state NOT IN ",
        terminal!()
    ))
    .bind(row.attempt.to_string())
    .bind(i64::from(row.step))
    .bind(row.state.as_str())
    .bind(opt_micros(row.ended_at))
    .execute(c)?;
    Ok(done.rows_affected() == 1)
}
