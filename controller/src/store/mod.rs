//! Where rows are kept. The rows are the truth: everything else can be worked out from them after a crash at any line.
//!
//! A [`Store`] runs operations. One that writes is all or nothing, and is answered after its commit is durable (promise
//! P1); several may share one commit. One that reads sees one state of the database. Operations are composed of
//! the row methods of [`Tx`]; these take and give domain types and decide nothing.
//!
//! Whatever must hold between rows is a constraint of the schema: one holder of a lock, one live attempt of a job.
//! `suite` is what every backend has to pass.

pub mod artifacts;
pub mod joins;
pub mod libraries;
mod measured;
pub mod people;
pub mod pools;
pub mod rows;
pub mod scaling;
mod sealed;
pub mod sqlite;
#[cfg(test)]
pub(crate) mod suite;
pub mod traces;
mod tx;
pub mod waits;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::future::BoxFuture;

pub use artifacts::Artifacts;
pub use joins::{JoinRuleRow, Joins};
pub use libraries::{Libraries, LibraryRow};
pub use measured::Measured;
pub use pools::{PoolRow, Pools};
pub use scaling::{ScaleInRow, Scaling, ScalingRow};
pub use sealed::{DataKeyRow, SealedRow, Seals};
pub use traces::Traces;
pub use tx::Tx;
pub use waits::Waits;

/// Why rows could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk is full. Nothing was changed; it goes on by itself when there is room.
    #[error("the disk of the database is full: nothing was changed; free some space and try again")]
    Full,
    /// The database failed.
    #[error("the database failed")]
    Database(#[source] Arc<rusqlite::Error>),
    /// The schema could not be brought up to date.
    #[error("the database's schema cannot be brought up to date; it is as it was")]
    Migrate(#[source] sqlite::Failed),
    /// A newer program has changed the schema.
    #[error(
        "a newer version of this program has changed the database's schema (to {found}, and this one knows {known}): nothing was changed; \
         start the newer version again, or go back with the copy `*.before-NNNN` that it has left beside the database, as \
         docs/upgrade.md says"
    )]
    Newer {
        /// The newest step that is not known.
        found: i64,
        /// The newest that is.
        known: i64,
    },
    /// There is no copy of the database, so its schema was not changed.
    #[error(
        "the database has to be moved to a newer schema, and the copy `{}` cannot be made first: nothing was changed; make room \
         for as much as the database has and start again, or start the version that was there before", path.display()
    )]
    Copy {
        /// The copy.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no thread for what writes.
    #[error("no thread could be started for the database")]
    Thread(#[source] std::io::Error),
    /// A row that this program did not write like this.
    #[error("column `{column}` holds what it cannot hold: {what}")]
    Row {
        /// The column.
        column: &'static str,
        /// What is wrong.
        what: String,
    },
    /// The store is closing.
    #[error("the database is closing")]
    Closed,
    /// A newer change got there first; nothing was changed.
    #[error("`{0}` was changed at the same time")]
    Stale(String),
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let full = error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
        if full { Self::Full } else { Self::Database(Arc::new(error)) }
    }
}

/// The operation asked for its changes to be undone; its reason is where it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undo;

/// An operation on rows, as a backend runs it.
pub type Operation = Box<dyn for<'t> FnOnce(&'t mut dyn Tx) -> BoxFuture<'t, Result<(), Undo>> + Send>;

/// A backend. Use it through [`Arc<dyn Store>`](Store), whose `write` and `read` take closures with results.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Runs an operation that writes; answers after its commit is durable, or after it was undone.
    ///
    /// # Errors
    /// When the commit failed: then nothing was changed.
    async fn run_write(&self, operation: Operation) -> Result<(), Error>;

    /// Runs an operation that only reads.
    ///
    /// # Errors
    /// When the database cannot be read.
    async fn run_read(&self, operation: Operation) -> Result<(), Error>;

    /// Ends the store after what was accepted is committed.
    async fn close(&self);
}

impl dyn Store {
    /// Runs `operation` in a transaction of its own. An error of it undoes what it did.
    ///
    /// # Errors
    /// The operation's own, or that of the store.
    pub async fn write<T, E, F>(&self, operation: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: for<'t> FnOnce(&'t mut dyn Tx) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
    {
        let slot = Slot::new();
        let ran = self.run_write(slot.wrap(operation)).await;
        slot.take(ran)
    }

    /// Runs `operation` on one state of the database.
    ///
    /// # Errors
    /// The operation's own, or that of the store.
    pub async fn read<T, E, F>(&self, operation: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: for<'t> FnOnce(&'t mut dyn Tx) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
    {
        let slot = Slot::new();
        let ran = self.run_read(slot.wrap(operation)).await;
        slot.take(ran)
    }
}

/// Carries a result out of an operation, past the commit.
struct Slot<R>(Arc<Mutex<Option<R>>>);

impl<T: Send + 'static, E: From<Error> + Send + 'static> Slot<Result<T, E>> {
    fn new() -> Self {
        Self(Arc::default())
    }

    fn wrap<F>(&self, operation: F) -> Operation
    where
        F: for<'t> FnOnce(&'t mut dyn Tx) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
    {
        let slot = Arc::clone(&self.0);
        Box::new(move |tx| {
            Box::pin(async move {
                let result = operation(tx).await;
                let undo = result.is_err();
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                if undo { Err(Undo) } else { Ok(()) }
            })
        })
    }

    fn take(self, ran: Result<(), Error>) -> Result<T, E> {
        let result = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (ran, result) {
            // What made the operation give up says more than what followed from it.
            (_, Some(Err(error))) => Err(error),
            (Err(error), _) => Err(error.into()),
            (Ok(()), Some(Ok(value))) => Ok(value),
            (Ok(()), None) => Err(Error::Closed.into()),
        }
    }
}
