//! Logs of steps as bytes: append-only, offset-addressed, acknowledged after they are on the disk (promise P7).
//!
//! A log holds the very bytes of the spool that `longshore-init` wrote. Offsets are those of the spool.

use std::path::PathBuf;

use bytes::Bytes;
use longshore_core::id::AttemptId;
use longshore_core::spool::Stream;

use crate::tasks::Tasks;

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

/// All logs. A cheap handle.
#[derive(Debug, Clone)]
pub struct Logs {}

impl Logs {
    /// Opens the folder, which is made when it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(_folder: PathBuf, _tasks: Tasks) -> Result<Self, Error> {
        todo!()
    }
    /// Begins reading at a record's offset (0, or a [`Record::end`]).
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn reader(&self, _attempt: AttemptId, _step: u32, _from: u64) -> Result<Reader, Error> {
        todo!()
    }
    /// What the last write failed with, if it did.
    #[must_use]
    pub fn health(&self) -> Option<String> {
        todo!()
    }
}

/// Reads one log with bounded memory.
#[derive(Debug)]
pub struct Reader {}

impl Reader {
    /// The next record of what is stored now; `None` at its end.
    ///
    /// # Errors
    /// When the file cannot be read, or `from` was no record's offset.
    pub async fn next(&mut self) -> Result<Option<Record>, Error> {
        todo!()
    }
    /// The next record, waited for; `None` when the log has ended for good.
    ///
    /// # Errors
    /// As [`Reader::next`].
    pub async fn next_live(&mut self) -> Result<Option<Record>, Error> {
        todo!()
    }
}
