//! Join rules, and where agents come from.

use async_trait::async_trait;
use longshore_core::id::{AgentId, JoinRuleId};
use longshore_core::time::Timestamp;

use super::column::{int, json, opt_micros, opt_parsed, opt_text, opt_time, parsed, text, time, to_json};
use super::conn::Conn;
use super::db::{Db, Row, query};
use crate::store::Error;
use crate::store::joins::{JoinRuleRow, Joins, OriginRow};

type Result<T> = std::result::Result<T, Error>;

fn rule_row(row: &Row) -> Result<JoinRuleRow> {
    Ok(JoinRuleRow {
        id: parsed(row, "id")?,
        pool: text(row, "pool")?,
        labels: json(row, "labels")?,
        conditions: json(row, "conditions")?,
        created_at: time(row, "created_at")?,
        created_by: text(row, "created_by")?,
        revoked_at: opt_time(row, "revoked_at")?,
    })
}

fn insert_join_rule(c: &Db, row: &JoinRuleRow) -> Result<()> {
    query(
        "INSERT INTO join_rule (id, pool, labels, conditions, created_at, created_by, revoked_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(row.id.to_string())
    .bind(&row.pool)
    .bind(to_json("labels", &row.labels)?)
    .bind(to_json("conditions", &row.conditions)?)
    .bind(row.created_at.as_micros())
    .bind(&row.created_by)
    .bind(opt_micros(row.revoked_at))
    .execute(c)?;
    Ok(())
}

fn join_rules(c: &Db) -> Result<Vec<JoinRuleRow>> {
    query("SELECT * FROM join_rule ORDER BY id").fetch_all(c)?.iter().map(rule_row).collect()
}

fn revoke_join_rule(c: &Db, id: JoinRuleId, at: Timestamp) -> Result<bool> {
    let done = query("UPDATE join_rule SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL")
        .bind(id.to_string())
        .bind(at.as_micros())
        .execute(c)?;
    Ok(done.rows_affected() == 1)
}

fn origin_row(row: &Row) -> Result<OriginRow> {
    Ok(OriginRow {
        agent: parsed(row, "agent")?,
        rule: opt_parsed(row, "rule")?,
        machine: opt_text(row, "machine")?,
        request: text(row, "request")?,
        expires_at: time(row, "expires_at")?,
        ephemeral: int(row, "ephemeral")? != 0,
        allowed_at: opt_time(row, "allowed_at")?,
        replaced_by: opt_parsed(row, "replaced_by")?,
        gone: opt_time(row, "gone_at")?.zip(opt_parsed(row, "gone_why")?),
    })
}

fn insert_origin(c: &Db, row: &OriginRow) -> Result<()> {
    query(
        "INSERT INTO agent_origin (agent, rule, machine, request, expires_at, ephemeral, allowed_at, replaced_by, gone_at, gone_why) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(row.agent.to_string())
    .bind(row.rule.map(|rule| rule.to_string()))
    .bind(&row.machine)
    .bind(&row.request)
    .bind(row.expires_at.as_micros())
    .bind(i64::from(row.ephemeral))
    .bind(opt_micros(row.allowed_at))
    .bind(row.replaced_by.map(|agent| agent.to_string()))
    .bind(opt_micros(row.gone.map(|(at, _)| at)))
    .bind(row.gone.map(|(_, why)| why.as_str()))
    .execute(c)?;
    Ok(())
}

fn origin(c: &Db, agent: AgentId) -> Result<Option<OriginRow>> {
    let row = query("SELECT * FROM agent_origin WHERE agent = $1").bind(agent.to_string()).fetch_optional(c)?;
    row.as_ref().map(origin_row).transpose()
}

fn origin_of_machine(c: &Db, machine: &str) -> Result<Option<OriginRow>> {
    let row = query("SELECT * FROM agent_origin WHERE machine = $1 AND replaced_by IS NULL")
        .bind(machine)
        .fetch_optional(c)?;
    row.as_ref().map(origin_row).transpose()
}

fn origins(c: &Db) -> Result<Vec<OriginRow>> {
    query("SELECT * FROM agent_origin ORDER BY agent").fetch_all(c)?.iter().map(origin_row).collect()
}

fn update_origin(c: &Db, row: &OriginRow) -> Result<()> {
    query(
        "UPDATE agent_origin SET rule = $2, request = $3, expires_at = $4, allowed_at = $5, replaced_by = $6, gone_at = $7, \
         gone_why = $8 WHERE agent = $1",
    )
    .bind(row.agent.to_string())
    .bind(row.rule.map(|rule| rule.to_string()))
    .bind(&row.request)
    .bind(row.expires_at.as_micros())
    .bind(opt_micros(row.allowed_at))
    .bind(row.replaced_by.map(|agent| agent.to_string()))
    .bind(opt_micros(row.gone.map(|(at, _)| at)))
    .bind(row.gone.map(|(_, why)| why.as_str()))
    .execute(c)?;
    Ok(())
}

#[async_trait]
impl Joins for Conn<'_> {
    async fn insert_join_rule(&mut self, row: &JoinRuleRow) -> Result<()> {
        let done = insert_join_rule(self.connection(), row);
        self.note(done)
    }
    async fn join_rules(&mut self) -> Result<Vec<JoinRuleRow>> {
        let done = join_rules(self.connection());
        self.note(done)
    }
    async fn revoke_join_rule(&mut self, id: JoinRuleId, at: Timestamp) -> Result<bool> {
        let done = revoke_join_rule(self.connection(), id, at);
        self.note(done)
    }
    async fn insert_origin(&mut self, row: &OriginRow) -> Result<()> {
        let done = insert_origin(self.connection(), row);
        self.note(done)
    }
    async fn origin(&mut self, agent: AgentId) -> Result<Option<OriginRow>> {
        let done = origin(self.connection(), agent);
        self.note(done)
    }
    async fn origin_of_machine(&mut self, machine: &str) -> Result<Option<OriginRow>> {
        let done = origin_of_machine(self.connection(), machine);
        self.note(done)
    }
    async fn origins(&mut self) -> Result<Vec<OriginRow>> {
        let done = origins(self.connection());
        self.note(done)
    }
    async fn update_origin(&mut self, row: &OriginRow) -> Result<()> {
        let done = update_origin(self.connection(), row);
        self.note(done)
    }
}
