//! Approvals, votes, and what deployments keep to themselves.

use longshore_core::approval::Approval;
use longshore_core::id::{ApprovalId, DeploymentId};
use longshore_core::time::Timestamp;

use super::column::{count, int, json, opt_micros, opt_text, opt_time, parsed, text, time, to_json, word};
use super::db::{Db, Row, query};
use crate::store::Error;
use crate::store::rows::{ApprovalFilter, ApprovalRow, ReservationRow, VoteRow};

type Result<T> = std::result::Result<T, Error>;

fn approval_row(row: &Row) -> Result<ApprovalRow> {
    Ok(ApprovalRow {
        approval: Approval {
            id: parsed(row, "id")?,
            state: word(row, "state")?,
            needs: count(row, "needs")?,
            teams: json(row, "teams")?,
            expires_at: time(row, "expires_at")?,
            void_reason: opt_text(row, "void_reason")?,
            decided_at: opt_time(row, "decided_at")?,
        },
        deployment: parsed(row, "deployment")?,
        step: count(row, "step")?,
        step_name: text(row, "step_name")?,
        created_at: time(row, "created_at")?,
    })
}

pub(super) fn insert_approval(c: &Db, row: &ApprovalRow) -> Result<()> {
    let approval = &row.approval;
    query(
        "INSERT INTO approval (id, deployment, step, step_name, state, needs, teams, expires_at, void_reason, created_at, \
         decided_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(approval.id.to_string())
    .bind(row.deployment.to_string())
    .bind(i64::from(row.step))
    .bind(&row.step_name)
    .bind(approval.state.as_str())
    .bind(i64::from(approval.needs))
    .bind(to_json("teams", &approval.teams)?)
    .bind(approval.expires_at.as_micros())
    .bind(&approval.void_reason)
    .bind(row.created_at.as_micros())
    .bind(opt_micros(approval.decided_at))
    .execute(c)?;
    Ok(())
}

pub(super) fn approval(c: &Db, id: ApprovalId) -> Result<Option<ApprovalRow>> {
    let row = query("SELECT * FROM approval WHERE id = $1").bind(id.to_string()).fetch_optional(c)?;
    row.as_ref().map(approval_row).transpose()
}

pub(super) fn approvals(c: &Db, filter: &ApprovalFilter) -> Result<Vec<ApprovalRow>> {
    let rows = match filter.deployment {
        Some(id) => query("SELECT * FROM approval WHERE deployment = $1 ORDER BY id").bind(id.to_string()),
        None => query("SELECT * FROM approval WHERE state = 'pending' ORDER BY id"),
    };
    rows.fetch_all(c)?.iter().map(approval_row).collect()
}

pub(super) fn update_approval(c: &Db, from: &Approval, to: &Approval) -> Result<bool> {
    let done = query("UPDATE approval SET state = $3, void_reason = $4, decided_at = $5 WHERE id = $1 AND state = $2")
        .bind(from.id.to_string())
        .bind(from.state.as_str())
        .bind(to.state.as_str())
        .bind(&to.void_reason)
        .bind(opt_micros(to.decided_at))
        .execute(c)?;
    Ok(done.rows_affected() == 1)
}

pub(super) fn insert_vote(c: &Db, row: &VoteRow) -> Result<bool> {
    let done = query(
        "INSERT INTO vote (approval, person, granted, comment, at) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (approval, person) DO NOTHING",
    )
    .bind(row.approval.to_string())
    .bind(&row.person)
    .bind(i64::from(row.granted))
    .bind(&row.comment)
    .bind(row.at.as_micros())
    .execute(c)?;
    Ok(done.rows_affected() == 1)
}

pub(super) fn votes(c: &Db, id: ApprovalId) -> Result<Vec<VoteRow>> {
    let rows = query("SELECT * FROM vote WHERE approval = $1 ORDER BY at, person").bind(id.to_string()).fetch_all(c)?;
    let read = |row: &Row| {
        Ok(VoteRow {
            approval: parsed(row, "approval")?,
            person: text(row, "person")?,
            granted: int(row, "granted")? != 0,
            comment: text(row, "comment")?,
            at: time(row, "at")?,
        })
    };
    rows.iter().map(read).collect()
}

pub(super) fn reserve(c: &Db, row: &ReservationRow) -> Result<bool> {
    let done = query(
        "INSERT INTO reservation (lock_key, deployment, taken_at) VALUES ($1, $2, $3) \
         ON CONFLICT (lock_key) WHERE released_at IS NULL DO NOTHING",
    )
    .bind(&row.key)
    .bind(row.deployment.to_string())
    .bind(row.taken_at.as_micros())
    .execute(c)?;
    Ok(done.rows_affected() == 1)
}

pub(super) fn release_reservations(c: &Db, deployment: DeploymentId, at: Timestamp) -> Result<Vec<String>> {
    let rows = query(
        "UPDATE reservation SET released_at = $2 WHERE deployment = $1 AND released_at IS NULL RETURNING lock_key",
    )
    .bind(deployment.to_string())
    .bind(at.as_micros())
    .fetch_all(c)?;
    rows.iter().map(|row| text(row, "lock_key")).collect()
}

pub(super) fn reservations(c: &Db) -> Result<Vec<ReservationRow>> {
    let rows = query("SELECT * FROM reservation WHERE released_at IS NULL ORDER BY lock_key").fetch_all(c)?;
    let read = |row: &Row| {
        Ok(ReservationRow {
            key: text(row, "lock_key")?,
            deployment: parsed(row, "deployment")?,
            taken_at: time(row, "taken_at")?,
        })
    };
    rows.iter().map(read).collect()
}
