//! Columns to domain types. A value that this program does not write is an error that names the column.

use std::fmt::Display;
use std::str::FromStr;

use longshore_core::time::Timestamp;
use rusqlite::types::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::db::Row;
use crate::store::Error;

type Result<T> = std::result::Result<T, Error>;

pub(super) fn wrong(column: &'static str, what: impl Display) -> Error {
    Error::Row { column, what: what.to_string() }
}

/// The text of a column, where it stands.
pub(super) fn word_of<'r>(row: &'r Row, column: &'static str) -> Result<&'r str> {
    opt_word_of(row, column)?.ok_or_else(|| wrong(column, "nothing"))
}

fn opt_word_of<'r>(row: &'r Row, column: &'static str) -> Result<Option<&'r str>> {
    match row.value(column)? {
        Value::Text(text) => Ok(Some(text)),
        Value::Null => Ok(None),
        other => Err(wrong(column, other.data_type())),
    }
}

pub(super) fn text(row: &Row, column: &'static str) -> Result<String> {
    word_of(row, column).map(str::to_owned)
}

pub(super) fn opt_text(row: &Row, column: &'static str) -> Result<Option<String>> {
    Ok(opt_word_of(row, column)?.map(str::to_owned))
}

pub(super) fn blob(row: &Row, column: &'static str) -> Result<Vec<u8>> {
    match row.value(column)? {
        Value::Blob(bytes) => Ok(bytes.clone()),
        other => Err(wrong(column, other.data_type())),
    }
}

pub(super) fn int(row: &Row, column: &'static str) -> Result<i64> {
    opt_int(row, column)?.ok_or_else(|| wrong(column, "nothing"))
}

pub(super) fn opt_int(row: &Row, column: &'static str) -> Result<Option<i64>> {
    match row.value(column)? {
        Value::Integer(number) => Ok(Some(*number)),
        Value::Null => Ok(None),
        other => Err(wrong(column, other.data_type())),
    }
}

/// A number that is never negative.
pub(super) fn count<T: TryFrom<i64>>(row: &Row, column: &'static str) -> Result<T> {
    let value = int(row, column)?;
    T::try_from(value).map_err(|_| wrong(column, value))
}

pub(super) fn opt_count<T: TryFrom<i64>>(row: &Row, column: &'static str) -> Result<Option<T>> {
    opt_int(row, column)?.map(|value| T::try_from(value).map_err(|_| wrong(column, value))).transpose()
}

/// A type that has a text form: ids.
pub(super) fn parsed<T: FromStr<Err: Display>>(row: &Row, column: &'static str) -> Result<T> {
    word_of(row, column)?.parse().map_err(|error| wrong(column, error))
}

pub(super) fn opt_parsed<T: FromStr<Err: Display>>(row: &Row, column: &'static str) -> Result<Option<T>> {
    opt_word_of(row, column)?.map(|value| value.parse().map_err(|error| wrong(column, error))).transpose()
}

pub(super) fn time(row: &Row, column: &'static str) -> Result<Timestamp> {
    int(row, column).map(Timestamp::from_micros)
}

pub(super) fn opt_time(row: &Row, column: &'static str) -> Result<Option<Timestamp>> {
    Ok(opt_int(row, column)?.map(Timestamp::from_micros))
}

pub(super) fn json<T: DeserializeOwned>(row: &Row, column: &'static str) -> Result<T> {
    serde_json::from_str(word_of(row, column)?).map_err(|error| wrong(column, error))
}

pub(super) fn opt_json<T: DeserializeOwned>(row: &Row, column: &'static str) -> Result<Option<T>> {
    let text = opt_word_of(row, column)?;
    text.map(|text| serde_json::from_str(text).map_err(|error| wrong(column, error))).transpose()
}

/// A unit enum stored as its bare word.
pub(super) fn word<T: DeserializeOwned>(row: &Row, column: &'static str) -> Result<T> {
    serde_json::from_value(serde_json::Value::String(text(row, column)?)).map_err(|error| wrong(column, error))
}

pub(super) fn opt_word<T: DeserializeOwned>(row: &Row, column: &'static str) -> Result<Option<T>> {
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
pub(super) fn any_text(row: &Row) -> String {
    match row.first() {
        Value::Text(text) => text.clone(),
        Value::Null => String::new(),
        other => panic!("{other:?}"),
    }
}

/// How SQLite would carry a statement out, line by line.
#[cfg(test)]
pub(super) fn plan(db: &super::db::Db, sql: &str) -> Vec<String> {
    let explain = super::db::explain(sql);
    explain.fetch_all(db).unwrap().iter().map(|row| text(row, "detail").unwrap()).collect()
}
