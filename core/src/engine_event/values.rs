//! Old and new values of the properties that a preview would change, as text for people.
//!
//! Markers are bare words in brackets, strings are in quotes, so that neither can be taken for the other:
//! [`MASK`] for what is secret to Pulumi (on either side, or in the state), `[unknown]` for what only the update will tell, `[hidden]`
//! for what the program asked not to show. What is not in the event is not shown at all.
//!
//! Invariants: every text is masked whole before it is cut; one resource has at most [`MAX_DIFFS`] values with
//! [`MAX_RESOURCE_TEXT`] bytes, and what is left out is counted.

use super::{DiffKind, MAX_DIFFS, Op, raw::cut};
use crate::init::MASK;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Longest value kept, in bytes; a longer one is cut and says so.
pub const MAX_VALUE: usize = 1 << 10;
/// Longest texts of all values of one resource together, in bytes.
pub(super) const MAX_RESOURCE_TEXT: usize = 16 << 10;
/// Longest path of a property, in bytes.
const MAX_PATH: usize = 256;
/// Key of an object that stands for something else, and its value for a secret (`properties.go` of Pulumi's SDK).
const SIGNATURE_KEY: &str = "4dabf18193072939515e22adb298388d";
const SECRET: &str = "1b47061264138c4ac30d75fd1eb44270";
/// What stands in place of a value that is not known yet, by its type (`plugin/rpc.go` of Pulumi's SDK).
const UNKNOWN: [&str; 7] = [
    "04da6b54-80e4-46f7-96ec-b56ff0331ba9",
    "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
    "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
    "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
    "030794c1-ac77-496b-92df-f27374a8bd58",
    "e48ece36-62e2-4504-bad9-02848725956a",
    "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
];

/// How one property of a resource would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PropertyChange {
    /// Its path as Pulumi writes it, such as `tags.owner` or `rules[0].port`; masked.
    pub property: String,
    /// What would happen to it, and whether that replaces the resource.
    pub kind: DiffKind,
    /// What it is now, masked and cut; `None`: nothing, or the event does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// What it would be, masked and cut; `None`: nothing, or the event does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

impl PropertyChange {
    /// Bytes of its texts.
    pub(super) fn size(&self) -> usize {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        self.property.len() + length(&self.old) + length(&self.new)
    }
}

/// What is read of an event's metadata. Borrowed from the JSON as it is, since PID 1 of a container has to stay small.
struct Metadata<'a> {
    op: Op,
    old: Option<State<'a>>,
    new: Option<State<'a>>,
    keys: Vec<&'a str>,
    diffs: Vec<&'a str>,
    detailed: Option<&'a Map<String, Value>>,
}

#[derive(Default)]
struct State<'a> {
    inputs: Option<&'a Map<String, Value>>,
    outputs: Option<&'a Map<String, Value>>,
    hidden: Vec<&'a str>,
}

fn words<'a>(of: &'a Value, name: &str) -> Vec<&'a str> {
    of.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

impl<'a> State<'a> {
    fn of(metadata: &'a Value, name: &str) -> Option<Self> {
        let state = metadata.get(name).filter(|state| state.is_object())?;
        let map = |name| state.get(name).and_then(Value::as_object);
        Some(Self { inputs: map("inputs"), outputs: map("outputs"), hidden: words(state, "hideDiffs") })
    }

    fn has(&self, name: &str) -> bool {
        self.inputs.is_some_and(|inputs| inputs.contains_key(name))
    }
}

impl<'a> Metadata<'a> {
    fn of(line: &'a Value) -> Option<Self> {
        let metadata = line.get("resourcePreEvent")?.get("metadata")?;
        Some(Self {
            op: Op::from_word(metadata.get("op").and_then(Value::as_str).unwrap_or_default()),
            old: State::of(metadata, "old"),
            new: State::of(metadata, "new"),
            keys: words(metadata, "keys"),
            diffs: words(metadata, "diffs"),
            detailed: metadata.get("detailedDiff").and_then(Value::as_object).filter(|detailed| !detailed.is_empty()),
        })
    }
}

/// Reads the values of one line of an event log, and how many are left out. `mask` gets each text whole.
pub(super) fn read(line: &[u8], mask: &mut dyn FnMut(&str) -> String) -> (Vec<PropertyChange>, u64) {
    let line: Value = serde_json::from_slice(line).unwrap_or_default();
    let Some(metadata) = Metadata::of(&line) else { return (Vec::new(), 0) };
    let (mut kept, mut room, mut left_out) = (Vec::new(), MAX_RESOURCE_TEXT, 0);
    for (path, kind, inputs) in differing(&metadata) {
        let change = metadata.change(&path, kind, inputs, mask);
        match room.checked_sub(change.size()).filter(|_| kept.len() < MAX_DIFFS) {
            Some(rest) => {
                room = rest;
                kept.push(change);
            }
            None => left_out += 1,
        }
    }
    (kept, left_out)
}

/// Paths that differ, how, and whether the inputs of the last operation are what is compared with.
fn differing(metadata: &Metadata<'_>) -> Vec<(String, DiffKind, bool)> {
    // Of a replacement's three steps one is for people; what is read is no change.
    if !matches!(metadata.op, Op::Create | Op::Update | Op::Delete | Op::Replace | Op::Import) {
        return Vec::new();
    }
    if let Some(detailed) = metadata.detailed {
        let of = |(path, detail): (&String, &Value)| {
            let kind = detail.get("diffKind").and_then(Value::as_str).unwrap_or_default();
            let inputs = detail.get("inputDiff").and_then(Value::as_bool).unwrap_or_default();
            (path.clone(), DiffKind::from_word(kind), inputs)
        };
        return detailed.iter().map(of).collect();
    }
    let all = |state: &State<'_>, kind: DiffKind| {
        let names = state.inputs.into_iter().flat_map(Map::keys).filter(|name| !is_internal(name));
        names.map(|name| (top(name), kind, true)).collect()
    };
    match (&metadata.old, &metadata.new) {
        (None, Some(new)) => all(new, DiffKind::Add),
        (Some(old), None) => all(old, DiffKind::Delete),
        (Some(old), Some(new)) => {
            let names = metadata.diffs.iter().filter(|name| !is_internal(name));
            names.map(|name| (top(name), kind_of(metadata, old, new, name), true)).collect()
        }
        (None, None) => Vec::new(),
    }
}

fn kind_of(metadata: &Metadata<'_>, old: &State<'_>, new: &State<'_>, name: &str) -> DiffKind {
    match (old.has(name), new.has(name), metadata.keys.contains(&name)) {
        (false, true, false) => DiffKind::Add,
        (false, true, true) => DiffKind::AddReplace,
        (true, false, false) => DiffKind::Delete,
        (true, false, true) => DiffKind::DeleteReplace,
        (_, _, false) => DiffKind::Update,
        (_, _, true) => DiffKind::UpdateReplace,
    }
}

impl<'a> Metadata<'a> {
    fn change(&self, path: &str, kind: DiffKind, inputs: bool, mask: &mut dyn FnMut(&str) -> String) -> PropertyChange {
        let parts = parts(path);
        let (old, new) = (self.old.as_ref(), self.new.as_ref());
        let inputs_of = |state: Option<&State<'a>>| state.and_then(|state| state.inputs);
        let outputs_of = |state: Option<&State<'a>>| state.and_then(|state| state.outputs);
        let sides = [inputs_of(old), outputs_of(old), inputs_of(new), outputs_of(new)];
        let sides = sides.map(|side| side.map_or(Found::Nothing, |map| find(map, &parts)));
        let twins: Vec<&Value> = sides.iter().filter_map(|side| side.value()).collect();
        let secret = sides.iter().any(|side| matches!(side, Found::Secret));
        let hidden = self.hides(&parts);
        let [old_input, old_output, new_input, _] = &sides;
        let old = if inputs || matches!(old_output, Found::Nothing) { old_input } else { old_output };
        let mut show = |side: &Found<'_>, gone: bool| match side {
            Found::Nothing => None,
            _ if gone => None,
            _ if hidden => Some("[hidden]".to_owned()),
            _ if secret => Some(MASK.to_owned()),
            Found::Value(value) => Some(shown(value, &twins, mask)),
            Found::Unknown | Found::Secret => Some("[unknown]".to_owned()),
        };
        let (old, new) = (show(old, kind.word() == "add"), show(new_input, kind.word() == "delete"));
        let mut property = mask(path);
        cut(&mut property, MAX_PATH);
        PropertyChange { property, kind, old, new }
    }

    /// Whether the program asked not to show differences there.
    fn hides(&self, path: &[Part]) -> bool {
        let mut states = [&self.old, &self.new].into_iter().flatten();
        states.any(|state| state.hidden.iter().any(|hidden| path.starts_with(&parts(hidden))))
    }
}

/// Pulumi's own notes among the properties, which its display leaves out as well.
fn is_internal(name: &str) -> bool {
    name.starts_with("__")
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Name(String),
    Index(usize),
}

/// A name as a path of one part.
fn top(name: &str) -> String {
    if name.contains(['.', '[', ']', '"']) { format!("[{}]", Value::from(name)) } else { name.to_owned() }
}

/// Reads `a.b[0]["c.d"]`; what is written otherwise is one name.
fn parts(path: &str) -> Vec<Part> {
    split(path).unwrap_or_else(|| vec![Part::Name(path.to_owned())])
}

fn split(path: &str) -> Option<Vec<Part>> {
    let (mut parts, mut rest) = (Vec::new(), path);
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let (name, after) = unquote(quoted)?;
            parts.push(Part::Name(name));
            rest = after;
        } else if let Some(index) = rest.strip_prefix('[') {
            let (index, after) = index.split_once(']')?;
            parts.push(Part::Index(index.parse().ok()?));
            rest = after;
        } else {
            let name = rest.strip_prefix('.').unwrap_or(rest);
            let end = name.find(['.', '[']).unwrap_or(name.len());
            let (name, after) = name.split_at_checked(end)?;
            (!name.is_empty()).then(|| parts.push(Part::Name(name.to_owned())))?;
            rest = after;
        }
    }
    Some(parts)
}

/// A name up to `"]`, in which a backslash takes the next character as it is.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((name, text.get(at + 1..)?.strip_prefix(']')?)),
            '\\' => name.push(chars.next()?.1),
            other => name.push(other),
        }
    }
    None
}

/// What stands at a path.
enum Found<'a> {
    Nothing,
    Secret,
    Unknown,
    Value(&'a Value),
}

impl<'a> Found<'a> {
    fn value(&self) -> Option<&'a Value> {
        if let Self::Value(value) = self { Some(value) } else { None }
    }
}

fn find<'a>(map: &'a Map<String, Value>, path: &[Part]) -> Found<'a> {
    let mut at: Option<&Value> = None;
    for part in path {
        let next = match (at, part) {
            (None, Part::Name(name)) => map.get(name),
            (Some(Value::Object(fields)), Part::Name(name)) => fields.get(name),
            (Some(Value::Array(items)), Part::Index(index)) => items.get(*index),
            _ => None,
        };
        match next {
            None => return Found::Nothing,
            Some(value) if is_secret(value) => return Found::Secret,
            Some(value) if is_unknown(value) => return Found::Unknown,
            Some(value) => at = Some(value),
        }
    }
    at.map_or(Found::Nothing, Found::Value)
}

/// A secret, or an output that says of itself that it is one.
fn is_secret(value: &Value) -> bool {
    let Some(signature) = value.get(SIGNATURE_KEY) else { return false };
    signature == SECRET || value.get("secret").is_some_and(|secret| secret == true)
}

fn is_unknown(value: &Value) -> bool {
    value.as_str().is_some_and(|text| UNKNOWN.iter().any(|unknown| text.contains(unknown)))
}

/// A value as text. `twins` are the values at the same place elsewhere: what is secret in one of them is so here.
fn shown(value: &Value, twins: &[&Value], mask: &mut dyn FnMut(&str) -> String) -> String {
    let mut text = String::new();
    write(&mut text, value, twins, mask);
    // Once more as a whole: a secret may be a number, or the text of an object.
    let mut text = mask(&text);
    let whole = text.len();
    if whole > MAX_VALUE {
        cut(&mut text, MAX_VALUE);
        text.push_str(&format!(" [cut: it has {whole} bytes]"));
    }
    text
}

fn write(out: &mut String, value: &Value, twins: &[&Value], mask: &mut dyn FnMut(&str) -> String) {
    if is_secret(value) || twins.iter().any(|twin| is_secret(twin)) {
        return out.push_str(MASK);
    }
    match value {
        _ if is_unknown(value) => out.push_str("[unknown]"),
        Value::String(text) => out.push_str(&Value::from(mask(text)).to_string()),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                let twins: Vec<_> = twins.iter().filter_map(|twin| twin.get(index)).collect();
                write(out, item, &twins, mask);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            let fields = fields.iter().filter(|(name, _)| !is_internal(name) && *name != SIGNATURE_KEY);
            for (index, (name, field)) in fields.enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                out.push_str(&Value::from(mask(name)).to_string());
                out.push_str(": ");
                let twins: Vec<_> = twins.iter().filter_map(|twin| twin.get(name)).collect();
                write(out, field, &twins, mask);
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests;
