//! A connection to the file, and statements on it.
//!
//! Calls return when SQLite is done with them and block until then: they are made on threads that may wait, in one of their own
//! ([`super::writer`]) or in one of the pool for blocking work ([`super::readers`]). A statement is prepared once a connection. Text of statements
//! is part of the program; what comes from outside is bound.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::spec::Project;
use rusqlite::config::DbConfig;
use rusqlite::types::{ToSql, ToSqlOutput, Value};
use rusqlite::{CachedStatement, Connection, OpenFlags};

use super::memo::Memo;
use crate::store::Error;

type Result<T, E = Error> = std::result::Result<T, E>;

/// How long a statement waits for a lock: only another program on the same file could hold one.
const BUSY: Duration = Duration::from_secs(10);
/// Pages that a connection keeps, in KiB, which SQLite wants as a negative number.
const CACHE_KIB: i64 = -8 * 1024;
/// Prepared statements that a connection keeps; the program has fewer.
const PREPARED: usize = 512;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Reads,
    Writes,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Db {
    connection: Connection,
    /// By the text of a statement, which does not change what it gives while the program runs.
    shapes: RefCell<HashMap<&'static str, Arc<Shape>>>,
    pub(super) specs: Memo<Project>,
}

/// What a statement takes and gives.
#[derive(Debug)]
struct Shape {
    /// For each parameter, in SQLite's order, which of the bound values it is.
    places: Vec<usize>,
    columns: Arc<[String]>,
}

impl Db {
    /// Opens the file, and makes it when it is missing: WAL, and a commit is on the disk when it is answered.
    pub(super) fn open(path: &Path, role: Role) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Self::of(Connection::open_with_flags(path, flags)?)?;
        if role == Role::Reads {
            db.connection.pragma_update(None, "query_only", true)?;
        }
        Ok(db)
    }

    /// One that is gone when it is dropped.
    #[cfg(test)]
    pub(super) fn in_memory() -> Result<Self> {
        Self::of(Connection::open_in_memory()?)
    }

    fn of(connection: Connection) -> Result<Self> {
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "cache_size", CACHE_KIB)?;
        // Without it SQLite prepares a statement anew whenever a value is bound that the predicate of an index could be compared
        // with (sqlite.org/queryplanner-ng.html, "Query Planner Stability Guarantee").
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.set_prepared_statement_cache_capacity(PREPARED);
        Ok(Self { connection, shapes: RefCell::default(), specs: Memo::default() })
    }

    /// Runs statements that take nothing and give nothing.
    pub(super) fn batch(&self, sql: &str) -> Result<(), rusqlite::Error> {
        self.connection.execute_batch(sql)
    }

    /// Runs one of those, which is prepared once.
    pub(super) fn run(&self, sql: &'static str) -> Result<()> {
        self.connection.prepare_cached(sql)?.raw_execute()?;
        Ok(())
    }

    /// Whether a transaction is open.
    pub(super) fn in_transaction(&self) -> bool {
        !self.connection.is_autocommit()
    }

    fn shape(&self, sql: &Sql, statement: &CachedStatement<'_>) -> Result<Arc<Shape>> {
        let Sql::Fixed(text) = *sql else { return Ok(Arc::new(Shape::of(statement)?)) };
        if let Some(known) = self.shapes.borrow().get(text) {
            return Ok(Arc::clone(known));
        }
        let shape = Arc::new(Shape::of(statement)?);
        self.shapes.borrow_mut().insert(text, Arc::clone(&shape));
        Ok(shape)
    }
}

impl Shape {
    /// A parameter is named by its number, as in `$2`: SQLite numbers names in the order in which they come, which is another one.
    fn of(statement: &CachedStatement<'_>) -> Result<Self> {
        let place = |index: usize| {
            let number = statement.parameter_name(index).and_then(|name| name.get(1..)?.parse::<usize>().ok());
            let place = number.and_then(|number| number.checked_sub(1));
            place.ok_or_else(|| Error::from(rusqlite::Error::InvalidParameterName(format!("parameter {index}"))))
        };
        let places = (1..=statement.parameter_count()).map(place).collect::<Result<_>>()?;
        Ok(Self { places, columns: statement.column_names().map(str::to_owned).collect() })
    }
}

/// A statement's text.
#[derive(Debug)]
enum Sql {
    Fixed(&'static str),
    /// Put together of parts that are fixed.
    Made(String),
}

impl Sql {
    fn text(&self) -> &str {
        match self {
            Self::Fixed(text) => text,
            Self::Made(text) => text,
        }
    }
}

/// A statement with what is bound to it.
#[derive(Debug)]
#[must_use]
pub(super) struct Query {
    sql: Sql,
    values: Result<Vec<Value>, rusqlite::Error>,
}

/// A statement whose parameters are `$1`, `$2` and so on, for the values in the order in which they are bound.
pub(super) fn query(sql: &'static str) -> Query {
    Query { sql: Sql::Fixed(sql), values: Ok(Vec::new()) }
}

/// What a statement has changed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    rows: usize,
    last: i64,
}

impl Done {
    pub(super) fn rows_affected(self) -> usize {
        self.rows
    }

    pub(super) fn last_insert_rowid(self) -> i64 {
        self.last
    }
}

impl Query {
    /// The next value.
    pub(super) fn bind(mut self, value: impl ToSql) -> Self {
        let value = value.to_sql().and_then(|value| match value {
            ToSqlOutput::Owned(value) => Ok(value),
            ToSqlOutput::Borrowed(value) => Ok(Value::try_from(value)?),
            _ => Err(rusqlite::Error::ToSqlConversionFailure("no plain value".into())),
        });
        self.values = self.values.and_then(|mut values| {
            values.push(value?);
            Ok(values)
        });
        self
    }

    /// Runs it; it gives no rows.
    pub(super) fn execute(self, db: &Db) -> Result<Done> {
        let (mut statement, _) = self.bound(db)?;
        let rows = statement.raw_execute()?;
        Ok(Done { rows, last: db.connection.last_insert_rowid() })
    }

    /// All rows that it gives.
    pub(super) fn fetch_all(self, db: &Db) -> Result<Vec<Row>> {
        self.fetch(db, usize::MAX)
    }

    /// The first row, if there is one.
    pub(super) fn fetch_optional(self, db: &Db) -> Result<Option<Row>> {
        Ok(self.fetch(db, 1)?.pop())
    }

    /// The first row; there is one.
    pub(super) fn fetch_one(self, db: &Db) -> Result<Row> {
        self.fetch_optional(db)?.ok_or_else(|| rusqlite::Error::QueryReturnedNoRows.into())
    }

    fn fetch(self, db: &Db, limit: usize) -> Result<Vec<Row>> {
        let (mut statement, shape) = self.bound(db)?;
        let mut rows = statement.raw_query();
        let mut found = Vec::new();
        while found.len() < limit
            && let Some(row) = rows.next()?
        {
            let value = |at| Ok(Value::try_from(row.get_ref(at)?).map_err(rusqlite::Error::from)?);
            let values = (0..shape.columns.len()).map(value).collect::<Result<_>>()?;
            found.push(Row { columns: Arc::clone(&shape.columns), values });
        }
        Ok(found)
    }

    fn bound(self, db: &Db) -> Result<(CachedStatement<'_>, Arc<Shape>)> {
        let values = self.values?;
        let mut statement = db.connection.prepare_cached(self.sql.text())?;
        let shape = db.shape(&self.sql, &statement)?;
        for (index, place) in (1..).zip(&shape.places) {
            let missing = || rusqlite::Error::InvalidParameterCount(values.len(), place + 1);
            statement.raw_bind_parameter(index, values.get(*place).ok_or_else(missing)?)?;
        }
        Ok((statement, shape))
    }
}

/// A row.
#[derive(Debug)]
pub(super) struct Row {
    columns: Arc<[String]>,
    values: Vec<Value>,
}

impl Row {
    /// The value of a column.
    pub(super) fn value(&self, column: &'static str) -> Result<&Value> {
        let at = self.columns.iter().position(|name| name == column);
        at.and_then(|at| self.values.get(at))
            .ok_or_else(|| rusqlite::Error::InvalidColumnName(column.to_owned()).into())
    }

    /// The value of the first column.
    #[cfg(test)]
    pub(super) fn first(&self) -> &Value {
        &self.values[0]
    }
}

/// Puts a statement together of fixed parts and of values.
#[derive(Debug)]
pub(super) struct Builder {
    text: String,
    values: Vec<Value>,
}

impl Builder {
    pub(super) fn new(text: &'static str) -> Self {
        Self { text: text.to_owned(), values: Vec::new() }
    }

    pub(super) fn push(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    pub(super) fn push_bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        self.text.push('$');
        self.text.push_str(&self.values.len().to_string());
        self
    }

    pub(super) fn build(self) -> Query {
        Query { sql: Sql::Made(self.text), values: Ok(self.values) }
    }

    /// The text as far as it goes.
    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// How SQLite would carry a statement out.
#[cfg(test)]
pub(super) fn explain(sql: &str) -> Query {
    Query { sql: Sql::Made(format!("EXPLAIN QUERY PLAN {sql}")), values: Ok(vec![Value::Null; 20]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_by_their_numbers_and_columns_by_their_names() {
        let db = Db::in_memory().unwrap();
        db.batch("CREATE TABLE t (a INTEGER, b TEXT, c BLOB) STRICT").unwrap();
        let done = query("INSERT INTO t (c, b, a) VALUES ($3, $2, $1)").bind(7).bind("x").bind(&[1_u8, 2][..]);
        let done = done.execute(&db).unwrap();
        assert_eq!((done.rows_affected(), done.last_insert_rowid()), (1, 1));
        for _again in 0..2 {
            let row = query("SELECT c, a, b FROM t WHERE b = $2 AND a = $1 AND $2 <> ''").bind(7).bind("x");
            let row = row.fetch_one(&db).unwrap();
            assert_eq!(row.value("a").unwrap(), &Value::Integer(7));
            assert_eq!(row.value("b").unwrap(), &Value::Text("x".to_owned()));
            assert_eq!(row.value("c").unwrap(), &Value::Blob(vec![1, 2]));
            assert!(row.value("d").is_err());
        }
        let mut made = Builder::new("SELECT a FROM t WHERE b = ");
        made.push_bind("x".to_owned()).push(" AND a < ").push_bind(9).push(" LIMIT 1");
        assert_eq!(made.build().fetch_all(&db).unwrap().len(), 1);
    }

    #[test]
    fn a_value_that_is_missing_is_an_error_and_not_nothing() {
        let db = Db::in_memory().unwrap();
        for (sql, values) in [("SELECT $1, $2", 1), ("SELECT $2", 1), ("SELECT $name", 1), ("SELECT ?", 1)] {
            let query = (0..values).fold(query(sql), Query::bind);
            assert!(query.fetch_all(&db).is_err(), "{sql}");
        }
        assert!(query("SELECT 1 WHERE 0").fetch_one(&db).is_err());
    }
}
