//! Files that steps left: their rows, and the row methods of a transaction. The files themselves lie by content in `blobs`.

use async_trait::async_trait;
use longshore_core::artifacts::{Kind, Reason};
use longshore_core::id::{AttemptId, DeploymentId};
use longshore_core::time::Timestamp;

use super::Error;

type Result<T> = std::result::Result<T, Error>;

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is kept.
    Kept {
        /// Its length.
        bytes: u64,
        /// SHA-256 in hex.
        sha256: String,
    },
    /// It is not.
    LeftOut {
        /// Why.
        reason: Reason,
        /// How many; more than one where files are only counted.
        count: u64,
    },
}

/// A file that a try of a step left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactRow {
    /// Made by the database; 0 in a new row.
    pub id: i64,
    /// The deployment.
    pub deployment: DeploymentId,
    /// The attempt that ran the step.
    pub attempt: AttemptId,
    /// The try of the step.
    pub slot: u32,
    /// What it is.
    pub kind: Kind,
    /// Where it was, below the folder of the try.
    pub path: String,
    /// What became of it.
    pub fate: Fate,
    /// When the step's end was recorded.
    pub created_at: Timestamp,
}

/// How many files a try left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArtifactCount {
    /// The try of the step.
    pub slot: u32,
    /// Those that are kept.
    pub kept: u64,
    /// Those that are not.
    pub left_out: u64,
}

/// A file that was brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadRow {
    /// By which attempt.
    pub attempt: AttemptId,
    /// For which try of a step.
    pub slot: u32,
    /// SHA-256 in hex.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
    /// When.
    pub created_at: Timestamp,
}

/// The part of a transaction that is about files of steps.
#[async_trait]
pub trait Artifacts: Send {
    /// Records a file that was brought; one that is there stays.
    async fn save_upload(&mut self, row: &UploadRow) -> Result<()>;
    /// What a try has brought.
    async fn uploads(&mut self, attempt: AttemptId, slot: u32) -> Result<Vec<UploadRow>>;
    /// Forgets what a try has brought, or without one what the whole attempt has.
    async fn forget_uploads(&mut self, attempt: AttemptId, slot: Option<u32>) -> Result<()>;
    /// Adds a file.
    async fn insert_artifact(&mut self, row: &ArtifactRow) -> Result<()>;
    /// The files of a deployment, oldest first.
    async fn artifacts(&mut self, deployment: DeploymentId) -> Result<Vec<ArtifactRow>>;
    /// One file of a deployment.
    async fn artifact(&mut self, deployment: DeploymentId, id: i64) -> Result<Option<ArtifactRow>>;
    /// How many files each try of a deployment's steps left.
    async fn artifact_counts(&mut self, deployment: DeploymentId) -> Result<Vec<ArtifactCount>>;
}
