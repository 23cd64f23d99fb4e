//! `artifact ...`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Id;

/// `artifact ...`
#[derive(Debug, Subcommand)]
pub enum ArtifactCommand {
    /// List the files that a deployment's steps left, and those that are not kept, and why.
    ///
    /// A step leaves files by writing them to the folder `$LONGSHORE_ARTIFACTS`. A `pulumi` step that writes also keeps
    /// the state that its stack had before, as `state-before.json`.
    List(Id),
    /// Download files that a deployment's steps left.
    ///
    /// Each is compared with its SHA-256 and gets its name when it is whole. Of a step with several tries the last one
    /// that left files counts. Files go to DIR/STEP/PATH, with --step to DIR/PATH.
    Download(ArtifactDownload),
}

/// `artifact download`
#[derive(Debug, Clone, Args)]
pub struct ArtifactDownload {
    /// The deployment (`dep_...`).
    pub id: String,
    /// The files, as the list names them; default: all but stacks' states, which have to be named.
    #[arg(value_name = "PATH")]
    pub paths: Vec<String>,
    /// Only of this step.
    #[arg(long, value_name = "NAME")]
    pub step: Option<String>,
    /// Of this try of a step instead of the last one.
    #[arg(long = "try", id = "try", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub number: Option<u32>,
    /// Folder to write to; created when missing.
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// Replace files that are there.
    #[arg(long)]
    pub force: bool,
}
