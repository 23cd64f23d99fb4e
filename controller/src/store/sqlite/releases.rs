//! Releases and the images they pin.

use std::collections::BTreeSet;

use longshore_core::id::{ProjectId, ReleaseId};
use longshore_core::time::Timestamp;

use super::column::{count, json, opt_json, opt_text, parsed, text, time, to_int, to_json};
use super::db::{Builder, Db, Row, query};
use crate::store::Error;
use crate::store::rows::{Images, ReleaseFilter, ReleaseRow};

type Result<T> = std::result::Result<T, Error>;

/// Releases in a list that does not say how many, and the most of any list.
const LIMITS: (u32, u32) = (50, 500);

fn release_row(row: &Row) -> Result<ReleaseRow> {
    Ok(ReleaseRow {
        id: parsed(row, "id")?,
        project: parsed(row, "project")?,
        project_name: text(row, "project_name")?,
        version: text(row, "version")?,
        channel: text(row, "channel")?,
        sort_key: text(row, "sort_key")?,
        revision: count(row, "revision")?,
        package: opt_text(row, "package")?,
        source: opt_json(row, "source")?,
        variables: json(row, "variables")?,
        children: json(row, "children")?,
        digest: text(row, "digest")?,
        blocked: opt_text(row, "blocked")?,
        local: opt_json(row, "local")?,
        created_at: time(row, "created_at")?,
        created_by: text(row, "created_by")?,
    })
}

pub(super) fn insert_release(c: &Db, row: &ReleaseRow) -> Result<bool> {
    let done = query(
        "INSERT INTO release (id, project, project_name, version, sort_key, revision, package, variables, digest, blocked, \
         created_at, created_by, children, channel, local, source) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) \
         ON CONFLICT (project, version) DO NOTHING",
    )
    .bind(row.id.to_string())
    .bind(row.project.to_string())
    .bind(&row.project_name)
    .bind(&row.version)
    .bind(&row.sort_key)
    .bind(to_int("revision", row.revision)?)
    .bind(&row.package)
    .bind(to_json("variables", &row.variables)?)
    .bind(&row.digest)
    .bind(&row.blocked)
    .bind(row.created_at.as_micros())
    .bind(&row.created_by)
    .bind(to_json("children", &row.children)?)
    .bind(&row.channel)
    .bind(row.local.as_ref().map(|spec| to_json("local", spec)).transpose()?)
    .bind(row.source.as_ref().map(|source| to_json("source", source)).transpose()?)
    .execute(c)?;
    Ok(done.rows_affected() == 1)
}

pub(super) fn release(c: &Db, project: ProjectId, version: &str) -> Result<Option<ReleaseRow>> {
    let row = query("SELECT * FROM release WHERE project = $1 AND version = $2")
        .bind(project.to_string())
        .bind(version)
        .fetch_optional(c)?;
    row.as_ref().map(release_row).transpose()
}

pub(super) fn release_by_id(c: &Db, id: ReleaseId) -> Result<Option<ReleaseRow>> {
    let row = query("SELECT * FROM release WHERE id = $1").bind(id.to_string()).fetch_optional(c)?;
    row.as_ref().map(release_row).transpose()
}

pub(super) fn release_same(c: &Db, project: ProjectId, digest: &str) -> Result<Option<ReleaseRow>> {
    let row = query("SELECT * FROM release WHERE project = $1 AND digest = $2 ORDER BY sort_key DESC LIMIT 1")
        .bind(project.to_string())
        .bind(digest)
        .fetch_optional(c)?;
    row.as_ref().map(release_row).transpose()
}

pub(super) fn releases(c: &Db, project: ProjectId, filter: &ReleaseFilter) -> Result<Vec<ReleaseRow>> {
    let mut sql = Builder::new("SELECT * FROM release WHERE project = ");
    sql.push_bind(project.to_string());
    if let Some(channel) = &filter.channel {
        sql.push(" AND channel = ").push_bind(channel.clone());
    }
    sql.push(if filter.local { " AND local IS NOT NULL" } else { " AND local IS NULL" });
    if let Some(before) = &filter.before {
        sql.push(" AND sort_key < ").push_bind(before.clone());
    }
    let limit = if filter.limit == 0 { LIMITS.0 } else { filter.limit.min(LIMITS.1) };
    sql.push(" ORDER BY sort_key DESC LIMIT ").push_bind(i64::from(limit));
    sql.build().fetch_all(c)?.iter().map(release_row).collect()
}

pub(super) fn block_release(c: &Db, id: ReleaseId, reason: Option<&str>) -> Result<()> {
    query("UPDATE release SET blocked = $2 WHERE id = $1").bind(id.to_string()).bind(reason).execute(c)?;
    Ok(())
}

pub(super) fn images(c: &Db, id: ReleaseId) -> Result<Images> {
    let rows =
        query("SELECT reference, digest FROM release_image WHERE release = $1").bind(id.to_string()).fetch_all(c)?;
    rows.iter().map(|row| Ok((text(row, "reference")?, text(row, "digest")?))).collect()
}

pub(super) fn pin_image(c: &Db, id: ReleaseId, (reference, digest): (&str, &str), at: Timestamp) -> Result<()> {
    query(
        "INSERT INTO release_image (release, reference, digest, pinned_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (release, reference) DO NOTHING",
    )
    .bind(id.to_string())
    .bind(reference)
    .bind(digest)
    .bind(at.as_micros())
    .execute(c)?;
    Ok(())
}

pub(super) fn succeeded_in(c: &Db, release: ReleaseId, environment: &str) -> Result<bool> {
    let row =
        query("SELECT 1 AS n FROM deployment WHERE release = $1 AND environment = $2 AND state = 'succeeded' AND operation IS NULL LIMIT 1")
            .bind(release.to_string())
            .bind(environment)
            .fetch_optional(c)?;
    Ok(row.is_some())
}

pub(super) fn asked_for_in(c: &Db, release: ReleaseId, environment: &str) -> Result<bool> {
    let row =
        query("SELECT 1 AS n FROM deployment WHERE release = $1 AND environment = $2 AND operation IS NULL LIMIT 1")
            .bind(release.to_string())
            .bind(environment)
            .fetch_optional(c)?;
    Ok(row.is_some())
}

pub(super) fn under_way(c: &Db, release: ReleaseId) -> Result<BTreeSet<String>> {
    let rows = query(
        "SELECT DISTINCT environment FROM deployment WHERE release = $1 AND ended_at IS NULL AND operation IS NULL",
    )
    .bind(release.to_string())
    .fetch_all(c)?;
    rows.iter().map(|row| text(row, "environment")).collect()
}

/// By their begin: an environment has one deployment at a time, so that is the order in which they were there.
pub(super) fn last_good(c: &Db, project: ProjectId, environment: &str) -> Result<Option<ReleaseId>> {
    let row = query(
        "SELECT deployment.release FROM deployment JOIN release ON release.id = deployment.release \
         WHERE deployment.project = $1 AND environment = $2 AND state = 'succeeded' AND blocked IS NULL AND operation IS NULL AND release.local IS NULL \
         AND deployment.release IS NOT (SELECT release FROM deployment WHERE project = $1 AND environment = $2 \
         AND begun_at IS NOT NULL AND operation IS NULL ORDER BY begun_at DESC, rowid DESC LIMIT 1) \
         ORDER BY begun_at DESC, deployment.rowid DESC LIMIT 1",
    )
    .bind(project.to_string())
    .bind(environment)
    .fetch_optional(c)?;
    row.map(|row| parsed(&row, "release")).transpose()
}
