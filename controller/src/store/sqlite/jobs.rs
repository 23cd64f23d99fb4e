//! Jobs, their attempts and the locks they hold.

use std::time::Duration;

use longshore_core::attempt::Attempt;
use longshore_core::id::{AgentId, AttemptId, DeploymentId, JobId};
use longshore_core::job::Job;
use longshore_core::time::Timestamp;

use super::column::{count, int, json, opt_count, opt_micros, opt_text, opt_time, parsed, text, time, to_int, to_json};
use super::db::{Db, Row, query};
use crate::store::Error;
use crate::store::rows::{AttemptRow, JobRow, LockRow};

type Result<T> = std::result::Result<T, Error>;

pub(super) fn job_row(row: &Row) -> Result<JobRow> {
    Ok(JobRow {
        job: Job {
            id: parsed(row, "id")?,
            deployment: parsed(row, "deployment")?,
            state: json(row, "state")?,
            since: time(row, "since")?,
            epoch: count(row, "epoch")?,
            abandoned: count(row, "abandoned")?,
            waits_since: time(row, "waits_since")?,
            max_wait: Duration::from_micros(count(row, "max_wait")?),
        },
        seq: int(row, "seq")?,
        pool: text(row, "pool")?,
        labels: json(row, "labels")?,
        steps: json(row, "steps")?,
        locks: json(row, "locks")?,
        project: text(row, "project")?,
        priority: int(row, "priority")?,
        line: text(row, "line")?,
        resources: json(row, "resources")?,
        max_running: opt_count(row, "max_running")?,
    })
}

pub(super) fn insert_job(c: &Db, row: &JobRow) -> Result<()> {
    query(
        "INSERT INTO job (id, deployment, pool, steps, locks, state, phase, since, epoch, abandoned, labels, project, priority, line, \
         resources, max_running, max_wait, waits_since) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
    )
    .bind(row.job.id.to_string())
    .bind(row.job.deployment.to_string())
    .bind(&row.pool)
    .bind(to_json("steps", &row.steps)?)
    .bind(to_json("locks", &row.locks)?)
    .bind(to_json("state", &row.job.state)?)
    .bind(row.job.state.name())
    .bind(row.job.since.as_micros())
    .bind(to_int("epoch", row.job.epoch)?)
    .bind(i64::from(row.job.abandoned))
    .bind(to_json("labels", &row.labels)?)
    .bind(&row.project)
    .bind(row.priority)
    .bind(&row.line)
    .bind(to_json("resources", &row.resources)?)
    .bind(row.max_running.map(i64::from))
    .bind(i64::try_from(row.job.max_wait.as_micros()).unwrap_or(i64::MAX / 2))
    .bind(row.job.waits_since.as_micros())
    .execute(c)?;
    Ok(())
}

pub(super) fn job(c: &Db, id: JobId) -> Result<Option<JobRow>> {
    let row = query("SELECT * FROM job WHERE id = $1").bind(id.to_string()).fetch_optional(c)?;
    row.as_ref().map(job_row).transpose()
}

pub(super) fn jobs_of(c: &Db, deployment: DeploymentId) -> Result<Vec<JobRow>> {
    let rows = query("SELECT * FROM job WHERE deployment = $1 ORDER BY seq").bind(deployment.to_string());
    rows.fetch_all(c)?.iter().map(job_row).collect()
}

pub(super) fn live_attempts_of(c: &Db, deployment: DeploymentId) -> Result<Vec<AttemptRow>> {
    query(
        "SELECT attempt.* FROM job JOIN attempt ON attempt.job = job.id \
         WHERE job.deployment = $1 AND attempt.phase <> 'ended' ORDER BY attempt.id",
    )
    .bind(deployment.to_string())
    .fetch_all(c)?
    .iter()
    .map(attempt_row)
    .collect()
}

pub(super) fn queued_jobs(c: &Db) -> Result<Vec<JobRow>> {
    query("SELECT * FROM job WHERE phase = 'queued' ORDER BY seq").fetch_all(c)?.iter().map(job_row).collect()
}

pub(super) fn update_job(c: &Db, from: &Job, to: &Job) -> Result<bool> {
    let done = query(
        "UPDATE job SET state = $4, phase = $5, since = $6, epoch = $7, abandoned = $8, waits_since = $9 \
         WHERE id = $1 AND epoch = $2 AND state = $3",
    )
    .bind(from.id.to_string())
    .bind(to_int("epoch", from.epoch)?)
    .bind(to_json("state", &from.state)?)
    .bind(to_json("state", &to.state)?)
    .bind(to.state.name())
    .bind(to.since.as_micros())
    .bind(to_int("epoch", to.epoch)?)
    .bind(i64::from(to.abandoned))
    .bind(to.waits_since.as_micros())
    .execute(c)?;
    Ok(done.rows_affected() == 1)
}

pub(super) fn attempt_row(row: &Row) -> Result<AttemptRow> {
    Ok(AttemptRow {
        attempt: Attempt {
            id: parsed(row, "id")?,
            job: parsed(row, "job")?,
            deployment: parsed(row, "deployment")?,
            agent: parsed(row, "agent")?,
            epoch: count(row, "epoch")?,
            incarnation: count(row, "incarnation")?,
            state: json(row, "state")?,
            since: time(row, "since")?,
            cancel_asked: opt_time(row, "cancel_asked")?,
            cancel_cause: opt_text(row, "cancel_cause")?,
        },
        created_at: time(row, "created_at")?,
    })
}

pub(super) fn insert_attempt(c: &Db, row: &AttemptRow) -> Result<()> {
    let attempt = &row.attempt;
    query(
        "INSERT INTO attempt (id, job, deployment, agent, epoch, incarnation, state, phase, since, cancel_asked, created_at, cancel_cause) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(attempt.id.to_string())
    .bind(attempt.job.to_string())
    .bind(attempt.deployment.to_string())
    .bind(attempt.agent.to_string())
    .bind(to_int("epoch", attempt.epoch)?)
    .bind(to_int("incarnation", attempt.incarnation)?)
    .bind(to_json("state", &attempt.state)?)
    .bind(attempt.state.name())
    .bind(attempt.since.as_micros())
    .bind(opt_micros(attempt.cancel_asked))
    .bind(row.created_at.as_micros())
    .bind(&attempt.cancel_cause)
    .execute(c)?;
    Ok(())
}

pub(super) fn attempt_of(c: &Db, agent: AgentId, id: AttemptId) -> Result<Option<AttemptRow>> {
    let row = query("SELECT * FROM attempt WHERE id = $1 AND agent = $2")
        .bind(id.to_string())
        .bind(agent.to_string())
        .fetch_optional(c)?;
    row.as_ref().map(attempt_row).transpose()
}

pub(super) fn attempt(c: &Db, id: AttemptId) -> Result<Option<AttemptRow>> {
    let row = query("SELECT * FROM attempt WHERE id = $1").bind(id.to_string()).fetch_optional(c)?;
    row.as_ref().map(attempt_row).transpose()
}

pub(super) fn live_attempts(c: &Db) -> Result<Vec<AttemptRow>> {
    query("SELECT * FROM attempt WHERE phase <> 'ended' ORDER BY id").fetch_all(c)?.iter().map(attempt_row).collect()
}

pub(super) fn update_attempt(c: &Db, from: &Attempt, to: &Attempt) -> Result<bool> {
    let done = query(
        "UPDATE attempt SET state = $6, phase = $7, since = $8, cancel_asked = $9, cancel_cause = $10 \
         WHERE id = $1 AND agent = $2 AND epoch = $3 AND incarnation = $4 AND state = $5 \
         AND epoch = (SELECT job.epoch FROM job WHERE job.id = attempt.job) \
         AND incarnation = (SELECT meta.incarnation FROM meta)",
    )
    .bind(from.id.to_string())
    .bind(from.agent.to_string())
    .bind(to_int("epoch", from.epoch)?)
    .bind(to_int("incarnation", from.incarnation)?)
    .bind(to_json("state", &from.state)?)
    .bind(to_json("state", &to.state)?)
    .bind(to.state.name())
    .bind(to.since.as_micros())
    .bind(opt_micros(to.cancel_asked))
    .bind(&to.cancel_cause)
    .execute(c)?;
    Ok(done.rows_affected() == 1)
}

pub(super) fn take_lock(c: &Db, row: &LockRow) -> Result<bool> {
    let done = query(
        "INSERT INTO stack_lock (lock_key, job, deployment, taken_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (lock_key) WHERE released_at IS NULL DO NOTHING",
    )
    .bind(&row.key)
    .bind(row.job.to_string())
    .bind(row.deployment.to_string())
    .bind(row.taken_at.as_micros())
    .execute(c)?;
    Ok(done.rows_affected() == 1)
}

pub(super) fn release_locks(c: &Db, job: JobId, at: Timestamp) -> Result<Vec<String>> {
    let rows =
        query("UPDATE stack_lock SET released_at = $2 WHERE job = $1 AND released_at IS NULL RETURNING lock_key")
            .bind(job.to_string())
            .bind(at.as_micros())
            .fetch_all(c)?;
    rows.iter().map(|row| text(row, "lock_key")).collect()
}

pub(super) fn is_locked(c: &Db, key: &str) -> Result<bool> {
    let row = query("SELECT 1 FROM stack_lock WHERE lock_key = $1 AND released_at IS NULL").bind(key);
    Ok(row.fetch_optional(c)?.is_some())
}

pub(super) fn locks(c: &Db) -> Result<Vec<LockRow>> {
    let rows = query("SELECT * FROM stack_lock WHERE released_at IS NULL ORDER BY lock_key").fetch_all(c)?;
    let read = |row: &Row| {
        Ok(LockRow {
            key: text(row, "lock_key")?,
            job: parsed(row, "job")?,
            deployment: parsed(row, "deployment")?,
            taken_at: time(row, "taken_at")?,
        })
    };
    rows.iter().map(read).collect()
}
