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
    #[arg(value_name = "PATH", required_unless_present_any = ["git", "project"], conflicts_with_all = ["git", "project"])]
    pub path: Option<PathBuf>,
    /// Take a commit of this repository instead: `https://HOST/PATH`, `ssh://USER@HOST/PATH` or `USER@HOST:PATH`. It is the same
    /// package as its checkout pushed as a folder. Submodules and files in Git LFS are refused.
    #[arg(long, value_name = "URL", requires = "reference")]
    pub git: Option<String>,
    /// Let the server take a commit of the repository that the spec of this project names (`source`); nothing is fetched here.
    #[arg(long, value_name = "PROJECT", conflicts_with = "git")]
    pub project: Option<String>,
    /// The branch, the tag, or the commit id in full; with --project by default the one of the spec.
    #[arg(long = "ref", id = "reference", value_name = "REF", conflicts_with = "path")]
    pub reference: Option<String>,
    /// With --git: the folder of the repository that becomes the package; default: all of it.
    #[arg(long, value_name = "DIR", requires = "git", conflicts_with_all = ["path", "project"])]
    pub dir: Option<String>,
    /// With --git: take `file:///PATH` too, a repository of this machine that you trust.
    #[arg(long, requires = "git", conflicts_with_all = ["path", "project"])]
    pub allow_file: bool,
}

/// `package list`
#[derive(Debug, Clone, Args)]
pub struct PackageList {
    /// How many at most.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub limit: u32,
}
