//! Releases, promotion, rollback, approvals and explanations, as they are typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `release ...`
#[derive(Debug, Subcommand)]
pub enum ReleaseCommand {
    /// Freeze a project as it is now: steps, variables, package. A release never changes.
    Create(ReleaseCreate),
    /// Show what a release holds. Values of secrets are never shown.
    Show(ReleaseName),
    /// List the releases of a project, newest version first.
    List(ReleaseList),
    /// Show what differs between two releases.
    Diff(ReleaseDiff),
    /// Forbid every further deployment of a release.
    Block(ReleaseBlock),
    /// Allow deployments of a release again.
    Unblock(ReleaseName),
}

/// `release create`
#[derive(Debug, Clone, Args)]
#[command(disable_version_flag = true)]
pub struct ReleaseCreate {
    /// The project.
    pub project: String,
    /// Its version, MAJOR.MINOR.PATCH; default: the next patch version.
    #[arg(id = "release-version", long = "version", value_name = "V")]
    pub version: Option<String>,
    /// Its channel; default: the one whose rules the version fits.
    #[arg(long, value_name = "C")]
    pub channel: Option<String>,
    /// Folder, zip, tar, tar.gz or tar.zst to upload and give to the steps as their workspace.
    #[arg(long, value_name = "PATH")]
    pub package: Option<PathBuf>,
    /// Branch, tag or whole commit id of the repository that the spec names (`source`), which the server fetches; default: the
    /// one of the spec.
    #[arg(long = "ref", id = "reference", value_name = "REF", conflicts_with = "package")]
    pub reference: Option<String>,
}

/// One release.
#[derive(Debug, Clone, Args)]
pub struct ReleaseName {
    /// The project.
    pub project: String,
    /// The version.
    #[arg(id = "release-version", value_name = "VERSION")]
    pub version: String,
}

/// `release list`
#[derive(Debug, Clone, Args)]
pub struct ReleaseList {
    /// The project.
    pub project: String,
    /// Only those of this channel.
    #[arg(long, value_name = "C")]
    pub channel: Option<String>,
    /// List what was made of working trees by `deploy --local` instead.
    #[arg(long)]
    pub local: bool,
    /// Only versions below this one.
    #[arg(long, value_name = "V")]
    pub before: Option<String>,
    /// How many at most.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub limit: u32,
}

/// `release diff`
#[derive(Debug, Clone, Args)]
pub struct ReleaseDiff {
    /// The project.
    pub project: String,
    /// One version.
    pub from: String,
    /// The other.
    pub to: String,
}

/// `release block`
#[derive(Debug, Clone, Args)]
pub struct ReleaseBlock {
    /// The project.
    pub project: String,
    /// The version.
    #[arg(id = "release-version", value_name = "VERSION")]
    pub version: String,
    /// Why; whoever tries to deploy it reads this.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// `promote`
#[derive(Debug, Clone, Args)]
pub struct Promote {
    /// The project.
    pub project: String,
    /// Version of the release.
    #[arg(long, value_name = "V")]
    pub release: String,
    /// A value that the spec asks for; may be repeated.
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = pair)]
    pub variables: Vec<(String, String)>,
}

/// `rollback`
#[derive(Debug, Clone, Args)]
pub struct Rollback {
    /// The project.
    pub project: String,
    /// The environment.
    #[arg(long, value_name = "E")]
    pub env: String,
}

/// `approvals`
#[derive(Debug, Clone, Args)]
pub struct Approvals {
    /// Those of this deployment (`dep_...`), decided ones too; default: all that are pending.
    #[arg(long, value_name = "ID")]
    pub deployment: Option<String>,
}

/// `approval ...`
#[derive(Debug, Subcommand)]
pub enum ApprovalCommand {
    /// Show one approval, and what the plan that it is bound to would change, with old and new values.
    ///
    /// Secrets read `[secret]`, what only the update will tell `[unknown]`.
    Show(ApprovalId),
}

/// `approval show`
#[derive(Debug, Clone, Args)]
pub struct ApprovalId {
    /// The approval (`apr_...`).
    pub id: String,
}

/// `approve`, `reject`
#[derive(Debug, Clone, Args)]
pub struct Decide {
    /// The approval (`apr_...`).
    pub id: String,
    /// Why; kept with the decision.
    #[arg(long, value_name = "TEXT")]
    pub comment: String,
}

/// `explain`
#[derive(Debug, Clone, Args)]
pub struct Explain {
    /// The deployment (`dep_...`), or a job of it (`job_...`).
    pub id: String,
}

/// `variable explain`
#[derive(Debug, Clone, Args)]
pub struct VariableExplain {
    /// The project.
    pub project: String,
    /// The variable.
    pub name: String,
    /// The environment.
    #[arg(long, value_name = "E")]
    pub env: String,
    /// For releases of this channel; default: the default channel.
    #[arg(long, value_name = "C")]
    pub channel: Option<String>,
    /// The step, if it is for one.
    #[arg(long, value_name = "S")]
    pub step: Option<String>,
}

/// `NAME=VALUE`
///
/// # Errors
/// A text without `=` or without a name.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}
