//! Libraries and their variables.

use async_trait::async_trait;
use longshore_core::account::Kind;

use super::column::{opt_parsed, text, time};
use super::conn::Conn;
use super::db::{Db, Row, query};
use super::projects::variable_row;
use crate::store::Error;
use crate::store::libraries::{Libraries, LibraryRow};
use crate::store::rows::VariableRow;

type Result<T> = std::result::Result<T, Error>;

fn insert_library(c: &Db, row: &LibraryRow) -> Result<bool> {
    let done =
        query("INSERT INTO library (name, kind, created_at, created_by) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING")
            .bind(&row.name)
            .bind(row.kind.map(Kind::as_str))
            .bind(row.created_at.as_micros())
            .bind(&row.created_by)
            .execute(c)?;
    Ok(done.rows_affected() == 1)
}

fn libraries(c: &Db) -> Result<Vec<LibraryRow>> {
    let row = |row: &Row| {
        Ok(LibraryRow {
            name: text(row, "name")?,
            kind: opt_parsed(row, "kind")?,
            created_at: time(row, "created_at")?,
            created_by: text(row, "created_by")?,
        })
    };
    query("SELECT * FROM library ORDER BY name").fetch_all(c)?.iter().map(row).collect()
}

fn library_variables(c: &Db, library: &str) -> Result<Vec<VariableRow>> {
    query(
        "SELECT * FROM variable WHERE id IN \
         (SELECT max(id) FROM variable WHERE library = $1 GROUP BY name, environment) ORDER BY name, environment",
    )
    .bind(library)
    .fetch_all(c)?
    .iter()
    .map(variable_row)
    .collect()
}

#[async_trait]
impl Libraries for Conn<'_> {
    async fn insert_library(&mut self, row: &LibraryRow) -> Result<bool> {
        let done = insert_library(self.connection(), row);
        self.note(done)
    }
    async fn libraries(&mut self) -> Result<Vec<LibraryRow>> {
        let done = libraries(self.connection());
        self.note(done)
    }
    async fn library_variables(&mut self, library: &str) -> Result<Vec<VariableRow>> {
        let done = library_variables(self.connection(), library);
        self.note(done)
    }
}
