//! Who waits. Every statement here goes along an index and reads as many rows as it gives, or as there are lines or keys.

use std::collections::BTreeMap;

use async_trait::async_trait;
use longshore_core::id::{AgentId, DeploymentId};
use longshore_core::quarantine::Health;
use longshore_core::time::Timestamp;

use super::column::{count, json, opt_int, opt_time, parsed, text, time, to_json};
use super::conn::Conn;
use super::db::{Db, Row, query};
use super::jobs::job_row;
use crate::store::Error;
use crate::store::rows::{JobRow, ReservationRow};
use crate::store::waits::{Occupied, Schedule, Waits};

type Result<T> = std::result::Result<T, Error>;

/// Jumps from line to line: `min` goes down the index once for each.
const HEADS: &str = "WITH RECURSIVE head (line) AS ( \
    SELECT min(line) FROM job WHERE phase = 'queued' AND pool = $1 \
    UNION ALL SELECT (SELECT min(line) FROM job WHERE phase = 'queued' AND pool = $1 AND line > head.line) \
    FROM head WHERE head.line IS NOT NULL) \
    SELECT job.* FROM head CROSS JOIN job ON job.seq = \
    (SELECT min(seq) FROM job WHERE phase = 'queued' AND pool = $1 AND line = head.line) WHERE head.line IS NOT NULL";
const BEHIND: &str =
    "SELECT * FROM job WHERE phase = 'queued' AND pool = $1 AND line = $2 AND seq > $3 ORDER BY seq LIMIT 1";
const OCCUPIED: &str = "SELECT attempt.agent, job.pool, job.project, job.resources FROM attempt CROSS JOIN job ON job.id = attempt.job \
    WHERE attempt.phase <> 'ended' ORDER BY attempt.id";
const TOO_LONG: &str = "SELECT * FROM job WHERE phase = 'queued' AND gives_up_at <= $2 AND max(waits_since, $1) + max_wait <= $2 \
    ORDER BY gives_up_at LIMIT $3";
/// Those that are past their time but were not charged for the time without a controller are few, and soon over.
const GIVES_UP: &str = "SELECT min(at) AS at FROM ( \
    SELECT min(gives_up_at) AS at FROM job WHERE phase = 'queued' AND gives_up_at > $2 \
    UNION ALL SELECT min(max(waits_since, $1) + max_wait) FROM job WHERE phase = 'queued' AND gives_up_at <= $2)";
const WAITED_FOR: &str = "WITH RECURSIVE key (name) AS ( \
    SELECT min(lock_key) FROM waiting \
    UNION ALL SELECT (SELECT min(lock_key) FROM waiting WHERE lock_key > key.name) FROM key WHERE key.name IS NOT NULL) \
    SELECT name FROM key WHERE name IS NOT NULL";
const NEXT_FOR: &str = "SELECT deployment FROM waiting WHERE lock_key = $1 AND (not_before IS NULL OR not_before <= $2) \
    ORDER BY child DESC, priority DESC, place LIMIT 1";

fn heads(c: &Db, pool: &str) -> Result<Vec<JobRow>> {
    query(HEADS).bind(pool).fetch_all(c)?.iter().map(job_row).collect()
}

fn behind(c: &Db, row: &JobRow) -> Result<Option<JobRow>> {
    let found = query(BEHIND).bind(&row.pool).bind(&row.line).bind(row.seq).fetch_optional(c)?;
    found.as_ref().map(job_row).transpose()
}

fn occupied(c: &Db) -> Result<Vec<Occupied>> {
    let read = |row: &Row| {
        Ok(Occupied {
            agent: parsed(row, "agent")?,
            pool: text(row, "pool")?,
            project: text(row, "project")?,
            resources: json(row, "resources")?,
        })
    };
    query(OCCUPIED).fetch_all(c)?.iter().map(read).collect()
}

fn waited_too_long(c: &Db, began: Timestamp, now: Timestamp, limit: u32) -> Result<Vec<JobRow>> {
    let rows = query(TOO_LONG).bind(began.as_micros()).bind(now.as_micros()).bind(i64::from(limit));
    rows.fetch_all(c)?.iter().map(job_row).collect()
}

fn next_to_give_up(c: &Db, began: Timestamp, now: Timestamp) -> Result<Option<Timestamp>> {
    let row = query(GIVES_UP).bind(began.as_micros()).bind(now.as_micros()).fetch_one(c)?;
    opt_time(&row, "at")
}

fn waited_for(c: &Db) -> Result<Vec<String>> {
    query(WAITED_FOR).fetch_all(c)?.iter().map(|row| text(row, "name")).collect()
}

fn next_for(c: &Db, key: &str, now: Timestamp) -> Result<Option<DeploymentId>> {
    let row = query(NEXT_FOR).bind(key).bind(now.as_micros()).fetch_optional(c)?;
    row.map(|row| parsed(&row, "deployment")).transpose()
}

fn children_for(c: &Db, key: &str) -> Result<Vec<DeploymentId>> {
    let rows = query("SELECT deployment FROM waiting WHERE lock_key = $1 AND child = 1 ORDER BY priority DESC, place");
    rows.bind(key).fetch_all(c)?.iter().map(|row| parsed(row, "deployment")).collect()
}

fn reservation(c: &Db, key: &str) -> Result<Option<ReservationRow>> {
    let row = query("SELECT * FROM reservation WHERE lock_key = $1 AND released_at IS NULL").bind(key);
    let read = |row: Row| {
        Ok(ReservationRow {
            key: text(&row, "lock_key")?,
            deployment: parsed(&row, "deployment")?,
            taken_at: time(&row, "taken_at")?,
        })
    };
    row.fetch_optional(c)?.map(read).transpose()
}

fn schedule(c: &Db, since: Timestamp, now: Timestamp) -> Result<Schedule> {
    let due = query(
        "SELECT id FROM deployment WHERE begun_at IS NULL AND ended_at IS NULL AND not_before > $1 AND not_before <= $2 \
         UNION SELECT id FROM deployment WHERE begun_at IS NULL AND ended_at IS NULL AND expires_at <= $2",
    )
    .bind(since.as_micros())
    .bind(now.as_micros())
    .fetch_all(c)?;
    let next = query(
        "SELECT min(at) AS at FROM ( \
         SELECT min(not_before) AS at FROM deployment WHERE begun_at IS NULL AND ended_at IS NULL AND not_before > $1 \
         UNION ALL SELECT min(expires_at) FROM deployment WHERE begun_at IS NULL AND ended_at IS NULL AND expires_at > $1)",
    )
    .bind(now.as_micros())
    .fetch_one(c)?;
    let due = due.iter().map(|row| parsed(row, "id")).collect::<Result<_>>()?;
    Ok(Schedule { due, next: opt_time(&next, "at")? })
}

fn top_priority(c: &Db, but: DeploymentId) -> Result<Option<i64>> {
    let row = query(
        "SELECT max(priority) AS priority FROM (SELECT priority FROM deployment WHERE begun_at IS NULL AND ended_at IS NULL \
         AND parent IS NULL AND id <> $1 ORDER BY priority DESC LIMIT 1)",
    );
    opt_int(&row.bind(but.to_string()).fetch_one(c)?, "priority")
}

fn healths(c: &Db) -> Result<BTreeMap<AgentId, Health>> {
    let rows = query("SELECT * FROM agent_health").fetch_all(c)?;
    rows.iter().map(|row| Ok((parsed(row, "agent")?, json(row, "health")?))).collect()
}

fn health(c: &Db, agent: AgentId) -> Result<Health> {
    let row = query("SELECT health FROM agent_health WHERE agent = $1").bind(agent.to_string()).fetch_optional(c)?;
    row.map_or_else(|| Ok(Health::default()), |row| json(&row, "health"))
}

fn save_health(c: &Db, agent: AgentId, health: &Health) -> Result<()> {
    if *health == Health::default() {
        query("DELETE FROM agent_health WHERE agent = $1").bind(agent.to_string()).execute(c)?;
        return Ok(());
    }
    query("INSERT INTO agent_health (agent, health) VALUES ($1, $2) ON CONFLICT (agent) DO UPDATE SET health = $2")
        .bind(agent.to_string())
        .bind(to_json("health", health)?)
        .execute(c)?;
    Ok(())
}

fn queued_count(c: &Db) -> Result<u64> {
    let row = query("SELECT count(*) AS n FROM job WHERE phase = 'queued'").fetch_one(c)?;
    count(&row, "n")
}

#[async_trait]
impl Waits for Conn<'_> {
    async fn queued_count(&mut self) -> Result<u64> {
        let done = queued_count(self.connection());
        self.note(done)
    }
    async fn heads(&mut self, pool: &str) -> Result<Vec<JobRow>> {
        let done = heads(self.connection(), pool);
        self.note(done)
    }
    async fn behind(&mut self, row: &JobRow) -> Result<Option<JobRow>> {
        let done = behind(self.connection(), row);
        self.note(done)
    }
    async fn occupied(&mut self) -> Result<Vec<Occupied>> {
        let done = occupied(self.connection());
        self.note(done)
    }
    async fn waited_too_long(&mut self, began: Timestamp, now: Timestamp, limit: u32) -> Result<Vec<JobRow>> {
        let done = waited_too_long(self.connection(), began, now, limit);
        self.note(done)
    }
    async fn next_to_give_up(&mut self, began: Timestamp, now: Timestamp) -> Result<Option<Timestamp>> {
        let done = next_to_give_up(self.connection(), began, now);
        self.note(done)
    }
    async fn waited_for(&mut self) -> Result<Vec<String>> {
        let done = waited_for(self.connection());
        self.note(done)
    }
    async fn next_for(&mut self, key: &str, now: Timestamp) -> Result<Option<DeploymentId>> {
        let done = next_for(self.connection(), key, now);
        self.note(done)
    }
    async fn children_for(&mut self, key: &str) -> Result<Vec<DeploymentId>> {
        let done = children_for(self.connection(), key);
        self.note(done)
    }
    async fn reservation(&mut self, key: &str) -> Result<Option<ReservationRow>> {
        let done = reservation(self.connection(), key);
        self.note(done)
    }
    async fn schedule(&mut self, since: Timestamp, now: Timestamp) -> Result<Schedule> {
        let done = schedule(self.connection(), since, now);
        self.note(done)
    }
    async fn top_priority(&mut self, but: DeploymentId) -> Result<Option<i64>> {
        let done = top_priority(self.connection(), but);
        self.note(done)
    }
    async fn healths(&mut self) -> Result<BTreeMap<AgentId, Health>> {
        let done = healths(self.connection());
        self.note(done)
    }
    async fn health(&mut self, agent: AgentId) -> Result<Health> {
        let done = health(self.connection(), agent);
        self.note(done)
    }
    async fn save_health(&mut self, agent: AgentId, health: &Health) -> Result<()> {
        let done = save_health(self.connection(), agent, health);
        self.note(done)
    }
}

#[cfg(test)]
mod tests {
    use super::super::column::plan;
    use super::super::schema;
    use super::*;

    #[test]
    fn no_queue_is_read_as_a_whole() {
        let c = Db::in_memory().unwrap();
        schema::known().iter().for_each(|step| c.batch(&step.sql).unwrap());
        for sql in [HEADS, BEHIND, OCCUPIED, TOO_LONG, GIVES_UP, WAITED_FOR, NEXT_FOR] {
            let steps = plan(&c, sql);
            let whole = |step: &&String| step.starts_with("SCAN job") || step.starts_with("SCAN waiting");
            let scans: Vec<_> = steps.iter().filter(whole).collect();
            assert!(scans.is_empty(), "{sql}: {steps:#?}");
            assert!(!steps.iter().any(|step| step.contains("TEMP B-TREE")), "{sql}: {steps:#?}");
        }
    }
}
