//! Bringing the schema up to date: forward only, all steps or none, and never before a copy of what was there is on the disk.
//!
//! Invariants: a database that a newer program has changed is not touched; whatever fails, the database is as it was. The copy
//! beside it is named for the first step that came after it: `controller.db.before-0015` is what the program needs that knows no 0015.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Row as _};

use crate::store::{Error, full};

/// The steps that this program knows.
pub(super) static STEPS: Migrator = sqlx::migrate!("migrations/sqlite");
/// Copies that are kept, the newest.
const COPIES: usize = 3;
/// What the name of a copy has after that of the database, before the number.
const BEFORE: &str = ".before-";

/// Takes every step that the database has not, after a copy of it where it holds something.
///
/// # Errors
/// [`Error::Newer`], [`Error::Copy`] and [`Error::Migrate`]; the database is as it was then.
pub(super) async fn forward(connection: &mut SqliteConnection, path: &Path, steps: &Migrator) -> Result<(), Error> {
    let done = done(connection).await?;
    let known: BTreeSet<i64> = steps.iter().map(|step| step.version).collect();
    if let Some(found) = done.difference(&known).last() {
        return Err(Error::Newer { found: *found, known: known.last().copied().unwrap_or(0) });
    }
    if let Some(next) = known.difference(&done).next().filter(|_| !done.is_empty()) {
        let copy = copy(connection, path, *next).await?;
        tracing::info!(copy = %copy.display(), "the database is moved to a newer schema; this is a copy of what it was");
    }
    // One transaction around those of the steps, which become savepoints of it.
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    steps.run_direct(None, &mut *tx, false).await.map_err(failed)?;
    tx.commit().await?;
    prune(path);
    Ok(())
}

/// A full disk is told apart from a step that is wrong.
fn failed(error: MigrateError) -> Error {
    match error {
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) if full(&cause) => Error::Full,
        other => Error::Migrate(other),
    }
}

/// The steps that the database has.
async fn done(connection: &mut SqliteConnection) -> Result<BTreeSet<i64>, Error> {
    let there = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'";
    if sqlx::query(there).fetch_optional(&mut *connection).await?.is_none() {
        return Ok(BTreeSet::new());
    }
    let rows = sqlx::query("SELECT version FROM _sqlx_migrations").fetch_all(connection).await?;
    rows.iter().map(|row| row.try_get(0).map_err(Error::from)).collect()
}

/// Makes a copy of one state of the database, durable before it has its name.
async fn copy(connection: &mut SqliteConnection, path: &Path, next: i64) -> Result<PathBuf, Error> {
    let copy = named(path, &format!("{next:04}"));
    let half = named(path, "new");
    let at = |source: Box<dyn std::error::Error + Send + Sync>| Error::Copy { path: copy.clone(), source };
    let made = async {
        // What a start that was broken off has left.
        match fs::remove_file(&half) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(error.into())),
            _ => {}
        }
        let text = half.to_str().ok_or_else(|| at("its path is not UTF-8".into()))?;
        let into = sqlx::query("VACUUM INTO $1").bind(text.to_owned()).execute(connection).await;
        into.map_err(|error| at(error.into()))?;
        publish(&half, &copy).map_err(|error| at(error.into()))
    };
    let made = made.await;
    if made.is_err() {
        // Its space is what may be missing.
        let _gone = fs::remove_file(&half).is_ok();
    }
    made.map(|()| copy)
}

/// Makes a file durable, and only then gives it its name.
fn publish(half: &Path, copy: &Path) -> io::Result<()> {
    let file = File::options().write(true).open(half)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.sync_all()?;
    fs::rename(half, copy)?;
    copy.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Removes all copies but the newest. One that cannot be removed is in nobody's way.
fn prune(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return };
    let mut start = name.to_os_string();
    start.push(BEFORE);
    let Ok(entries) = fs::read_dir(folder) else { return };
    let number = |name: OsString| {
        name.to_str()?.strip_prefix(start.to_str()?)?.parse::<i64>().ok().map(|number| (number, folder.join(&name)))
    };
    let copies: BTreeSet<(i64, PathBuf)> = entries.flatten().filter_map(|entry| number(entry.file_name())).collect();
    for (_, copy) in copies.iter().rev().skip(COPIES) {
        let _gone = fs::remove_file(copy).is_ok();
    }
}

fn named(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(BEFORE);
    name.push(end);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::sqlite::SqliteConnectOptions;

    async fn open(path: &Path) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
        let options = options.journal_mode(sqlx::sqlite::SqliteJournalMode::Wal).foreign_keys(true);
        SqliteConnection::connect_with(&options).await.unwrap()
    }

    async fn count(connection: &mut SqliteConnection, sql: &'static str) -> i64 {
        sqlx::query(sql).fetch_one(connection).await.unwrap().get(0)
    }

    fn copies(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut copies: Vec<_> = names.filter(|name| name.contains(BEFORE)).collect();
        copies.sort();
        copies
    }

    /// A database as the program had it that knew the first 13 steps, with a row.
    async fn old(path: &Path) -> SqliteConnection {
        let mut connection = open(path).await;
        STEPS.run_to(13, &mut connection).await.unwrap();
        let row =
            "INSERT INTO event (at, actor, action, object, outcome, detail) VALUES (1, 'admin', 'a', '', 'done', '{}')";
        sqlx::query(row).execute(&mut connection).await.unwrap();
        connection
    }

    const EVENTS: &str = "SELECT count(*) FROM event";
    const STEPS_DONE: &str = "SELECT count(*) FROM _sqlx_migrations";

    #[tokio::test]
    async fn what_holds_something_is_copied_before_it_is_changed_and_only_then() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("controller.db");
        let mut connection = old(&path).await;
        // What a copy that was broken off has left is in nobody's way.
        fs::write(named(&path, "new"), "half").unwrap();
        for _again in 0..2 {
            forward(&mut connection, &path, &STEPS).await.unwrap();
            assert_eq!(copies(folder.path()), ["controller.db.before-0014"]);
        }
        assert_eq!(count(&mut connection, STEPS_DONE).await, i64::try_from(STEPS.iter().count()).unwrap());

        let copy = named(&path, "0014");
        assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        // Going back: the copy is a database of the older program, with everything in it.
        let mut back = open(&copy).await;
        assert_eq!((count(&mut back, STEPS_DONE).await, count(&mut back, EVENTS).await), (13, 1));
        assert_eq!(
            count(&mut back, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'").await,
            0
        );
        drop(back);

        let new = folder.path().join("new.db");
        forward(&mut open(&new).await, &new, &STEPS).await.unwrap();
        assert!(!named(&new, "0001").exists(), "there was nothing to copy");
    }

    #[tokio::test]
    async fn without_a_copy_nothing_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("controller.db");
        let mut connection = old(&path).await;
        // Something that cannot be replaced has the copy's name.
        fs::create_dir_all(named(&path, "0014").join("x")).unwrap();
        let refused = forward(&mut connection, &path, &STEPS).await.unwrap_err();
        assert!(matches!(&refused, Error::Copy { path: at, .. } if *at == named(&path, "0014")), "{refused:?}");
        assert!(refused.to_string().contains("nothing was changed"), "{refused}");
        assert_eq!((count(&mut connection, STEPS_DONE).await, count(&mut connection, EVENTS).await), (13, 1));
        assert_eq!(copies(folder.path()), ["controller.db.before-0014"], "what was half made is gone");
    }

    #[tokio::test]
    async fn a_step_that_fails_undoes_those_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let steps = folder.path().join("steps");
        fs::create_dir(&steps).unwrap();
        fs::write(steps.join("0001_a.sql"), "CREATE TABLE a (x INTEGER NOT NULL) STRICT;").unwrap();
        let path = folder.path().join("db");
        let mut connection = open(&path).await;
        forward(&mut connection, &path, &Migrator::new(steps.as_path()).await.unwrap()).await.unwrap();
        fs::write(steps.join("0002_b.sql"), "ALTER TABLE a ADD COLUMN y INTEGER;").unwrap();
        fs::write(steps.join("0003_c.sql"), "INSERT INTO a (x, y) VALUES (1, 2); INSERT INTO nowhere VALUES (1);")
            .unwrap();
        let broken = Migrator::new(steps.as_path()).await.unwrap();
        let failed = forward(&mut connection, &path, &broken).await.unwrap_err();
        assert!(matches!(failed, Error::Migrate(_)), "{failed:?}");
        assert_eq!(count(&mut connection, STEPS_DONE).await, 1);
        assert_eq!(count(&mut connection, "SELECT count(*) FROM pragma_table_info('a')").await, 1);
        assert_eq!(count(&mut connection, "SELECT count(*) FROM a").await, 0);

        fs::write(steps.join("0003_c.sql"), "INSERT INTO a (x, y) VALUES (1, 2);").unwrap();
        forward(&mut connection, &path, &Migrator::new(steps.as_path()).await.unwrap()).await.unwrap();
        assert_eq!(count(&mut connection, "SELECT y FROM a").await, 2);
    }

    #[tokio::test]
    async fn what_a_newer_program_has_changed_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("controller.db");
        let mut connection = old(&path).await;
        let row = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'x', 1, x'00', 1)";
        sqlx::query(row).execute(&mut connection).await.unwrap();
        let refused = forward(&mut connection, &path, &STEPS).await.unwrap_err();
        let known = STEPS.iter().last().unwrap().version;
        assert!(matches!(refused, Error::Newer { found: 9999, known: k } if k == known), "{refused:?}");
        assert_eq!(count(&mut connection, STEPS_DONE).await, 14);
        assert!(copies(folder.path()).is_empty());
    }

    #[tokio::test]
    async fn the_newest_three_copies_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("controller.db");
        let mut connection = old(&path).await;
        for there in ["0002", "0009", "0011", "mine", "0003.gz"] {
            fs::write(named(&path, there), "").unwrap();
        }
        forward(&mut connection, &path, &STEPS).await.unwrap();
        let kept = ["0003.gz", "0009", "0011", "0014", "mine"].map(|end| format!("controller.db.before-{end}"));
        assert_eq!(copies(folder.path()), kept);
    }
}
