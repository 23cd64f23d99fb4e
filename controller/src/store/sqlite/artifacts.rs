//! Files that steps left.

use async_trait::async_trait;
use longshore_core::artifacts::{Kind, Reason};
use longshore_core::id::{AttemptId, DeploymentId};

use super::column::{count, int, opt_count, opt_text, parsed, text, time, to_int, wrong};
use super::conn::Conn;
use super::db::{Db, Row, query};
use crate::store::Error;
use crate::store::artifacts::{ArtifactCount, ArtifactRow, Artifacts, Fate, UploadRow};

type Result<T> = std::result::Result<T, Error>;

fn artifact_row(row: &Row) -> Result<ArtifactRow> {
    let kind = text(row, "kind")?;
    let fate = match (opt_text(row, "sha256")?, opt_count(row, "bytes")?, opt_text(row, "left_out")?) {
        (Some(sha256), Some(bytes), None) => Fate::Kept { bytes, sha256 },
        (None, None, Some(reason)) => Fate::LeftOut { reason: Reason::from_word(&reason), count: count(row, "count")? },
        _ => return Err(wrong("sha256", "neither kept nor left out")),
    };
    Ok(ArtifactRow {
        id: int(row, "id")?,
        deployment: parsed(row, "deployment")?,
        attempt: parsed(row, "attempt")?,
        slot: count(row, "slot")?,
        kind: Kind::from_word(&kind).ok_or_else(|| wrong("kind", &kind))?,
        path: text(row, "path")?,
        fate,
        created_at: time(row, "created_at")?,
    })
}

fn save_upload(c: &Db, row: &UploadRow) -> Result<()> {
    query(
        "INSERT INTO artifact_upload (attempt, slot, sha256, bytes, created_at) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (attempt, slot, sha256) DO NOTHING",
    )
    .bind(row.attempt.to_string())
    .bind(i64::from(row.slot))
    .bind(&row.sha256)
    .bind(to_int("bytes", row.bytes)?)
    .bind(row.created_at.as_micros())
    .execute(c)?;
    Ok(())
}

fn uploads(c: &Db, attempt: AttemptId, slot: u32) -> Result<Vec<UploadRow>> {
    let row = |row: &Row| {
        let (sha256, bytes, created_at) = (text(row, "sha256")?, count(row, "bytes")?, time(row, "created_at")?);
        Ok(UploadRow { attempt, slot, sha256, bytes, created_at })
    };
    query("SELECT * FROM artifact_upload WHERE attempt = $1 AND slot = $2 ORDER BY sha256")
        .bind(attempt.to_string())
        .bind(i64::from(slot))
        .fetch_all(c)?
        .iter()
        .map(row)
        .collect()
}

fn forget_uploads(c: &Db, attempt: AttemptId, slot: Option<u32>) -> Result<()> {
    query("DELETE FROM artifact_upload WHERE attempt = $1 AND slot = coalesce($2, slot)")
        .bind(attempt.to_string())
        .bind(slot.map(i64::from))
        .execute(c)?;
    Ok(())
}

fn insert_artifact(c: &Db, row: &ArtifactRow) -> Result<()> {
    let (bytes, sha256, left_out, number) = match &row.fate {
        Fate::Kept { bytes, sha256 } => (Some(to_int("bytes", *bytes)?), Some(sha256), None, 1),
        Fate::LeftOut { reason, count } => (None, None, Some(reason.as_str()), *count),
    };
    query(
        "INSERT INTO artifact (deployment, attempt, slot, kind, path, bytes, sha256, left_out, count, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(row.deployment.to_string())
    .bind(row.attempt.to_string())
    .bind(i64::from(row.slot))
    .bind(row.kind.as_str())
    .bind(&row.path)
    .bind(bytes)
    .bind(sha256)
    .bind(left_out)
    .bind(to_int("count", number)?)
    .bind(row.created_at.as_micros())
    .execute(c)?;
    Ok(())
}

fn artifacts(c: &Db, deployment: DeploymentId) -> Result<Vec<ArtifactRow>> {
    query("SELECT * FROM artifact WHERE deployment = $1 ORDER BY id")
        .bind(deployment.to_string())
        .fetch_all(c)?
        .iter()
        .map(artifact_row)
        .collect()
}

fn artifact(c: &Db, deployment: DeploymentId, id: i64) -> Result<Option<ArtifactRow>> {
    let row = query("SELECT * FROM artifact WHERE deployment = $1 AND id = $2")
        .bind(deployment.to_string())
        .bind(id)
        .fetch_optional(c)?;
    row.as_ref().map(artifact_row).transpose()
}

fn artifact_counts(c: &Db, deployment: DeploymentId) -> Result<Vec<ArtifactCount>> {
    let row = |row: &Row| {
        Ok(ArtifactCount { slot: count(row, "slot")?, kept: count(row, "kept")?, left_out: count(row, "left_out")? })
    };
    query(
        "SELECT slot, sum(CASE WHEN left_out IS NULL THEN 1 ELSE 0 END) AS kept, \
         sum(CASE WHEN left_out IS NULL THEN 0 ELSE count END) AS left_out \
         FROM artifact WHERE deployment = $1 GROUP BY slot ORDER BY slot",
    )
    .bind(deployment.to_string())
    .fetch_all(c)?
    .iter()
    .map(row)
    .collect()
}

#[async_trait]
impl Artifacts for Conn<'_> {
    async fn save_upload(&mut self, row: &UploadRow) -> Result<()> {
        let done = save_upload(self.connection(), row);
        self.note(done)
    }
    async fn uploads(&mut self, attempt: AttemptId, slot: u32) -> Result<Vec<UploadRow>> {
        let done = uploads(self.connection(), attempt, slot);
        self.note(done)
    }
    async fn forget_uploads(&mut self, attempt: AttemptId, slot: Option<u32>) -> Result<()> {
        let done = forget_uploads(self.connection(), attempt, slot);
        self.note(done)
    }
    async fn insert_artifact(&mut self, row: &ArtifactRow) -> Result<()> {
        let done = insert_artifact(self.connection(), row);
        self.note(done)
    }
    async fn artifacts(&mut self, deployment: DeploymentId) -> Result<Vec<ArtifactRow>> {
        let done = artifacts(self.connection(), deployment);
        self.note(done)
    }
    async fn artifact(&mut self, deployment: DeploymentId, id: i64) -> Result<Option<ArtifactRow>> {
        let done = artifact(self.connection(), deployment, id);
        self.note(done)
    }
    async fn artifact_counts(&mut self, deployment: DeploymentId) -> Result<Vec<ArtifactCount>> {
        let done = artifact_counts(self.connection(), deployment);
        self.note(done)
    }
}
