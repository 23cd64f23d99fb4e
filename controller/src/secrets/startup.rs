//! The vault at the start: gets the kek, opens the data keys, tests what is stored, and only then writes.
//!
//! Order: kek, data keys, test of stored rows; then, in one transaction, what has to be stored: the first data key, keys wrapped
//! anew under a new kek, and that keys on which no row is are gone. So a start that fails has changed nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_core::time::Timestamp;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Error, Key, Kind, Settings, Vault, kek, key_of};
use crate::clock::Clock;
use crate::data_dir::DataDir;
use crate::store::rows::{EventRow, Outcome};
use crate::store::{self, DataKeyRow, SealedRow, Store};

/// Rows of each kind that are tested, from the oldest and from the newest.
const TESTED: u32 = 4;

/// Why the vault could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The keys, or what is sealed with them.
    #[error(transparent)]
    Secrets(#[from] Error),
    /// The rows.
    #[error("cannot read or write the keys of the database")]
    Store(#[from] store::Error),
}

/// What the store holds that matters here.
struct Stored {
    keys: Vec<DataKeyRow>,
    samples: Vec<SealedRow>,
    used: BTreeSet<u32>,
}

/// What has to be stored before the vault is used.
#[derive(Default)]
struct Changes {
    fresh: Option<DataKeyRow>,
    rewrapped: Vec<(u32, Vec<u8>)>,
    unused: Vec<u32>,
}

/// Opens the vault, or makes it at the first start.
///
/// # Errors
/// When the kek cannot be had or is another one, or a stored value does not open; nothing was changed then.
pub async fn open(store: &Arc<dyn Store>, dir: &DataDir, settings: &Settings, clock: &Clock) -> Result<Vault, Failed> {
    let stored = read(store).await?;
    let (vault, changes) = keys(&stored, dir, settings, clock).await?;
    for sample in &stored.samples {
        test(&vault, sample)?;
    }
    save(store, changes, vault.source().to_owned(), clock.now()).await?;
    Ok(vault)
}

async fn read(store: &Arc<dyn Store>) -> Result<Stored, store::Error> {
    store
        .read::<_, store::Error, _>(|tx| {
            Box::pin(async move {
                let keys = tx.data_keys().await?;
                let (mut samples, mut used) = (Vec::new(), BTreeSet::new());
                for kind in Kind::ALL {
                    samples.extend(tx.sealed(kind, 0, TESTED).await?);
                    samples.extend(tx.newest_sealed(kind, TESTED).await?);
                }
                if keys.len() > 1 {
                    used = tx.sealed_counts().await?.into_keys().collect();
                }
                Ok(Stored { keys, samples, used })
            })
        })
        .await
}

async fn keys(stored: &Stored, dir: &DataDir, settings: &Settings, clock: &Clock) -> Result<(Vault, Changes), Error> {
    let source = &settings.kek;
    let mut changes = Changes::default();
    if stored.keys.is_empty() {
        let kek = Key::new(&*source.get_or_create(dir, || clock.random()).await?)?;
        let data_key = Zeroizing::new(clock.random());
        changes.fresh = Some(DataKeyRow { id: 1, wrapped: kek.wrap(1, &data_key)?, created_at: clock.now() });
        let vault = Vault::new(kek, source.to_string(), BTreeMap::from([(1, Key::new(&data_key)?)]))?;
        return Ok((vault, changes));
    }
    let kek = Key::new(&*source.get(dir).await?.ok_or(Error::MissingKek)?)?;
    let mut previous = None;
    let mut keys = BTreeMap::new();
    let newest = stored.keys.iter().map(|row| row.id).max().unwrap_or_default();
    for row in &stored.keys {
        let data_key = match kek.unwrap(row.id, &row.wrapped) {
            Some(data_key) => data_key,
            None => {
                let data_key = by_previous(row, dir, settings, &mut previous).await?;
                changes.rewrapped.push((row.id, kek.wrap(row.id, &data_key)?));
                data_key
            }
        };
        if row.id == newest || stored.used.contains(&row.id) {
            keys.insert(row.id, Key::new(&data_key)?);
        } else {
            changes.unused.push(row.id);
        }
    }
    Ok((Vault::new(kek, source.to_string(), keys)?, changes))
}

/// A data key that the kek does not open: it is one of the kek before, or this is another database.
async fn by_previous(
    row: &DataKeyRow,
    dir: &DataDir,
    settings: &Settings,
    known: &mut Option<Key>,
) -> Result<kek::Bytes, Error> {
    let Some(source) = &settings.previous else { return Err(Error::WrongKek(settings.kek.to_string())) };
    let wrong = || Error::WrongKek(format!("{}, or from {source},", settings.kek));
    if known.is_none() {
        *known = Some(Key::new(&*source.get(dir).await?.ok_or_else(wrong)?)?);
    }
    known.as_ref().and_then(|key| key.unwrap(row.id, &row.wrapped)).ok_or_else(wrong)
}

/// Whether a stored value is a ciphertext of its own row.
fn test(vault: &Vault, row: &SealedRow) -> Result<(), Error> {
    let failed = |why| Error::SelfTest { place: row.place.to_string(), why };
    if key_of(&row.sealed).is_none() {
        return Err(failed("it is not encrypted"));
    }
    let plain = vault.open(&row.place.aad(), &row.sealed).map_err(|_| failed("it does not open with this key"))?;
    // One of a few bytes can stand in a ciphertext by chance.
    if plain.len() > 8 && row.sealed.windows(plain.len()).any(|window| window == plain.as_slice()) {
        return Err(failed("it stands there in clear"));
    }
    Ok(())
}

async fn save(store: &Arc<dyn Store>, changes: Changes, kek: String, now: Timestamp) -> Result<(), store::Error> {
    let Changes { fresh, rewrapped, unused } = changes;
    if fresh.is_none() && rewrapped.is_empty() && unused.is_empty() {
        return Ok(());
    }
    store
        .write::<_, store::Error, _>(move |tx| {
            Box::pin(async move {
                if let Some(fresh) = fresh {
                    tx.insert_data_key(&fresh).await?;
                }
                for (id, wrapped) in &rewrapped {
                    tx.rewrap_data_key(*id, wrapped).await?;
                }
                for id in &unused {
                    tx.delete_data_key(*id).await?;
                }
                let mut events = Vec::new();
                if !rewrapped.is_empty() {
                    let ids: Vec<_> = rewrapped.iter().map(|(id, _)| id).collect();
                    events.push(("secrets.kek_changed", json!({ "keys": ids, "kek": kek })));
                }
                if !unused.is_empty() {
                    events.push(("secrets.keys_removed", json!({ "keys": unused })));
                }
                for (action, detail) in events {
                    tx.insert_event(&EventRow {
                        id: 0,
                        at: now,
                        actor: "controller".to_owned(),
                        action: action.to_owned(),
                        object: "secrets".to_owned(),
                        outcome: Outcome::Done,
                        deployment: None,
                        detail,
                    })
                    .await?;
                }
                Ok(())
            })
        })
        .await
}
