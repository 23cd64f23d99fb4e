//! Logs of steps as bytes: append-only, offset-addressed, acknowledged after they are on the disk (promise P7).
//!
//! A log holds the very bytes of the spool that `longshore-init` wrote; offsets are those of the spool. Each has one file,
//! `<attempt>/<step>.log`, written by one writer at a time and read by any number. Readers see what is acknowledged and
//! nothing else. Length and SHA-256 are kept while bytes come in, and worked out anew from the file after a restart.

mod reader;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use longshore_core::id::AttemptId;
use longshore_core::spool::{self, Stream};
use tokio::sync::watch;

use crate::tasks::Tasks;
use segment::{Refused, Segment};

pub use reader::Reader;

/// Why a log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk is full. Nothing was acknowledged; it goes on by itself when there is room.
    #[error("the disk of `{}` is full: the log waits at the agent until there is room", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// A file of it.
    #[error("the log file `{}` cannot be {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Bytes that were acknowledged are not there any more as they were.
    #[error("the log file `{}` is damaged at byte {at}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        at: u64,
    },
    /// What is stored is no spool from the reader's offset on.
    #[error(transparent)]
    Spool(#[from] spool::Error),
    /// Bytes are missing before those that came.
    #[error("the log continues at offset {expected}, not behind it")]
    Gap {
        /// Where it continues.
        expected: u64,
    },
    /// The log is complete.
    #[error("the log is complete, nothing can follow")]
    Sealed,
    /// The controller is going down.
    #[error("the controller is stopping")]
    Stopping(#[source] tokio::task::JoinError),
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

/// How far a log has grown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Growth {
    /// Bytes of the spool that are durable.
    pub durable: u64,
    /// Payload bytes of standard output and standard error among them.
    pub log_bytes: u64,
    /// Nothing follows.
    pub sealed: bool,
    file: u64,
}

/// Length and SHA-256 of standard output and standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// Length.
    pub bytes: u64,
    /// In hex; `None`: the stored bytes are no spool.
    pub sha256: Option<String>,
    /// Bytes of the spool that are durable.
    pub durable: u64,
}

/// One log that is being written or watched.
#[derive(Debug)]
pub struct Log {
    segment: Arc<Mutex<Segment>>,
    growth: watch::Sender<Growth>,
    path: PathBuf,
    logs: Logs,
}

/// All logs. A cheap handle.
#[derive(Debug, Clone)]
pub struct Logs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    tasks: Tasks,
    open: Mutex<HashMap<(AttemptId, u32), Arc<Log>>>,
    trouble: Mutex<Option<String>>,
}

impl Logs {
    /// Opens the folder, which is made when it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(folder: PathBuf, tasks: Tasks) -> Result<Self, Error> {
        std::fs::create_dir_all(&folder).map_err(|source| Error::File {
            path: folder.clone(),
            what: "made",
            source,
        })?;
        Ok(Self(Arc::new(Inner { folder, tasks, open: Mutex::default(), trouble: Mutex::default() })))
    }

    /// Begins reading at a record's offset: 0, or a [`Record::end`].
    #[must_use]
    pub fn reader(&self, attempt: AttemptId, step: u32, from: u64) -> Reader {
        Reader::new(self.clone(), attempt, step, from)
    }

    /// A log to append to or to watch. Opening it anew reads it to its end.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub async fn log(&self, attempt: AttemptId, step: u32) -> Result<Arc<Log>, Error> {
        if let Some(log) = self.opened(attempt, step) {
            return Ok(log);
        }
        let path = self.path(attempt, step);
        let opened = path.clone();
        let segment = self.blocking(move || Segment::open(&opened)).await?;
        let segment = segment.map_err(|source| self.failed(path.clone(), source))?;
        let growth = watch::Sender::new(Growth::of(&segment));
        let sealed = segment.tail.sealed;
        let log = Arc::new(Log { segment: Arc::new(Mutex::new(segment)), growth, path, logs: self.clone() });
        if sealed {
            return Ok(log);
        }
        // Another caller may have opened it at the same time: then both have to use one and the same.
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(open.entry((attempt, step)).or_insert(log)))
    }

    /// Says that nothing follows, so that readers end. What was not acknowledged by now never will be.
    pub async fn seal(&self, attempt: AttemptId, step: u32) {
        let sealed = match self.log(attempt, step).await {
            Ok(log) => log.seal().await,
            Err(error) => Err(error),
        };
        if let Err(error) = sealed {
            // The row of the step says that it ended; readers go by that.
            tracing::warn!(%error, %attempt, slot = step, "a log could not be closed in its file");
        }
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&(attempt, step));
    }

    /// Bytes of standard output and standard error so far, of a log that is being written.
    #[must_use]
    pub fn bytes_so_far(&self, attempt: AttemptId, step: u32) -> Option<u64> {
        self.opened(attempt, step).map(|log| log.growth.borrow().log_bytes)
    }

    /// What the last write failed with; `None` when it did not.
    #[must_use]
    pub fn health(&self) -> Option<String> {
        self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn opened(&self, attempt: AttemptId, step: u32) -> Option<Arc<Log>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner).get(&(attempt, step)).cloned()
    }

    /// Bytes of the file that readers may see, while it is being written.
    fn durable(&self, attempt: AttemptId, step: u32) -> Option<u64> {
        self.opened(attempt, step).map(|log| log.growth.borrow().file)
    }

    fn path(&self, attempt: AttemptId, step: u32) -> PathBuf {
        self.0.folder.join(attempt.to_string()).join(format!("{step}.log"))
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        self.0.tasks.blocking(work).await.map_err(Error::Stopping)
    }

    fn failed(&self, path: PathBuf, source: std::io::Error) -> Error {
        let full = matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
        let error = if full { Error::Full { path } } else { Error::File { path, what: "written", source } };
        self.trouble(Some(error.to_string()));
        error
    }

    fn trouble(&self, what: Option<String>) {
        *self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }
}

impl Growth {
    fn of(segment: &Segment) -> Self {
        let tail = &segment.tail;
        Self { durable: tail.spool, log_bytes: tail.log, sealed: tail.sealed, file: tail.file }
    }
}

impl Log {
    /// Appends chunks of the spool, each with its offset, makes them durable and answers how far the log is durable then.
    ///
    /// # Errors
    /// When they do not follow what is there, the log is complete, or the disk fails; nothing was appended then.
    pub async fn append(&self, chunks: Vec<(u64, Bytes)>) -> Result<u64, Error> {
        let segment = Arc::clone(&self.segment);
        let work = move || {
            let mut segment = segment.lock().unwrap_or_else(PoisonError::into_inner);
            segment.append(&chunks).map(|()| Growth::of(&segment))
        };
        match self.logs.blocking(work).await? {
            Ok(growth) => {
                self.logs.trouble(None);
                // Two appends may end in any order here; a log only grows.
                self.growth.send_if_modified(|now| {
                    let grown = growth.file > now.file;
                    if grown {
                        *now = growth;
                    }
                    grown
                });
                Ok(growth.durable)
            }
            Err(Refused::Gap(expected)) => Err(Error::Gap { expected }),
            Err(Refused::Sealed) => Err(Error::Sealed),
            Err(Refused::Io(source)) => Err(self.logs.failed(self.path.clone(), source)),
        }
    }

    /// How far it has grown, to be watched.
    #[must_use]
    pub fn growth(&self) -> watch::Receiver<Growth> {
        self.growth.subscribe()
    }

    /// Length and digest of what is durable.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let segment = self.segment.lock().unwrap_or_else(PoisonError::into_inner);
        Digest { bytes: segment.tail.log, sha256: segment.tail.sha256(), durable: segment.tail.spool }
    }

    async fn seal(&self) -> Result<(), Error> {
        let segment = Arc::clone(&self.segment);
        let work = move || {
            let mut segment = segment.lock().unwrap_or_else(PoisonError::into_inner);
            let sealed = segment.seal();
            (sealed, Growth::of(&segment))
        };
        let (sealed, growth) = self.logs.blocking(work).await?;
        self.growth.send_replace(growth);
        sealed.map_err(|source| self.logs.failed(self.path.clone(), source))
    }
}
