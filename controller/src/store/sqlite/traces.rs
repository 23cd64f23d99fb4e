//! The timeline in the order of its lines, and how far it was sent as spans.

use async_trait::async_trait;
use longshore_core::id::DeploymentId;
use longshore_core::time::Timestamp;

use super::column::int;
use super::conn::Conn;
use super::db::{Db, query};
use super::deployments::event_row;
use super::jobs::attempt_row;
use crate::store::Error;
use crate::store::rows::{AttemptRow, EventRow};
use crate::store::traces::Traces;

type Result<T> = std::result::Result<T, Error>;

fn trace_position(c: &Db) -> Result<Option<i64>> {
    query("SELECT event FROM trace_position").fetch_optional(c)?.as_ref().map(|row| int(row, "event")).transpose()
}

fn set_trace_position(c: &Db, event: i64) -> Result<()> {
    query(
        "INSERT INTO trace_position (id, event) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET event = excluded.event",
    )
    .bind(event)
    .execute(c)?;
    Ok(())
}

fn events_after(c: &Db, event: i64, limit: u32) -> Result<Vec<EventRow>> {
    let rows = query("SELECT * FROM event WHERE id > $1 AND deployment IS NOT NULL ORDER BY id LIMIT $2")
        .bind(event)
        .bind(i64::from(limit))
        .fetch_all(c)?;
    rows.iter().map(event_row).collect()
}

fn last_event_before(c: &Db, at: Timestamp) -> Result<i64> {
    // By the index over (at, id): the last of those, and not the greatest id of all of them.
    let row = query("SELECT id FROM event WHERE at < $1 ORDER BY at DESC, id DESC LIMIT 1")
        .bind(at.as_micros())
        .fetch_optional(c)?;
    row.as_ref().map_or(Ok(0), |row| int(row, "id"))
}

fn attempts(c: &Db, deployment: DeploymentId) -> Result<Vec<AttemptRow>> {
    // By the index over jobs: there is none over the deployments of attempts.
    let rows = query(
        "SELECT attempt.* FROM job JOIN attempt ON attempt.job = job.id WHERE job.deployment = $1 ORDER BY attempt.id",
    )
    .bind(deployment.to_string())
    .fetch_all(c)?;
    rows.iter().map(attempt_row).collect()
}

#[async_trait]
impl Traces for Conn<'_> {
    async fn trace_position(&mut self) -> Result<Option<i64>> {
        let done = trace_position(self.connection());
        self.note(done)
    }
    async fn set_trace_position(&mut self, event: i64) -> Result<()> {
        let done = set_trace_position(self.connection(), event);
        self.note(done)
    }
    async fn events_after(&mut self, event: i64, limit: u32) -> Result<Vec<EventRow>> {
        let done = events_after(self.connection(), event, limit);
        self.note(done)
    }
    async fn last_event_before(&mut self, at: Timestamp) -> Result<i64> {
        let done = last_event_before(self.connection(), at);
        self.note(done)
    }
    async fn attempts(&mut self, deployment: DeploymentId) -> Result<Vec<AttemptRow>> {
        let done = attempts(self.connection(), deployment);
        self.note(done)
    }
}
