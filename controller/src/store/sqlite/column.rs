//! Columns to domain types. A value that this program does not write is an error that names the column.

use std::fmt::Display;
use std::str::FromStr;

use longshore_core::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::store::Error;

type Result<T> = std::result::Result<T, Error>;

pub(super) fn wrong(column: &'static str, what: impl Display) -> Error {
    Error::Row { column, what: what.to_string() }
}

pub(super) fn text(row: &SqliteRow, column: &'static str) -> Result<String> {
    Ok(row.try_get(column)?)
}

pub(super) fn opt_text(row: &SqliteRow, column: &'static str) -> Result<Option<String>> {
    Ok(row.try_get(column)?)
}

pub(super) fn blob(row: &SqliteRow, column: &'static str) -> Result<Vec<u8>> {
    Ok(row.try_get(column)?)
}

pub(super) fn int(row: &SqliteRow, column: &'static str) -> Result<i64> {
    Ok(row.try_get(column)?)
}

pub(super) fn opt_int(row: &SqliteRow, column: &'static str) -> Result<Option<i64>> {
    Ok(row.try_get(column)?)
}

/// A number that is never negative.
pub(super) fn count<T: TryFrom<i64>>(row: &SqliteRow, column: &'static str) -> Result<T> {
    let value = int(row, column)?;
    T::try_from(value).map_err(|_| wrong(column, value))
}

pub(super) fn opt_count<T: TryFrom<i64>>(row: &SqliteRow, column: &'static str) -> Result<Option<T>> {
    opt_int(row, column)?.map(|value| T::try_from(value).map_err(|_| wrong(column, value))).transpose()
}

/// A type that has a text form: ids.
pub(super) fn parsed<T: FromStr<Err: Display>>(row: &SqliteRow, column: &'static str) -> Result<T> {
    text(row, column)?.parse().map_err(|error| wrong(column, error))
}

pub(super) fn opt_parsed<T: FromStr<Err: Display>>(row: &SqliteRow, column: &'static str) -> Result<Option<T>> {
    opt_text(row, column)?.map(|value| value.parse().map_err(|error| wrong(column, error))).transpose()
}

pub(super) fn time(row: &SqliteRow, column: &'static str) -> Result<Timestamp> {
    int(row, column).map(Timestamp::from_micros)
}

pub(super) fn opt_time(row: &SqliteRow, column: &'static str) -> Result<Option<Timestamp>> {
    Ok(opt_int(row, column)?.map(Timestamp::from_micros))
}

pub(super) fn json<T: DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<T> {
    serde_json::from_str(&text(row, column)?).map_err(|error| wrong(column, error))
}

/// A unit enum stored as its bare word.
pub(super) fn opt_json<T: DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<Option<T>> {
    let text = opt_text(row, column)?;
    text.map(|text| serde_json::from_str(&text).map_err(|error| wrong(column, error))).transpose()
}

pub(super) fn word<T: DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<T> {
    serde_json::from_value(serde_json::Value::String(text(row, column)?)).map_err(|error| wrong(column, error))
}

pub(super) fn opt_word<T: DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<Option<T>> {
    let word = |word| serde_json::from_value(serde_json::Value::String(word)).map_err(|error| wrong(column, error));
    opt_text(row, column)?.map(word).transpose()
}

pub(super) fn to_json(column: &'static str, value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| wrong(column, error))
}

/// A number as SQLite keeps it.
pub(super) fn to_int(column: &'static str, value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|_| wrong(column, value))
}

pub(super) fn opt_micros(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_micros)
}

/// The first column as text, empty for NULL.
#[cfg(test)]
pub(super) fn any_text(row: &SqliteRow) -> String {
    row.try_get::<Option<String>, _>(0).unwrap().unwrap_or_default()
}

/// How SQLite would carry a statement out, line by line.
#[cfg(test)]
pub(super) async fn plan(c: &mut sqlx::sqlite::SqliteConnection, sql: &str) -> Vec<String> {
    let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
    let rows = sqlx::query(explain).fetch_all(c).await.unwrap();
    rows.iter().map(|row| row.try_get::<String, _>("detail").unwrap()).collect()
}
