//! Uploads that are not complete: `partial/<id>` and beside it `<id>.json`, which says how far it is durable.
//!
//! Invariants: an offset that is told to anybody was synced before, with all bytes below it; what a file holds behind its offset
//! means nothing and is cut off before the upload goes on. One upload writes to a file at a time: a new one of the same person and
//! digest takes over from the one before, whose connection may be long dead. Nothing here is a package; see [`super::Blobs::resume`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use longshore_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use super::{Error, io_error};
use crate::data_dir::sync_dir;
use crate::hex;

/// What may lie here.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most uploads at a time, of everybody.
    pub count: usize,
    /// Most bytes of all of them, as they were announced.
    pub bytes: u64,
    /// How long one is kept after it was last heard of.
    pub age: Duration,
}

/// An upload, or the rest of one.
#[derive(Debug, Clone)]
pub struct Upload {
    /// What it is of, in hex.
    pub sha256: String,
    /// Who sends it.
    pub by: String,
    /// Where the body begins.
    pub offset: u64,
    /// Length of the whole.
    pub length: u64,
    /// When it came.
    pub now: Timestamp,
}

/// How far an upload is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partial {
    sha256: String,
    by: String,
    /// All bytes below are durable.
    pub offset: u64,
    /// Length of the whole.
    pub length: u64,
    at: Timestamp,
}

/// A file in which an upload grows, or could.
#[derive(Debug)]
struct Slot {
    partial: Partial,
    /// Whoever writes holds it.
    writer: Arc<tokio::sync::Mutex<()>>,
    /// Cancelled when another upload takes over.
    stop: CancellationToken,
    /// Uploads that write or wait to.
    users: usize,
}

/// All of them. A cheap handle.
#[derive(Debug, Clone)]
pub(super) struct Partials {
    dir: PathBuf,
    bounds: Bounds,
    slots: Arc<Mutex<BTreeMap<String, Slot>>>,
}

/// The right to write to one file.
#[derive(Debug)]
pub(super) struct Turn {
    all: Partials,
    id: String,
    pub(super) offset: u64,
    pub(super) stop: CancellationToken,
    _writer: OwnedMutexGuard<()>,
    _user: User,
}

/// Counts an upload while it lives.
#[derive(Debug)]
struct User {
    all: Partials,
    id: String,
}

impl Drop for User {
    fn drop(&mut self) {
        let mut slots = self.all.slots();
        let Some(slot) = slots.get_mut(&self.id) else { return };
        slot.users -= 1;
        if slot.users == 0 && slot.partial.offset == 0 {
            slots.remove(&self.id);
            self.all.remove(&self.id);
        }
    }
}

impl Partials {
    /// Reads what is there; files without a record that fits are removed.
    pub(super) fn open(dir: PathBuf, bounds: Bounds) -> Result<Self, Error> {
        std::fs::create_dir_all(&dir).map_err(io_error("create", &dir))?;
        let mut slots = BTreeMap::new();
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&dir).map_err(io_error("list", &dir))? {
            names.push(entry.map_err(io_error("list", &dir))?.path());
        }
        for path in &names {
            let id = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(partial) = record(path) else { continue };
            slots.insert(id.to_owned(), Slot::new(partial));
        }
        for path in names {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !slots.contains_key(name.strip_suffix(".json").unwrap_or(name)) {
                std::fs::remove_file(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(Self { dir, bounds, slots: Arc::new(Mutex::new(slots)) })
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn path(&self, id: &str) -> PathBuf {
        self.dir.join(id)
    }

    fn remove(&self, id: &str) {
        for path in [self.path(&format!("{id}.json")), self.path(id)] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "a part of an upload stays for now");
                }
                _ => {}
            }
        }
    }

    /// How far an upload is; `None` when nothing of it is kept.
    pub(super) fn get(&self, sha256: &str, by: &str) -> Option<Partial> {
        self.slots().get(&id(sha256, by)).map(|slot| slot.partial.clone()).filter(|partial| partial.offset > 0)
    }

    /// Removes what was not heard of for too long and is not being sent now.
    pub(super) fn sweep(&self, now: Timestamp) -> usize {
        let mut slots = self.slots();
        let over = |slot: &Slot| slot.users == 0 && now.since(slot.partial.at) > self.bounds.age;
        let old: Vec<String> = slots.iter().filter(|(_, slot)| over(slot)).map(|(id, _)| id.clone()).collect();
        for id in &old {
            slots.remove(id);
            self.remove(id);
        }
        old.len()
    }

    /// Waits until the upload may write, which ends the one before.
    pub(super) async fn turn(&self, upload: &Upload) -> Result<Turn, Error> {
        let id = id(&upload.sha256, &upload.by);
        let (writer, stop, user) = self.enter(&id, upload)?;
        let held = writer.lock_owned().await;
        let mut slots = self.slots();
        // Whoever was before may have completed it, or have been swept.
        let partial = slots.get_mut(&id).map(|slot| &mut slot.partial);
        let partial = partial.ok_or(Error::Offset { kept: 0, offset: upload.offset })?;
        if stop.is_cancelled() {
            return Err(Error::TakenOver);
        }
        if partial.length != upload.length {
            // A digest has one length: what was announced before was wrong, or this is. The first byte begins anew.
            if upload.offset > 0 {
                return Err(Error::LongerThanSaid { announced: partial.length });
            }
            partial.offset = 0;
            partial.length = upload.length;
        }
        if partial.offset != upload.offset {
            return Err(Error::Offset { kept: partial.offset, offset: upload.offset });
        }
        let offset = partial.offset;
        drop(slots);
        Ok(Turn { all: self.clone(), id, offset, stop, _writer: held, _user: user })
    }

    /// Puts an upload down as one that writes or waits to.
    fn enter(
        &self,
        id: &str,
        upload: &Upload,
    ) -> Result<(Arc<tokio::sync::Mutex<()>>, CancellationToken, User), Error> {
        let mut slots = self.slots();
        if !slots.contains_key(id) {
            if upload.offset > 0 {
                return Err(Error::Offset { kept: 0, offset: upload.offset });
            }
            self.make_room(&mut slots, upload)?;
        }
        let new = || {
            let Upload { sha256, by, length, now, .. } = upload.clone();
            Slot::new(Partial { sha256, by, offset: 0, length, at: now })
        };
        let slot = slots.entry(id.to_owned()).or_insert_with(new);
        slot.stop.cancel();
        slot.stop = CancellationToken::new();
        slot.users += 1;
        let user = User { all: self.clone(), id: id.to_owned() };
        Ok((Arc::clone(&slot.writer), slot.stop.clone(), user))
    }

    /// Takes away older ones of the same person until there is room.
    fn make_room(&self, slots: &mut BTreeMap<String, Slot>, upload: &Upload) -> Result<(), Error> {
        loop {
            let bytes: u64 = slots.values().map(|slot| slot.partial.length).sum();
            if slots.len() < self.bounds.count && bytes.saturating_add(upload.length) <= self.bounds.bytes {
                return Ok(());
            }
            let own = slots.iter().filter(|(_, slot)| slot.users == 0 && slot.partial.by == upload.by);
            let oldest = own.min_by_key(|(_, slot)| slot.partial.at).map(|(id, _)| id.clone());
            let oldest = oldest.ok_or(Error::Crowded)?;
            slots.remove(&oldest);
            self.remove(&oldest);
        }
    }
}

impl Slot {
    fn new(partial: Partial) -> Self {
        Self { partial, writer: Arc::default(), stop: CancellationToken::new(), users: 0 }
    }
}

impl Turn {
    pub(super) fn path(&self) -> PathBuf {
        self.all.path(&self.id)
    }

    /// Makes all bytes of `file` below `offset` durable, and then says so. Blocks.
    pub(super) fn checkpoint(&self, file: &File, offset: u64, now: Timestamp) -> Result<(), Error> {
        let path = self.path();
        file.sync_all().map_err(io_error("sync", &path))?;
        let mut partial = match self.all.slots().get(&self.id) {
            Some(slot) => slot.partial.clone(),
            None => return Ok(()),
        };
        (partial.offset, partial.at) = (offset, now);
        let (temporary, place) =
            (self.all.path(&format!("{}.new", self.id)), self.all.path(&format!("{}.json", self.id)));
        let text = serde_json::to_vec(&partial).unwrap_or_default();
        let written =
            File::create(&temporary).and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()));
        written.map_err(io_error("write", &temporary))?;
        std::fs::rename(&temporary, &place).map_err(io_error("rename to", &place))?;
        sync_dir(&self.all.dir).map_err(|error| Error::Io {
            what: "sync",
            path: self.all.dir.clone(),
            source: std::io::Error::other(error),
        })?;
        if let Some(slot) = self.all.slots().get_mut(&self.id) {
            slot.partial = partial;
        }
        Ok(())
    }

    /// Forgets the upload: it is a package now, or will never be one.
    pub(super) fn forget(&self) {
        self.all.slots().remove(&self.id);
        self.all.remove(&self.id);
    }
}

/// Names a file: of one person and one digest.
fn id(sha256: &str, by: &str) -> String {
    hex::encode(digest::digest(&digest::SHA256, format!("{sha256} {by}").as_bytes()).as_ref())
}

/// What is said of a file, when it holds as much.
fn record(path: &Path) -> Option<Partial> {
    let text = std::fs::read(path.with_extension("json")).ok()?;
    let partial: Partial = serde_json::from_slice(&text).ok()?;
    let fits = path.extension().is_none() && std::fs::metadata(path).is_ok_and(|file| file.len() >= partial.offset);
    (fits && partial.offset > 0).then_some(partial)
}
