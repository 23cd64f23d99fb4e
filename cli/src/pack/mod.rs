//! Packing a folder: one deterministic archive, named by its SHA-256.
//!
//! The same tree gives the same bytes on any machine: entries are sorted, times and owners are zero, permission bits are
//! kept. Links are kept as links and may not leave the folder; what is neither file, folder nor link is refused. The
//! archive goes to an unnamed temporary file, so nothing of it stays behind and memory does not grow with the folder.

mod archive;
mod link;
mod tree;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::exit::Exit;
use crate::failure::Failure;

/// A packed folder.
#[derive(Debug)]
pub struct Package {
    /// The archive: tar, compressed with zstd.
    pub file: File,
    /// Its length in bytes.
    pub size: u64,
    /// SHA-256 of the archive, 64 lowercase hex digits.
    pub sha256: String,
    /// How many files, folders and links it holds.
    pub entries: usize,
}

/// Why a folder cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such folder.
    #[error("the folder `{}` cannot be opened", path.display())]
    NoFolder {
        /// What was named.
        path: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// A file was named.
    #[error("`{}` is not a folder: --package takes a folder and packs it itself", .0.display())]
    NotAFolder(PathBuf),
    /// Something in it cannot be read.
    #[error("`{}` cannot be read", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// The ignore file or the walk over the folder.
    #[error("the folder cannot be listed")]
    Walk(#[source] ignore::Error),
    /// A file was written while it was read.
    #[error("`{}` changed while it was packed", .0.display())]
    Changed(PathBuf),
    /// A link that leads out.
    #[error("the link `{}` leads out of the folder, to `{}`", link.display(), target.display())]
    LinkLeaves {
        /// The link.
        link: PathBuf,
        /// Where it points.
        target: PathBuf,
    },
    /// A socket, a device, a pipe.
    #[error("`{}` is a {kind}, which a package cannot hold", path.display())]
    Special {
        /// Which.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The temporary file.
    #[error("the archive cannot be written in `{}`", folder.display())]
    Write {
        /// Folder for temporary files.
        folder: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (exit, next) = match &error {
            Error::NoFolder { .. } => (Exit::Usage, "check the path given to --package"),
            Error::NotAFolder(_) => (Exit::Usage, "unpack it and name the folder"),
            Error::Unreadable { .. } => (Exit::Usage, "make it readable, or name it in `.longshoreignore`"),
            Error::Walk(_) => (Exit::Usage, "check the folder and its `.longshoreignore`"),
            Error::Changed(_) => {
                (Exit::Failed, "deploy again once nothing writes to the folder, or name the file in `.longshoreignore`")
            }
            Error::LinkLeaves { .. } => {
                (Exit::Usage, "replace the link by what it points to, or name it in `.longshoreignore`")
            }
            Error::Special { .. } => (Exit::Usage, "name it in `.longshoreignore`"),
            Error::Write { .. } => (Exit::Failed, "make room there, or let TMPDIR name another folder"),
        };
        Self::of(exit, &error).next(next)
    }
}

/// Packs a folder. `progress` hears how many bytes of files were read so far, and of how many.
///
/// # Errors
/// [`Error`]: nothing is left behind then.
pub fn pack(folder: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Package, Error> {
    let root = folder.canonicalize().map_err(|source| Error::NoFolder { path: folder.to_owned(), source })?;
    if !root.is_dir() {
        return Err(Error::NotAFolder(folder.to_owned()));
    }
    let entries = tree::list(&root)?;
    archive::write(&root, &entries, progress)
}

#[cfg(test)]
mod tests;
