//! What the agent promised, on disk, so that `kill -9` at any line breaks no promise.
//!
//! ```text
//! attempts/att_.../offer.json                 claimed: the agent speaks for the attempt
//! attempts/att_.../cancel.json                a cancel, and whether its one signal was sent
//! attempts/att_.../steps/<index>/intent.json  the right to start was, or may have been, asked for
//! attempts/att_.../steps/<index>/started.json granted; the container was, or is about to be, started
//! attempts/att_.../steps/<index>/shipped.json how far the spool was read and what its events said
//! ```
//!
//! Invariants: nothing secret is in it; each file is written durably (see [`crate::durable`]) before what it announces
//! is done; an attempt whose files cannot be read is set aside, never guessed at; what is not ours is left alone.

mod records;

use std::io;
use std::path::{Path, PathBuf};

use longshore_core::id::AttemptId;
use longshore_core::offer::Offer;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use records::{CancelMark, Claim, Intent, Shipped, Started};

use crate::durable;

/// How the directory of an attempt that is being removed ends.
const GONE: &str = ".gone";

/// The directory with all attempts.
#[derive(Debug, Clone)]
pub struct Ledger {
    attempts: PathBuf,
    set_aside: PathBuf,
}

/// One attempt as it was found on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// What was claimed.
    pub offer: Offer,
    /// A cancel that was asked for.
    pub cancel: Option<CancelMark>,
    /// The step that was reached, when its start was or may have been asked for.
    pub reached: Option<Reached>,
}

/// The last step of an attempt that has an intent.
#[derive(Debug, Clone, PartialEq)]
pub struct Reached {
    /// Index of the step.
    pub step: u32,
    /// What was to be started.
    pub intent: Intent,
    /// The grant, when it was written down.
    pub started: Option<Started>,
}

impl Ledger {
    /// The ledger of a state directory; its directories are made.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let ledger = Self { attempts: state_dir.join("attempts"), set_aside: state_dir.join("unreadable") };
        durable::make_dir(&ledger.attempts)?;
        durable::sync_dir(state_dir)?;
        Ok(ledger)
    }

    /// Directory of one attempt.
    #[must_use]
    pub fn attempt_dir(&self, attempt: AttemptId) -> PathBuf {
        self.attempts.join(attempt.to_string())
    }

    /// Directory of one step.
    #[must_use]
    pub fn step_dir(&self, attempt: AttemptId, step: u32) -> PathBuf {
        self.attempt_dir(attempt).join("steps").join(step.to_string())
    }

    /// The spool of one step.
    #[must_use]
    pub fn spool(&self, attempt: AttemptId, step: u32) -> PathBuf {
        self.step_dir(attempt, step).join("spool")
    }

    /// Writes down that an offer was claimed.
    ///
    /// # Errors
    /// Those of the file system; the offer is not claimed then.
    pub fn claim(&self, claim: &Claim) -> io::Result<()> {
        let dir = self.attempt_dir(claim.offer.fence.attempt);
        durable::make_dir(&dir.join("steps"))?;
        save(&dir.join("offer.json"), claim)?;
        durable::sync_dir(&self.attempts)
    }

    /// Writes down that the right to start a step is about to be asked for.
    ///
    /// # Errors
    /// Those of the file system; it may not be asked for then.
    pub fn intend(&self, attempt: AttemptId, step: u32, intent: &Intent) -> io::Result<()> {
        let dir = self.step_dir(attempt, step);
        durable::make_dir(&dir)?;
        save(&dir.join("intent.json"), intent)?;
        durable::sync_dir(&self.attempt_dir(attempt).join("steps"))
    }

    /// Writes down that the start of a step was granted.
    ///
    /// # Errors
    /// Those of the file system; nothing may be started then.
    pub fn start(&self, attempt: AttemptId, step: u32, started: &Started) -> io::Result<()> {
        save(&self.step_dir(attempt, step).join("started.json"), started)
    }

    /// Writes down how far a cancel is.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn cancel(&self, attempt: AttemptId, mark: &CancelMark) -> io::Result<()> {
        save(&self.attempt_dir(attempt).join("cancel.json"), mark)
    }

    /// How far the spool of a step was read, if that was ever written down.
    ///
    /// # Errors
    /// When it was and cannot be read.
    pub fn shipped(&self, attempt: AttemptId, step: u32) -> io::Result<Option<Shipped>> {
        load(&Self::shipped_file(&self.step_dir(attempt, step)))
    }

    /// Where a step's [`Shipped`] is kept.
    pub(crate) fn shipped_file(step_dir: &Path) -> PathBuf {
        step_dir.join("shipped.json")
    }

    /// Removes everything of an attempt. Repeating it is fine.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn forget(&self, attempt: AttemptId) -> io::Result<()> {
        let dir = self.attempt_dir(attempt);
        let gone = self.attempts.join(format!("{attempt}{GONE}"));
        match std::fs::rename(&dir, &gone) {
            Ok(()) => durable::sync_dir(&self.attempts)?,
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => return Err(err),
        }
        match std::fs::remove_dir_all(&gone) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
            _ => Ok(()),
        }
    }

    /// Every attempt on disk. One that cannot be read is set aside in `unreadable/`, which is said.
    ///
    /// # Errors
    /// When the directory itself cannot be read.
    pub fn load(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for item in std::fs::read_dir(&self.attempts)? {
            let path = item?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.ends_with(GONE) {
                std::fs::remove_dir_all(&path)?;
                continue;
            }
            let Ok(attempt) = name.parse::<AttemptId>() else {
                tracing::warn!(path = %path.display(), "not an attempt, left alone");
                continue;
            };
            match self.entry(attempt) {
                Ok(Some(entry)) => entries.push(entry),
                // Never claimed: the agent ended while it wrote the offer down.
                Ok(None) => self.forget(attempt)?,
                Err(error) => self.put_aside(&path, &name, &error)?,
            }
        }
        entries.sort_by_key(|entry| entry.offer.fence.attempt);
        Ok(entries)
    }

    /// Every attempt on disk, and the names of those that cannot be read. Nothing is made, removed or set aside, so this
    /// may be done while an agent works on the directory; what it changes meanwhile is seen or not.
    ///
    /// # Errors
    /// When the directory itself cannot be read; one that is not there is empty.
    pub fn peek(state_dir: &Path) -> io::Result<(Vec<Entry>, Vec<String>)> {
        let ledger = Self { attempts: state_dir.join("attempts"), set_aside: state_dir.join("unreadable") };
        let (mut entries, mut unreadable) = (Vec::new(), Vec::new());
        let items = match std::fs::read_dir(&ledger.attempts) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((entries, unreadable)),
            items => items?,
        };
        for item in items {
            let name = item?.file_name().to_string_lossy().into_owned();
            let Ok(attempt) = name.parse::<AttemptId>() else { continue };
            match ledger.entry(attempt) {
                Ok(entry) => entries.extend(entry),
                Err(_) => unreadable.push(name),
            }
        }
        entries.sort_by_key(|entry| entry.offer.fence.attempt);
        Ok((entries, unreadable))
    }

    fn entry(&self, attempt: AttemptId) -> io::Result<Option<Entry>> {
        let dir = self.attempt_dir(attempt);
        let Some(claim) = load::<Claim>(&dir.join("offer.json"))? else { return Ok(None) };
        if claim.offer.fence.attempt != attempt {
            return Err(io::Error::other(format!("its offer is of attempt `{}`", claim.offer.fence.attempt)));
        }
        let mut reached = None;
        for step in &claim.offer.steps {
            let dir = self.step_dir(attempt, step.index);
            if let Some(intent) = load(&dir.join("intent.json"))? {
                reached = Some(Reached { step: step.index, intent, started: load(&dir.join("started.json"))? });
            }
        }
        Ok(Some(Entry { offer: claim.offer, cancel: load(&dir.join("cancel.json"))?, reached }))
    }

    fn put_aside(&self, path: &Path, name: &str, error: &io::Error) -> io::Result<()> {
        durable::make_dir(&self.set_aside)?;
        let to = self.set_aside.join(format!("{name}.{}", crate::clock::now().as_micros()));
        tracing::error!(attempt = name, %error, kept = %to.display(), "the ledger of an attempt cannot be read; it was set aside");
        std::fs::rename(path, to)?;
        durable::sync_dir(&self.attempts)
    }
}

pub(crate) fn save(path: &Path, record: &impl Serialize) -> io::Result<()> {
    durable::write(path, &serde_json::to_vec(record)?)
}

fn load<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let named = |err: &dyn std::fmt::Display| io::Error::other(format!("`{}`: {err}", path.display()));
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|err| named(&err)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(named(&err)),
    }
}

#[cfg(test)]
mod tests;
