//! Data keys and sealed values wherever they stand: their rows, and the row methods of a transaction.

use std::collections::BTreeMap;

use async_trait::async_trait;
use longshore_core::time::Timestamp;

use super::Error;
use crate::secrets::{Kind, Place};

type Result<T> = std::result::Result<T, Error>;

/// A data key, wrapped by the kek.
#[derive(Clone, PartialEq, Eq)]
pub struct DataKeyRow {
    /// Its number, from 1; the newest seals.
    pub id: u32,
    /// The key, sealed by the kek.
    pub wrapped: Vec<u8>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl std::fmt::Debug for DataKeyRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataKeyRow").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A sealed value and where it stands.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedRow {
    /// Number of the row in its table, to go on behind it.
    pub row: i64,
    /// The row and field.
    pub place: Place,
    /// The sealed value.
    pub sealed: Vec<u8>,
}

impl std::fmt::Debug for SealedRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedRow").field("row", &self.row).field("place", &self.place).finish_non_exhaustive()
    }
}

/// The part of a transaction that is about keys and what is sealed with them.
#[async_trait]
pub trait Seals: Send {
    /// Every data key, oldest first; empty before the first start.
    async fn data_keys(&mut self) -> Result<Vec<DataKeyRow>>;
    /// Stores a data key.
    async fn insert_data_key(&mut self, row: &DataKeyRow) -> Result<()>;
    /// Replaces the wrapping of a data key.
    async fn rewrap_data_key(&mut self, id: u32, wrapped: &[u8]) -> Result<()>;
    /// Removes a data key.
    async fn delete_data_key(&mut self, id: u32) -> Result<()>;

    /// Sealed values of one kind behind a row, in the order of rows: those of at most `limit` rows.
    async fn sealed(&mut self, kind: Kind, after: i64, limit: u32) -> Result<Vec<SealedRow>>;
    /// Sealed values of the newest rows of one kind.
    async fn newest_sealed(&mut self, kind: Kind, limit: u32) -> Result<Vec<SealedRow>>;
    /// How many sealed values there are by the number of their data key; 0 for what is no sealed value.
    async fn sealed_counts(&mut self) -> Result<BTreeMap<u32, u64>>;
    /// Replaces a sealed value; `false` when it is not that one any more.
    async fn reseal(&mut self, row: &SealedRow, sealed: &[u8]) -> Result<bool>;
}
