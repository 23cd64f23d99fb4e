//! The one thread that writes, with group commit.
//!
//! It takes every operation that waits, runs each in a savepoint of one transaction, commits once and answers all. So under
//! load one fsync serves many operations, and without load none waits for company.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, oneshot};

use super::conn::Conn;
use super::db::Db;
use crate::store::{Error, Operation, Undo};
use crate::tasks::{OnError, Tasks};

/// Operations that may wait; more wait at their senders.
const QUEUE: usize = 1024;
/// Operations in one commit.
const BATCH: usize = 256;

struct Request {
    operation: Operation,
    answer: oneshot::Sender<Result<(), Error>>,
}

/// Opens the connection anew.
pub(super) type Open = Box<dyn Fn() -> Result<Db, Error> + Send>;

/// Handle of the writing thread.
#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Request>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Request")
    }
}

impl Writer {
    pub(super) fn start(db: Db, open: Open, tasks: &Tasks) -> Result<Self, Error> {
        let (queue, requests) = mpsc::channel(QUEUE);
        let (end, ended) = oneshot::channel();
        let stop = tasks.token().clone();
        let task = async move {
            write_all(Connected { db: Some(db), open }, requests, &stop).await;
            // Nobody may be waiting for the end.
            let _told = end.send(()).is_ok();
            Ok::<(), Infallible>(())
        };
        // Statements and commits block it, and nothing else.
        tasks.spawn_thread("store-writer", OnError::Stop, task).map_err(Error::Thread)?;
        Ok(Self { queue, ended: Mutex::new(Some(ended)) })
    }

    pub(super) async fn run(&self, operation: Operation) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        self.queue.send(Request { operation, answer }).await.map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }

    /// Waits until the thread has ended, which it does when the owner's token is cancelled.
    pub(super) async fn close(&self) {
        if let Some(ended) = self.ended.lock().await.take() {
            let _ended = ended.await.is_ok();
        }
    }
}

/// The connection, made anew after a failure.
struct Connected {
    db: Option<Db>,
    open: Open,
}

impl Connected {
    fn get(&mut self) -> Result<&mut Db, Error> {
        let db = match self.db.take() {
            Some(db) => db,
            None => (self.open)()?,
        };
        Ok(self.db.insert(db))
    }
}

async fn write_all(
    mut connected: Connected,
    mut requests: mpsc::Receiver<Request>,
    stop: &tokio_util::sync::CancellationToken,
) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            // What was queued before the stop is committed.
            biased;
            taken = requests.recv_many(&mut batch, BATCH) => if taken == 0 { break },
            () = stop.cancelled() => {
                requests.close();
                continue;
            }
        }
        commit(&mut connected, &mut batch).await;
    }
}

/// Runs a batch in one transaction and answers it.
async fn commit(connected: &mut Connected, batch: &mut Vec<Request>) {
    let mut answers = Vec::with_capacity(batch.len());
    let committed = match connected.get() {
        Ok(db) => run_batch(db, batch, &mut answers).await,
        Err(error) => Err(error),
    };
    answers.extend(batch.drain(..).map(|request| request.answer));
    if let Err(error) = &committed {
        tracing::error!(
            error = error as &dyn std::error::Error,
            operations = answers.len(),
            "a commit failed; nothing of it was kept"
        );
        // With it what is left of the transaction.
        connected.db = None;
    }
    answer(answers, committed.err());
}

async fn run_batch(
    db: &mut Db,
    batch: &mut Vec<Request>,
    answers: &mut Vec<oneshot::Sender<Result<(), Error>>>,
) -> Result<(), Error> {
    db.run("BEGIN IMMEDIATE")?;
    for request in batch.drain(..) {
        answers.push(request.answer);
        in_savepoint(db, request.operation).await?;
    }
    db.run("COMMIT")
}

/// All of them hear why the commit failed.
fn answer(answers: Vec<oneshot::Sender<Result<(), Error>>>, failed: Option<Error>) {
    let again = |failed: &Error| match failed {
        Error::Full => Error::Full,
        Error::Database(cause) => Error::Database(Arc::clone(cause)),
        _ => Error::Closed,
    };
    let others: Vec<_> = answers.iter().skip(1).map(|_| failed.as_ref().map(again)).collect();
    for (answer, failed) in answers.into_iter().zip(std::iter::once(failed).chain(others)) {
        // Who asked may have gone away; the commit stands.
        let _heard = answer.send(failed.map_or(Ok(()), Err)).is_ok();
    }
}

async fn in_savepoint(db: &mut Db, operation: Operation) -> Result<(), Error> {
    db.run("SAVEPOINT operation")?;
    let mut conn = Conn::new(db);
    let done = operation(&mut conn).await;
    let full = conn.full();
    if done == Err(Undo) {
        // On a full disk SQLite undoes the whole transaction by itself; there is no savepoint to go back to then
        // (sqlite.org/lang_transaction.html, "Response To Errors Within A Transaction").
        db.run("ROLLBACK TO operation").map_err(|error| if full { Error::Full } else { error })?;
    }
    db.run("RELEASE operation")
}
