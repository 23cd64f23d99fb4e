//! Connections that only read, each used by one operation at a time on a thread for blocking work.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::conn::Conn;
use super::db::{Db, Role};
use crate::store::{Error, Operation};
use crate::tasks::Tasks;

/// Connections that read at the same time.
const READERS: usize = 4;

/// The connections. They are opened when they are needed first.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    tasks: Tasks,
    idle: Arc<Mutex<Vec<Db>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(path: PathBuf, tasks: &Tasks) -> Self {
        Self { path, tasks: tasks.clone(), idle: Arc::default(), permits: Arc::new(Semaphore::new(READERS)) }
    }

    /// Runs an operation on one state of the database.
    pub(super) async fn run(&self, operation: Operation) -> Result<(), Error> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| Error::Closed)?;
        let (idle, path, runtime) = (Arc::clone(&self.idle), self.path.clone(), Handle::current());
        let read = move || {
            let lock = || idle.lock().unwrap_or_else(PoisonError::into_inner);
            let there = lock().pop();
            let mut db = there.map_or_else(|| Db::open(&path, Role::Reads), Ok)?;
            runtime.block_on(read(&mut db, operation))?;
            // One that failed is not used again.
            lock().push(db);
            drop(permit);
            Ok(())
        };
        self.tasks.blocking(read).await.unwrap_or(Err(Error::Closed))
    }

    /// What runs comes to its end, and nothing after it.
    pub(super) fn close(&self) {
        self.permits.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

async fn read(db: &mut Db, operation: Operation) -> Result<(), Error> {
    db.run("BEGIN")?;
    // What the operation found stands in its own slot; nothing was changed that would have to be undone.
    let _done = operation(&mut Conn::new(db)).await.is_ok();
    db.run("ROLLBACK")
}
