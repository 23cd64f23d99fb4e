//! Logs of steps as bytes: append-only, offset-addressed, acknowledged after they are on the disk (promise P7).
//!
//! A log holds the very bytes of the spool that `longshore-init` wrote, and offsets are those of the spool. It is a
//! folder of segments; each holds frames with a CRC32C. Bytes that do not continue the log or are no spool are
//! refused before they are written, so what is stored can always be read back record by record.

mod log;
mod reader;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use longshore_core::id::AttemptId;
use longshore_core::spool::{self, Stream};

use crate::tasks::Tasks;
use log::Log;
pub use log::Writer;
pub use reader::Reader;

/// Why a log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of it.
    #[error("the log file `{path}` cannot be {what}")]
    File {
        /// The file.
        path: PathBuf,
        /// `read`, `written`, ...
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Bytes after the end of what is stored: the ones between were not sent.
    #[error("bytes from offset {offset} do not continue the log, which ends at {end}; nothing of them was stored")]
    Gap {
        /// Where the bytes begin.
        offset: u64,
        /// Where the log ends.
        end: u64,
    },
    /// Bytes that are no records.
    #[error("the bytes are no spool; nothing of them was stored")]
    Spool(#[source] spool::Error),
    /// Stored bytes that do not match their checksum.
    #[error("the log file `{path}` is damaged at byte {at}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Position of the frame in the file.
        at: u64,
    },
    /// The thread that does the work is gone; the controller is stopping.
    #[error("the controller is stopping")]
    Stopping,
}

/// One record of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Offset of the record in the spool.
    pub offset: u64,
    /// Offset of the record after it: where to resume.
    pub end: u64,
    /// What it is.
    pub stream: Stream,
    /// Microseconds since the UNIX epoch on the agent's clock.
    pub at: u64,
    /// The payload.
    pub data: Bytes,
}

/// What is durable of a log, by the controller's own count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// Bytes of the spool.
    pub spool_bytes: u64,
    /// Bytes of standard output and standard error.
    pub bytes: u64,
    /// SHA-256 in hex over those bytes, in order.
    pub sha256: String,
    /// The exit record's JSON, once it is there.
    pub exit_record: Option<Vec<u8>>,
    /// The bytes end with a whole record.
    pub whole: bool,
}

/// Which log.
type Key = (AttemptId, u32);

/// All logs. A cheap handle.
#[derive(Clone)]
pub struct Logs(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    open: Mutex<HashMap<Key, Arc<Log>>>,
    /// Logs that were ended since the start; what was ended before says the database.
    ended: Mutex<HashSet<Key>>,
    health: Mutex<Option<String>>,
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logs").field("folder", &self.0.folder).finish_non_exhaustive()
    }
}

/// A poisoned lock is taken all the same: nothing here is left half changed by a panic.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Logs {
    /// Opens the folder, which is made when it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(folder: PathBuf, _tasks: Tasks) -> Result<Self, Error> {
        std::fs::create_dir_all(&folder).map_err(|source| Error::File {
            path: folder.clone(),
            what: "made",
            source,
        })?;
        Ok(Self(Arc::new(Inner {
            folder,
            open: Mutex::default(),
            ended: Mutex::default(),
            health: Mutex::default(),
        })))
    }

    /// The way to append to a log. Several for one log share its end.
    #[must_use]
    pub fn writer(&self, attempt: AttemptId, step: u32) -> Writer {
        Writer::new(self.clone(), self.log((attempt, step)))
    }

    /// Begins reading at a record's offset (0, or a [`Record::end`]).
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn reader(&self, attempt: AttemptId, step: u32, from: u64) -> Result<Reader, Error> {
        let log = self.log((attempt, step));
        log.load().await?;
        Ok(Reader::new(log, from))
    }

    /// What is durable of a log.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn digest(&self, attempt: AttemptId, step: u32) -> Result<Digest, Error> {
        self.log((attempt, step)).digest().await
    }

    /// No more bytes come: followers see the end, and the log's memory is given back.
    pub fn end(&self, attempt: AttemptId, step: u32) {
        lock(&self.0.ended).insert((attempt, step));
        if let Some(log) = lock(&self.0.open).remove(&(attempt, step)) {
            log.end();
        }
    }

    /// What the last write failed with, if it did.
    #[must_use]
    pub fn health(&self) -> Option<String> {
        lock(&self.0.health).clone()
    }

    fn log(&self, key: Key) -> Arc<Log> {
        let ended = lock(&self.0.ended).contains(&key);
        let make = || Arc::new(Log::new(segment::folder(&self.0.folder, key), ended));
        if ended {
            return make();
        }
        lock(&self.0.open).entry(key).or_insert_with(make).clone()
    }

    fn set_health(&self, fault: Option<String>) {
        *lock(&self.0.health) = fault;
    }
}

/// Runs work on files off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::Stopping))
}
