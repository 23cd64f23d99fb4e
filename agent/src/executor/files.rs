//! The files of one step: spool, control file and the directory that is mounted into the container.
//!
//! Invariants: spool and control file are 0600 and made before the start is confirmed; the control file has its full
//! size allocated, so that a full disk can stop neither a deadline nor an exit record.

use std::path::{Path, PathBuf};

use longshore_core::init::ExitRecord;
use longshore_core::init::control::Deadlines;

use super::Error;

/// The directory of one step of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepDir {
    root: PathBuf,
}

impl StepDir {
    pub(super) fn new(attempt: &Path, index: u32) -> Self {
        Self { root: attempt.join("steps").join(index.to_string()) }
    }

    /// The directory itself, 0700. The caller may keep files of its own in it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The log as init writes it (`longshore_core::spool`).
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.root.join("spool")
    }

    /// The control file (`longshore_core::init::control`).
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.root.join("control")
    }

    /// What is mounted read-only at `/.longshore`.
    #[must_use]
    pub fn mnt(&self) -> PathBuf {
        self.root.join("mnt")
    }

    /// Sets both deadlines, in microseconds of `CLOCK_BOOTTIME`, 0 for none. init looks at least each second.
    pub fn set_deadlines(&self, deadlines: Deadlines) -> Result<(), Error> {
        let _ = deadlines;
        todo!()
    }

    /// The deadlines as they stand.
    pub fn deadlines(&self) -> Result<Deadlines, Error> {
        todo!()
    }

    /// The exit record in the control file, once init has written it.
    pub fn exit_record(&self) -> Result<Option<ExitRecord>, Error> {
        todo!()
    }
}
