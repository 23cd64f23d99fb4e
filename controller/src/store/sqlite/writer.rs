//! The one task that writes, with group commit.
//!
//! It takes every operation that waits, runs each in a savepoint of one transaction, commits once and answers all. So under
//! load one fsync serves many operations, and without load none waits for company.

use std::convert::Infallible;

use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::conn::Conn;
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

/// Handle of the writing task.
#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Request>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Request")
    }
}

impl Writer {
    pub(super) fn start(connection: SqliteConnection, options: SqliteConnectOptions, tasks: &Tasks) -> Self {
        let (queue, requests) = mpsc::channel(QUEUE);
        let (end, ended) = oneshot::channel();
        let stop = tasks.token().clone();
        tasks.spawn("store-writer", OnError::Stop, async move {
            write_all(Connected { connection: Some(connection), options }, requests, &stop).await;
            // Nobody may be waiting for the end.
            let _told = end.send(()).is_ok();
            Ok::<(), Infallible>(())
        });
        Self { queue, ended: Mutex::new(Some(ended)) }
    }

    pub(super) async fn run(&self, operation: Operation) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        self.queue.send(Request { operation, answer }).await.map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }

    /// Waits until the task has ended, which it does when the owner's token is cancelled.
    pub(super) async fn close(&self) {
        if let Some(ended) = self.ended.lock().await.take() {
            let _ended = ended.await.is_ok();
        }
    }
}

/// The connection, made anew after a failure.
struct Connected {
    connection: Option<SqliteConnection>,
    options: SqliteConnectOptions,
}

impl Connected {
    async fn get(&mut self) -> Result<&mut SqliteConnection, Error> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => SqliteConnection::connect_with(&self.options).await?,
        };
        Ok(self.connection.insert(connection))
    }

    async fn close(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "a connection to the database was not closed in order");
        }
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
    connected.close().await;
}

/// Runs a batch in one transaction and answers it.
async fn commit(connected: &mut Connected, batch: &mut Vec<Request>) {
    let mut answers = Vec::with_capacity(batch.len());
    let committed = match connected.get().await {
        Ok(connection) => run_batch(connection, batch, &mut answers).await,
        Err(error) => Err(error),
    };
    answers.extend(batch.drain(..).map(|request| request.answer));
    if let Err(error) = &committed {
        tracing::error!(
            error = error as &dyn std::error::Error,
            operations = answers.len(),
            "a commit failed; nothing of it was kept"
        );
        // sqlx and SQLite may not agree any more on whether a transaction is open.
        connected.close().await;
    }
    answer(answers, committed.err());
}

async fn run_batch(
    connection: &mut SqliteConnection,
    batch: &mut Vec<Request>,
    answers: &mut Vec<oneshot::Sender<Result<(), Error>>>,
) -> Result<(), Error> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    for request in batch.drain(..) {
        answers.push(request.answer);
        in_savepoint(&mut tx, request.operation).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// An error of the commit goes to the first as it is and to the others in words: it cannot be copied.
fn answer(answers: Vec<oneshot::Sender<Result<(), Error>>>, failed: Option<Error>) {
    let again = |failed: &Error| match failed {
        Error::Full => Error::Full,
        other => Error::Database(sqlx::Error::Protocol(other.to_string())),
    };
    let others: Vec<_> = answers.iter().skip(1).map(|_| failed.as_ref().map(again)).collect();
    for (answer, failed) in answers.into_iter().zip(std::iter::once(failed).chain(others)) {
        // Who asked may have gone away; the commit stands.
        let _heard = answer.send(failed.map_or(Ok(()), Err)).is_ok();
    }
}

async fn in_savepoint(tx: &mut sqlx::Transaction<'_, sqlx::Sqlite>, operation: Operation) -> Result<(), Error> {
    let mut savepoint = tx.begin().await?;
    let mut conn = Conn::new(&mut savepoint);
    let done = operation(&mut conn).await;
    let full = conn.full();
    match done {
        Ok(()) => savepoint.commit().await?,
        // On a full disk SQLite undoes the whole transaction by itself; there is no savepoint to go back to then
        // (sqlite.org/lang_transaction.html, "Response To Errors Within A Transaction").
        Err(Undo) => savepoint.rollback().await.map_err(|error| if full { Error::Full } else { error.into() })?,
    }
    Ok(())
}
