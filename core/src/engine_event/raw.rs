//! Reading the engine's own JSON.
//!
//! Unknown fields and events are passed over: a newer engine must not break a deployment.

use super::{
    Enforcement, EngineEvent, Kind, MAX_DIFFS, MAX_MESSAGE, MAX_NAME, Op, Outcome, ProgressKind, Resource, Severity,
    Totals,
};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Why a line is not an event. Says nothing of the line's content, which is not masked.
#[derive(Debug, thiserror::Error)]
#[error("not an engine event: line of {bytes} bytes, wrong at column {column}")]
pub struct Error {
    bytes: usize,
    column: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    #[serde(default)]
    sequence: i64,
    #[serde(default)]
    timestamp: i64,
    prelude_event: Option<Empty>,
    stdout_event: Option<Text>,
    diagnostic_event: Option<Diagnostic>,
    resource_pre_event: Option<Step>,
    res_outputs_event: Option<Step>,
    res_op_failed_event: Option<Step>,
    policy_event: Option<Policy>,
    progress_event: Option<Progress>,
    summary_event: Option<Sum>,
    error_event: Option<Failure>,
    cancel_event: Option<Empty>,
}

#[derive(Deserialize)]
struct Empty {}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Text {
    message: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Failure {
    error: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Diagnostic {
    urn: String,
    prefix: String,
    message: String,
    severity: String,
    ephemeral: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Step {
    metadata: Metadata,
    planning: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    op: String,
    urn: String,
    #[serde(rename = "type")]
    type_token: String,
    diffs: Option<Vec<String>>,
    /// URN and id of the provider's own resource.
    provider: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Policy {
    resource_urn: String,
    message: String,
    policy_name: String,
    policy_pack_name: String,
    enforcement_level: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Progress {
    #[serde(rename = "type")]
    kind: String,
    id: String,
    message: String,
    received: i64,
    total: i64,
    done: bool,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Sum {
    maybe_corrupt: bool,
    duration_seconds: i64,
    resource_changes: Option<BTreeMap<String, i64>>,
    is_preview: bool,
    result: Option<String>,
}

pub(super) fn parse(line: &[u8], mask: &mut dyn FnMut(&str) -> String) -> Result<EngineEvent, Error> {
    let raw: Line =
        serde_json::from_slice(line).map_err(|error| Error { bytes: line.len(), column: error.column() })?;
    let (sequence, at) = (raw.sequence, raw.timestamp);
    Ok(EngineEvent { sequence, at, kind: kind(raw, &mut Masked(mask)) })
}

/// Masks whole texts, then cuts them: a text cut first could leave half a secret.
struct Masked<'a>(&'a mut dyn FnMut(&str) -> String);

/// The package in the reference to a provider, `urn:pulumi:STACK::PROJECT::pulumi:providers:PACKAGE::NAME::ID`.
fn package(reference: &str) -> &str {
    let behind = reference.rsplit_once("pulumi:providers:").map_or("", |(_, behind)| behind);
    behind.split("::").next().unwrap_or_default()
}

impl Masked<'_> {
    fn message(&mut self, text: &str) -> String {
        self.text(text, MAX_MESSAGE)
    }

    fn name(&mut self, text: &str) -> String {
        self.text(text, MAX_NAME)
    }

    fn text(&mut self, text: &str, most: usize) -> String {
        let mut text = (self.0)(text);
        cut(&mut text, most);
        text
    }

    fn resource(&mut self, step: Step) -> Resource {
        let Metadata { op, urn, type_token, diffs, provider } = step.metadata;
        let package = package(provider.as_deref().unwrap_or_default());
        Resource {
            op: Op::from_word(&op),
            urn: self.name(&urn),
            type_token: self.name(&type_token),
            provider: self.name(package),
            planning: step.planning,
            diffs: diffs.unwrap_or_default().iter().take(MAX_DIFFS).map(|name| self.name(name)).collect(),
            values: Vec::new(),
            values_left_out: 0,
        }
    }
}

/// Shortens a text to at most `most` bytes and three dots, at a character boundary.
pub(super) fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
}

fn kind(raw: Line, mask: &mut Masked<'_>) -> Kind {
    if raw.prelude_event.is_some() {
        Kind::Prelude
    } else if let Some(event) = raw.stdout_event {
        Kind::Output { message: mask.message(&event.message) }
    } else if let Some(event) = raw.diagnostic_event {
        Kind::Diagnostic {
            severity: Severity::from_word(&event.severity),
            urn: mask.name(&event.urn),
            // One text for the mask, so that no secret hides at the seam.
            message: mask.message(&(event.prefix + &event.message)),
            ephemeral: event.ephemeral,
        }
    } else if let Some(event) = raw.resource_pre_event {
        Kind::ResourceStart(mask.resource(event))
    } else if let Some(event) = raw.res_outputs_event {
        Kind::ResourceEnd(mask.resource(event))
    } else if let Some(event) = raw.res_op_failed_event {
        Kind::ResourceFailed(mask.resource(event))
    } else if let Some(event) = raw.policy_event {
        Kind::Policy {
            enforcement: Enforcement::from_word(&event.enforcement_level),
            name: mask.name(&event.policy_name),
            pack: mask.name(&event.policy_pack_name),
            urn: mask.name(&event.resource_urn),
            message: mask.message(&event.message),
        }
    } else if let Some(event) = raw.progress_event {
        Kind::Progress {
            kind: ProgressKind::from_word(&event.kind),
            id: mask.name(&event.id),
            message: mask.message(&event.message),
            received: event.received,
            total: event.total,
            done: event.done,
        }
    } else if let Some(event) = raw.summary_event {
        Kind::Summary(totals(event))
    } else if let Some(event) = raw.error_event {
        Kind::Error { message: mask.message(&event.error) }
    } else if raw.cancel_event.is_some() {
        Kind::Cancel
    } else {
        Kind::Other
    }
}

fn totals(event: Sum) -> Totals {
    let mut changes = BTreeMap::new();
    for (op, count) in event.resource_changes.unwrap_or_default() {
        let sum: &mut u64 = changes.entry(Op::from_word(&op)).or_default();
        *sum = sum.saturating_add(u64::try_from(count).unwrap_or(0));
    }
    Totals {
        changes,
        preview: event.is_preview,
        result: event.result.filter(|word| !word.is_empty()).map(|word| Outcome::from_word(&word)),
        maybe_corrupt: event.maybe_corrupt,
        duration_seconds: event.duration_seconds,
    }
}
