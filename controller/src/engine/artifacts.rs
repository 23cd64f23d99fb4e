//! Files that steps leave: brought before a step's end, named by it, shown and handed out.
//!
//! Invariants: an artifact is what an exit record lists and the same try brought; it is written with the step's end or not at all;
//! what is listed and did not come is said to be missing.

use std::collections::{BTreeMap, BTreeSet};

use longshore_core::artifacts::{Artifact, Kind, LeftOut, MAX_FILES, MAX_LEFT_OUT, Reason, is_path, shown};
use longshore_core::attempt::State;
use longshore_core::fence::Fence;
use longshore_core::id::{AgentId, AttemptId, DeploymentId};
use longshore_core::init::ExitRecord;
use longshore_core::step::{index_of, is_preview, order_of};
use longshore_core::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::hello::own;
use super::plane::Error;
use super::{Engine, Error as EngineError};
use crate::blobs::Blobs;
use crate::hex;
use crate::store::Tx;
use crate::store::artifacts::{ArtifactCount, ArtifactRow, Fate, UploadRow};

type Result<T, E = Error> = std::result::Result<T, E>;

/// What the exit record says of a step's files.
#[derive(Debug, Default)]
pub(super) struct Files {
    listed: Vec<Artifact>,
    left_out: Vec<LeftOut>,
}

/// Files of a deployment's steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ArtifactsView {
    /// Those that are kept, oldest first.
    pub artifacts: Vec<ArtifactView>,
    /// Those that are not.
    pub left_out: Vec<LeftOutView>,
}

/// Where a file comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct OriginView {
    /// Name of the step.
    pub step: String,
    /// Which try of the step, from 1.
    #[serde(rename = "try")]
    pub number: u32,
    /// It is from the preview that the approval of this name waits for.
    pub preview: bool,
    /// `att_...`.
    pub attempt: String,
}

/// A file that a step left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ArtifactView {
    /// Names it within its deployment.
    pub id: i64,
    /// Where it comes from.
    #[serde(flatten)]
    pub origin: OriginView,
    /// `file`: the step left it; `state`: the state of its stack before it wrote, which takes the right to deploy there.
    pub kind: &'static str,
    /// Below the step's folder.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 in hex.
    pub sha256: String,
    /// RFC 3339 in UTC, milliseconds.
    pub created_at: String,
}

/// A file that a step left and that is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LeftOutView {
    /// Where it comes from.
    #[serde(flatten)]
    pub origin: OriginView,
    /// As of an artifact.
    pub kind: &'static str,
    /// Below the step's folder; secrets are masked. Empty where files are only counted.
    pub path: String,
    /// One word.
    pub reason: &'static str,
    /// Why, and what to do.
    pub message: &'static str,
    /// How many files.
    pub count: u64,
}

/// How many files the tries of a step left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ArtifactCountView {
    /// Those that are kept.
    pub kept: u64,
    /// Those that are not; the list of artifacts says why.
    pub left_out: u64,
}

impl ArtifactCountView {
    /// Of one step, by its index.
    pub(super) fn of(counts: &[ArtifactCount], index: u32) -> Self {
        let mine = counts.iter().filter(|count| index_of(count.slot) == index);
        mine.fold(Self::default(), |all, one| Self { kept: all.kept + one.kept, left_out: all.left_out + one.left_out })
    }
}

impl Files {
    /// Takes the lists of a record, as far as they make sense.
    pub(super) fn of(record: &ExitRecord) -> Self {
        let most = MAX_LEFT_OUT + 1;
        Self {
            listed: record.artifacts.iter().take(MAX_FILES).cloned().collect(),
            left_out: record.left_out.iter().take(most).cloned().collect(),
        }
    }

    /// Writes what is kept, and what is not, and forgets what else was brought.
    pub(super) async fn keep(
        self,
        tx: &mut dyn Tx,
        (deployment, attempt, slot): (DeploymentId, AttemptId, u32),
        now: Timestamp,
    ) -> Result<(), EngineError> {
        let uploads = tx.uploads(attempt, slot).await?;
        let brought: BTreeMap<&str, u64> = uploads.iter().map(|row| (row.sha256.as_str(), row.bytes)).collect();
        let row =
            |kind, path, fate| ArtifactRow { id: 0, deployment, attempt, slot, kind, path, fate, created_at: now };
        let mut names = BTreeSet::new();
        for Artifact { path, bytes, sha256, kind } in self.listed {
            let there = brought.get(sha256.as_str()) == Some(&bytes);
            let good = is_path(&path) && names.insert((kind, path.clone()));
            let missing = Fate::LeftOut { reason: Reason::NotDelivered, count: 1 };
            let fate = if there && good { Fate::Kept { bytes, sha256 } } else { missing };
            tx.insert_artifact(&row(kind, shown(&path), fate)).await?;
        }
        for LeftOut { path, kind, reason, count } in self.left_out {
            // What does not fit into a row is as good as many.
            let count = count.min(u64::from(u32::MAX));
            tx.insert_artifact(&row(kind, shown(&path), Fate::LeftOut { reason, count })).await?;
        }
        Ok(tx.forget_uploads(attempt, Some(slot)).await?)
    }
}

impl Engine {
    /// Where files of steps lie.
    #[must_use]
    pub fn artifact_blobs(&self) -> &Blobs {
        &self.0.parts.artifacts
    }

    /// Refuses a file before its bytes are taken.
    ///
    /// # Errors
    /// [`Error::Foreign`], [`Error::Fenced`]; [`Error::Invalid`] when the step has ended or was not confirmed, or leaves too much.
    pub async fn may_bring(&self, agent: AgentId, said: Fence, slot: u32, sha256: &str, bytes: u64) -> Result<()> {
        self.0.sessions.called(agent);
        if !hex::is_sha256(sha256) {
            return Err(Error::Invalid("the digest of a file is not a SHA-256 in hex".to_owned()));
        }
        let (limits, sha256) = (self.settings().artifacts, sha256.to_owned());
        self.0
            .parts
            .store
            .read(move |tx| {
                Box::pin(async move {
                    open(tx, agent, &said, slot).await?;
                    let before = tx.uploads(said.attempt, slot).await?;
                    let others = || before.iter().filter(|row| row.sha256 != sha256);
                    let total = others().map(|row| row.bytes).sum::<u64>().saturating_add(bytes);
                    match limits {
                        Some(limits) if bytes <= limits.file_bytes && total <= limits.total_bytes => {}
                        _ => return Err(Error::Invalid(format!("a file of {bytes} bytes is more than is kept here"))),
                    }
                    if others().count() >= MAX_FILES {
                        return Err(Error::Invalid("the step has brought too many files".to_owned()));
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Records a file whose bytes are durable in [`Engine::artifact_blobs`]. A repeat changes nothing.
    ///
    /// # Errors
    /// As [`Engine::may_bring`]; others when rows cannot be saved.
    pub async fn brought(&self, agent: AgentId, said: Fence, slot: u32, sha256: String, bytes: u64) -> Result<()> {
        self.change(&agent.to_string(), move |tx, cx| {
            Box::pin(async move {
                open(tx, agent, &said, slot).await?;
                let row = UploadRow { attempt: said.attempt, slot, sha256, bytes, created_at: cx.now };
                Ok::<_, Error>(tx.save_upload(&row).await?)
            })
        })
        .await
    }

    /// The files of a deployment's steps.
    ///
    /// # Errors
    /// When there is no such deployment, or rows cannot be read.
    pub async fn artifacts(&self, id: DeploymentId) -> super::Result<ArtifactsView> {
        let (rows, steps) = self
            .read(move |tx| {
                Box::pin(async move {
                    tx.deployment(id).await?.ok_or_else(|| EngineError::not_found("deployment", &id))?;
                    Ok((tx.artifacts(id).await?, tx.steps(id).await?))
                })
            })
            .await?;
        let name = |slot: u32| steps.iter().find(|step| step.index == index_of(slot)).map(|step| step.name.clone());
        let mut view = ArtifactsView { artifacts: Vec::new(), left_out: Vec::new() };
        for ArtifactRow { id, attempt, slot, kind, path, fate, created_at, .. } in rows {
            let preview = is_preview(slot);
            let origin = OriginView {
                step: name(slot).unwrap_or_default(),
                number: if preview { 1 } else { order_of(slot).1 + 1 },
                preview,
                attempt: attempt.to_string(),
            };
            match fate {
                Fate::Kept { bytes, sha256 } => {
                    let created_at = created_at.to_string();
                    let kind = kind.as_str();
                    view.artifacts.push(ArtifactView { id, origin, kind, path, bytes, sha256, created_at });
                }
                Fate::LeftOut { reason, count } => {
                    let (word, message) = (reason.as_str(), reason.words(kind));
                    let kind = kind.as_str();
                    view.left_out.push(LeftOutView { origin, kind, path, reason: word, message, count });
                }
            }
        }
        Ok(view)
    }

    /// One file that is kept: its kind, path, length and digest.
    ///
    /// # Errors
    /// When there is none of that number in the deployment, or rows cannot be read.
    pub async fn artifact(&self, id: DeploymentId, number: i64) -> super::Result<(Kind, String, u64, String)> {
        let row = self.read(move |tx| Box::pin(async move { Ok(tx.artifact(id, number).await?) })).await?;
        match row {
            Some(ArtifactRow { kind, path, fate: Fate::Kept { bytes, sha256 }, .. }) => Ok((kind, path, bytes, sha256)),
            _ => Err(EngineError::NotFound {
                kind: "artifact",
                name: number.to_string(),
                hint: Some(format!("`longshore artifact list {id}` shows those that are there")),
            }),
        }
    }
}

/// Refuses a step that is not the caller's own, was not confirmed or has ended.
async fn open(tx: &mut dyn Tx, agent: AgentId, said: &Fence, slot: u32) -> Result<()> {
    let row = own(tx, agent, said).await?;
    let start = tx.step_attempt(said.attempt, slot).await?;
    let start = start.ok_or_else(|| Error::Invalid(format!("step {slot} was not confirmed in this attempt")))?;
    if start.state.is_terminal() || matches!(row.attempt.state, State::Ended { .. }) {
        return Err(Error::Invalid(format!(
            "step {slot} of attempt `{}` has ended; nothing is added to it",
            said.attempt
        )));
    }
    Ok(())
}
