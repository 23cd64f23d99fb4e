//! Pools: what is set for them, and who is in them.
//!
//! A pool needs no making: it is there as soon as an agent or a project names it, with the defaults. Settings are replaced as a whole,
//! and by whom is in the audit.

use std::collections::BTreeMap;

use longshore_core::id::AgentId;
use longshore_core::plugins::Plugin;
use longshore_core::pool::Pool;
use longshore_core::spec::names;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{Engine, Error, Result};
use crate::store::Tx;
use crate::store::pools::PoolRow;

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PoolView {
    /// Its name.
    pub name: String,
    /// What is set for it; what is not there has its default. `docs/pools.md` lists the fields.
    #[schema(value_type = Object)]
    pub settings: Pool,
    /// Counts the changes of the settings; 0 when nothing was ever set.
    pub revision: u64,
    /// RFC 3339 in UTC, milliseconds; `null` when nothing was ever set.
    pub updated_at: Option<String>,
    /// Who set it last.
    pub updated_by: Option<String>,
    /// Agents that belong to it and are not revoked.
    pub agents: u32,
    /// Those of them that have a stream to the controller.
    pub connected: u32,
}

impl Engine {
    /// The pools by name: those that something was set for, and those that an agent belongs to.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn pools(&self) -> Result<Vec<PoolView>> {
        let (rows, agents) =
            self.read(|tx| Box::pin(async move { Ok((tx.pools().await?, agents(tx).await?)) })).await?;
        let mut views: BTreeMap<String, PoolView> =
            rows.into_iter().map(|row| (row.name.clone(), view(&row.name.clone(), Some(row)))).collect();
        for (id, pool) in agents {
            self.count(views.entry(pool.clone()).or_insert_with(|| view(&pool, None)), id);
        }
        Ok(views.into_values().collect())
    }

    /// A pool; one that nothing was set for has the defaults.
    ///
    /// # Errors
    /// When the name is none, or rows cannot be read.
    pub async fn pool(&self, name: &str) -> Result<PoolView> {
        check_name(name)?;
        let name = name.to_owned();
        let (mut view, agents) = self
            .read(move |tx| Box::pin(async move { Ok((view(&name, tx.pool(&name).await?), agents(tx).await?)) }))
            .await?;
        for (id, pool) in agents {
            if pool == view.name {
                self.count(&mut view, id);
            }
        }
        Ok(view)
    }

    /// Replaces the settings of a pool, if `if_revision` is the newest (0: nothing was ever set). The same settings again change
    /// nothing and are never refused.
    ///
    /// # Errors
    /// When the name is none, a setting cannot be, or the revision moved.
    pub async fn set_pool(&self, name: &str, settings: Pool, if_revision: Option<u64>, by: &str) -> Result<PoolView> {
        check_name(name)?;
        settings.check().map_err(|bad| Error::invalid("settings", bad.to_string(), None))?;
        let (pool, updated_by) = (name.to_owned(), by.to_owned());
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                let before = tx.pool(&pool).await?;
                if before.as_ref().is_some_and(|before| before.settings == settings) {
                    return Ok(());
                }
                let revision = before.as_ref().map_or(0, |before| before.revision);
                if if_revision.is_some_and(|wanted| wanted != revision) {
                    return Err(moved(&pool, before.as_ref()));
                }
                let row = PoolRow { name: pool, settings, revision: revision + 1, updated_at: cx.now, updated_by };
                tx.save_pool(&row).await?;
                let detail = json!({ "pool": row.name, "revision": row.revision, "settings": row.settings });
                cx.audit(tx, "pool.set", format!("pool/{}", row.name), detail).await?;
                // What was paused may start now.
                cx.after.dispatch = true;
                Ok(())
            })
        })
        .await?;
        // After the change, and by what is there now: of two changes at once the later one counts.
        let pool = name.to_owned();
        let plugins = self.read(move |tx| Box::pin(async move { plugins(tx, &pool).await })).await?;
        self.0.sessions.want_plugins(name, &plugins);
        self.pool(name).await
    }

    fn count(&self, view: &mut PoolView, agent: AgentId) {
        view.agents += 1;
        view.connected += u32::from(self.0.sessions.ability(agent).is_some());
    }
}

/// Settings by the pool's name, of those that something was set for.
pub(super) async fn settings(tx: &mut dyn Tx) -> Result<BTreeMap<String, Pool>> {
    Ok(tx.pools().await?.into_iter().map(|row| (row.name, row.settings)).collect())
}

/// The plugins of a pool.
pub(super) async fn plugins(tx: &mut dyn Tx, pool: &str) -> Result<Vec<Plugin>> {
    Ok(tx.pool(pool).await?.map(|row| row.settings.plugins).unwrap_or_default())
}

/// Why no job starts in a pool, for people.
pub(super) fn paused(pools: &BTreeMap<String, Pool>, pool: &str) -> Option<String> {
    let reason = pools.get(pool)?.paused.as_ref()?;
    Some(format!("pool `{pool}` is paused ({reason}); `longshore pool resume {pool}` lets its jobs start"))
}

/// Agents that are not revoked, and their pools.
async fn agents(tx: &mut dyn Tx) -> Result<Vec<(AgentId, String)>> {
    let rows = tx.agents().await?.into_iter().filter(|row| row.revoked_at.is_none());
    Ok(rows.map(|row| (row.id, row.pool)).collect())
}

pub(super) fn check_name(name: &str) -> Result<()> {
    if names::is_name(name) {
        return Ok(());
    }
    Err(Error::invalid("pool", format!("`{name}` is no name: write {}", names::NAME_RULE), None))
}

fn view(name: &str, row: Option<PoolRow>) -> PoolView {
    let blank = PoolView {
        name: name.to_owned(),
        settings: Pool::default(),
        revision: 0,
        updated_at: None,
        updated_by: None,
        agents: 0,
        connected: 0,
    };
    let Some(row) = row else { return blank };
    PoolView {
        settings: row.settings,
        revision: row.revision,
        updated_at: Some(row.updated_at.to_string()),
        updated_by: Some(row.updated_by),
        ..blank
    }
}

fn moved(name: &str, before: Option<&PoolRow>) -> Error {
    let now = match before {
        Some(row) => format!("are at revision {}, set by `{}` at {}", row.revision, row.updated_by, row.updated_at),
        None => "were never set".to_owned(),
    };
    let hint = format!(
        "look at them (`longshore pool show {name}`), bring them into the file, and apply again with the newest revision"
    );
    Error::conflict("revision_moved", format!("the settings of pool `{name}` {now}; nothing was changed"), hint)
}
