//! `package ...`

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `package ...`
#[derive(Debug, Subcommand)]
pub enum PackageCommand {
    /// Pack a folder or rewrite an archive, and upload it unless the server has it.
    ///
    /// The same files give the same package, whether they come as a folder, zip, tar, tar.gz or tar.zst. An archive that
    /// could reach outside of the folder it is unpacked to is refused, and so is one that grows out of all proportion.
    Push(PackagePush),
    /// List the packages on the server, newest first.
    List(PackageList),
}

/// `package push`
#[derive(Debug, Clone, Args)]
pub struct PackagePush {
    /// Folder, zip, tar, tar.gz or tar.zst. Of a folder, what `.longshoreignore` names (in the syntax of .gitignore) and
    /// `.git` stay out; an archive is taken whole.
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
}

/// `package list`
#[derive(Debug, Clone, Args)]
pub struct PackageList {
    /// How many at most.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub limit: u32,
}
