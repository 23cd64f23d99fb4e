//! The files of the ledger.
//!
//! An agent may read what an older or a newer one wrote: fields are only ever added, with a default.

use std::time::Duration;

use longshore_core::engine_event::Summary;
use longshore_core::offer::Offer;
use longshore_core::time::Timestamp;
use serde::{Deserialize, Serialize};

/// An offer was claimed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// What was offered. Holds nothing secret.
    pub offer: Offer,
    /// When it was claimed.
    pub at: Timestamp,
}

/// The right to start a step was, or may have been, asked for. The nonce is in memory only: whoever reads this after a
/// restart cannot have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The container, created and not started.
    pub container: String,
    /// Digest of its image.
    pub image_digest: String,
    /// When it was written.
    pub at: Timestamp,
}

/// The start was granted, and the container is about to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// When, by the wall clock.
    pub at: Timestamp,
    /// The boot in which the deadlines mean something.
    pub boot_id: String,
    /// The step's soft deadline: microseconds of `CLOCK_BOOTTIME`.
    pub soft: u64,
    /// Between SIGINT and SIGKILL.
    pub grace: Duration,
}

/// A cancel was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelMark {
    /// The boot in which the deadline means something.
    pub boot_id: String,
    /// When everything is killed: microseconds of `CLOCK_BOOTTIME`.
    pub hard: u64,
    /// The one SIGINT was sent.
    pub signalled: bool,
    /// Why this agent itself cancels it; none: a person asked the controller for it.
    #[serde(default)]
    pub cause: Option<String>,
}

/// How far the spool of a step was read. Everything before `boundary` may have been given back to the disk.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Shipped {
    /// A record boundary of the spool.
    pub boundary: u64,
    /// Bytes from the front that were given back, or were about to be.
    pub given_back: u64,
    /// What the engine events before the boundary said.
    pub summary: Summary,
    /// When the exit record was written, once it was read.
    #[serde(default)]
    pub exit_at: Option<Timestamp>,
}
