//! Reads `lifecycle:`: the phases that a release goes through.

use std::collections::HashMap;

use super::flow::{Mode, Phase, Require};
use super::known::Known;
use super::tree::{At, Errors, shown};

pub(super) const FIELDS: [&str; 4] = ["phase", "environments", "mode", "require"];
pub(super) const MODES: [(&str, Mode); 2] = [("manual", Mode::Manual), ("automatic", Mode::Automatic)];
/// Most phases.
const MAX_PHASES: usize = 100;

/// Reads the phases. An environment may be in none of them: no release goes there then, and the gate says so.
pub(super) fn lifecycle(at: &At<'_>, environments: &Known, errors: &mut Errors) -> Option<Vec<Phase>> {
    let elements = at.list(MAX_PHASES, errors)?;
    if elements.is_empty() {
        at.error("at least one phase is needed: write `- {phase: test, environments: [dev]}`, or leave it out", errors);
    }
    let mut names: Vec<String> = Vec::new();
    let mut phase_of: HashMap<String, String> = HashMap::new();
    let mut phases = Vec::new();
    for element in elements {
        let Some(fields) = element.fields(&FIELDS, errors) else {
            continue;
        };
        let name_at = fields.require("phase", "phase: test", errors);
        let name = name_at.and_then(|at| at.name(errors));
        if let (Some(at), Some(name)) = (name_at, &name) {
            if names.contains(name) {
                at.error(format!("there is already a phase `{name}`"), errors);
            }
            names.push(name.clone());
        }
        let members = fields.require("environments", "environments: [dev]", errors);
        let elements = members.and_then(|at| at.list(usize::MAX, errors));
        let count = elements.as_ref().map(Vec::len);
        if let (Some(at), Some(0)) = (members, count) {
            at.error("a phase needs at least one environment: write `environments: [dev]`", errors);
        }
        let phase = name.clone().unwrap_or_default();
        let members = elements.map(|elements| members_of(elements, &phase, environments, &mut phase_of, errors));
        let mode = fields.get("mode").and_then(|at| at.choice(&MODES, errors)).unwrap_or_default();
        let require = fields.get("require");
        let require = require.map_or(Some(Require::All), |at| require_of(at, count, errors));
        if let (Some(name), Some(environments), Some(require)) = (name, members, require) {
            phases.push(Phase { name, environments, mode, require });
        }
    }
    Some(phases)
}

/// The environments of one phase.
fn members_of(
    elements: Vec<At<'_>>,
    phase: &str,
    environments: &Known,
    phase_of: &mut HashMap<String, String>,
    errors: &mut Errors,
) -> Vec<String> {
    let mut members = Vec::new();
    for element in elements {
        let Some(name) = element.name(errors) else {
            continue;
        };
        if !environments.check(&name, element.line, &element.field, errors) {
            continue;
        }
        match phase_of.get(&name) {
            Some(other) => {
                let message = format!("environment `{name}` is already in the phase `{other}`: it can be in one only");
                element.error(message, errors);
            }
            None => {
                phase_of.insert(name.clone(), phase.to_owned());
                members.push(name);
            }
        }
    }
    members
}

/// `all`, `optional`, or how many of `count`.
fn require_of(at: &At<'_>, count: Option<usize>, errors: &mut Errors) -> Option<Require> {
    let text = at.text(errors)?;
    match text {
        "all" => return Some(Require::All),
        "optional" => return Some(Require::Optional),
        _ => {}
    }
    let number = text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
    let count = count.and_then(|count| u32::try_from(count).ok());
    match (number, count) {
        (Some(0), _) => at.error("`0` makes no sense here: write `optional` for a phase that may be left out", errors),
        (Some(number), Some(count)) if count > 0 && number > count => {
            let have = if count == 1 { "one environment".to_owned() } else { format!("{count} environments") };
            at.error(format!("`{number}` can never be reached: the phase has {have}; write `all`"), errors);
        }
        (Some(number), _) => return Some(Require::AtLeast(number)),
        (None, _) => {
            at.error(format!("`{}` is not known here: write `all`, `optional` or a number", shown(text)), errors);
        }
    }
    None
}
