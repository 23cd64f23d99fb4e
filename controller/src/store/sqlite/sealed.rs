//! Data keys and sealed values. A sealed value of an output stands in JSON, in hex.

use std::collections::BTreeMap;

use async_trait::async_trait;
use longshore_core::time::Timestamp;

use super::column::{blob, count, int, parsed, text, time, wrong};
use super::conn::Conn;
use super::db::{Db, Row, query};
use super::projects::variable_row;
use crate::hex;
use crate::secrets::{Kind, Place};
use crate::store::Error;
use crate::store::rows::VariableRow;
use crate::store::sealed::{DataKeyRow, SealedRow, Seals};

type Result<T> = std::result::Result<T, Error>;

/// What every statement over outputs goes through: each sealed output of a step.
macro_rules! outputs {
    () => {
        "step, json_each(step.outputs) AS output WHERE json_extract(output.value, '$.sealed') IS NOT NULL"
    };
}

/// The data key's number of a sealed value, in hex.
macro_rules! key {
    ($sealed:literal) => {
        concat!(
            "CASE substr(",
            $sealed,
            ", 1, 2) WHEN '01' THEN '00000001' WHEN '02' THEN substr(",
            $sealed,
            ", 3, 8) ELSE '00000000' END"
        )
    };
}

fn data_keys(c: &Db) -> Result<Vec<DataKeyRow>> {
    let rows = query("SELECT id, wrapped, created_at FROM data_key ORDER BY id").fetch_all(c)?;
    let row = |row: &Row| {
        Ok(DataKeyRow { id: count(row, "id")?, wrapped: blob(row, "wrapped")?, created_at: time(row, "created_at")? })
    };
    rows.iter().map(row).collect()
}

fn insert_data_key(c: &Db, row: &DataKeyRow) -> Result<()> {
    query("INSERT INTO data_key (id, wrapped, created_at) VALUES ($1, $2, $3)")
        .bind(i64::from(row.id))
        .bind(&row.wrapped)
        .bind(Timestamp::as_micros(row.created_at))
        .execute(c)?;
    Ok(())
}

fn rewrap_data_key(c: &Db, id: u32, wrapped: &[u8]) -> Result<()> {
    query("UPDATE data_key SET wrapped = $2 WHERE id = $1").bind(i64::from(id)).bind(wrapped).execute(c)?;
    Ok(())
}

fn delete_data_key(c: &Db, id: u32) -> Result<()> {
    query("DELETE FROM data_key WHERE id = $1").bind(i64::from(id)).execute(c)?;
    Ok(())
}

fn variable(row: &Row) -> Result<SealedRow> {
    let VariableRow { id, owner, scope, name, .. } = variable_row(row)?;
    let place = Place::Variable { owner, environment: scope.column(), name };
    Ok(SealedRow { row: id, place, sealed: blob(row, "sealed")? })
}

fn outputs_key(row: &Row) -> Result<SealedRow> {
    let place = Place::OutputsKey { attempt: parsed(row, "attempt")?, step: count(row, "step")? };
    Ok(SealedRow { row: int(row, "seq")?, place, sealed: blob(row, "outputs_key")? })
}

fn plan(row: &Row) -> Result<SealedRow> {
    let place = Place::Plan { approval: parsed(row, "approval")? };
    Ok(SealedRow { row: int(row, "n")?, place, sealed: blob(row, "sealed")? })
}

fn output(row: &Row) -> Result<SealedRow> {
    let (deployment, step) = (parsed(row, "deployment")?, count(row, "idx")?);
    let place = Place::Output { deployment, step, name: text(row, "name")? };
    // What is no hex is no sealed value, and reads as an empty one.
    let sealed = hex::decode(&text(row, "sealed")?).unwrap_or_default();
    Ok(SealedRow { row: int(row, "n")?, place, sealed })
}

fn sealed(c: &Db, kind: Kind, after: i64, limit: u32) -> Result<Vec<SealedRow>> {
    let (sql, read): (_, fn(&Row) -> Result<SealedRow>) = match kind {
        Kind::Variable => {
            ("SELECT * FROM variable WHERE sealed IS NOT NULL AND id > $1 ORDER BY id LIMIT $2", variable)
        }
        Kind::OutputsKey => ("SELECT * FROM step_attempt WHERE seq > $1 ORDER BY seq LIMIT $2", outputs_key),
        Kind::Plan => ("SELECT rowid AS n, approval, sealed FROM plan WHERE rowid > $1 ORDER BY rowid LIMIT $2", plan),
        Kind::Output => (
            concat!(
                "SELECT step.rowid AS n, deployment, idx, output.key AS name, json_extract(output.value, '$.sealed') AS sealed FROM ",
                outputs!(),
                " AND step.rowid IN (SELECT DISTINCT step.rowid FROM ",
                outputs!(),
                " AND step.rowid > $1 ORDER BY step.rowid LIMIT $2) ORDER BY step.rowid, output.key"
            ),
            output,
        ),
    };
    query(sql).bind(after).bind(i64::from(limit)).fetch_all(c)?.iter().map(read).collect()
}

fn newest(c: &Db, kind: Kind, limit: u32) -> Result<Vec<SealedRow>> {
    let (sql, read): (_, fn(&Row) -> Result<SealedRow>) = match kind {
        Kind::Variable => ("SELECT * FROM variable WHERE sealed IS NOT NULL ORDER BY id DESC LIMIT $1", variable),
        Kind::OutputsKey => ("SELECT * FROM step_attempt ORDER BY seq DESC LIMIT $1", outputs_key),
        Kind::Plan => ("SELECT rowid AS n, approval, sealed FROM plan ORDER BY rowid DESC LIMIT $1", plan),
        Kind::Output => (
            concat!(
                "SELECT step.rowid AS n, deployment, idx, output.key AS name, json_extract(output.value, '$.sealed') AS sealed FROM ",
                outputs!(),
                " ORDER BY step.rowid DESC LIMIT $1"
            ),
            output,
        ),
    };
    query(sql).bind(i64::from(limit)).fetch_all(c)?.iter().map(read).collect()
}

fn counts(c: &Db) -> Result<BTreeMap<u32, u64>> {
    let rows = query(concat!(
        "SELECT data_key, count(*) AS n FROM (SELECT ",
        key!("value"),
        " AS data_key FROM (SELECT hex(sealed) AS value FROM variable WHERE sealed IS NOT NULL ",
        "UNION ALL SELECT hex(outputs_key) FROM step_attempt ",
        "UNION ALL SELECT hex(sealed) FROM plan ",
        "UNION ALL SELECT json_extract(output.value, '$.sealed') FROM ",
        outputs!(),
        ")) GROUP BY data_key"
    ))
    .fetch_all(c)?;
    let mut counts = BTreeMap::new();
    for row in &rows {
        let key = text(row, "data_key")?;
        let id = u32::from_str_radix(&key, 16).map_err(|error| wrong("sealed", error))?;
        *counts.entry(id).or_default() += count::<u64>(row, "n")?;
    }
    Ok(counts)
}

fn reseal(c: &Db, row: &SealedRow, sealed: &[u8]) -> Result<bool> {
    let done = match &row.place {
        Place::Variable { .. } => {
            let sql = "UPDATE variable SET sealed = $3 WHERE id = $1 AND sealed = $2";
            query(sql).bind(row.row).bind(&row.sealed).bind(sealed).execute(c)?
        }
        Place::OutputsKey { .. } => {
            let sql = "UPDATE step_attempt SET outputs_key = $3 WHERE seq = $1 AND outputs_key = $2";
            query(sql).bind(row.row).bind(&row.sealed).bind(sealed).execute(c)?
        }
        Place::Plan { .. } => {
            let sql = "UPDATE plan SET sealed = $3 WHERE rowid = $1 AND sealed = $2";
            query(sql).bind(row.row).bind(&row.sealed).bind(sealed).execute(c)?
        }
        Place::Output { name, .. } => {
            // Names of outputs hold no quotes.
            let path = format!("$.\"{name}\".sealed");
            let sql = "UPDATE step SET outputs = json_set(outputs, $4, $3) WHERE rowid = $1 AND json_extract(outputs, $4) = $2";
            let (before, after) = (hex::encode(&row.sealed), hex::encode(sealed));
            query(sql).bind(row.row).bind(before).bind(after).bind(path).execute(c)?
        }
    };
    Ok(done.rows_affected() == 1)
}

#[async_trait]
impl Seals for Conn<'_> {
    async fn data_keys(&mut self) -> Result<Vec<DataKeyRow>> {
        let done = data_keys(self.connection());
        self.note(done)
    }
    async fn insert_data_key(&mut self, row: &DataKeyRow) -> Result<()> {
        let done = insert_data_key(self.connection(), row);
        self.note(done)
    }
    async fn rewrap_data_key(&mut self, id: u32, wrapped: &[u8]) -> Result<()> {
        let done = rewrap_data_key(self.connection(), id, wrapped);
        self.note(done)
    }
    async fn delete_data_key(&mut self, id: u32) -> Result<()> {
        let done = delete_data_key(self.connection(), id);
        self.note(done)
    }
    async fn sealed(&mut self, kind: Kind, after: i64, limit: u32) -> Result<Vec<SealedRow>> {
        let done = sealed(self.connection(), kind, after, limit);
        self.note(done)
    }
    async fn newest_sealed(&mut self, kind: Kind, limit: u32) -> Result<Vec<SealedRow>> {
        let done = newest(self.connection(), kind, limit);
        self.note(done)
    }
    async fn sealed_counts(&mut self) -> Result<BTreeMap<u32, u64>> {
        let done = counts(self.connection());
        self.note(done)
    }
    async fn reseal(&mut self, row: &SealedRow, sealed: &[u8]) -> Result<bool> {
        let done = reseal(self.connection(), row, sealed);
        self.note(done)
    }
}
