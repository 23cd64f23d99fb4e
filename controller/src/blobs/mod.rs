//! Packages by content: `packages/ab/<sha256>`, each a zstd-compressed tar; and, in a folder of their own, files that steps left.
//!
//! Invariants: what has a name here is whole, durable, has the digest that it is named by, and unpacks without reaching
//! outside of the folder it is unpacked to ([`longshore_core::archive`]); an upload that was wrong or hostile leaves nothing, and one
//! that was cut nothing but what [`partial`] keeps, to go on from there.

mod archive;
mod partial;
mod resume;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::io::AsyncWriteExt as _;

use crate::data_dir::sync_dir;
use crate::hex;
use crate::tasks::Tasks;
use partial::Partials;

pub use longshore_core::archive::Limits;
pub use partial::{Bounds, Partial, Upload};
pub use resume::Resumed;

/// Folder of uploads that are not complete, in the packages' own.
const INCOMING: &str = "incoming";
/// Folder of uploads that may go on, in the packages' own.
const PARTIAL: &str = "partial";

/// Most uploads that are kept to go on.
const MAX_PARTIALS: usize = 64;
/// How long one is kept after it was last heard of.
const PARTIAL_AGE: Duration = Duration::from_secs(24 * 3_600);

/// Why a package could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not the form of a digest.
    #[error("`{0}` is not a SHA-256 in 64 lowercase hex digits")]
    Digest(String),
    /// What came is not what was announced.
    #[error(
        "the digest of what was received is `{found}`, not `{expected}`: the upload was damaged or is of something else; nothing was stored"
    )]
    Mismatch {
        /// In the request.
        expected: String,
        /// Of what came.
        found: String,
    },
    /// A file of another length than was announced.
    #[error("what was received has {found} bytes or more, not {expected}: the upload was damaged; nothing was stored")]
    Length {
        /// In the request.
        expected: u64,
        /// Of what came until it was clear.
        found: u64,
    },
    /// More than is taken.
    #[error(
        "the package is larger than the {limit} bytes that are taken here (`max_package_bytes`); nothing was stored"
    )]
    TooLarge {
        /// In bytes.
        limit: u64,
    },
    /// The sender stopped in the middle.
    #[error("the upload ended early; nothing was stored")]
    Cut(#[source] axum::Error),
    /// The sender stopped in the middle of an upload that may go on.
    #[error("the upload ended early: {kept} bytes of it are kept, and it can go on from there")]
    CutAt {
        /// So many bytes are durable.
        kept: u64,
        /// What happened.
        #[source]
        source: axum::Error,
    },
    /// Not where the upload stands.
    #[error(
        "the upload stands at byte {kept}, not at byte {offset}; nothing of this request was taken, and what was kept stays"
    )]
    Offset {
        /// So many bytes are durable.
        kept: u64,
        /// Of the request.
        offset: u64,
    },
    /// A newer upload of the same.
    #[error(
        "a newer upload of the same package by the same person went on in the place of this one; what was kept stays"
    )]
    TakenOver,
    /// The announced length does not fit.
    #[error(
        "the upload was announced as {announced} bytes long, and this request does not fit that; what was kept stays"
    )]
    LongerThanSaid {
        /// In bytes.
        announced: u64,
    },
    /// Too much lies here that is not complete.
    #[error("too many uploads are under way, and none of yours could be given up for this one; nothing was stored")]
    Crowded,
    /// Not an archive, or one that reaches outside.
    #[error("the package is refused: {0}; nothing was stored")]
    Archive(#[from] longshore_core::archive::Refused),
    /// A file of the archive that is larger than asked for.
    #[error("`{path}` in the package is larger than {limit} bytes")]
    EntryTooLarge {
        /// In the archive.
        path: String,
        /// In bytes.
        limit: u64,
    },
    /// The disk.
    #[error("cannot {what} `{}`", path.display())]
    Io {
        /// For example "create".
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The controller is going down.
    #[error("the controller is stopping")]
    Stopping,
}

/// A package that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its length.
    pub bytes: u64,
    /// Whether it was not there before.
    pub new: bool,
}

/// All packages. A cheap handle.
#[derive(Debug, Clone)]
pub struct Blobs {
    root: PathBuf,
    limits: Limits,
    partials: Partials,
    tasks: Tasks,
}

impl Blobs {
    /// Opens the folder, which is made when it is missing; what earlier uploads left half is removed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(root: PathBuf, limits: Limits, tasks: Tasks) -> Result<Self, Error> {
        let incoming = root.join(INCOMING);
        match std::fs::remove_dir_all(&incoming) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::Io { what: "remove", path: incoming, source }),
        }
        std::fs::create_dir_all(&incoming).map_err(io_error("create", &incoming))?;
        let bounds = Bounds { count: MAX_PARTIALS, bytes: limits.packed.saturating_mul(4), age: PARTIAL_AGE };
        let partials = Partials::open(root.join(PARTIAL), bounds)?;
        Ok(Self { root, limits, partials, tasks })
    }

    /// Where a package lies; it may not be there.
    ///
    /// # Errors
    /// When `sha256` is no digest, so that no caller's text becomes a path.
    pub fn path_of(&self, sha256: &str) -> Result<PathBuf, Error> {
        let folder = sha256.get(..2).filter(|_| hex::is_sha256(sha256));
        let folder = folder.ok_or_else(|| Error::Digest(sha256.chars().take(80).collect()))?;
        Ok(self.root.join(folder).join(sha256))
    }

    /// Folder for what is on its way: emptied at each start.
    #[must_use]
    pub fn temporary(&self) -> PathBuf {
        self.root.join(INCOMING)
    }

    /// A package's length; `None` when it is not there.
    ///
    /// # Errors
    /// When `sha256` is no digest or the disk fails.
    pub async fn size(&self, sha256: &str) -> Result<Option<u64>, Error> {
        let path = self.path_of(sha256)?;
        match tokio::fs::metadata(&path).await {
            Ok(found) => Ok(Some(found.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io { what: "look at", path, source }),
        }
    }

    /// Whether a package is there.
    ///
    /// # Errors
    /// As [`Blobs::size`].
    pub async fn exists(&self, sha256: &str) -> Result<bool, Error> {
        Ok(self.size(sha256).await?.is_some())
    }

    /// Opens a package for reading; `None` when it is not there.
    ///
    /// # Errors
    /// As [`Blobs::size`].
    pub async fn open_file(&self, sha256: &str) -> Result<Option<tokio::fs::File>, Error> {
        let path = self.path_of(sha256)?;
        match tokio::fs::File::open(&path).await {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io { what: "open", path, source }),
        }
    }

    /// Stores a package as it comes in. It is durable when this answers.
    ///
    /// # Errors
    /// [`Error`]; in each case nothing is left of it.
    pub async fn put(
        &self,
        sha256: &str,
        body: impl Stream<Item = Result<Bytes, axum::Error>> + Unpin,
    ) -> Result<Stored, Error> {
        let path = self.path_of(sha256)?;
        let incoming = self.root.join(INCOMING);
        let temporary = tempfile::NamedTempFile::new_in(&incoming).map_err(io_error("create a file in", &incoming))?;
        let file = temporary.reopen().map_err(io_error("open", temporary.path()))?;
        let limits = self.limits;
        let bytes = receive(sha256, limits.packed, tokio::fs::File::from_std(file), temporary.path(), body).await?;
        let work = move || -> Result<bool, Error> {
            archive::check(temporary.as_file(), bytes, limits)?;
            keep(temporary, &path)
        };
        let new = self.tasks.blocking(work).await.map_err(|_| Error::Stopping)??;
        Ok(Stored { bytes, new })
    }

    /// Stores a file of this length as it comes in, whatever it holds. It is durable when this answers; one that is there is compared
    /// all the same, since whoever brings it has to have it.
    ///
    /// # Errors
    /// [`Error`]; in each case nothing is left of it.
    pub async fn put_file(
        &self,
        sha256: &str,
        bytes: u64,
        body: impl Stream<Item = Result<Bytes, axum::Error>> + Unpin,
    ) -> Result<(), Error> {
        let path = self.path_of(sha256)?;
        let incoming = self.root.join(INCOMING);
        let temporary = tempfile::NamedTempFile::new_in(&incoming).map_err(io_error("create a file in", &incoming))?;
        let file = temporary.reopen().map_err(io_error("open", temporary.path()))?;
        let received = receive(sha256, bytes, tokio::fs::File::from_std(file), temporary.path(), body).await;
        match received {
            Ok(found) if found == bytes => {}
            Ok(found) => return Err(Error::Length { expected: bytes, found }),
            Err(Error::TooLarge { limit }) => return Err(Error::Length { expected: limit, found: limit + 1 }),
            Err(error) => return Err(error),
        }
        self.tasks.blocking(move || keep(temporary, &path).map(drop)).await.map_err(|_| Error::Stopping)?
    }

    /// A file of a package; `None` when the package or the file is not there, or when it is no file.
    ///
    /// # Errors
    /// When it is larger than `max` bytes, or the package cannot be read.
    pub async fn read_entry(&self, sha256: &str, path: &str, max: u64) -> Result<Option<Vec<u8>>, Error> {
        let package = self.path_of(sha256)?;
        let (entry, limits) = (path.to_owned(), self.limits);
        let work = move || match File::open(&package) {
            Ok(file) => archive::read_entry(&file, &entry, max, limits),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io { what: "open", path: package, source }),
        };
        self.tasks.blocking(work).await.map_err(|_| Error::Stopping)?
    }
}

/// Writes what comes in to a file and makes it durable; answers its length, once its digest is the one that was announced.
async fn receive(
    sha256: &str,
    limit: u64,
    mut file: tokio::fs::File,
    path: &Path,
    mut body: impl Stream<Item = Result<Bytes, axum::Error>> + Unpin,
) -> Result<u64, Error> {
    let mut bytes = 0;
    let mut hash = digest::Context::new(&digest::SHA256);
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(Error::Cut)?;
        bytes += chunk.len() as u64;
        if bytes > limit {
            return Err(Error::TooLarge { limit });
        }
        hash.update(&chunk);
        file.write_all(&chunk).await.map_err(io_error("write", path))?;
    }
    let found = hex::encode(hash.finish().as_ref());
    if found != sha256 {
        return Err(Error::Mismatch { expected: sha256.to_owned(), found });
    }
    file.sync_all().await.map_err(io_error("sync", path))?;
    Ok(bytes)
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { what, path, source }
}

/// Gives a complete file its name, durably; `false` when it has one already.
fn keep(temporary: tempfile::NamedTempFile, path: &Path) -> Result<bool, Error> {
    if path.exists() {
        return Ok(false);
    }
    let folder = path.parent().unwrap_or(path);
    let root = folder.parent().unwrap_or(folder);
    std::fs::create_dir_all(folder).map_err(io_error("create", folder))?;
    temporary.persist(path).map_err(|e| Error::Io { what: "rename to", path: path.to_owned(), source: e.error })?;
    let sync = |dir: &Path| {
        sync_dir(dir).map_err(|e| Error::Io { what: "sync", path: dir.to_owned(), source: io::Error::other(e) })
    };
    sync(folder)?;
    sync(root)?;
    Ok(true)
}

#[cfg(test)]
mod tests;
