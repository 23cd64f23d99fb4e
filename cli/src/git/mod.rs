//! A package from a git repository: one commit, checked out and packed as its folder would be.
//!
//! Invariants:
//!
//! - The package is that of a plain checkout of the commit (umask 022), so it has the same digest as the folder without `.git`.
//! - Nothing of the repository is run: no hooks, no filters, no submodules, no configuration of its own.
//! - Only https and ssh are spoken, to an address without a password; git never asks anything.
//! - The user's own git configuration counts while fetching, for proxies and credential helpers, and not afterwards.
//! - All is in a temporary folder that is gone at the end.

mod address;
mod run;
mod tree;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use longshore_core::spec;

pub use address::Address;
use run::{Git, Settings};
pub use tree::{State, state};

use crate::exit::Exit;
use crate::failure::Failure;

/// What a file begins with that stands for one in Git LFS.
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/";
/// Longest such file.
const LFS_MAX: u64 = 1024;
/// Mode of a submodule in a tree.
const SUBMODULE: &str = "160000";

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where the repository is.
    pub address: Address,
    /// Branch, tag, or whole commit id.
    pub reference: String,
    /// The folder of the repository that becomes the package; `None`: all of it.
    pub dir: Option<String>,
}

/// A commit that lies in a temporary folder, as long as this lives.
#[derive(Debug)]
pub struct Checkout {
    /// The commit, in full.
    pub commit: String,
    /// The folder to pack.
    pub folder: PathBuf,
    _home: tempfile::TempDir,
}

/// Fetches and checks out.
///
/// # Errors
/// When something about it is refused, or git fails.
pub async fn check_out(wanted: &Wanted) -> Result<Checkout, Failure> {
    check_reference(&wanted.reference)?;
    if let Some(dir) = &wanted.dir {
        spec::check_dir(dir).map_err(|error| Failure::usage(format!("`--dir`: {error}")))?;
    }
    let home = tempfile::tempdir().map_err(|error| {
        Failure::new(Exit::Failed, format!("no temporary folder can be made: {error}"))
            .next("make room there, or let TMPDIR name another folder")
    })?;
    let git = Git::new(home.path(), &wanted.address);
    git.run(Settings::None, &["init", "--quiet", "--bare", "--template="], &[git.repository().as_os_str()]).await?;
    let fetch = ["fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--"];
    let from = [wanted.address.as_str().as_ref(), wanted.reference.as_ref()];
    git.run(Settings::Users, &fetch, &from).await.map_err(|failure| {
        failure.next("check the address and the ref: a branch, a tag, or a commit id in full; git must be able to reach it without asking")
    })?;
    let commit = git.run(Settings::None, &["rev-parse", "--verify", "--quiet", "FETCH_HEAD^{commit}"], &[]).await?;
    let commit = String::from_utf8_lossy(&commit).trim().to_owned();
    let dir = wanted.dir.as_deref().map(normal).filter(|dir| !dir.is_empty());
    let tree = git.run(Settings::None, &["ls-tree", "-r", "-z", "--full-tree", &commit], &[]).await?;
    no_submodules(&tree, dir.as_deref())?;
    let folder = home.path().join("tree");
    std::fs::create_dir(&folder)
        .map_err(|error| Failure::new(Exit::Failed, format!("`{}` cannot be made: {error}", folder.display())))?;
    git.run(Settings::Tree(&folder), &["checkout", "--quiet", "--detach", "--force", &commit], &[]).await?;
    let folder = dir.map_or_else(|| folder.clone(), |dir| folder.join(dir));
    // A link in the place of the folder could lead anywhere.
    let inside = folder.canonicalize().is_ok_and(|real| real == folder.as_path() || same(&real, home.path(), &folder));
    if !inside || !folder.is_dir() {
        return Err(Failure::usage(format!(
            "commit `{commit}` has no folder `{}`",
            wanted.dir.as_deref().unwrap_or_default()
        ))
        .next("name a folder of the repository with `--dir`"));
    }
    Ok(Checkout { commit, folder, _home: home })
}

/// Whether `real` is `folder` below a home whose own path has links in it.
fn same(real: &Path, home: &Path, folder: &Path) -> bool {
    let Ok(home_real) = home.canonicalize() else { return false };
    folder.strip_prefix(home).is_ok_and(|below| home_real.join(below) == real)
}

/// A folder without empty parts and dots.
fn normal(dir: &str) -> String {
    dir.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/")
}

/// A name that git takes for nothing but a ref: no option, no refspec, no expression.
fn check_reference(text: &str) -> Result<(), Failure> {
    let good = |c: char| c.is_alphanumeric() || "._-/+@#".contains(c);
    let odd = text.is_empty()
        || text.starts_with(['-', '+', '/'])
        || text.ends_with('/')
        || text.contains("..")
        || text.contains("@{")
        || !text.chars().all(good);
    if odd {
        return Err(Failure::usage(format!("`--ref`: `{}` is no ref", text.escape_default()))
            .next("write a branch, a tag, or a commit id in full"));
    }
    Ok(())
}

fn no_submodules(tree: &[u8], dir: Option<&str>) -> Result<(), Failure> {
    for line in String::from_utf8_lossy(tree).split('\0') {
        let Some((about, path)) = line.split_once('\t') else { continue };
        let below =
            dir.is_none_or(|dir| path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
        if about.starts_with(SUBMODULE) && below {
            return Err(Failure::usage(format!("`{}` is a submodule, which is not fetched", path.escape_debug()))
                .next("check the repository out with its submodules and push the folder"));
        }
    }
    Ok(())
}

/// Refuses a file whose content is elsewhere: `size` and `path` as they are listed for the package.
///
/// # Errors
/// When it is a pointer of Git LFS.
pub fn no_pointer(folder: &Path, path: &Path, size: u64) -> Result<(), std::io::Error> {
    if size < LFS.len() as u64 || size > LFS_MAX {
        return Ok(());
    }
    let mut begin = Vec::new();
    File::open(folder.join(path))?.take(LFS.len() as u64).read_to_end(&mut begin)?;
    if begin == LFS {
        return Err(std::io::Error::other("it is a pointer of Git LFS, and its content is not fetched"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
