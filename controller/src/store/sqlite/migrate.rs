//! Bringing the schema up to date: forward only, all steps or none, and never before a copy of what was there is on the disk.
//!
//! Invariants: a database that a newer program has changed is not touched; whatever fails, the database is as it was. The copy
//! beside it is named for the first step that came after it: `controller.db.before-0015` is what the program needs that knows no 0015.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::column::{blob, int};
use super::db::{Db, query};
use super::schema::Step;
use crate::store::Error;

/// Copies that are kept, the newest.
const COPIES: usize = 3;
/// What the name of a copy has after that of the database, before the number.
const BEFORE: &str = ".before-";

/// The steps that a database has taken. Programs before this one had it kept by sqlx, which gave it the name and the columns; with
/// both kept, a database goes on, and a program that is older than its schema says so.
const TAKEN: &str = "CREATE TABLE IF NOT EXISTS _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL, \
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL, checksum BLOB NOT NULL, execution_time BIGINT NOT NULL)";

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// A step failed.
    #[error("step `{version}` failed")]
    Step {
        /// Its number.
        version: i64,
        /// Why.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// The database has taken a step of this number that was another one.
    #[error("step `{version}` is not the one that this database has taken")]
    Changed {
        /// Its number.
        version: i64,
    },
}

/// Takes every step that the database has not, after a copy of it where it holds something.
///
/// # Errors
/// [`Error::Newer`], [`Error::Copy`] and [`Error::Migrate`]; the database is as it was then.
pub(super) fn forward(db: &Db, path: &Path, steps: &[Step]) -> Result<(), Error> {
    let taken = taken(db)?;
    let known: BTreeSet<i64> = steps.iter().map(|step| step.version).collect();
    if let Some(found) = taken.keys().rfind(|version| !known.contains(version)) {
        return Err(Error::Newer { found: *found, known: known.last().copied().unwrap_or(0) });
    }
    if let Some(step) = steps.iter().find(|step| taken.get(&step.version).is_some_and(|sum| *sum != step.checksum())) {
        return Err(Error::Migrate(Failed::Changed { version: step.version }));
    }
    let missing: Vec<_> = steps.iter().filter(|step| !taken.contains_key(&step.version)).collect();
    if let Some(next) = missing.first() {
        if !taken.is_empty() {
            let copy = copy(db, path, next.version)?;
            tracing::info!(copy = %copy.display(), "the database is moved to a newer schema; this is a copy of what it was");
        }
        // All of them or none.
        db.run("BEGIN IMMEDIATE")?;
        if let Err(error) = take(db, &missing) {
            // A full disk has undone it already.
            let _undone = !db.in_transaction() || db.run("ROLLBACK").is_ok();
            return Err(error);
        }
        db.run("COMMIT")?;
    }
    prune(path);
    Ok(())
}

/// Takes steps and notes that it did.
fn take(db: &Db, steps: &[&Step]) -> Result<(), Error> {
    db.run(TAKEN)?;
    for step in steps {
        // A full disk is told apart from a step that is wrong.
        db.batch(&step.sql).map_err(|source| match Error::from(source) {
            Error::Database(source) => Error::Migrate(Failed::Step { version: step.version, source }),
            other => other,
        })?;
        query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES ($1, $2, 1, $3, 0)")
            .bind(step.version)
            .bind(&step.description)
            .bind(step.checksum())
            .execute(db)?;
    }
    Ok(())
}

/// The steps that the database has taken, and their checksums.
fn taken(db: &Db) -> Result<BTreeMap<i64, Vec<u8>>, Error> {
    let there = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'";
    if query(there).fetch_optional(db)?.is_none() {
        return Ok(BTreeMap::new());
    }
    let rows = query("SELECT version, checksum FROM _sqlx_migrations").fetch_all(db)?;
    rows.iter().map(|row| Ok((int(row, "version")?, blob(row, "checksum")?))).collect()
}

/// Makes a copy of one state of the database, durable before it has its name.
fn copy(db: &Db, path: &Path, next: i64) -> Result<PathBuf, Error> {
    let copy = named(path, &format!("{next:04}"));
    let half = named(path, "new");
    let at = |source: Box<dyn std::error::Error + Send + Sync>| Error::Copy { path: copy.clone(), source };
    let make = || {
        // What a start that was broken off has left.
        match fs::remove_file(&half) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(error.into())),
            _ => {}
        }
        let text = half.to_str().ok_or_else(|| at("its path is not UTF-8".into()))?;
        query("VACUUM INTO $1").bind(text).execute(db).map_err(|error| at(error.into()))?;
        publish(&half, &copy).map_err(|error| at(error.into()))
    };
    let made = make();
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
    use super::super::db::Role;
    use super::super::schema;
    use super::*;

    fn open(path: &Path) -> Db {
        Db::open(path, Role::Writes).unwrap()
    }

    fn count(db: &Db, sql: &'static str) -> i64 {
        match query(sql).fetch_one(db).unwrap().first() {
            rusqlite::types::Value::Integer(number) => *number,
            other => panic!("{sql}: {other:?}"),
        }
    }

    fn copies(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut copies: Vec<_> = names.filter(|name| name.contains(BEFORE)).collect();
        copies.sort();
        copies
    }

    /// A database as the program had it that knew the first 13 steps, with a row.
    fn old(path: &Path) -> Db {
        let connection = open(path);
        let steps: Vec<_> = schema::known().into_iter().filter(|step| step.version <= 13).collect();
        forward(&connection, path, &steps).unwrap();
        let row =
            "INSERT INTO event (at, actor, action, object, outcome, detail) VALUES (1, 'admin', 'a', '', 'done', '{}')";
        query(row).execute(&connection).unwrap();
        connection
    }

    const EVENTS: &str = "SELECT count(*) FROM event";
    const STEPS_DONE: &str = "SELECT count(*) FROM _sqlx_migrations";

    #[test]
    fn what_holds_something_is_copied_before_it_is_changed_and_only_then() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("controller.db");
        let connection = old(&path);
        // What a copy that was broken off has left is in nobody's way.
        fs::write(named(&path, "new"), "half").unwrap();
        for _again in 0..2 {
            forward(&connection, &path, &schema::known()).unwrap();
            assert_eq!(copies(folder.path()), ["controller.db.before-0014"]);
        }
        assert_eq!(count(&connection, STEPS_DONE), i64::try_from(schema::known().len()).unwrap());

        let copy = named(&path, "0014");
        assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        // Going back: the copy is a database of the older program, with everything in it.
        let back = open(&copy);
        assert_eq!((count(&back, STEPS_DONE), count(&back, EVENTS)), (13, 1));
        assert_eq!(count(&back, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'"), 0);
        drop(back);

        let new = folder.path().join("new.db");
        forward(&open(&new), &new, &schema::known()).unwrap();
        assert!(!named(&new, "0001").exists(), "there was nothing to copy");
    }

    #[test]
    fn without_a_copy_nothing_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("controller.db");
        let connection = old(&path);
        // Something that cannot be replaced has the copy's name.
        fs::create_dir_all(named(&path, "0014").join("x")).unwrap();
        let refused = forward(&connection, &path, &schema::known()).unwrap_err();
        assert!(matches!(&refused, Error::Copy { path: at, .. } if *at == named(&path, "0014")), "{refused:?}");
        assert!(refused.to_string().contains("nothing was changed"), "{refused}");
        assert_eq!((count(&connection, STEPS_DONE), count(&connection, EVENTS)), (13, 1));
        assert_eq!(copies(folder.path()), ["controller.db.before-0014"], "what was half made is gone");
    }

    #[test]
    fn a_step_that_fails_undoes_those_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let step = |version, sql: &'static str| Step { version, description: "x".to_owned(), sql: sql.into() };
        let first = step(1, "CREATE TABLE a (x INTEGER NOT NULL) STRICT;");
        let path = folder.path().join("db");
        let connection = open(&path);
        forward(&connection, &path, std::slice::from_ref(&first)).unwrap();
        let second = step(2, "ALTER TABLE a ADD COLUMN y INTEGER;");
        let broken = step(3, "INSERT INTO a (x, y) VALUES (1, 2); INSERT INTO nowhere VALUES (1);");
        let failed = forward(&connection, &path, &[first.clone(), second.clone(), broken]).unwrap_err();
        assert!(matches!(failed, Error::Migrate(Failed::Step { version: 3, .. })), "{failed:?}");
        assert_eq!(count(&connection, STEPS_DONE), 1);
        assert_eq!(count(&connection, "SELECT count(*) FROM pragma_table_info('a')"), 1);
        assert_eq!(count(&connection, "SELECT count(*) FROM a"), 0);

        let third = step(3, "INSERT INTO a (x, y) VALUES (1, 2);");
        forward(&connection, &path, &[first.clone(), second, third]).unwrap();
        assert_eq!(count(&connection, "SELECT y FROM a"), 2);

        let changed = step(2, "ALTER TABLE a ADD COLUMN z INTEGER;");
        let refused = forward(&connection, &path, &[first, changed, step(3, "")]).unwrap_err();
        assert!(matches!(refused, Error::Migrate(Failed::Changed { version: 2 })), "{refused:?}");
        assert_eq!(count(&connection, "SELECT count(*) FROM pragma_table_info('a')"), 2);
    }

    #[test]
    fn what_a_newer_program_has_changed_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("controller.db");
        let connection = old(&path);
        let row = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'x', 1, x'00', 1)";
        query(row).execute(&connection).unwrap();
        let refused = forward(&connection, &path, &schema::known()).unwrap_err();
        let known = schema::known().last().unwrap().version;
        assert!(matches!(refused, Error::Newer { found: 9999, known: k } if k == known), "{refused:?}");
        assert_eq!(count(&connection, STEPS_DONE), 14);
        assert!(copies(folder.path()).is_empty());
    }

    #[test]
    fn the_newest_three_copies_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("controller.db");
        let connection = old(&path);
        for there in ["0002", "0009", "0011", "mine", "0003.gz"] {
            fs::write(named(&path, there), "").unwrap();
        }
        forward(&connection, &path, &schema::known()).unwrap();
        let kept = ["0003.gz", "0009", "0011", "0014", "mine"].map(|end| format!("controller.db.before-{end}"));
        assert_eq!(copies(folder.path()), kept);
    }
}
