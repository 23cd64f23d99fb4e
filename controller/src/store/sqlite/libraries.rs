//! Libraries and their variables.

use async_trait::async_trait;
use longshore_core::account::Kind;
use sqlx::query;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::column::{opt_parsed, text, time};
use super::conn::Conn;
use super::projects::variable_row;
use crate::store::Error;
use crate::store::libraries::{Libraries, LibraryRow};
use crate::store::rows::VariableRow;

type Result<T> = std::result::Result<T, Error>;

async fn insert_library(c: &mut SqliteConnection, row: &LibraryRow) -> Result<bool> {
    let done =
        query("INSERT INTO library (name, kind, created_at, created_by) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING")
            .bind(&row.name)
            .bind(row.kind.map(Kind::as_str))
            .bind(row.created_at.as_micros())
            .bind(&row.created_by)
            .execute(c)
            .await?;
    Ok(done.rows_affected() == 1)
}

async fn libraries(c: &mut SqliteConnection) -> Result<Vec<LibraryRow>> {
    let row = |row: &SqliteRow| {
        Ok(LibraryRow {
            name: text(row, "name")?,
            kind: opt_parsed(row, "kind")?,
            created_at: time(row, "created_at")?,
            created_by: text(row, "created_by")?,
        })
    };
    query("SELECT * FROM library ORDER BY name").fetch_all(c).await?.iter().map(row).collect()
}

async fn library_variables(c: &mut SqliteConnection, library: &str) -> Result<Vec<VariableRow>> {
    query(
        "SELECT * FROM variable WHERE id IN \
         (SELECT max(id) FROM variable WHERE library = $1 GROUP BY name, environment) ORDER BY name, environment",
    )
    .bind(library)
    .fetch_all(c)
    .await?
    .iter()
    .map(variable_row)
    .collect()
}

#[async_trait]
impl Libraries for Conn<'_> {
    async fn insert_library(&mut self, row: &LibraryRow) -> Result<bool> {
        let done = insert_library(self.connection(), row).await;
        self.note(done)
    }
    async fn libraries(&mut self) -> Result<Vec<LibraryRow>> {
        let done = libraries(self.connection()).await;
        self.note(done)
    }
    async fn library_variables(&mut self, library: &str) -> Result<Vec<VariableRow>> {
        let done = library_variables(self.connection(), library).await;
        self.note(done)
    }
}
