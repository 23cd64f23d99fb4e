//! Deployments and the timeline.

use longshore_core::access::Place;
use longshore_core::deployment::{Deployment, DeploymentState};
use longshore_core::id::{AttemptId, DeploymentId, ProjectId};
use longshore_core::operation::StackOperation;
use longshore_core::time::Timestamp;

use super::column::{
    count, int, json, opt_json, opt_micros, opt_parsed, opt_text, opt_time, parsed, text, time, to_int, to_json, word,
};
use super::db::{Builder, Db, Row, query};
use crate::store::Error;
use crate::store::rows::{DeploymentFilter, DeploymentRow, EventRow, OperationRow};

type Result<T> = std::result::Result<T, Error>;

/// Deployments in a list that does not say how many, and the most of any list.
const LIMITS: (u32, u32) = (50, 500);

fn deployment_row(row: &Row) -> Result<DeploymentRow> {
    Ok(DeploymentRow {
        deployment: Deployment {
            id: parsed(row, "id")?,
            state: word(row, "state")?,
            reason: opt_text(row, "reason")?,
            cancel_asked: opt_time(row, "cancel_asked")?,
            ended_at: opt_time(row, "ended_at")?,
        },
        project: parsed(row, "project")?,
        project_name: text(row, "project_name")?,
        revision: count(row, "revision")?,
        environment: text(row, "environment")?,
        package: opt_text(row, "package")?,
        operation_id: text(row, "operation_id")?,
        release: parsed(row, "release")?,
        version: text(row, "version")?,
        variables: json(row, "variables")?,
        step_variables: json(row, "step_variables")?,
        locks: json(row, "locks")?,
        stacks: json(row, "stacks")?,
        priority: int(row, "priority")?,
        not_before: opt_time(row, "not_before")?,
        expires_at: opt_time(row, "expires_at")?,
        begun_at: opt_time(row, "begun_at")?,
        secrets: json(row, "secrets")?,
        created_at: time(row, "created_at")?,
        created_by: text(row, "created_by")?,
        parent: match opt_parsed(row, "parent")? {
            Some(parent) => Some((parent, count(row, "parent_step")?)),
            None => None,
        },
        guided: int(row, "guided")? != 0,
        skip: json(row, "skip")?,
        operation: match opt_text(row, "operation")? {
            Some(_) => Some(OperationRow {
                what: StackOperation { operation: word(row, "operation")?, step: text(row, "operation_step")? },
                basis: opt_parsed(row, "basis")?,
            }),
            None => None,
        },
        local: opt_json(row, "local")?,
        trace_parent: opt_parsed(row, "trace_parent")?,
    })
}

pub(super) fn insert_deployment(c: &Db, row: &DeploymentRow) -> Result<()> {
    query(
        "INSERT INTO deployment (id, project, project_name, revision, environment, package, operation_id, variables, \
         secrets, state, reason, cancel_asked, created_at, created_by, ended_at, release, version, step_variables, locks, stacks, \
         priority, not_before, expires_at, begun_at, parent, parent_step, guided, skip, operation, operation_step, basis, local, trace_parent) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, \
         $25, $26, $27, $28, $29, $30, $31, $32, $33)",
    )
    .bind(row.deployment.id.to_string())
    .bind(row.project.to_string())
    .bind(&row.project_name)
    .bind(to_int("revision", row.revision)?)
    .bind(&row.environment)
    .bind(&row.package)
    .bind(&row.operation_id)
    .bind(to_json("variables", &row.variables)?)
    .bind(to_json("secrets", &row.secrets)?)
    .bind(row.deployment.state.as_str())
    .bind(&row.deployment.reason)
    .bind(opt_micros(row.deployment.cancel_asked))
    .bind(row.created_at.as_micros())
    .bind(&row.created_by)
    .bind(opt_micros(row.deployment.ended_at))
    .bind(row.release.to_string())
    .bind(&row.version)
    .bind(to_json("step_variables", &row.step_variables)?)
    .bind(to_json("locks", &row.locks)?)
    .bind(to_json("stacks", &row.stacks)?)
    .bind(row.priority)
    .bind(opt_micros(row.not_before))
    .bind(opt_micros(row.expires_at))
    .bind(opt_micros(row.begun_at))
    .bind(row.parent.map(|(parent, _)| parent.to_string()))
    .bind(row.parent.map(|(_, step)| i64::from(step)))
    .bind(i64::from(row.guided))
    .bind(to_json("skip", &row.skip)?)
    .bind(row.operation.as_ref().map(|operation| operation.what.operation.as_str()))
    .bind(row.operation.as_ref().map(|operation| operation.what.step.clone()))
    .bind(row.operation.as_ref().and_then(|operation| operation.basis).map(|id| id.to_string()))
    .bind(row.local.as_ref().map(|local| to_json("local", local)).transpose()?)
    .bind(row.trace_parent.map(|parent| parent.to_string()))
    .execute(c)?;
    Ok(())
}

/// The release that is in an environment: that of the newest deployment that succeeded there, or else of the newest that began.
pub(super) fn standing(c: &Db, project: ProjectId, environment: &str) -> Result<Option<DeploymentRow>> {
    let row = query(
        "SELECT * FROM deployment WHERE project = $1 AND environment = $2 AND operation IS NULL AND begun_at IS NOT NULL \
         ORDER BY state = 'succeeded' DESC, begun_at DESC, rowid DESC LIMIT 1",
    )
    .bind(project.to_string())
    .bind(environment)
    .fetch_optional(c)?;
    row.as_ref().map(deployment_row).transpose()
}

/// Attempts that held a stack's lock and have ended, the newest first.
pub(super) fn over_at(c: &Db, stack: &str, limit: u32) -> Result<Vec<AttemptId>> {
    let rows = query(
        "SELECT attempt.id FROM attempt JOIN job ON job.id = attempt.job WHERE attempt.phase = 'ended' \
         AND EXISTS (SELECT 1 FROM json_each(job.locks) WHERE value = $1) ORDER BY attempt.id DESC LIMIT $2",
    )
    .bind(stack)
    .bind(i64::from(limit))
    .fetch_all(c)?;
    rows.iter().map(|row| parsed(row, "id")).collect()
}

pub(super) fn pending_deployments(c: &Db) -> Result<Vec<DeploymentRow>> {
    // Children first: their parents keep things from others while they wait.
    query(
        "SELECT * FROM deployment WHERE begun_at IS NULL AND ended_at IS NULL ORDER BY parent IS NULL, priority DESC, rowid",
    )
    .fetch_all(c)?
    .iter()
    .map(deployment_row)
    .collect()
}

pub(super) fn children_of(c: &Db, id: DeploymentId) -> Result<Vec<DeploymentRow>> {
    let rows = query("SELECT * FROM deployment WHERE parent = $1 ORDER BY rowid").bind(id.to_string()).fetch_all(c)?;
    rows.iter().map(deployment_row).collect()
}

pub(super) fn live_children(c: &Db) -> Result<Vec<DeploymentRow>> {
    let rows = query("SELECT * FROM deployment WHERE parent IS NOT NULL AND ended_at IS NULL").fetch_all(c)?;
    rows.iter().map(deployment_row).collect()
}

pub(super) fn set_priority(c: &Db, id: DeploymentId, priority: i64) -> Result<bool> {
    let done = query("UPDATE deployment SET priority = $2 WHERE id = $1 AND begun_at IS NULL AND ended_at IS NULL")
        .bind(id.to_string())
        .bind(priority)
        .execute(c)?;
    Ok(done.rows_affected() == 1)
}

pub(super) fn begin_deployment(c: &Db, id: DeploymentId, at: Timestamp) -> Result<bool> {
    let done = query("UPDATE deployment SET begun_at = $2 WHERE id = $1 AND begun_at IS NULL AND ended_at IS NULL")
        .bind(id.to_string())
        .bind(at.as_micros())
        .execute(c)?;
    Ok(done.rows_affected() == 1)
}

pub(super) fn deployment(c: &Db, id: DeploymentId) -> Result<Option<DeploymentRow>> {
    let row = query("SELECT * FROM deployment WHERE id = $1").bind(id.to_string()).fetch_optional(c)?;
    row.as_ref().map(deployment_row).transpose()
}

pub(super) fn deployment_by_operation(c: &Db, operation: &str) -> Result<Option<DeploymentRow>> {
    let row = query("SELECT * FROM deployment WHERE operation_id = $1").bind(operation).fetch_optional(c)?;
    row.as_ref().map(deployment_row).transpose()
}

pub(super) fn deployment_counts(c: &Db) -> Result<Vec<(DeploymentState, u64)>> {
    let rows = query("SELECT state, count(*) AS n FROM deployment GROUP BY state ORDER BY state").fetch_all(c)?;
    rows.iter().map(|row| Ok((word(row, "state")?, count(row, "n")?))).collect()
}

pub(super) fn deployments(c: &Db, filter: &DeploymentFilter) -> Result<Vec<DeploymentRow>> {
    page(filter).build().fetch_all(c)?.iter().map(deployment_row).collect()
}

/// The statement of a page.
fn page(filter: &DeploymentFilter) -> Builder {
    let limit = if filter.limit == 0 { LIMITS.0 } else { filter.limit.min(LIMITS.1) };
    let mut sql = Builder::new("SELECT * FROM deployment WHERE ");
    match &filter.places {
        None => matching(&mut sql, filter, &Place { project: None, environment: None }),
        // The page of each place by its index, then the page of those: one condition for all would look through the table.
        Some(places) => {
            sql.push("id IN (SELECT NULL WHERE 0");
            for place in places {
                sql.push(" UNION ALL SELECT id FROM (SELECT id FROM deployment WHERE ");
                matching(&mut sql, filter, place);
                sql.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(limit)).push(")");
            }
            sql.push(")");
        }
    }
    sql.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(limit));
    sql
}

fn matching(sql: &mut Builder, filter: &DeploymentFilter, place: &Place) {
    sql.push("1 = 1");
    for project in [&filter.project, &place.project].into_iter().flatten() {
        sql.push(" AND project_name = ").push_bind(project.clone());
    }
    for environment in [&filter.environment, &place.environment].into_iter().flatten() {
        sql.push(" AND environment = ").push_bind(environment.clone());
    }
    if let Some(before) = filter.before {
        sql.push(" AND id < ").push_bind(before.to_string());
    }
}

pub(super) fn update_deployment(c: &Db, from: &Deployment, to: &Deployment) -> Result<bool> {
    let done = query(
        "UPDATE deployment SET state = $3, reason = $4, cancel_asked = $5, ended_at = $6 WHERE id = $1 AND state = $2",
    )
    .bind(from.id.to_string())
    .bind(from.state.as_str())
    .bind(to.state.as_str())
    .bind(&to.reason)
    .bind(opt_micros(to.cancel_asked))
    .bind(opt_micros(to.ended_at))
    .execute(c)?;
    Ok(done.rows_affected() == 1)
}

pub(super) fn event_row(row: &Row) -> Result<EventRow> {
    Ok(EventRow {
        id: int(row, "id")?,
        at: time(row, "at")?,
        actor: text(row, "actor")?,
        action: text(row, "action")?,
        object: text(row, "object")?,
        outcome: word(row, "outcome")?,
        deployment: opt_parsed(row, "deployment")?,
        detail: json(row, "detail")?,
    })
}

pub(super) fn insert_event(c: &Db, row: &EventRow) -> Result<()> {
    query("INSERT INTO event (at, actor, action, object, outcome, deployment, detail) VALUES ($1, $2, $3, $4, $5, $6, $7)")
        .bind(row.at.as_micros())
        .bind(&row.actor)
        .bind(&row.action)
        .bind(&row.object)
        .bind(row.outcome.as_str())
        .bind(row.deployment.map(|id| id.to_string()))
        .bind(to_json("detail", &row.detail)?)
        .execute(c)?;
    Ok(())
}

pub(super) fn events(c: &Db, deployment: DeploymentId) -> Result<Vec<EventRow>> {
    let rows =
        query("SELECT * FROM event WHERE deployment = $1 ORDER BY id").bind(deployment.to_string()).fetch_all(c)?;
    rows.iter().map(event_row).collect()
}

#[cfg(test)]
mod tests {
    use super::super::db::Role;
    use super::super::{migrate, schema};
    use super::*;

    fn db(folder: &tempfile::TempDir) -> Db {
        let path = folder.path().join("db");
        let db = Db::open(&path, Role::Writes).unwrap();
        migrate::forward(&db, &path, &schema::known()).unwrap();
        db
    }

    /// However a page is asked for, it is read by an index and not sorted.
    #[test]
    fn pages_are_read_by_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let c = db(&folder);
        let name = |text: &str| Some(text.to_owned());
        let place = |project: Option<String>, environment: Option<String>| Place { project, environment };
        let places = vec![place(name("shop"), None), place(None, name("dev")), place(name("b"), name("dev"))];
        for (project, environment, places) in [
            (None, None, None),
            (name("shop"), None, None),
            (None, name("dev"), None),
            (name("shop"), name("dev"), None),
            (None, None, Some(places)),
        ] {
            let before = Some(DeploymentId::new(Timestamp::from_micros(5), [0; 10]));
            let filter = DeploymentFilter { project, environment, places, before, limit: 10 };
            let plan = super::super::column::plan(&c, page(&filter).text());
            let slow = |line: &&String| {
                line.contains("TEMP B-TREE") || (line.starts_with("SCAN deployment") && !line.contains("USING"))
            };
            assert_eq!(plan.iter().find(slow), None, "{filter:?}: {plan:#?}");
            assert!(plan.iter().any(|line| line.starts_with("SEARCH deployment")), "{filter:?}: {plan:#?}");
        }
    }

    /// What is asked at every change looks at what is live, however much there was.
    #[test]
    fn what_is_asked_at_every_change_looks_at_nothing_that_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let c = db(&folder);
        for (sql, index) in [
            (
                "SELECT * FROM deployment WHERE begun_at IS NULL AND ended_at IS NULL ORDER BY priority DESC, rowid",
                "deployment_pending",
            ),
            ("SELECT * FROM reservation WHERE released_at IS NULL ORDER BY lock_key", "reservation_held"),
            ("SELECT * FROM stack_lock WHERE released_at IS NULL ORDER BY lock_key", "stack_lock_held"),
            ("SELECT * FROM attempt WHERE phase <> 'ended' ORDER BY id", "attempt_live_in_order"),
            ("SELECT * FROM job WHERE phase = 'queued' ORDER BY seq", "job_queue"),
            ("SELECT * FROM step WHERE state = 'running' AND due_at IS NOT NULL ORDER BY due_at", "step_due"),
            ("SELECT * FROM approval WHERE state = 'pending' ORDER BY id", "approval_pending"),
            (
                "SELECT * FROM release WHERE project = 'p' AND digest = 'd' ORDER BY sort_key DESC LIMIT 1",
                "release_same",
            ),
            (
                "SELECT * FROM release WHERE project = 'p' AND channel = 'c' AND sort_key < 'k' ORDER BY sort_key DESC LIMIT 1",
                "release_of_channel",
            ),
        ] {
            let plan = super::super::column::plan(&c, sql);
            assert!(plan[0].contains(&format!("USING INDEX {index}")), "{sql}: {plan:?}");
        }
    }
}
