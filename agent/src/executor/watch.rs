//! Waking up when the spool grows, without polling.

use super::{Error, StepDir};

/// Wakes when a spool has grown. Misses nothing: growth before it was made counts too.
#[derive(Debug)]
pub struct SpoolWatch {}

impl SpoolWatch {
    /// Watches the spool of a step, which has to be there.
    pub fn new(dir: &StepDir) -> Result<Self, Error> {
        let _ = dir;
        todo!()
    }

    /// Waits until the spool is longer than `seen` bytes and returns its length. Can be dropped and called again.
    pub async fn longer_than(&mut self, seen: u64) -> Result<u64, Error> {
        let _ = seen;
        todo!()
    }
}
