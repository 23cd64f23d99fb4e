//! The state of a stack on its way to its file: given up at the first secret in it, so that none of it stays on the disk.

use longshore_core::artifacts::{Reason, STATE};
use longshore_core::redact::{Patterns, Scanner};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;

use crate::spool::hex;

/// SHA-256 in hex of what was written, or why it was not.
pub type StateSum = Result<String, Reason>;

/// The file, and what is known of what went into it.
#[derive(Debug)]
pub struct StateFile {
    file: File,
    scanner: Scanner,
    sha: Sha256,
    /// Bytes that may still come.
    room: u64,
    given_up: Option<Reason>,
}

impl StateFile {
    pub(super) fn make(folder: &OwnedFd, limit: u64, patterns: &Patterns) -> nix::Result<Self> {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(folder, STATE, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        Ok(Self { file: file.into(), scanner: patterns.scanner(), sha: Sha256::new(), room: limit, given_up: None })
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.given_up.is_some() {
            return;
        }
        let wrong = if self.scanner.push(bytes) {
            Some(Reason::Secret)
        } else if bytes.len() as u64 > self.room {
            Some(Reason::TooLarge)
        } else {
            self.file.write_all(bytes).err().map(|_| Reason::Unreadable)
        };
        if wrong.is_some() {
            self.give_up(wrong);
            return;
        }
        self.room -= bytes.len() as u64;
        self.sha.update(bytes);
    }

    /// What became of it.
    pub fn finish(self) -> StateSum {
        match self.given_up {
            Some(reason) => Err(reason),
            None => Ok(hex(&self.sha.finalize())),
        }
    }

    fn give_up(&mut self, reason: Option<Reason>) {
        self.given_up = reason;
        // What is left of it is never looked at; it goes with the job's volume.
        self.file.set_len(0).ok();
    }
}
