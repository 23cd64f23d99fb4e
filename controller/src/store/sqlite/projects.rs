//! The installation, projects, their revisions, variables and packages.

use longshore_core::id::ProjectId;
use longshore_core::time::Timestamp;
use longshore_core::variables::Scope;

use super::column::{blob, count, int, opt_json, opt_text, parsed, text, time, to_int, to_json, word_of, wrong};
use super::db::{Db, Row, query};
use crate::store::Error;
use crate::store::rows::{MetaRow, Owner, PackageRow, ProjectRow, RevisionRow, VariableRow, VariableValue};

type Result<T> = std::result::Result<T, Error>;

pub(super) fn meta(c: &Db) -> Result<Option<MetaRow>> {
    let row = query("SELECT controller, incarnation FROM meta").fetch_optional(c)?;
    row.map(|row| Ok(MetaRow { controller: parsed(&row, "controller")?, incarnation: count(&row, "incarnation")? }))
        .transpose()
}

pub(super) fn insert_meta(c: &Db, row: &MetaRow, at: Timestamp) -> Result<()> {
    query("INSERT INTO meta (id, controller, incarnation, created_at) VALUES (1, $1, $2, $3)")
        .bind(row.controller.to_string())
        .bind(to_int("incarnation", row.incarnation)?)
        .bind(at.as_micros())
        .execute(c)?;
    Ok(())
}

fn project_row(row: &Row) -> Result<ProjectRow> {
    Ok(ProjectRow {
        id: parsed(row, "id")?,
        name: text(row, "name")?,
        revision: count(row, "revision")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

pub(super) fn project(c: &Db, name: &str) -> Result<Option<ProjectRow>> {
    let row = query("SELECT * FROM project WHERE name = $1").bind(name).fetch_optional(c)?;
    row.as_ref().map(project_row).transpose()
}

pub(super) fn projects(c: &Db) -> Result<Vec<ProjectRow>> {
    query("SELECT * FROM project ORDER BY name").fetch_all(c)?.iter().map(project_row).collect()
}

pub(super) fn save_project(c: &Db, row: &ProjectRow) -> Result<()> {
    query(
        "INSERT INTO project (id, name, revision, created_at, updated_at) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, updated_at = excluded.updated_at",
    )
    .bind(row.id.to_string())
    .bind(&row.name)
    .bind(to_int("revision", row.revision)?)
    .bind(row.created_at.as_micros())
    .bind(row.updated_at.as_micros())
    .execute(c)?;
    Ok(())
}

pub(super) fn insert_revision(c: &Db, row: &RevisionRow) -> Result<()> {
    query(
        "INSERT INTO project_revision (project, revision, digest, spec, created_at, created_by) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(row.project.to_string())
    .bind(to_int("revision", row.revision)?)
    .bind(&row.digest)
    .bind(to_json("spec", &*row.spec)?)
    .bind(row.created_at.as_micros())
    .bind(&row.created_by)
    .execute(c)?;
    Ok(())
}

pub(super) fn revision(c: &Db, project: ProjectId, revision: u64) -> Result<Option<RevisionRow>> {
    let row = query("SELECT * FROM project_revision WHERE project = $1 AND revision = $2")
        .bind(project.to_string())
        .bind(to_int("revision", revision)?)
        .fetch_optional(c)?;
    row.map(|row| {
        Ok(RevisionRow {
            project: parsed(&row, "project")?,
            revision: count(&row, "revision")?,
            digest: text(&row, "digest")?,
            spec: c
                .specs
                .get(word_of(&row, "spec")?, |text| serde_json::from_str(text))
                .map_err(|error| wrong("spec", error))?,
            created_at: time(&row, "created_at")?,
            created_by: text(&row, "created_by")?,
        })
    })
    .transpose()
}

pub(super) fn variable_row(row: &Row) -> Result<VariableRow> {
    let owner = match opt_text(row, "library")? {
        Some(library) => Owner::Library(library),
        None => Owner::Project(parsed(row, "project")?),
    };
    let value = match opt_text(row, "plain")? {
        Some(plain) => VariableValue::Plain(plain),
        None => VariableValue::Sealed(blob(row, "sealed")?),
    };
    Ok(VariableRow {
        id: int(row, "id")?,
        owner,
        scope: Scope::from_column(opt_text(row, "environment")?),
        name: text(row, "name")?,
        value,
        created_at: time(row, "created_at")?,
        created_by: text(row, "created_by")?,
    })
}

pub(super) fn insert_variable(c: &Db, row: &VariableRow) -> Result<i64> {
    let (plain, sealed) = match &row.value {
        VariableValue::Plain(plain) => (Some(plain), None),
        VariableValue::Sealed(sealed) => (None, Some(sealed)),
    };
    let (project, library) = match &row.owner {
        Owner::Project(project) => (Some(project.to_string()), None),
        Owner::Library(library) => (None, Some(library)),
    };
    let done = query(
        "INSERT INTO variable (project, library, environment, name, plain, sealed, created_at, created_by) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(project)
    .bind(library)
    .bind(row.scope.column())
    .bind(&row.name)
    .bind(plain)
    .bind(sealed)
    .bind(row.created_at.as_micros())
    .bind(&row.created_by)
    .execute(c)?;
    Ok(done.last_insert_rowid())
}

pub(super) fn variables(c: &Db, project: ProjectId) -> Result<Vec<VariableRow>> {
    query(
        "SELECT * FROM variable WHERE id IN \
         (SELECT max(id) FROM variable WHERE project = $1 GROUP BY name, environment) ORDER BY name, environment",
    )
    .bind(project.to_string())
    .fetch_all(c)?
    .iter()
    .map(variable_row)
    .collect()
}

pub(super) fn variable(c: &Db, id: i64) -> Result<Option<VariableRow>> {
    let row = query("SELECT * FROM variable WHERE id = $1").bind(id).fetch_optional(c)?;
    row.as_ref().map(variable_row).transpose()
}

pub(super) fn package(c: &Db, sha256: &str) -> Result<Option<PackageRow>> {
    let row = query("SELECT * FROM package WHERE sha256 = $1").bind(sha256).fetch_optional(c)?;
    row.as_ref().map(package_row).transpose()
}

pub(super) fn packages(c: &Db, limit: u32) -> Result<Vec<PackageRow>> {
    query("SELECT * FROM package ORDER BY created_at DESC, sha256 LIMIT $1")
        .bind(i64::from(limit))
        .fetch_all(c)?
        .iter()
        .map(package_row)
        .collect()
}

fn package_row(row: &Row) -> Result<PackageRow> {
    Ok(PackageRow {
        sha256: text(row, "sha256")?,
        bytes: count(row, "bytes")?,
        created_at: time(row, "created_at")?,
        created_by: text(row, "created_by")?,
        source: opt_json(row, "source")?,
    })
}

pub(super) fn save_package(c: &Db, row: &PackageRow) -> Result<()> {
    if row.sha256.len() != 64 {
        return Err(wrong("sha256", &row.sha256));
    }
    query(
        "INSERT INTO package (sha256, bytes, created_at, created_by, source) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT DO NOTHING",
    )
    .bind(&row.sha256)
    .bind(to_int("bytes", row.bytes)?)
    .bind(row.created_at.as_micros())
    .bind(&row.created_by)
    .bind(row.source.as_ref().map(|source| to_json("source", source)).transpose()?)
    .execute(c)?;
    Ok(())
}
