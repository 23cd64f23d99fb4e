//! Settings of pools. A pool that nothing was set for has no row.

use async_trait::async_trait;
use longshore_core::pool::Pool;
use longshore_core::time::Timestamp;

use super::Error;

type Result<T> = std::result::Result<T, Error>;

/// A pool that something was set for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolRow {
    /// The name.
    pub name: String,
    /// The settings.
    pub settings: Pool,
    /// Counts the changes, from 1.
    pub revision: u64,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// By whom.
    pub updated_by: String,
}

/// The part of a transaction that is about pools.
#[async_trait]
pub trait Pools: Send {
    /// The pools that something was set for, by name.
    async fn pools(&mut self) -> Result<Vec<PoolRow>>;
    /// A pool that something was set for.
    async fn pool(&mut self, name: &str) -> Result<Option<PoolRow>>;
    /// Inserts or replaces a pool.
    async fn save_pool(&mut self, row: &PoolRow) -> Result<()>;
}
