//! Settings of pools.

use std::sync::Arc;

use longshore_core::pool::Pool;

use super::at;
use crate::store::pools::PoolRow;
use crate::store::{Error, Store};

pub(super) async fn a_pools_settings_are_replaced(store: &Arc<dyn Store>) {
    let row = |revision, reason: &str| PoolRow {
        name: "blue".to_owned(),
        settings: Pool { paused: Some(reason.to_owned()), ..Pool::default() },
        revision,
        updated_at: at(5),
        updated_by: "anna".to_owned(),
    };
    write!(store, tx => {
        assert_eq!((tx.pools().await?, tx.pool("blue").await?), (Vec::new(), None));
        tx.save_pool(&row(1, "one")).await?;
        tx.save_pool(&row(2, "two")).await?;
        assert_eq!((tx.pools().await?, tx.pool("blue").await?), (vec![row(2, "two")], Some(row(2, "two"))));
        Ok(())
    })
    .unwrap();
}
