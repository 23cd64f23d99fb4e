//! Rows of releases and approvals.

use std::collections::BTreeMap;

use longshore_core::approval::Approval;
use longshore_core::engine_event::Change;
use longshore_core::id::{ApprovalId, DeploymentId, ProjectId, ReleaseId};
use longshore_core::spec::Project;
use longshore_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::CommitRow;

/// A release. Nothing of it but `blocked` ever changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseRow {
    /// Its id.
    pub id: ReleaseId,
    /// The project.
    pub project: ProjectId,
    /// Its name.
    pub project_name: String,
    /// Unique in the project.
    pub version: String,
    /// Its channel, as its revision names it.
    pub channel: String,
    /// Sorts as the version does.
    pub sort_key: String,
    /// Revision of the spec.
    pub revision: u64,
    /// SHA-256 in hex of the package.
    pub package: Option<String>,
    /// The commit that the package was made of.
    pub source: Option<CommitRow>,
    /// Ids of the versions of variables that were set on the server.
    pub variables: Vec<i64>,
    /// The release that each `deploy-release` step deploys, by index of the step.
    pub children: BTreeMap<u32, ReleaseId>,
    /// SHA-256 in hex over what it holds.
    pub digest: String,
    /// Why it may not be deployed, if so.
    pub blocked: Option<String>,
    /// The spec of a working tree, for the one deployment of it; `None`: a release, whose spec is that of its revision.
    pub local: Option<Project>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
}

/// What is known of the working tree that a deployment is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalRow {
    /// SHA-256 in hex over its spec, as a revision has it.
    pub spec: String,
    /// The commit that was checked out, as the client said.
    pub commit: Option<String>,
    /// Whether something differed from the commit, as the client said.
    pub dirty: Option<bool>,
}

/// An image's digest, as a release has it. Set once.
pub type Images = BTreeMap<String, String>;

/// Which releases to list, newest version first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReleaseFilter {
    /// Those of working trees, instead of those that can be deployed.
    pub local: bool,
    /// Older than this sort key.
    pub before: Option<String>,
    /// In this channel; `None`: in all.
    pub channel: Option<String>,
    /// At most so many; 0 means 50, and there are never more than 500.
    pub limit: u32,
}

/// The plan that an approval is bound to. Never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanRow {
    /// The approval.
    pub approval: ApprovalId,
    /// Its deployment.
    pub deployment: DeploymentId,
    /// Index of the step that runs the plan.
    pub step: u32,
    /// SHA-256 in hex of the plan.
    pub digest: String,
    /// SHA-256 in hex of the state that it started from.
    pub checkpoint: String,
    /// Digest of the image that made it.
    pub image: String,
    /// Resources per operation.
    pub resources: BTreeMap<String, u64>,
    /// What changes, as far as it is kept one by one.
    pub changes: Vec<Change>,
    /// The plan, sealed by the vault.
    pub sealed: Vec<u8>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// An approval as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRow {
    /// As decisions see it, without its votes, which are rows of their own.
    pub approval: Approval,
    /// The deployment that waits.
    pub deployment: DeploymentId,
    /// Index of the step.
    pub step: u32,
    /// Name of the step.
    pub step_name: String,
    /// When it was asked for.
    pub created_at: Timestamp,
}

/// Which approvals to list, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApprovalFilter {
    /// Of this deployment; `None`: those that are pending.
    pub deployment: Option<DeploymentId>,
}

/// What a person said to an approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoteRow {
    /// The approval.
    pub approval: ApprovalId,
    /// Who.
    pub person: String,
    /// Agreed, or not.
    pub granted: bool,
    /// The person's words.
    pub comment: String,
    /// When.
    pub at: Timestamp,
}
