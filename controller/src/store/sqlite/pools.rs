//! Settings of pools.

use async_trait::async_trait;

use super::column::{count, json, text, time, to_int, to_json};
use super::conn::Conn;
use super::db::{Db, Row, query};
use crate::store::Error;
use crate::store::pools::{PoolRow, Pools};

type Result<T> = std::result::Result<T, Error>;

fn pool_row(row: &Row) -> Result<PoolRow> {
    Ok(PoolRow {
        name: text(row, "name")?,
        settings: json(row, "settings")?,
        revision: count(row, "revision")?,
        updated_at: time(row, "updated_at")?,
        updated_by: text(row, "updated_by")?,
    })
}

fn pools(c: &Db) -> Result<Vec<PoolRow>> {
    query("SELECT * FROM pool ORDER BY name").fetch_all(c)?.iter().map(pool_row).collect()
}

fn pool(c: &Db, name: &str) -> Result<Option<PoolRow>> {
    query("SELECT * FROM pool WHERE name = $1").bind(name).fetch_optional(c)?.as_ref().map(pool_row).transpose()
}

fn save_pool(c: &Db, row: &PoolRow) -> Result<()> {
    query(
        "INSERT INTO pool (name, settings, revision, updated_at, updated_by) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name) DO UPDATE \
         SET settings = excluded.settings, revision = excluded.revision, updated_at = excluded.updated_at, updated_by = excluded.updated_by",
    )
    .bind(&row.name)
    .bind(to_json("settings", &row.settings)?)
    .bind(to_int("revision", row.revision)?)
    .bind(row.updated_at.as_micros())
    .bind(&row.updated_by)
    .execute(c)?;
    Ok(())
}

#[async_trait]
impl Pools for Conn<'_> {
    async fn pools(&mut self) -> Result<Vec<PoolRow>> {
        let done = pools(self.connection());
        self.note(done)
    }
    async fn pool(&mut self, name: &str) -> Result<Option<PoolRow>> {
        let done = pool(self.connection(), name);
        self.note(done)
    }
    async fn save_pool(&mut self, row: &PoolRow) -> Result<()> {
        let done = save_pool(self.connection(), row);
        self.note(done)
    }
}
