//! Reads the file as a whole: project, environments, variables, and the steps in the scope these make.

use std::collections::BTreeMap;

use super::channels::channels;
use super::known::Known;
use super::lifecycle::lifecycle;
use super::limits;
use super::model::{DEFAULT_POOL, Environment, Project};
use super::names;
use super::outside::{Outside, libraries};
use super::source::source;
use super::steps::Listed;
use super::tree::{At, Errors, Node, shown};
use super::variables::{Names, variables};

pub(super) const FIELDS: [&str; 14] = [
    "version",
    "project",
    "pool",
    "agents",
    "resources",
    "max_running",
    "max_queue_wait",
    "environments",
    "lifecycle",
    "channels",
    "libraries",
    "source",
    "variables",
    "steps",
];
pub(super) const ENVIRONMENT: [&str; 5] = ["name", "protected", "pool", "agents", "max_queue_wait"];
/// Most labels of an agent that are asked for.
const MAX_LABELS: usize = 32;
/// Most environments.
const MAX_ENVIRONMENTS: usize = 500;

/// Reads a whole file; `None` or a recorded error, or both, mean that it cannot be used.
pub(super) fn project(root: &Node, outside: Option<&Outside>, errors: &mut Errors) -> Option<Project> {
    let fields = At::root(root).fields(&FIELDS, errors)?;
    if let Some(at) = fields.require("version", "version: 1", errors)
        && let Some(text) = at.text(errors)
        && text != "1"
    {
        at.error(format!("version `{}` is not known: write `version: 1`", shown(text)), errors);
    }
    let name = fields.require("project", "project: NAME", errors).and_then(|at| at.name(errors));
    let pool = match fields.get("pool") {
        Some(at) => at.name(errors),
        None => Some(DEFAULT_POOL.to_owned()),
    };
    let agents = fields.get("agents").map_or_else(|| Some(BTreeMap::new()), |at| labels(at, errors));
    let resources = fields.get("resources").and_then(|at| limits::resources(at, errors)).unwrap_or_default();
    let max_running = fields.get("max_running").and_then(|at| at.number(limits::MAX_RUNNING, errors));
    let max_queue_wait = fields.get("max_queue_wait").and_then(|at| at.duration(limits::QUEUE_WAIT, errors));
    let environments = fields.require("environments", "environments: [{name: dev}]", errors);
    let (environments, known_environments) = match environments {
        Some(at) => environments_of(at, errors),
        None => (None, Known::new("environment", Vec::new(), false)),
    };
    let phases = fields.get("lifecycle").map(|at| lifecycle(at, &known_environments, errors));
    let (channels, known_channels) = channels(fields.get("channels"), &known_environments, errors);
    let example = "steps: [{name: hello, image: alpine, run: echo hello}]";
    let listed = fields.require("steps", example, errors).and_then(|at| Listed::read(at, errors));
    let known_steps = listed.as_ref().map_or_else(|| Known::new("step", Vec::new(), false), Listed::known);
    let known = Names { environments: &known_environments, steps: &known_steps, channels: &known_channels };
    let declared = fields.get("variables").map(|at| variables(at, &known, errors)).unwrap_or_default();
    let included = libraries(fields.get("libraries"), &declared, outside, errors);
    let source = fields.get("source").map(|at| source(at, (&declared, fields.has("libraries")), errors).map(Some));
    let own = declared.len();
    let seen = declared.into_iter().chain(included.variables).collect();
    let (steps, mut declared) = match listed {
        Some(listed) => {
            listed.steps(name.clone(), (seen, included.open), outside.map(|outside| &outside.accounts), errors)
        }
        None => (None, seen),
    };
    declared.truncate(own);
    let variables = declared.into_iter().map(|(name, variable)| Some((name, variable?))).collect::<Option<_>>();
    Some(Project {
        version: 1,
        name: name?,
        pool: pool?,
        agents: agents?,
        resources,
        max_running,
        max_queue_wait,
        environments: environments?,
        lifecycle: phases.unwrap_or_else(|| Some(Vec::new()))?,
        channels: channels?,
        libraries: included.names?,
        source: source.unwrap_or(Some(None))?,
        variables: variables?,
        steps: steps?,
    })
}

/// The environments, and their names for others.
/// Labels that an agent has to have.
fn labels(at: &At<'_>, errors: &mut Errors) -> Option<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for (name, at) in at.map(MAX_LABELS, errors)? {
        if !names::is_name(name) {
            errors.add(
                at.name_line,
                &at.field,
                format!("`{}` is no name of a label: {}", shown(name), names::NAME_RULE),
            );
        }
        let Some(value) = at.text(errors) else { continue };
        if !names::is_label_value(value) {
            at.error(format!("`{}` is no value of a label: {}", shown(value), names::LABEL_RULE), errors);
        }
        found.insert(name.to_owned(), value.to_owned());
    }
    Some(found)
}

fn environments_of(at: &At<'_>, errors: &mut Errors) -> (Option<Vec<Environment>>, Known) {
    let Some(elements) = at.list(MAX_ENVIRONMENTS, errors) else {
        return (None, Known::new("environment", Vec::new(), false));
    };
    let count = elements.len();
    if elements.is_empty() {
        at.error("at least one environment is needed: write `- name: dev`", errors);
    }
    let mut environments: Vec<Environment> = Vec::new();
    for element in elements {
        let Some(fields) = element.fields(&ENVIRONMENT, errors) else {
            continue;
        };
        let protected = fields.get("protected").and_then(|at| at.boolean(errors)).unwrap_or_default();
        let pool = fields.get("pool").and_then(|at| at.name(errors));
        let agents = fields.get("agents").and_then(|at| labels(at, errors)).unwrap_or_default();
        let max_queue_wait = fields.get("max_queue_wait").and_then(|at| at.duration(limits::QUEUE_WAIT, errors));
        let Some(at) = fields.require("name", "name: dev", errors) else {
            continue;
        };
        let Some(name) = at.name(errors) else {
            continue;
        };
        if environments.iter().any(|other| other.name == name) {
            at.error(format!("there is already an environment `{name}`"), errors);
        } else {
            environments.push(Environment { name, protected, pool, agents, max_queue_wait });
        }
    }
    let names: Vec<String> = environments.iter().map(|environment| environment.name.clone()).collect();
    let known = Known::new("environment", names, environments.len() == count && count > 0);
    (Some(environments), known)
}
