//! What the scaler did, and agents whose machines it lets go.

use std::collections::BTreeMap;

use async_trait::async_trait;
use longshore_core::id::AgentId;
use longshore_core::time::Timestamp;

use super::column::{count, opt_micros, opt_time, parsed, text, time, word};
use super::conn::Conn;
use super::db::{Db, Row, query};
use super::jobs::job_row;
use crate::store::Error;
use crate::store::rows::JobRow;
use crate::store::scaling::{Action, ScaleInRow, Scaling, ScalingRow};

type Result<T> = std::result::Result<T, Error>;

/// What is kept of each pool.
const KEPT: i64 = 500;

fn scaling_row(row: &Row) -> Result<ScalingRow> {
    Ok(ScalingRow {
        pool: text(row, "pool")?,
        at: time(row, "at")?,
        action: word(row, "action")?,
        from: count(row, "from_machines")?,
        to: count(row, "to_machines")?,
        message: text(row, "message")?,
    })
}

fn scale_in_row(row: &Row) -> Result<ScaleInRow> {
    Ok(ScaleInRow {
        agent: parsed(row, "agent")?,
        pool: text(row, "pool")?,
        instance: text(row, "instance")?,
        since: time(row, "since")?,
        told_at: opt_time(row, "told_at")?,
    })
}

fn queued_by_pool(c: &Db) -> Result<BTreeMap<String, u32>> {
    let rows = query("SELECT pool, count(*) AS jobs FROM job WHERE phase = 'queued' GROUP BY pool").fetch_all(c)?;
    rows.iter().map(|row| Ok((text(row, "pool")?, count(row, "jobs")?))).collect()
}

fn first_queued(c: &Db, pool: &str, limit: u32) -> Result<Vec<JobRow>> {
    // The inner part reads an index alone.
    query(
        "SELECT * FROM job WHERE seq IN (SELECT seq FROM job WHERE pool = $1 AND phase = 'queued' ORDER BY seq LIMIT $2) \
         ORDER BY seq",
    )
    .bind(pool)
    .bind(i64::from(limit))
    .fetch_all(c)?
    .iter()
    .map(job_row)
    .collect()
}

fn insert_scaling(c: &Db, row: &ScalingRow) -> Result<()> {
    query(
        "INSERT INTO scaling_event (pool, at, action, from_machines, to_machines, message) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(&row.pool)
    .bind(row.at.as_micros())
    .bind(row.action.as_str())
    .bind(i64::from(row.from))
    .bind(i64::from(row.to))
    .bind(&row.message)
    .execute(c)?;
    query(
        "DELETE FROM scaling_event WHERE pool = $1 AND id <= \
         (SELECT id FROM scaling_event WHERE pool = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)",
    )
    .bind(&row.pool)
    .bind(KEPT)
    .execute(c)?;
    Ok(())
}

fn scalings(c: &Db, pool: &str, limit: u32) -> Result<Vec<ScalingRow>> {
    query("SELECT * FROM scaling_event WHERE pool = $1 ORDER BY id DESC LIMIT $2")
        .bind(pool)
        .bind(i64::from(limit))
        .fetch_all(c)?
        .iter()
        .map(scaling_row)
        .collect()
}

fn last_scaling(c: &Db, pool: &str, action: Action) -> Result<Option<ScalingRow>> {
    query("SELECT * FROM scaling_event WHERE pool = $1 AND action = $2 ORDER BY id DESC LIMIT 1")
        .bind(pool)
        .bind(action.as_str())
        .fetch_optional(c)?
        .as_ref()
        .map(scaling_row)
        .transpose()
}

fn scale_ins(c: &Db) -> Result<Vec<ScaleInRow>> {
    query("SELECT * FROM scale_in ORDER BY agent").fetch_all(c)?.iter().map(scale_in_row).collect()
}

fn scaled_in(c: &Db, agent: AgentId) -> Result<bool> {
    let found = query("SELECT agent FROM scale_in WHERE agent = $1").bind(agent.to_string()).fetch_optional(c)?;
    Ok(found.is_some())
}

fn insert_scale_in(c: &Db, row: &ScaleInRow) -> Result<bool> {
    let done = query(
        "INSERT INTO scale_in (agent, pool, instance, since, told_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (agent) DO NOTHING",
    )
    .bind(row.agent.to_string())
    .bind(&row.pool)
    .bind(&row.instance)
    .bind(row.since.as_micros())
    .bind(opt_micros(row.told_at))
    .execute(c)?;
    Ok(done.rows_affected() == 1)
}

fn told_scale_in(c: &Db, agent: AgentId, at: Timestamp) -> Result<()> {
    query("UPDATE scale_in SET told_at = $2 WHERE agent = $1")
        .bind(agent.to_string())
        .bind(at.as_micros())
        .execute(c)?;
    Ok(())
}

fn remove_scale_in(c: &Db, agent: AgentId) -> Result<bool> {
    let done = query("DELETE FROM scale_in WHERE agent = $1").bind(agent.to_string()).execute(c)?;
    Ok(done.rows_affected() == 1)
}

#[async_trait]
impl Scaling for Conn<'_> {
    async fn queued_by_pool(&mut self) -> Result<BTreeMap<String, u32>> {
        let done = queued_by_pool(self.connection());
        self.note(done)
    }
    async fn first_queued(&mut self, pool: &str, limit: u32) -> Result<Vec<JobRow>> {
        let done = first_queued(self.connection(), pool, limit);
        self.note(done)
    }
    async fn insert_scaling(&mut self, row: &ScalingRow) -> Result<()> {
        let done = insert_scaling(self.connection(), row);
        self.note(done)
    }
    async fn scalings(&mut self, pool: &str, limit: u32) -> Result<Vec<ScalingRow>> {
        let done = scalings(self.connection(), pool, limit);
        self.note(done)
    }
    async fn last_scaling(&mut self, pool: &str, action: Action) -> Result<Option<ScalingRow>> {
        let done = last_scaling(self.connection(), pool, action);
        self.note(done)
    }
    async fn scale_ins(&mut self) -> Result<Vec<ScaleInRow>> {
        let done = scale_ins(self.connection());
        self.note(done)
    }
    async fn scaled_in(&mut self, agent: AgentId) -> Result<bool> {
        let done = scaled_in(self.connection(), agent);
        self.note(done)
    }
    async fn insert_scale_in(&mut self, row: &ScaleInRow) -> Result<bool> {
        let done = insert_scale_in(self.connection(), row);
        self.note(done)
    }
    async fn told_scale_in(&mut self, agent: AgentId, at: Timestamp) -> Result<()> {
        let done = told_scale_in(self.connection(), agent, at);
        self.note(done)
    }
    async fn remove_scale_in(&mut self, agent: AgentId) -> Result<bool> {
        let done = remove_scale_in(self.connection(), agent);
        self.note(done)
    }
}
