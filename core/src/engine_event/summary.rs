//! What a step's events come to.

use super::{Enforcement, EngineEvent, Kind, Op, Outcome, ProgressKind, PropertyChange, Resource, Severity, Totals};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most error messages kept; the rest is counted.
pub const MAX_ERRORS: usize = 20;
/// Longest error message kept, in bytes.
const MAX_ERROR_TEXT: usize = 4 << 10;
/// Most downloads told apart; more are counted as this many.
const MAX_DOWNLOADS: usize = 1024;

/// Most changes that are kept one by one; the counts are of all.
pub const MAX_CHANGES: usize = 500;
/// Longest texts of all changes together, in bytes.
const MAX_CHANGE_TEXT: usize = 256 << 10;
/// Longest values of all changes together, in bytes.
const MAX_VALUE_TEXT: usize = 128 << 10;

/// What a preview would do to one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The resource, masked.
    pub urn: String,
    /// What would be done.
    pub op: Op,
    /// Names of the properties that differ, masked.
    pub properties: Vec<String>,
    /// Properties with what they are and would be, masked and cut; none from an agent that does not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<PropertyChange>,
    /// How many more differ whose values were left out.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub values_left_out: u64,
}

/// The sum of a step's events, updated one at a time and bounded in size.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// Events seen.
    pub events: u64,
    /// The engine's account of its last run; `None`: it gave none, so the run did not get to its end.
    pub totals: Option<Totals>,
    /// Error diagnostics and engine errors, without Pulumi's colour marks; the first [`MAX_ERRORS`].
    pub errors: Vec<String>,
    /// How many errors there were.
    pub error_count: u64,
    /// Violated policies that make a run fail.
    pub mandatory_violations: u64,
    /// Violated policies that do not.
    pub other_violations: u64,
    /// Lines that were no events.
    pub unreadable: u64,
    /// What a preview would change; the first [`MAX_CHANGES`].
    pub planned: Vec<Change>,
    /// Bytes of their texts.
    pub(crate) planned_text: usize,
    /// Bytes of their values.
    pub(crate) planned_values: usize,
    /// Ids of the plugin downloads seen.
    pub(crate) downloads: BTreeSet<String>,
    /// Packages of the providers that were used.
    pub(crate) providers: BTreeSet<String>,
}

impl Summary {
    /// Adds one event.
    pub fn add(&mut self, event: &EngineEvent) {
        self.events += 1;
        if let Kind::ResourceStart(Resource { provider, .. }) = &event.kind
            && !provider.is_empty()
            && self.providers.len() < MAX_DOWNLOADS
        {
            self.providers.insert(provider.clone());
        }
        match &event.kind {
            Kind::Summary(totals) => self.totals = Some(totals.clone()),
            Kind::Diagnostic { severity: Severity::Error, message, .. } | Kind::Error { message } => {
                self.add_error(message);
            }
            Kind::Policy { enforcement: Enforcement::Mandatory, .. } => self.mandatory_violations += 1,
            Kind::Policy { .. } => self.other_violations += 1,
            // Every download has an install after it; a plugin installed from a local file is no download.
            Kind::Progress { kind: ProgressKind::PluginDownload, id, .. } if self.downloads.len() < MAX_DOWNLOADS => {
                self.downloads.insert(id.clone());
            }
            Kind::Unreadable { .. } => self.unreadable += 1,
            Kind::ResourceStart(resource) if resource.planning && resource.op != Op::Same => self.add_change(resource),
            _ => {}
        }
    }

    fn add_change(&mut self, resource: &Resource) {
        let size = resource.urn.len() + resource.diffs.iter().map(String::len).sum::<usize>();
        if self.planned.len() < MAX_CHANGES && self.planned_text + size <= MAX_CHANGE_TEXT {
            self.planned_text += size;
            let (urn, op, properties) = (resource.urn.clone(), resource.op, resource.diffs.clone());
            let (mut values, mut values_left_out) = (resource.values.clone(), resource.values_left_out);
            let size = values.iter().map(PropertyChange::size).sum::<usize>();
            if self.planned_values + size <= MAX_VALUE_TEXT {
                self.planned_values += size;
            } else {
                values_left_out += values.len() as u64;
                values.clear();
            }
            self.planned.push(Change { urn, op, properties, values, values_left_out });
        }
    }

    /// Whether the engine refused to do what was not in the plan it was given (`deploy/plan.go` and
    /// `step_generator.go` of the Pulumi engine).
    #[must_use]
    pub fn violates_plan(&self) -> bool {
        let says = ["violates plan", "not allowed by the plan", "expected resource operations for"];
        self.errors.iter().any(|error| says.iter().any(|words| error.contains(words)))
    }

    fn add_error(&mut self, message: &str) {
        self.error_count += 1;
        if self.errors.len() < MAX_ERRORS {
            let mut text = without_colour(message).trim().to_owned();
            super::raw::cut(&mut text, MAX_ERROR_TEXT);
            self.errors.push(text);
        }
    }

    /// Resources per operation of the last run; empty when the engine gave no account.
    #[must_use]
    pub fn changes(&self) -> BTreeMap<Op, u64> {
        self.totals.as_ref().map(|totals| totals.changes.clone()).unwrap_or_default()
    }

    /// How the last run ended by the engine's account.
    #[must_use]
    pub fn result(&self) -> Option<Outcome> {
        self.totals.as_ref().and_then(|totals| totals.result)
    }

    /// Whether the engine said that its state may be wrong.
    #[must_use]
    pub fn maybe_corrupt(&self) -> bool {
        self.totals.as_ref().is_some_and(|totals| totals.maybe_corrupt)
    }

    /// How many plugins came over the network.
    #[must_use]
    pub fn plugin_downloads(&self) -> u64 {
        self.downloads.len() as u64
    }

    /// How many providers were used that had not to be fetched first.
    #[must_use]
    pub fn plugin_hits(&self) -> u64 {
        (self.providers.len() as u64).saturating_sub(self.plugin_downloads())
    }
}

/// Takes out Pulumi's colour marks, `<{%reset%}>` and the like, and the terminal's, which language hosts leave in messages.
fn without_colour(text: &str) -> String {
    between(&between(text, "<{%", "%}>"), "\u{1b}[", "m")
}

/// Takes out each `open` up to the next `close`; an `open` without one stays.
fn between(text: &str, open: &str, close: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, mark)) = rest.split_once(open) {
        out.push_str(before);
        if let Some((_, after)) = mark.split_once(close) {
            rest = after;
        } else {
            out.push_str(open);
            rest = mark;
        }
    }
    out.push_str(rest);
    out
}
