//! A package from a git repository: one commit, checked out and packed as its folder would be.
//!
//! Invariants:
//!
//! - The package is that of a plain checkout of the commit (umask 022), so it has the same digest as the folder without `.git`.
//! - Nothing of the repository is run: no hooks, no filters, no submodules, no configuration of its own.
//! - Only the protocol of an [`Address`] is spoken, to nobody but its host; git never asks anything.
//! - Credentials are in files of a private temporary folder while git fetches, and in no argument, variable or message.
//! - All is in a temporary folder that is gone at the end.

mod access;
mod home;
mod run;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use longshore_core::source::{Address, check_reference};
use longshore_core::spec;

pub use access::{Access, Credentials};
use home::Home;
use run::{Git, Settings};

/// What a file begins with that stands for one in Git LFS.
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/";
/// Longest such file.
const LFS_MAX: u64 = 1024;
/// Mode of a submodule in a tree.
const SUBMODULE: &str = "160000";

/// Why there is no checkout. Each message names what it is about; no secret is in any.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a ref.
    #[error("{0}")]
    Reference(String),
    /// Not a folder of a package.
    #[error("{0}")]
    Dir(String),
    /// The temporary folder.
    #[error("cannot {what} `{}`", path.display())]
    Folder {
        /// For example "make".
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// git is not installed.
    #[error("there is no `git` on this machine")]
    Missing,
    /// git cannot be started.
    #[error("`git` cannot be started")]
    Start(#[source] io::Error),
    /// git failed.
    #[error("`git {command}` failed: {said}")]
    Failed {
        /// What it was to do.
        command: String,
        /// What it said, on one line.
        said: String,
    },
    /// git says more than can be meant.
    #[error("`git {0}` says more than can be meant")]
    Flood(String),
    /// There is no such folder in the commit.
    #[error("commit `{commit}` has no folder `{dir}`")]
    NoFolder {
        /// In full.
        commit: String,
        /// What was named.
        dir: String,
    },
    /// A part of it is another repository.
    #[error("`{0}` is a submodule, which is not fetched")]
    Submodule(String),
    /// More than is taken.
    #[error("the repository at that commit is larger than the {0} bytes that are taken here")]
    TooLarge(u64),
    /// It takes too long.
    #[error("the repository did not come within {} s", .0.as_secs())]
    Late(Duration),
    /// Credentials that cannot be used.
    #[error("the credentials cannot be used: {0}")]
    Credentials(&'static str),
}

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

/// By what means it is fetched.
#[derive(Debug)]
pub struct Means {
    /// Whose settings and credentials count.
    pub access: Access,
    /// Folder in which the temporary one is made.
    pub folder: PathBuf,
    /// Most bytes, of the repository at that commit and of its checkout each.
    pub bytes: u64,
    /// Longest time for all of it.
    pub time: Duration,
}

impl Means {
    /// As the user of this machine could fetch it by hand: bounded by nothing but the disk.
    #[must_use]
    pub fn of_user() -> Self {
        Self { access: Access::Users, folder: std::env::temp_dir(), bytes: u64::MAX, time: Duration::MAX }
    }
}

/// A commit that lies in a temporary folder, as long as this lives.
#[derive(Debug)]
pub struct Checkout {
    /// The commit, in full.
    pub commit: String,
    /// The folder to pack.
    pub folder: PathBuf,
    _home: Home,
}

/// Fetches and checks out.
///
/// # Errors
/// When something about it is refused, or git fails; nothing is left behind then.
pub async fn check_out(wanted: &Wanted, means: &Means) -> Result<Checkout, Error> {
    check_reference(&wanted.reference).map_err(Error::Reference)?;
    if let Some(dir) = &wanted.dir {
        spec::check_dir(dir).map_err(Error::Dir)?;
    }
    let work = fetched(wanted, means);
    tokio::time::timeout(means.time, work).await.map_err(|_| Error::Late(means.time))?
}

async fn fetched(wanted: &Wanted, means: &Means) -> Result<Checkout, Error> {
    let home = Home::new(&means.folder)?;
    let git = Git::new(home.path(), &wanted.address, means);
    git.run(Settings::None, &["init", "--quiet", "--bare", "--template="], &[git.repository().as_os_str()]).await?;
    let fetch = ["fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--"];
    let from = [wanted.address.as_str().as_ref(), wanted.reference.as_ref()];
    {
        let _files = means.access.lend(home.path(), &wanted.address)?;
        git.run(Settings::Fetch, &fetch, &from).await?;
    }
    let commit = git.run(Settings::None, &["rev-parse", "--verify", "--quiet", "FETCH_HEAD^{commit}"], &[]).await?;
    let commit = String::from_utf8_lossy(&commit).trim().to_owned();
    let dir = wanted.dir.as_deref().map(normal).filter(|dir| !dir.is_empty());
    let tree = git.run(Settings::None, &["ls-tree", "-r", "-l", "-z", "--full-tree", &commit], &[]).await?;
    check_tree(&tree, dir.as_deref(), means.bytes)?;
    let folder = home.path().join("tree");
    std::fs::create_dir(&folder).map_err(|source| Error::Folder { what: "make", path: folder.clone(), source })?;
    git.run(Settings::Tree(&folder), &["checkout", "--quiet", "--detach", "--force", &commit], &[]).await?;
    let folder = dir.map_or_else(|| folder.clone(), |dir| folder.join(dir));
    // A link in the place of the folder could lead anywhere.
    let inside = folder.canonicalize().is_ok_and(|real| real == folder.as_path() || same(&real, home.path(), &folder));
    if !inside || !folder.is_dir() {
        return Err(Error::NoFolder { commit, dir: wanted.dir.clone().unwrap_or_default() });
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

/// Before a byte of it is checked out: its size, and what is not in it.
fn check_tree(tree: &[u8], dir: Option<&str>, limit: u64) -> Result<(), Error> {
    let mut bytes: u64 = 0;
    for line in String::from_utf8_lossy(tree).split('\0') {
        let Some((about, path)) = line.split_once('\t') else { continue };
        let size = about.rsplit(' ').next().and_then(|size| size.parse().ok()).unwrap_or_default();
        bytes = bytes.saturating_add(size);
        if bytes > limit {
            return Err(Error::TooLarge(limit));
        }
        let below =
            dir.is_none_or(|dir| path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
        if about.starts_with(SUBMODULE) && below {
            return Err(Error::Submodule(path.escape_debug().to_string()));
        }
    }
    Ok(())
}

/// Refuses a file whose content is elsewhere: `size` and `path` as they are listed for the package.
///
/// # Errors
/// When it is a pointer of Git LFS.
pub fn no_pointer(folder: &Path, path: &Path, size: u64) -> Result<(), io::Error> {
    if size < LFS.len() as u64 || size > LFS_MAX {
        return Ok(());
    }
    let mut begin = Vec::new();
    File::open(folder.join(path))?.take(LFS.len() as u64).read_to_end(&mut begin)?;
    if begin == LFS {
        return Err(io::Error::other("it is a pointer of Git LFS, and its content is not fetched"));
    }
    Ok(())
}

#[cfg(test)]
#[cfg(feature = "convert")]
mod tests;
