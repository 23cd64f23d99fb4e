//! What of a folder is packed.

use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use ignore::WalkBuilder;
use longshore_core::archive::{Checker, What};

use super::{Error, LIMITS};

/// Name of the ignore file; it counts for its folder and those below, in the syntax of .gitignore.
const IGNORE_FILE: &str = ".longshoreignore";

/// One entry of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Relative to the folder.
    pub(super) path: PathBuf,
    /// Permission bits, without set-user-id, set-group-id and sticky.
    pub(super) mode: u32,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    /// `at`: where its bytes begin, if they come from a spool.
    File {
        size: u64,
        at: u64,
    },
    Link {
        target: PathBuf,
    },
}

/// Lists a folder, sorted by the bytes of the paths.
pub(super) fn list(root: &Path) -> Result<Vec<Entry>, Error> {
    let walk = WalkBuilder::new(root)
        .standard_filters(false)
        .follow_links(false)
        .add_custom_ignore_filename(IGNORE_FILE)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build();
    let mut entries = Vec::new();
    for found in walk {
        let found = found.map_err(|error| unreadable(root, error))?;
        // A broken ignore file would silently pack what it should keep out.
        if let Some(error) = found.error() {
            return Err(Error::Walk(error.clone()));
        }
        let Ok(relative) = found.path().strip_prefix(root) else { continue };
        if relative.as_os_str().is_empty() {
            continue;
        }
        let metadata = found
            .path()
            .symlink_metadata()
            .map_err(|source| Error::Unreadable { path: relative.to_owned(), source })?;
        entries.push(entry(root, relative, &metadata)?);
    }
    entries.sort_by(|a, b| a.path.as_os_str().as_bytes().cmp(b.path.as_os_str().as_bytes()));
    check(&entries)?;
    Ok(entries)
}

/// The rules that the server has as well: better said before anything is packed.
fn check(entries: &[Entry]) -> Result<(), Error> {
    // What it packs to is not known yet, so that there is no ratio.
    let mut checker = Checker::new(LIMITS, u64::MAX);
    for entry in entries {
        let what = match &entry.kind {
            Kind::Folder => What::Folder,
            Kind::File { size, .. } => What::File { bytes: *size },
            Kind::Link { target } => What::Symlink { target: target.as_os_str().as_bytes() },
        };
        checker.entry(entry.path.as_os_str().as_bytes(), what).map_err(Error::Refused)?;
    }
    Ok(())
}

fn unreadable(root: &Path, error: ignore::Error) -> Error {
    let path = path_of(&error).map(|path| path.strip_prefix(root).unwrap_or(path).to_owned());
    match (path, error.io_error().map(std::io::Error::kind)) {
        (Some(path), Some(kind)) => Error::Unreadable { path, source: kind.into() },
        _ => Error::Walk(error),
    }
}

fn path_of(error: &ignore::Error) -> Option<&Path> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => path_of(err),
        _ => None,
    }
}

fn entry(root: &Path, relative: &Path, metadata: &Metadata) -> Result<Entry, Error> {
    let kind = metadata.file_type();
    let special = |kind| Error::Special { path: relative.to_owned(), kind };
    let kind = if kind.is_dir() {
        Kind::Folder
    } else if kind.is_file() {
        Kind::File { size: metadata.len(), at: 0 }
    } else if kind.is_symlink() {
        let target = root
            .join(relative)
            .read_link()
            .map_err(|source| Error::Unreadable { path: relative.to_owned(), source })?;
        Kind::Link { target }
    } else if kind.is_socket() {
        return Err(special("socket"));
    } else if kind.is_fifo() {
        return Err(special("pipe"));
    } else {
        return Err(special("device"));
    };
    Ok(Entry { path: relative.to_owned(), mode: metadata.mode() & 0o777, kind })
}
