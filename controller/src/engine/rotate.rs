//! Rotation of the data key while everything is served.
//!
//! A new key is stored first and seals from then on; then every sealed value is moved to it, a batch a transaction. Whatever dies
//! in between, each value opens with the key it names, and the next start goes on. A value that does not open is left as it is
//! and said. Keys on which nothing is are removed by the next start, when nothing is under way that was sealed with them.

use std::sync::atomic::Ordering;

use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::{Engine, Error, Result};
use crate::secrets::{Kind, key_of};
use crate::store::{DataKeyRow, SealedRow};

/// Rows that are read at once, and so at most moved in one transaction.
const BATCH: u32 = 100;

/// A data key and what is on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct DataKeyView {
    /// Its number.
    pub key: u32,
    /// RFC 3339 in UTC, milliseconds.
    pub created_at: String,
    /// How many sealed values are on it.
    pub rows: u64,
    /// It seals new values.
    pub current: bool,
}

/// How the secrets of the database are encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SecretsView {
    /// Where the key-encryption key comes from.
    pub kek: String,
    /// Data keys, oldest first.
    pub keys: Vec<DataKeyView>,
    /// How many sealed values are still to be moved to the current key.
    pub remaining: u64,
}

/// What came of a wish to rotate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RotationView {
    /// `false`: one was under way and goes on; no key was made.
    pub started: bool,
    /// Number of the key that seals.
    pub key: u32,
    /// How many sealed values are to be moved to it.
    pub remaining: u64,
}

impl Engine {
    /// Which keys there are and how much is on each.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn secrets(&self) -> Result<SecretsView> {
        let vault = &self.0.parts.vault;
        let (keys, counts) =
            self.read(|tx| Box::pin(async move { Ok((tx.data_keys().await?, tx.sealed_counts().await?)) })).await?;
        let current = vault.current();
        let remaining = counts.iter().filter(|(key, _)| **key != current).map(|(_, rows)| rows).sum();
        let view = |row: DataKeyRow| DataKeyView {
            key: row.id,
            created_at: row.created_at.to_string(),
            rows: counts.get(&row.id).copied().unwrap_or_default(),
            current: row.id == current,
        };
        let keys = keys.into_iter().map(view).collect();
        Ok(SecretsView { kek: vault.source().to_owned(), keys, remaining })
    }

    /// Makes a new data key and begins to move every secret to it; while one rotation is under way it goes on instead.
    ///
    /// # Errors
    /// When the key cannot be stored: nothing was changed then.
    pub async fn rotate_secrets(&self, by: &str) -> Result<RotationView> {
        let data_key: Zeroizing<[u8; 32]> = Zeroizing::new(self.clock().random());
        let under_way = self.0.resealing.load(Ordering::SeqCst);
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                let vault = std::sync::Arc::clone(&cx.vault);
                let current = vault.current();
                let counts = tx.sealed_counts().await?;
                let left = |key: u32| counts.iter().filter(|(id, _)| **id != key).map(|(_, rows)| rows).sum();
                if under_way {
                    return Ok(RotationView { started: false, key: current, remaining: left(current) });
                }
                let newest = tx.data_keys().await?.iter().map(|row| row.id).max().unwrap_or_default();
                let id = newest.max(current) + 1;
                let wrapped = vault.add(id, &data_key)?;
                tx.insert_data_key(&DataKeyRow { id, wrapped, created_at: cx.now }).await?;
                let remaining = left(id);
                let detail = json!({ "key": id, "rows": remaining });
                cx.audit(tx, "secrets.rotation_started", "secrets".to_owned(), detail).await?;
                cx.after.data_key = Some(id);
                Ok(RotationView { started: true, key: id, remaining })
            })
        })
        .await
    }

    /// Moves secrets whenever there may be some to move.
    pub(super) async fn reseal_forever(self) -> Result<()> {
        loop {
            self.0.reseal.notified().await;
            self.0.resealing.store(true, Ordering::SeqCst);
            let done = self.reseal_all().await;
            self.0.resealing.store(false, Ordering::SeqCst);
            if let Err(error) = done {
                tracing::error!(%error, "secrets could not be moved to the new key; they open as before, and the next start goes on");
            }
        }
    }

    async fn reseal_all(&self) -> Result<()> {
        let mut moved = 0;
        // Again until nothing is found: some may have been sealed with the key before just as the new one came.
        let stuck = loop {
            let (now, left) = self.reseal_once().await?;
            moved += now;
            if now == 0 {
                break left;
            }
        };
        if moved == 0 {
            return Ok(());
        }
        let key = self.0.parts.vault.current();
        tracing::info!(key, moved, stuck, "secrets are on the new key");
        self.change("controller", move |tx, cx| {
            Box::pin(async move {
                let detail = json!({ "key": key, "moved": moved, "stuck": stuck });
                cx.audit(tx, "secrets.rotated", "secrets".to_owned(), detail).await
            })
        })
        .await
    }

    /// One walk over everything; how many were moved, and how many do not open.
    async fn reseal_once(&self) -> Result<(u64, u64)> {
        let (mut moved, mut stuck) = (0, 0);
        for kind in Kind::ALL {
            let mut after = 0;
            loop {
                let rows =
                    self.read(move |tx| Box::pin(async move { Ok(tx.sealed(kind, after, BATCH).await?) })).await?;
                let Some(last) = rows.last() else { break };
                after = last.row;
                let (now, left) = self.reseal_batch(rows).await?;
                (moved, stuck) = (moved + now, stuck + left);
            }
        }
        Ok((moved, stuck))
    }

    async fn reseal_batch(&self, rows: Vec<SealedRow>) -> Result<(u64, u64)> {
        let vault = std::sync::Arc::clone(&self.0.parts.vault);
        let current = vault.current();
        let (mut to_move, mut stuck) = (Vec::new(), 0);
        for row in rows.into_iter().filter(|row| key_of(&row.sealed) != Some(current)) {
            let aad = row.place.aad();
            match vault.open(&aad, &row.sealed) {
                Ok(plain) => to_move.push((vault.seal(&aad, &plain)?, row)),
                Err(error) => {
                    tracing::error!(%error, "left as it is");
                    stuck += 1;
                }
            }
        }
        if to_move.is_empty() {
            return Ok((0, stuck));
        }
        let moved = self.0.parts.store.write::<_, Error, _>(move |tx| {
            Box::pin(async move {
                let mut moved = 0;
                for (sealed, row) in &to_move {
                    // One that was changed at the same time is found again by the next walk.
                    moved += u64::from(tx.reseal(row, sealed).await?);
                }
                Ok(moved)
            })
        });
        Ok((moved.await?, stuck))
    }
}
