//! Plans that approvals are bound to.

use longshore_core::id::{ApprovalId, DeploymentId};

use super::column::{blob, count, json, parsed, text, time, to_json};
use super::db::{Db, Row, query};
use crate::store::Error;
use crate::store::rows::PlanRow;

type Result<T> = std::result::Result<T, Error>;

fn plan_row(row: &Row) -> Result<PlanRow> {
    Ok(PlanRow {
        approval: parsed(row, "approval")?,
        deployment: parsed(row, "deployment")?,
        step: count(row, "step")?,
        digest: text(row, "digest")?,
        checkpoint: text(row, "checkpoint")?,
        image: text(row, "image")?,
        resources: json(row, "resources")?,
        changes: json(row, "changes")?,
        sealed: blob(row, "sealed")?,
        created_at: time(row, "created_at")?,
    })
}

pub(super) fn insert_plan(c: &Db, row: &PlanRow) -> Result<()> {
    query(
        "INSERT INTO plan (approval, deployment, step, digest, checkpoint, image, resources, changes, sealed, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(row.approval.to_string())
    .bind(row.deployment.to_string())
    .bind(i64::from(row.step))
    .bind(&row.digest)
    .bind(&row.checkpoint)
    .bind(&row.image)
    .bind(to_json("resources", &row.resources)?)
    .bind(to_json("changes", &row.changes)?)
    .bind(&row.sealed)
    .bind(row.created_at.as_micros())
    .execute(c)?;
    Ok(())
}

pub(super) fn plan(c: &Db, id: ApprovalId) -> Result<Option<PlanRow>> {
    let row = query("SELECT * FROM plan WHERE approval = $1").bind(id.to_string()).fetch_optional(c)?;
    row.as_ref().map(plan_row).transpose()
}

pub(super) fn plan_for(c: &Db, deployment: DeploymentId, step: u32) -> Result<Option<PlanRow>> {
    let row = query("SELECT * FROM plan WHERE deployment = $1 AND step = $2 ORDER BY rowid DESC LIMIT 1")
        .bind(deployment.to_string())
        .bind(i64::from(step))
        .fetch_optional(c)?;
    row.as_ref().map(plan_row).transpose()
}
