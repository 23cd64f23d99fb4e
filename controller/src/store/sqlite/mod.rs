//! Rows in one SQLite file, for one controller.
//!
//! WAL with `synchronous=FULL`: a commit is on the disk when it is answered. One connection writes, owned by one task; a few
//! read. Reading never waits for writing.

mod agents;
mod approvals;
mod artifacts;
mod column;
mod conn;
mod deployments;
mod jobs;
mod joins;
mod libraries;
mod migrate;
mod people;
mod plans;
mod pools;
mod projects;
mod releases;
mod scaling;
mod sealed;
mod steps;
mod traces;
mod waits;
mod writer;

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _};

use super::{Error, Operation, Store};
use crate::tasks::Tasks;
use conn::Conn;
use writer::Writer;

/// Connections that read at the same time.
const READERS: u32 = 4;
/// How long a statement waits for a lock: only another program on the same file could hold one.
const BUSY: Duration = Duration::from_secs(10);

/// The SQLite backend.
#[derive(Debug)]
pub struct Sqlite {
    writer: Writer,
    readers: SqlitePool,
}

impl Sqlite {
    /// Opens the file, makes it when it is missing, and brings its schema up to date, after a copy of what it was.
    ///
    /// # Errors
    /// When the file cannot be used, or a newer program has changed its schema.
    pub async fn open(path: &Path, tasks: &Tasks) -> Result<Self, Error> {
        Self::with(SqliteConnectOptions::new().filename(path), tasks).await
    }

    async fn with(options: SqliteConnectOptions, tasks: &Tasks) -> Result<Self, Error> {
        let options = options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY)
            .disable_statement_logging();
        let mut connection = SqliteConnection::connect_with(&options).await?;
        migrate::forward(&mut connection, options.get_filename(), &migrate::STEPS).await?;
        let readers = SqlitePoolOptions::new()
            .min_connections(1)
            .max_connections(READERS)
            .connect_with(options.clone().pragma("query_only", "1"))
            .await?;
        Ok(Self { writer: Writer::start(connection, options, tasks), readers })
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn run_write(&self, operation: Operation) -> Result<(), Error> {
        self.writer.run(operation).await
    }

    async fn run_read(&self, operation: Operation) -> Result<(), Error> {
        let mut tx = self.readers.begin().await?;
        // What the operation found stands in its own slot; nothing was changed that would have to be undone.
        let _done = operation(&mut Conn::new(&mut tx)).await.is_ok();
        tx.rollback().await?;
        Ok(())
    }

    async fn close(&self) {
        self.writer.close().await;
        self.readers.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::suite;
    use std::sync::Arc;

    #[tokio::test]
    async fn passes_the_suite() {
        let folder = tempfile::tempdir().unwrap();
        let mut n = 0;
        suite::run(async || {
            n += 1;
            let path = folder.path().join(format!("{n}.db"));
            Arc::new(Sqlite::open(&path, &Tasks::new()).await.unwrap()) as Arc<dyn Store>
        })
        .await;
    }

    /// SQLite answers the same when it may take no more pages and when the disk has none.
    #[tokio::test]
    async fn a_full_disk_undoes_and_says_so_and_what_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new().filename(folder.path().join("db")).pragma("max_page_count", "150");
        let store: Arc<dyn Store> = Arc::new(Sqlite::with(options, &Tasks::new()).await.unwrap());
        let save = async |n: u8, length: usize| {
            let row = crate::store::rows::EventRow {
                id: 0,
                at: longshore_core::time::Timestamp::from_micros(1),
                actor: "x".repeat(length),
                action: n.to_string(),
                object: String::new(),
                outcome: crate::store::rows::Outcome::Done,
                deployment: None,
                detail: serde_json::json!({}),
            };
            let done: Result<(), Error> =
                store.write(move |tx| Box::pin(async move { tx.insert_event(&row).await })).await;
            done
        };
        save(1, 10).await.unwrap();
        for round in 0..3 {
            let full = save(2, 1 << 20).await;
            assert!(matches!(full, Err(Error::Full)), "{round}: {full:?}");
        }
        save(3, 10).await.unwrap();
    }

    #[tokio::test]
    async fn tokens_and_events_of_the_first_schema_get_their_user_and_object() {
        let mut c = SqliteConnection::connect_with(&SqliteConnectOptions::new().in_memory(true)).await.unwrap();
        let id = longshore_core::id::TokenId::new(longshore_core::time::Timestamp::from_micros(1), [1; 10]);
        for sql in [
            include_str!("../../../migrations/sqlite/0001_first_deployment.sql"),
            "INSERT INTO event (at, actor, action, deployment, detail) VALUES (1, 'admin', 'a', 'dep_1', '{}'); \
             INSERT INTO event (at, actor, action, deployment, detail) VALUES (1, 'admin', 'b', NULL, '{\"project\":\"shop\"}'); \
             INSERT INTO event (at, actor, action, deployment, detail) VALUES (1, 'admin', 'c', NULL, '{}');",
        ] {
            sqlx::raw_sql(sql).execute(&mut c).await.unwrap();
        }
        let insert = "INSERT INTO token (id, hash, name, created_at) VALUES ($1, x'01', 'admin', 1)";
        sqlx::query(insert).bind(id.to_string()).execute(&mut c).await.unwrap();
        sqlx::raw_sql(include_str!("../../../migrations/sqlite/0002_people.sql")).execute(&mut c).await.unwrap();
        let mut conn = Conn::new(&mut c);
        let tx: &mut dyn crate::store::Tx = &mut conn;
        let token = tx.token(&[1]).await.unwrap().unwrap();
        assert_eq!((token.user.as_str(), token.limit), ("admin", None));
        let sql = "SELECT group_concat(object || ' ' || outcome, ',') FROM event";
        let row = sqlx::query(sql).fetch_one(conn.connection()).await.unwrap();
        assert_eq!(column::any_text(&row), "deployment/dep_1 done,project/shop done, done");
    }

    #[tokio::test]
    async fn keeps_what_the_promise_needs() {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&folder.path().join("db"), &Tasks::new()).await.unwrap();
        let mut connection = store.readers.acquire().await.unwrap();
        let mut pragma = async |sql: &'static str| -> String {
            let row = sqlx::query(sql).fetch_one(&mut *connection).await.unwrap();
            column::any_text(&row)
        };
        assert_eq!(pragma("SELECT journal_mode FROM pragma_journal_mode").await, "wal");
        assert_eq!(pragma("SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous").await, "2");
        assert_eq!(pragma("SELECT CAST(foreign_keys AS TEXT) FROM pragma_foreign_keys").await, "1");
        let lax = "SELECT group_concat(name) FROM pragma_table_list WHERE schema = 'main' AND strict = 0 AND name NOT LIKE 'sqlite_%' \
                   AND name <> '_sqlx_migrations' AND type = 'table'";
        assert_eq!(pragma(lax).await, "", "every table is strict");
    }
}
