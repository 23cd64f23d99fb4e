//! Engine events of Pulumi as Longshore keeps them.
//!
//! `pulumi --event-log` writes one JSON object a line (`apitype/events.go` of the Pulumi SDK is the
//! source of the vocabulary). init reads each line into an [`EngineEvent`] before it reaches a disk: kinds,
//! operations, severities, results and numbers become values of closed types, which no secret can
//! touch, and only what is free text is masked. So a password that reads `create` or `3` cannot change
//! a count. Inputs and outputs of resources are left out, since Pulumi hides only those marked secret; of a preview that people
//! are to agree to, the values that would change are kept, masked and cut ([`EngineEvent::add_values`]).
//!
//! Invariant: an event serialises to less than half a spool record ([`crate::spool::MAX_PAYLOAD`]); longer
//! texts are cut.

mod outputs;
mod raw;
mod summary;
#[cfg(test)]
mod tests;
mod values;
mod words;

pub use outputs::stack_outputs;
pub use raw::Error;
pub use summary::{Change, MAX_CHANGES, MAX_ERRORS, Summary};
pub use values::{MAX_VALUE, PropertyChange};
pub use words::{DiffKind, Enforcement, Op, Outcome, ProgressKind, Severity};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest message kept, in bytes.
pub const MAX_MESSAGE: usize = 32 << 10;
/// Longest other text (URN, type, id) kept, in bytes.
pub const MAX_NAME: usize = 2 << 10;
/// Most property names kept of one resource's difference.
pub const MAX_DIFFS: usize = 32;

/// One event of the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineEvent {
    /// Number of the event in its run, as the engine counts (0 first in some versions, 1 in others).
    pub sequence: i64,
    /// Seconds since the UNIX epoch, by the engine.
    pub at: i64,
    /// What happened.
    pub kind: Kind,
}

/// What happened. Texts are masked and cut to [`MAX_MESSAGE`] or [`MAX_NAME`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The run begins (`preludeEvent`; the configuration in it is left out).
    Prelude,
    /// Text for the display (`stdoutEvent`).
    Output {
        /// The text, with Pulumi's colour marks.
        message: String,
    },
    /// A message of the engine, a provider or the program (`diagnosticEvent`).
    Diagnostic {
        /// How bad.
        severity: Severity,
        /// Resource it is about; empty for none.
        urn: String,
        /// The text with its prefix, with Pulumi's colour marks.
        message: String,
        /// Progress chatter that a display replaces by what follows.
        ephemeral: bool,
    },
    /// An operation on a resource begins (`resourcePreEvent`).
    ResourceStart(Resource),
    /// An operation on a resource has ended (`resOutputsEvent`).
    ResourceEnd(Resource),
    /// An operation on a resource has failed (`resOpFailedEvent`).
    ResourceFailed(Resource),
    /// A policy was violated (`policyEvent`).
    Policy {
        /// What follows from it.
        enforcement: Enforcement,
        /// The policy.
        name: String,
        /// The pack it is from.
        pack: String,
        /// Resource it is about; empty for none.
        urn: String,
        /// The text.
        message: String,
    },
    /// A plugin is fetched or installed (`progressEvent`).
    Progress {
        /// What goes on.
        kind: ProgressKind,
        /// The same for all events of one download.
        id: String,
        /// The text, such as the plugin's name and version.
        message: String,
        /// Bytes so far.
        received: i64,
        /// Bytes in all, as far as known.
        total: i64,
        /// Whether it has ended.
        done: bool,
    },
    /// The run's result (`summaryEvent`).
    Summary(Totals),
    /// The engine failed (`errorEvent`).
    Error {
        /// The text.
        message: String,
    },
    /// The end of the run (`cancelEvent`, which also ends a run that nobody cancelled).
    Cancel,
    /// An event that is not kept in detail, or that this version does not know.
    Other,
    /// A line that could not be read as an event.
    Unreadable {
        /// Its length in bytes.
        bytes: u64,
    },
}

/// One operation on one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// The operation.
    pub op: Op,
    /// The resource.
    pub urn: String,
    /// Its type token.
    #[serde(rename = "type")]
    pub type_token: String,
    /// Package of the provider that manages it; empty: none does, as for a component.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub provider: String,
    /// Whether this is a preview.
    pub planning: bool,
    /// Names of the properties that differ, at most [`MAX_DIFFS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diffs: Vec<String>,
    /// What they are and would be; in previews that people are to agree to alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<PropertyChange>,
    /// How many more differ.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub values_left_out: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The engine's own account of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Resources per operation, `same` included.
    pub changes: BTreeMap<Op, u64>,
    /// Whether the run was a preview.
    pub preview: bool,
    /// How it ended; engines before 3.237.0 do not say.
    pub result: Option<Outcome>,
    /// Whether the state may be wrong.
    pub maybe_corrupt: bool,
    /// Seconds the run took.
    pub duration_seconds: i64,
}

impl EngineEvent {
    /// Reads one line of an event log. `mask` gets each free text whole and returns what may be kept of it.
    pub fn parse(line: &[u8], mask: &mut dyn FnMut(&str) -> String) -> Result<Self, Error> {
        raw::parse(line, mask)
    }

    /// Adds the values that would change, if the event is of a preview that would change something. `line` and `mask` are those that
    /// the event was read from and with.
    pub fn add_values(&mut self, line: &[u8], mask: &mut dyn FnMut(&str) -> String) {
        if let Kind::ResourceStart(resource) = &mut self.kind
            && resource.planning
            && resource.op != Op::Same
        {
            (resource.values, resource.values_left_out) = values::read(line, mask);
        }
    }

    /// Stands for a line of so many bytes that [`EngineEvent::parse`] refused.
    #[must_use]
    pub fn unreadable(bytes: u64) -> Self {
        Self { sequence: 0, at: 0, kind: Kind::Unreadable { bytes } }
    }

    /// Whether it is of no use to anyone but developers of Pulumi, and is left out of the spool
    /// (`--event-log` adds debug messages that the display does not show).
    #[must_use]
    pub fn is_noise(&self) -> bool {
        matches!(&self.kind, Kind::Diagnostic { severity: Severity::Debug, .. })
    }

    /// The event as the payload of a spool record of stream 3.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Reads what [`EngineEvent::to_json`] wrote, also by a newer version (unknown words become `other`).
    pub fn from_json(payload: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(payload)
    }
}
