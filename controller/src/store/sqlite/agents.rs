//! Agents, the tokens that people and agents come in with, and what agents are to be told.

use longshore_core::access::Grant;
use longshore_core::id::{AgentId, TokenId};
use longshore_core::time::Timestamp;

use super::column::{count, int, json, opt_micros, opt_text, opt_time, parsed, text, time, to_json, word};
use super::db::{Db, Row, query};
use crate::store::Error;
use crate::store::rows::{AgentRow, Drained, JoinTokenRow, OutboxRow, TokenRow};

type Result<T> = std::result::Result<T, Error>;

/// A limit is there when its role is.
fn limit(row: &Row) -> Result<Option<Grant>> {
    if opt_text(row, "limit_role")?.is_none() {
        return Ok(None);
    }
    Ok(Some(Grant {
        role: word(row, "limit_role")?,
        project: opt_text(row, "limit_project")?,
        environment: opt_text(row, "limit_environment")?,
    }))
}

fn token_row(row: &Row) -> Result<TokenRow> {
    Ok(TokenRow {
        id: parsed(row, "id")?,
        name: text(row, "name")?,
        user: text(row, "user")?,
        limit: limit(row)?,
        created_at: time(row, "created_at")?,
        expires_at: opt_time(row, "expires_at")?,
        revoked_at: opt_time(row, "revoked_at")?,
    })
}

pub(super) fn insert_token(c: &Db, row: &TokenRow, hash: &[u8]) -> Result<()> {
    let limit = row.limit.as_ref();
    query(
        "INSERT INTO token (id, hash, name, user, limit_role, limit_project, limit_environment, created_at, expires_at, \
         revoked_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(row.id.to_string())
    .bind(hash)
    .bind(&row.name)
    .bind(&row.user)
    .bind(limit.map(|limit| limit.role.as_str()))
    .bind(limit.and_then(|limit| limit.project.as_deref()))
    .bind(limit.and_then(|limit| limit.environment.as_deref()))
    .bind(row.created_at.as_micros())
    .bind(opt_micros(row.expires_at))
    .bind(opt_micros(row.revoked_at))
    .execute(c)?;
    Ok(())
}

pub(super) fn token(c: &Db, hash: &[u8]) -> Result<Option<TokenRow>> {
    let row = query("SELECT * FROM token WHERE hash = $1").bind(hash).fetch_optional(c)?;
    row.as_ref().map(token_row).transpose()
}

pub(super) fn tokens(c: &Db) -> Result<Vec<TokenRow>> {
    query("SELECT * FROM token ORDER BY id").fetch_all(c)?.iter().map(token_row).collect()
}

pub(super) fn revoke_token(c: &Db, id: TokenId, at: Timestamp) -> Result<bool> {
    let done = query("UPDATE token SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL")
        .bind(id.to_string())
        .bind(at.as_micros())
        .execute(c)?;
    Ok(done.rows_affected() == 1)
}

fn join_token_row(row: &Row) -> Result<JoinTokenRow> {
    Ok(JoinTokenRow {
        id: parsed(row, "id")?,
        pool: text(row, "pool")?,
        labels: json(row, "labels")?,
        uses: count(row, "uses")?,
        used: count(row, "used")?,
        created_at: time(row, "created_at")?,
        created_by: text(row, "created_by")?,
        expires_at: time(row, "expires_at")?,
        revoked_at: opt_time(row, "revoked_at")?,
        ephemeral: int(row, "ephemeral")? != 0,
    })
}

pub(super) fn insert_join_token(c: &Db, row: &JoinTokenRow, hash: &[u8]) -> Result<()> {
    query(
        "INSERT INTO join_token (id, hash, pool, labels, uses, created_at, created_by, expires_at, ephemeral) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(row.id.to_string())
    .bind(hash)
    .bind(&row.pool)
    .bind(to_json("labels", &row.labels)?)
    .bind(i64::from(row.uses))
    .bind(row.created_at.as_micros())
    .bind(&row.created_by)
    .bind(row.expires_at.as_micros())
    .bind(i64::from(row.ephemeral))
    .execute(c)?;
    Ok(())
}

pub(super) fn join_token(c: &Db, hash: &[u8]) -> Result<Option<JoinTokenRow>> {
    let row = query(
        "SELECT *, (SELECT count(*) FROM join_use WHERE token = join_token.id) AS used FROM join_token WHERE hash = $1",
    )
    .bind(hash)
    .fetch_optional(c)?;
    row.as_ref().map(join_token_row).transpose()
}

pub(super) fn join_tokens(c: &Db) -> Result<Vec<JoinTokenRow>> {
    query("SELECT *, (SELECT count(*) FROM join_use WHERE token = join_token.id) AS used FROM join_token ORDER BY id")
        .fetch_all(c)?
        .iter()
        .map(join_token_row)
        .collect()
}

pub(super) fn joined_by(c: &Db, id: TokenId, request: &str) -> Result<Option<AgentId>> {
    let row = query("SELECT agent FROM join_use WHERE token = $1 AND request = $2")
        .bind(id.to_string())
        .bind(request)
        .fetch_optional(c)?;
    row.map(|row| parsed(&row, "agent")).transpose()
}

pub(super) fn use_join_token(c: &Db, id: TokenId, agent: AgentId, request: &str, at: Timestamp) -> Result<bool> {
    let done = query(
        "INSERT INTO join_use (token, request, agent, used_at) SELECT id, $4, $3, $2 FROM join_token \
         WHERE id = $1 AND expires_at > $2 AND revoked_at IS NULL \
         AND uses > (SELECT count(*) FROM join_use WHERE token = $1) ON CONFLICT (token, request) DO NOTHING",
    )
    .bind(id.to_string())
    .bind(at.as_micros())
    .bind(agent.to_string())
    .bind(request)
    .execute(c)?;
    Ok(done.rows_affected() == 1)
}

pub(super) fn revoke_join_token(c: &Db, id: TokenId, at: Timestamp) -> Result<bool> {
    let done = query("UPDATE join_token SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL AND expires_at > $2")
        .bind(id.to_string())
        .bind(at.as_micros())
        .execute(c)?;
    Ok(done.rows_affected() == 1)
}

fn agent_row(row: &Row) -> Result<AgentRow> {
    Ok(AgentRow {
        id: parsed(row, "id")?,
        pool: text(row, "pool")?,
        labels: json(row, "labels")?,
        hostname: text(row, "hostname")?,
        version: text(row, "version")?,
        serial: text(row, "serial")?,
        boot_id: text(row, "boot_id")?,
        facts: json(row, "facts")?,
        enrolled_at: time(row, "enrolled_at")?,
        seen_at: opt_time(row, "seen_at")?,
        revoked_at: opt_time(row, "revoked_at")?,
        drained: drained(row)?,
    })
}

fn drained(row: &Row) -> Result<Option<Drained>> {
    let Some(at) = opt_time(row, "drained_at")? else { return Ok(None) };
    Ok(Some(Drained { reason: text(row, "drain_reason")?, by: text(row, "drained_by")?, at }))
}

pub(super) fn drain_agent(c: &Db, id: AgentId, drained: Option<&Drained>) -> Result<bool> {
    let done = query(
        "UPDATE agent SET drain_reason = $2, drained_by = $3, drained_at = $4 WHERE id = $1 AND revoked_at IS NULL",
    )
    .bind(id.to_string())
    .bind(drained.map(|drained| &drained.reason))
    .bind(drained.map(|drained| &drained.by))
    .bind(opt_micros(drained.map(|drained| drained.at)))
    .execute(c)?;
    Ok(done.rows_affected() == 1)
}

pub(super) fn insert_agent(c: &Db, row: &AgentRow) -> Result<()> {
    query(
        "INSERT INTO agent (id, pool, hostname, version, serial, boot_id, facts, enrolled_at, seen_at, revoked_at, labels) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(row.id.to_string())
    .bind(&row.pool)
    .bind(&row.hostname)
    .bind(&row.version)
    .bind(&row.serial)
    .bind(&row.boot_id)
    .bind(to_json("facts", &row.facts)?)
    .bind(row.enrolled_at.as_micros())
    .bind(opt_micros(row.seen_at))
    .bind(opt_micros(row.revoked_at))
    .bind(to_json("labels", &row.labels)?)
    .execute(c)?;
    Ok(())
}

pub(super) fn update_agent(c: &Db, row: &AgentRow) -> Result<bool> {
    let done = query(
        "UPDATE agent SET hostname = $2, version = $3, serial = $4, boot_id = $5, facts = $6, seen_at = $7 \
         WHERE id = $1 AND revoked_at IS NULL",
    )
    .bind(row.id.to_string())
    .bind(&row.hostname)
    .bind(&row.version)
    .bind(&row.serial)
    .bind(&row.boot_id)
    .bind(to_json("facts", &row.facts)?)
    .bind(opt_micros(row.seen_at))
    .execute(c)?;
    Ok(done.rows_affected() == 1)
}

pub(super) fn revoke_agent(c: &Db, id: AgentId, at: Timestamp) -> Result<bool> {
    let done = query("UPDATE agent SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL")
        .bind(id.to_string())
        .bind(at.as_micros())
        .execute(c)?;
    Ok(done.rows_affected() == 1)
}

pub(super) fn agent(c: &Db, id: AgentId) -> Result<Option<AgentRow>> {
    let row = query("SELECT * FROM agent WHERE id = $1").bind(id.to_string()).fetch_optional(c)?;
    row.as_ref().map(agent_row).transpose()
}

pub(super) fn agents(c: &Db) -> Result<Vec<AgentRow>> {
    query("SELECT * FROM agent ORDER BY id").fetch_all(c)?.iter().map(agent_row).collect()
}

pub(super) fn insert_outbox(c: &Db, row: &OutboxRow) -> Result<i64> {
    let done = query("INSERT INTO outbox (agent, message) VALUES ($1, $2)")
        .bind(row.agent.to_string())
        .bind(to_json("message", &row.message)?)
        .execute(c)?;
    Ok(done.last_insert_rowid())
}

pub(super) fn outbox(c: &Db) -> Result<Vec<OutboxRow>> {
    let rows = query("SELECT * FROM outbox ORDER BY id").fetch_all(c)?;
    let read =
        |row: &Row| Ok(OutboxRow { id: int(row, "id")?, agent: parsed(row, "agent")?, message: json(row, "message")? });
    rows.iter().map(read).collect()
}

pub(super) fn remove_outbox(c: &Db, ids: &[i64]) -> Result<()> {
    query("DELETE FROM outbox WHERE id IN (SELECT value FROM json_each($1))").bind(to_json("id", &ids)?).execute(c)?;
    Ok(())
}

pub(super) fn clear_outbox(c: &Db, agent: AgentId) -> Result<()> {
    query("DELETE FROM outbox WHERE agent = $1").bind(agent.to_string()).execute(c)?;
    Ok(())
}
