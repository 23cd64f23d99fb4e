//! The one task that writes, with group commit.
//!
//! It takes every operation that waits, runs each in a savepoint of one transaction, commits once and answers all. So under
//! load one fsync serves many operations, and without load none waits for company.

use std::convert::Infallible;

use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;
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
    pub(super) fn start(connection: SqliteConnection, tasks: &Tasks) -> Self {
        let (queue, requests) = mpsc::channel(QUEUE);
        let (end, ended) = oneshot::channel();
        let stop = tasks.token().clone();
        tasks.spawn("store-writer", OnError::Stop, async move {
            write_all(connection, requests, &stop).await;
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

async fn write_all(
    mut connection: SqliteConnection,
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
        commit(&mut connection, &mut batch).await;
    }
    if let Err(error) = connection.close().await {
        tracing::warn!(%error, "the database was not closed in order");
    }
}

/// Runs a batch in one transaction and answers it.
async fn commit(connection: &mut SqliteConnection, batch: &mut Vec<Request>) {
    let mut answers = Vec::with_capacity(batch.len());
    let committed = match connection.begin_with("BEGIN IMMEDIATE").await {
        Err(error) => Err(error),
        Ok(mut tx) => {
            let mut failed = None;
            for request in batch.drain(..) {
                let ran = if failed.is_none() { in_savepoint(&mut tx, request.operation).await } else { Ok(()) };
                failed = failed.or(ran.err());
                answers.push(request.answer);
            }
            match failed {
                Some(error) => Err(error),
                None => tx.commit().await,
            }
        }
    };
    answers.extend(batch.drain(..).map(|request| request.answer));
    if let Err(error) = &committed {
        tracing::error!(%error, operations = answers.len(), "a commit failed; nothing of it was kept");
    }
    let message = committed.err().map(|error| (error.to_string(), Error::from(error)));
    answer(answers, message);
}

/// An error of the commit goes to the first as it is and to the others in words: it cannot be copied.
fn answer(answers: Vec<oneshot::Sender<Result<(), Error>>>, failed: Option<(String, Error)>) {
    let Some((text, error)) = failed else {
        for answer in answers {
            // Who asked may have gone away; the commit stands.
            let _heard = answer.send(Ok(())).is_ok();
        }
        return;
    };
    let full = matches!(error, Error::Full);
    let mut first = Some(error);
    for answer in answers {
        let other = || if full { Error::Full } else { Error::Database(sqlx::Error::Protocol(text.clone())) };
        let _heard = answer.send(Err(first.take().unwrap_or_else(other))).is_ok();
    }
}

async fn in_savepoint(
    tx: &mut sqlx::Transaction<'_, sqlx::Sqlite>,
    operation: Operation,
) -> Result<(), sqlx::Error> {
    let mut savepoint = tx.begin().await?;
    match operation(&mut Conn(&mut savepoint)).await {
        Ok(()) => savepoint.commit().await,
        Err(Undo) => savepoint.rollback().await,
    }
}
