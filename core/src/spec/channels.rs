//! Reads `channels:`: lines of releases with rules for their versions.

use super::known::Known;
use super::lifecycle::lifecycle;
use super::tree::{At, Errors, Fields, Value, shown};
use crate::channel::{ANY, Channel, IMPLICIT, NONE, Range};

pub(super) const FIELDS: [&str; 5] = ["name", "versions", "prerelease", "lifecycle", "default"];
/// Most channels.
const MAX_CHANNELS: usize = 50;
/// Most rules for pre-releases of one channel.
const MAX_RULES: usize = 50;
/// How a rule for pre-releases is written, for messages.
const RULE: &str = "write `none`, `any`, or what a pre-release begins with, such as `rc`, or `rc*` for `rc1` too";

/// Reads the channels; answers their names too, for those who use them.
pub(super) fn channels(
    at: Option<&At<'_>>,
    environments: &Known,
    errors: &mut Errors,
) -> (Option<Vec<Channel>>, Known) {
    let known = |names: Vec<String>, complete| Known::new("channel", names, complete);
    let Some(at) = at else { return (Some(Vec::new()), known(vec![IMPLICIT.to_owned()], true)) };
    let Some(elements) = at.list(MAX_CHANNELS, errors) else { return (None, known(Vec::new(), false)) };
    if elements.is_empty() {
        at.error("at least one channel is needed: write `- {name: stable, prerelease: none}`, or leave it out", errors);
    }
    let count = elements.len();
    let mut found: Vec<Channel> = Vec::new();
    for element in elements {
        let Some(fields) = element.fields(&FIELDS, errors) else { continue };
        let channel = channel(&fields, environments, errors);
        let Some(at) = fields.require("name", "name: stable", errors) else { continue };
        let Some(name) = at.name(errors) else { continue };
        if found.iter().any(|other| other.name == name) {
            at.error(format!("there is already a channel `{name}`"), errors);
            continue;
        }
        if let (true, Some(first)) = (channel.default, found.iter().find(|other| other.default)) {
            let at = fields.get("default").unwrap_or(at);
            at.error(format!("channel `{}` is the default already: only one can be", first.name), errors);
        }
        found.push(Channel { name, ..channel });
    }
    let names: Vec<String> = found.iter().map(|channel| channel.name.clone()).collect();
    let complete = names.len() == count && count > 0;
    (Some(found), known(names, complete))
}

/// Everything of a channel but its name.
fn channel(fields: &Fields<'_>, environments: &Known, errors: &mut Errors) -> Channel {
    let versions = fields.get("versions").and_then(|at| range(at, errors));
    let prerelease = fields.get("prerelease").map(|at| rules(at, errors)).unwrap_or_default();
    if let (Some(range), Some(at)) = (&versions, fields.get("versions"))
        && prerelease.as_slice() == [NONE]
        && !range.has_finished()
    {
        let message = format!("no version is in `{range}` and without a pre-release: leave `prerelease: none` out");
        at.error(message, errors);
    }
    let lifecycle = fields.get("lifecycle").and_then(|at| lifecycle(at, environments, errors)).unwrap_or_default();
    let default = fields.get("default").and_then(|at| at.boolean(errors)).unwrap_or_default();
    Channel { name: String::new(), versions, prerelease, lifecycle, default }
}

fn range(at: &At<'_>, errors: &mut Errors) -> Option<Range> {
    let text = at.text(errors)?;
    Range::parse(text).map_err(|message| at.error(message, errors)).ok()
}

/// The rules for pre-releases, one word or a list of them. Empty for `any`.
fn rules(at: &At<'_>, errors: &mut Errors) -> Vec<String> {
    let Value::List(_) = &at.node.value else {
        return match at.text(errors) {
            Some(ANY) | None => Vec::new(),
            Some(text) => rule(text, at, errors).into_iter().collect(),
        };
    };
    let elements = at.list(MAX_RULES, errors).unwrap_or_default();
    if elements.is_empty() {
        at.error(format!("nothing could be in this channel: {RULE}"), errors);
    }
    let mut found: Vec<String> = Vec::new();
    for element in elements {
        let Some(text) = element.text(errors) else { continue };
        if text == ANY {
            element.error("`any` stands alone: write `prerelease: any`, or name what is taken", errors);
        } else if found.iter().any(|known| known == text) {
            element.error(format!("`{}` is already there", shown(text)), errors);
        } else {
            found.extend(rule(text, &element, errors));
        }
    }
    found
}

/// One rule: the first part of a pre-release, or its beginning and a `*`.
fn rule(text: &str, at: &At<'_>, errors: &mut Errors) -> Option<String> {
    let word = text.strip_suffix('*').unwrap_or(text);
    let good = !text.is_empty() && text.len() <= 100 && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !good {
        at.error(format!("`{}` is no rule for pre-releases: {RULE}", shown(text)), errors);
    }
    good.then(|| text.to_owned())
}
