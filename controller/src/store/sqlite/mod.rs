//! Rows in one SQLite file, for one controller.
//!
//! WAL with `synchronous=FULL`: a commit is on the disk when it is answered. One connection writes, owned by one thread; a few
//! read. Reading never waits for writing. An operation runs where its connection is, so that a statement is a call and not a message
//! to another thread: those cost more than all that SQLite does (`docs/adr`).

mod agents;
mod approvals;
mod artifacts;
mod column;
mod conn;
mod db;
mod deployments;
mod jobs;
mod joins;
mod libraries;
mod memo;
mod migrate;
mod people;
mod plans;
mod pools;
mod projects;
mod readers;
mod releases;
mod scaling;
mod schema;
mod sealed;
mod steps;
mod traces;
mod waits;
mod writer;

use std::path::Path;

use async_trait::async_trait;

use super::{Error, Operation, Store};
use crate::tasks::Tasks;
use db::{Db, Role};
pub(super) use migrate::Failed;
use readers::Readers;
use writer::{Open, Writer};

/// The SQLite backend.
#[derive(Debug)]
pub struct Sqlite {
    writer: Writer,
    readers: Readers,
}

impl Sqlite {
    /// Opens the file, makes it when it is missing, and brings its schema up to date, after a copy of what it was.
    ///
    /// # Errors
    /// When the file cannot be used, or a newer program has changed its schema.
    pub async fn open(path: &Path, tasks: &Tasks) -> Result<Self, Error> {
        let at = path.to_owned();
        let ready = move || {
            let db = Db::open(&at, Role::Writes)?;
            migrate::forward(&db, &at, &schema::known())?;
            Ok(db)
        };
        let db = tasks.blocking(ready).await.unwrap_or(Err(Error::Closed))?;
        let at = path.to_owned();
        Self::with(db, Box::new(move || Db::open(&at, Role::Writes)), path, tasks)
    }

    fn with(db: Db, open: Open, path: &Path, tasks: &Tasks) -> Result<Self, Error> {
        let writer = Writer::start(db, open, tasks)?;
        Ok(Self { writer, readers: Readers::new(path.to_owned(), tasks) })
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn run_write(&self, operation: Operation) -> Result<(), Error> {
        self.writer.run(operation).await
    }

    async fn run_read(&self, operation: Operation) -> Result<(), Error> {
        self.readers.run(operation).await
    }

    async fn close(&self) {
        self.writer.close().await;
        self.readers.close();
    }
}

#[cfg(test)]
mod tests {
    use super::conn::Conn;
    use super::db::query;
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
        let path = folder.path().join("db");
        let at = path.clone();
        let open = move || {
            let db = Db::open(&at, Role::Writes)?;
            db.batch("PRAGMA max_page_count = 150")?;
            Ok(db)
        };
        let db = open().unwrap();
        migrate::forward(&db, &path, &schema::known()).unwrap();
        let store: Arc<dyn Store> = Arc::new(Sqlite::with(db, Box::new(open), &path, &Tasks::new()).unwrap());
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
        let mut c = Db::in_memory().unwrap();
        let id = longshore_core::id::TokenId::new(longshore_core::time::Timestamp::from_micros(1), [1; 10]);
        for sql in [
            include_str!("../../../migrations/sqlite/0001_first_deployment.sql"),
            "INSERT INTO event (at, actor, action, deployment, detail) VALUES (1, 'admin', 'a', 'dep_1', '{}'); \
             INSERT INTO event (at, actor, action, deployment, detail) VALUES (1, 'admin', 'b', NULL, '{\"project\":\"shop\"}'); \
             INSERT INTO event (at, actor, action, deployment, detail) VALUES (1, 'admin', 'c', NULL, '{}');",
        ] {
            c.batch(sql).unwrap();
        }
        let insert = "INSERT INTO token (id, hash, name, created_at) VALUES ($1, x'01', 'admin', 1)";
        query(insert).bind(id.to_string()).execute(&c).unwrap();
        c.batch(include_str!("../../../migrations/sqlite/0002_people.sql")).unwrap();
        let mut conn = Conn::new(&mut c);
        let tx: &mut dyn crate::store::Tx = &mut conn;
        let token = tx.token(&[1]).await.unwrap().unwrap();
        assert_eq!((token.user.as_str(), token.limit), ("admin", None));
        let sql = "SELECT group_concat(object || ' ' || outcome, ',') FROM event";
        let row = query(sql).fetch_one(conn.connection()).unwrap();
        assert_eq!(column::any_text(&row), "deployment/dep_1 done,project/shop done, done");
    }

    #[tokio::test]
    async fn keeps_what_the_promise_needs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let _store = Sqlite::open(&path, &Tasks::new()).await.unwrap();
        let db = Db::open(&path, Role::Reads).unwrap();
        let pragma = |sql: &'static str| column::any_text(&query(sql).fetch_one(&db).unwrap());
        assert_eq!(pragma("SELECT journal_mode FROM pragma_journal_mode"), "wal");
        assert_eq!(pragma("SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous"), "2");
        assert_eq!(pragma("SELECT CAST(foreign_keys AS TEXT) FROM pragma_foreign_keys"), "1");
        let lax = "SELECT group_concat(name) FROM pragma_table_list WHERE schema = 'main' AND strict = 0 AND name NOT LIKE 'sqlite_%' \
                   AND name <> '_sqlx_migrations' AND type = 'table'";
        assert_eq!(pragma(lax), "", "every table is strict");
    }
}
