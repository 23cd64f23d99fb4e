//! What a step leaves in its folder: looked through once nobody is left who could write to it, and moved to where the agent reads.
//!
//! Everything there is of the step's making. Invariants: no link is followed, nothing but a regular file with one name on the
//! folder's own file system is read, opening never waits; entries, depth, bytes, names and time are bounded; a file in which a secret
//! is found stays where it is; nothing that goes wrong here fails the step, it is said in the exit record.

mod state;
mod walk;

use crate::clock;
use longshore_core::artifacts::{
    Artifact, Collect, FILES, KEPT, Kind, LeftOut, MAX_FILES, MAX_LEFT_OUT, MAX_LIST, Reason, STATE, STATE_BEFORE,
    listed, shown,
};
use longshore_core::init::ExitRecord;
use longshore_core::redact::Patterns;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::mkdir;
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::path::Path;

pub use state::{StateFile, StateSum};

/// How long everything may take, in microseconds: the agent waits for the exit record after a step's end, but not for ever.
const TIME: u64 = 20_000_000;
/// A folder that is opened for reading.
const FOLDER: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// The folder of one try.
#[derive(Debug)]
pub struct Folder<'a> {
    collect: &'a Collect,
    /// Held open, so that nothing put in its place is taken for it.
    own: OwnedFd,
    files: OwnedFd,
}

/// What there is to keep a file by.
struct Keeper<'a> {
    limits: &'a Collect,
    patterns: &'a [&'a Patterns],
    kept: OwnedFd,
    device: u64,
    until: u64,
    total: u64,
    list: usize,
    uncounted: u64,
    artifacts: Vec<Artifact>,
    left_out: Vec<LeftOut>,
}

impl<'a> Folder<'a> {
    /// Makes the folder, which must not be there, and in it the one that any process of the step may write to.
    pub fn make(collect: &'a Collect) -> Result<Self, Errno> {
        let folder = Path::new(&collect.folder);
        let parent = folder.parent().ok_or(Errno::EINVAL)?;
        std::fs::create_dir_all(parent).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
        mkdir(folder, Mode::S_IRWXU | Mode::S_IRGRP | Mode::S_IXGRP | Mode::S_IROTH | Mode::S_IXOTH)?;
        let own = open(folder, FOLDER, Mode::empty())?;
        mkdirat(&own, FILES, Mode::S_IRWXU)?;
        let files = openat(&own, FILES, FOLDER, Mode::empty())?;
        // The umask has no say.
        fchmod(&files, Mode::S_IRWXU | Mode::S_IRWXG | Mode::S_IRWXO)?;
        Ok(Self { collect, own, files })
    }

    /// A file for the stack's state; `None` when it cannot be made.
    #[must_use]
    pub fn state(&self, patterns: &Patterns) -> Option<StateFile> {
        let limit = self.collect.limits.file_bytes.min(self.collect.limits.total_bytes);
        StateFile::make(&self.own, limit, patterns).ok()
    }

    /// Looks through the folder and says in the record what is kept, and what is not. `state`: the one that was taken before.
    pub fn collect(self, state: Option<&StateSum>, patterns: &[&Patterns], record: &mut ExitRecord) {
        let Ok(mut keeper) = self.keeper(patterns) else {
            record.left_out = vec![unreadable()];
            return;
        };
        if let Some(state) = state {
            keeper.state(&self.own, state);
        }
        keeper.walk(&self.files);
        keeper.leave(record);
    }

    fn keeper<'p>(&'p self, patterns: &'p [&'p Patterns]) -> Result<Keeper<'p>, Errno> {
        mkdirat(&self.own, KEPT, Mode::S_IRWXU)?;
        let kept = openat(&self.own, KEPT, FOLDER, Mode::empty())?;
        Ok(Keeper {
            limits: self.collect,
            patterns,
            kept,
            device: fstat(&self.own)?.st_dev,
            until: clock::boot_micros().saturating_add(TIME),
            total: 0,
            list: 0,
            uncounted: 0,
            artifacts: Vec::new(),
            left_out: Vec::new(),
        })
    }
}

/// What stands in a record when the folder as a whole cannot be looked into.
#[must_use]
pub fn unreadable() -> LeftOut {
    LeftOut { path: String::new(), kind: Kind::File, reason: Reason::Unreadable, count: 1 }
}

impl Keeper<'_> {
    /// Keeps the state that was written before the step wrote to its stack, unless someone changed it since.
    fn state(&mut self, own: &OwnedFd, state: &StateSum) {
        let Ok(name) = CString::new(STATE) else { return };
        let read = match state {
            Ok(sha256) => self.read(own, &name).and_then(|read| match read {
                read if read.1 == *sha256 => Ok(read),
                _ => Err(Reason::Changed),
            }),
            Err(reason) => Err(*reason),
        };
        let kept = read.and_then(|read| self.keep(own, &name, Kind::State, STATE_BEFORE.to_owned(), read));
        if let Err(reason) = kept {
            self.leave_out(Kind::State, STATE_BEFORE, reason);
        }
    }

    /// Moves a file that was read to those that are kept.
    fn keep(
        &mut self,
        folder: &OwnedFd,
        name: &CStr,
        kind: Kind,
        path: String,
        (bytes, sha256): (u64, String),
    ) -> Result<(), Reason> {
        let artifact = Artifact { path, bytes, sha256, kind };
        let length = listed(&artifact);
        if self.artifacts.len() >= MAX_FILES || self.list + length > MAX_LIST {
            return Err(Reason::TooMany);
        }
        let index = CString::new(self.artifacts.len().to_string()).map_err(|_| Reason::Unreadable)?;
        renameat(folder, name, &self.kept, index.as_c_str()).map_err(|error| match error {
            Errno::EXDEV | Errno::EBUSY => Reason::Mount,
            _ => Reason::Unreadable,
        })?;
        self.total += bytes;
        self.list += length;
        self.artifacts.push(artifact);
        Ok(())
    }

    /// Names a file that is not kept, or counts it when enough are named.
    fn leave_out(&mut self, kind: Kind, path: &str, reason: Reason) {
        let masked = self.patterns.iter().fold(path.to_owned(), |path, patterns| patterns.mask(&path));
        let one = LeftOut { path: shown(&masked), kind, reason, count: 1 };
        let length = listed(&one);
        // The files themselves come first; the state is the first of all.
        if self.left_out.len() >= MAX_LEFT_OUT || self.list + length > MAX_LIST {
            self.uncounted += 1;
            return;
        }
        self.list += length;
        self.left_out.push(one);
    }

    fn leave(mut self, record: &mut ExitRecord) {
        if self.uncounted > 0 {
            let count = self.uncounted;
            self.left_out.push(LeftOut { path: String::new(), kind: Kind::File, reason: Reason::TooMany, count });
        }
        (record.artifacts, record.left_out) = (self.artifacts, self.left_out);
    }
}

#[cfg(test)]
mod tests;
