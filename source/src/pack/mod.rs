//! Packing a folder, or an archive of one: one deterministic archive, named by its SHA-256.
//!
//! The same tree gives the same bytes on any machine, whether it comes as a folder, zip or tar: entries are sorted, times and
//! owners are zero, permission bits are kept. Links are kept as links and may not leave the folder; what is neither file,
//! folder nor link is refused, and what else [`longshore_core::archive`] forbids. All goes to unnamed temporary files, so
//! nothing stays behind, nothing of an archive is ever written to a path that it names, and memory does not grow with it.

mod archive;
#[cfg(feature = "convert")]
mod convert;
#[cfg(feature = "convert")]
mod tarball;
mod tree;
#[cfg(feature = "convert")]
mod zipped;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use longshore_core::archive::{Limits, Refused};

/// What a package may be; the server has the last word.
const LIMITS: Limits = Limits { packed: 1 << 30, unpacked: 16 << 30, ratio: 200, entries: 200_000 };

/// A packed folder or archive.
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

/// Why a package cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such folder or file.
    #[error("`{}` cannot be opened", path.display())]
    Missing {
        /// What was named.
        path: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// A file was named that is no archive.
    #[error("`{}` is neither a folder nor a zip, tar, tar.gz or tar.zst", .0.display())]
    Form(PathBuf),
    /// It breaks the rules of packages.
    #[error("the package is refused: {0}")]
    Refused(#[source] Refused),
    /// An archive cannot be read.
    #[error("`{}` cannot be read as {form} ({source})", path.display())]
    Damaged {
        /// The archive.
        path: PathBuf,
        /// What it looks like.
        form: &'static str,
        /// What is wrong with it.
        source: io::Error,
    },
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

/// Packs a folder, or rewrites an archive of one. `progress` hears how many bytes are done of a part of the work, and of how many.
///
/// # Errors
/// [`Error`]: nothing is left behind then.
#[cfg(feature = "convert")]
pub fn pack(from: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Package, Error> {
    let root = from.canonicalize().map_err(|source| Error::Missing { path: from.to_owned(), source })?;
    if root.is_dir() {
        let entries = tree::list(&root)?;
        return archive::write(archive::Source::Folder(&root), &entries, &std::env::temp_dir(), progress);
    }
    let converted = convert::read(from, progress)?;
    archive::write(archive::Source::Spool(&converted.spool), &converted.entries, &std::env::temp_dir(), progress)
}

/// Packs a checkout of a commit: permissions are those that git knows, whatever the umask was, and no file may stand for one that
/// was not fetched. `temporary`: the folder for the unnamed file that it is written to.
///
/// # Errors
/// [`Error`]: nothing is left behind then.
pub fn pack_checkout(folder: &Path, temporary: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Package, Error> {
    let mut entries = tree::list(folder)?;
    for entry in &mut entries {
        if let tree::Kind::File { size, .. } = entry.kind {
            crate::git::no_pointer(folder, &entry.path, size)
                .map_err(|source| Error::Unreadable { path: entry.path.clone(), source })?;
        }
        let runs = entry.kind == tree::Kind::Folder || entry.mode & 0o100 != 0;
        entry.mode = if runs { 0o755 } else { 0o644 };
    }
    archive::write(archive::Source::Folder(folder), &entries, temporary, progress)
}

#[cfg(test)]
#[cfg(feature = "convert")]
mod tests;
