//! What makes an attempt the only one that counts.

use crate::id::AttemptId;

/// (incarnation, attempt, epoch): carried by every RPC that changes something (promise P6).
///
/// The epoch counts the attempts of a job; the incarnation counts restores of the database. The newest of both is the
/// only valid one. The check stands in the same SQL statement as the effect; this type only carries the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Fence {
    /// The attempt.
    pub attempt: AttemptId,
    /// Counter of the job's attempts, from 1.
    pub epoch: u64,
    /// Counter of database restores, from 1.
    pub incarnation: u64,
}

impl Fence {
    /// Whether a message with this fence speaks for the attempt that `current` names.
    #[must_use]
    pub fn admits(&self, current: &Self) -> bool {
        self == current
    }
}
