//! A stack's outputs as its events tell them.
//!
//! The last `resOutputsEvent` of a run about the stack itself holds all outputs. Pulumi puts an object with a
//! fixed signature in place of each secret, and a fixed text in place of what a preview does not know yet
//! (`sdk/go/common/resource/properties.go`).

use crate::init::MASK;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

const STACK_TYPE: &str = "pulumi:pulumi:Stack";
const SIGNATURE_KEY: &str = "4dabf18193072939515e22adb298388d";
const SECRET: &str = "1b47061264138c4ac30d75fd1eb44270";
const UNKNOWN: &str = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    res_outputs_event: Event,
}

#[derive(Deserialize)]
struct Event {
    metadata: Metadata,
    #[serde(default)]
    planning: bool,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "type")]
    type_token: String,
    new: Option<State>,
}

#[derive(Deserialize)]
struct State {
    #[serde(default)]
    outputs: Option<BTreeMap<String, Value>>,
}

/// The stack's outputs, if this line of an event log is about the stack itself and not part of a preview.
///
/// In place of a secret stands [`MASK`], which is also what `pulumi stack output --json` prints for one.
#[must_use]
pub fn stack_outputs(line: &[u8]) -> Option<BTreeMap<String, Value>> {
    let event = serde_json::from_slice::<Line>(line).ok()?.res_outputs_event;
    if event.planning || event.metadata.type_token != STACK_TYPE {
        return None;
    }
    let mut outputs = event.metadata.new?.outputs.unwrap_or_default();
    outputs.values_mut().for_each(hide);
    outputs.retain(|_, value| value != UNKNOWN);
    Some(outputs)
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(fields) if fields.get(SIGNATURE_KEY).is_some_and(|kind| kind == SECRET) => {
            *value = Value::String(MASK.to_owned());
        }
        Value::Object(fields) => fields.values_mut().for_each(hide),
        Value::Array(items) => items.iter_mut().for_each(hide),
        _ => {}
    }
}
