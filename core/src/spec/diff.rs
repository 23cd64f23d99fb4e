//! What differs between two specs, for people.
//!
//! A field that says the default is taken as absent, as it may be in the file. Two specs without a difference here mean the same, and
//! two with [`Project::digest_input`] apart have at least one. Values of secrets are in no spec, so they are in no difference.

use serde::Serialize;
use serde_json::{Map, Value};

use super::model::{DEFAULT_POOL, Project, Variable};

/// One thing of a spec that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// How.
    pub change: ChangeKind,
    /// What, such as ``step `infra` ``.
    pub what: String,
    /// Its fields that differ; of something removed none.
    pub fields: Vec<FieldChange>,
}

/// How a thing differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It was not there before.
    Added,
    /// It is not there any more.
    Removed,
    /// It says something else.
    Changed,
}

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldChange {
    /// Its path, such as `pulumi.operation`.
    pub field: String,
    /// What it was; `None`: the default, or nothing.
    pub before: Option<String>,
    /// What it is.
    pub after: Option<String>,
}

/// What the project's own fields stand under.
const WHOLE: &str = "project";

type Fields = Vec<(String, String)>;
/// What one thing is called, and its fields.
type Thing = (String, Fields);

/// Everything that differs, in the order of the file. Without a project before, everything is added.
#[must_use]
pub fn diff(before: Option<&Project>, after: &Project) -> Vec<Change> {
    let old = before.map(sections).unwrap_or_default();
    let new = sections(after);
    let mut changes = Vec::new();
    for (index, (order, things)) in new.iter().enumerate() {
        let empty = Vec::new();
        let known = old.get(index).map_or(&empty, |(_, things)| things);
        section(known, things, &mut changes);
        if let Some(order) = order {
            changes.extend(moved(order, known, things));
        }
    }
    let same = before.is_some_and(|before| before.digest_input() == after.digest_input());
    if changes.is_empty() && !same {
        changes.push(Change { change: ChangeKind::Changed, what: "form of the file".to_owned(), fields: Vec::new() });
    }
    changes
}

/// The parts of a spec: what its order is called where order counts, and its things.
fn sections(project: &Project) -> Vec<(Option<&'static str>, Vec<Thing>)> {
    let pool = (project.pool != DEFAULT_POOL).then(|| ("pool".to_owned(), project.pool.clone()));
    let agents = project.agents.iter().map(|(name, value)| (format!("agents.{name}"), value.clone()));
    let resources = fields(serde_json::json!({ "resources": json(&project.resources) }));
    let wait = project.max_queue_wait.map(|wait| ("max_queue_wait".to_owned(), super::duration::format(wait)));
    let running = project.max_running.map(|most| ("max_running".to_owned(), most.to_string()));
    let limits = resources.into_iter().chain(running).chain(wait);
    let whole = vec![(WHOLE.to_owned(), pool.into_iter().chain(agents).chain(limits).collect())];
    let named = |kind: &str, name: &str, value: Value| (format!("{kind} `{name}`"), fields(value));
    let environments = project.environments.iter().map(|one| named("environment", &one.name, json(one)));
    let phases = project.lifecycle.iter().map(|one| named("phase", &one.name, json(one)));
    let mut channels: Vec<_> = project.channels.iter().map(|one| named("channel", &one.name, json(one))).collect();
    channels.sort();
    let source = project.source.iter().map(|one| ("source".to_owned(), fields(json(one))));
    let mut variables: Vec<_> =
        project.variables.iter().map(|(name, one)| named("variable", name, variable(one))).collect();
    variables.sort();
    let steps = project.steps.iter().map(|one| named("step", &one.name, json(one)));
    vec![
        (None, whole),
        (Some("order of environments"), environments.collect()),
        (Some("order of phases"), phases.collect()),
        (None, source.collect()),
        (None, channels),
        (None, variables),
        (Some("order of steps"), steps.collect()),
    ]
}

fn section(before: &[Thing], after: &[Thing], changes: &mut Vec<Change>) {
    for (what, old) in before {
        if !after.iter().any(|(name, _)| name == what) {
            changes.push(Change { change: ChangeKind::Removed, what: what.clone(), fields: Vec::new() });
            continue;
        }
        let new = after.iter().find(|(name, _)| name == what).map_or(&[][..], |(_, fields)| fields);
        let fields = changed(old, new);
        if !fields.is_empty() {
            changes.push(Change { change: ChangeKind::Changed, what: what.clone(), fields });
        }
    }
    for (what, new) in after.iter().filter(|(what, _)| !before.iter().any(|(name, _)| name == what)) {
        let fields = changed(&[], new);
        if what != WHOLE || !fields.is_empty() {
            changes.push(Change { change: ChangeKind::Added, what: what.clone(), fields });
        }
    }
}

fn changed(before: &[(String, String)], after: &[(String, String)]) -> Vec<FieldChange> {
    let value = |of: &[(String, String)], field: &str| {
        of.iter().find(|(name, _)| name == field).map(|(_, value)| value.clone())
    };
    let gone = before.iter().map(|(field, _)| field);
    let new = after.iter().map(|(field, _)| field).filter(|field| value(before, field).is_none());
    gone.chain(new)
        .map(|field| FieldChange { field: field.clone(), before: value(before, field), after: value(after, field) })
        .filter(|one| one.before != one.after)
        .collect()
}

/// A change of the order of what both have.
fn moved(order: &str, before: &[Thing], after: &[Thing]) -> Option<Change> {
    let both = |of: &[Thing], other: &[Thing]| -> Vec<String> {
        of.iter().map(|(what, _)| what.clone()).filter(|what| other.iter().any(|(name, _)| name == what)).collect()
    };
    let (old, new) = (both(before, after), both(after, before));
    let words = |of: &[String]| of.iter().filter_map(|what| what.split('`').nth(1)).collect::<Vec<_>>().join(", ");
    (old != new).then(|| Change {
        change: ChangeKind::Changed,
        what: order.to_owned(),
        fields: vec![FieldChange { field: String::new(), before: Some(words(&old)), after: Some(words(&new)) }],
    })
}

/// These types have neither keys that are no texts nor numbers that are not finite, so this does not fail.
fn json(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or_default()
}

fn variable(variable: &Variable) -> Value {
    match variable {
        Variable::Plain(value) => serde_json::json!({ "value": value }),
        Variable::Secret => serde_json::json!({ "secret": true }),
        Variable::Scoped(scoped) => json(scoped),
        Variable::Prompt(prompt) => json(prompt),
    }
}

/// The fields of a thing as the file calls them.
fn fields(value: Value) -> Fields {
    let mut fields = Fields::new();
    if let Value::Object(map) = value {
        flatten_all("", map, &mut fields);
    }
    fields
}

fn flatten_all(path: &str, map: Map<String, Value>, fields: &mut Fields) {
    for (name, value) in map {
        // The name is what the thing is called; the line is no part of what it means.
        if path.is_empty() && matches!(name.as_str(), "name" | "line") {
            continue;
        }
        let name = if name == "deploy_release" { "deploy-release" } else { &name };
        let inner = match (path, name) {
            ("", "action") | ("run", "script") | ("run", "shell" | "exec") | ("require", "at_least") => path.to_owned(),
            ("", name) => name.to_owned(),
            (path, name) => format!("{path}.{name}"),
        };
        flatten(&inner, value, fields);
    }
}

fn flatten(path: &str, value: Value, fields: &mut Fields) {
    let default = |text: &str| {
        matches!(
            (path, text),
            ("network", "longshore")
                | ("profile", "standard")
                | ("pull", "if-not-present")
                | ("mode", "manual")
                | ("require", "all")
        )
    };
    match value {
        Value::Null | Value::Bool(false) => {}
        Value::Object(map) => flatten_all(path, map, fields),
        Value::String(text) if default(&text) => {}
        Value::String(text) => fields.push((path.to_owned(), text)),
        Value::Array(list) if list.is_empty() => {}
        Value::Array(list)
            if matches!(path, "env" | "environments" | "steps" | "channels" | "pools")
                && list.iter().all(Value::is_array) =>
        {
            let start = fields.len();
            for pair in list {
                if let Some([Value::String(name), Value::String(text)]) = pair.as_array().map(Vec::as_slice) {
                    fields.push((format!("{path}.{name}"), text.clone()));
                }
            }
            // The order of names in a mapping does not count.
            fields.get_mut(start..).unwrap_or_default().sort();
        }
        Value::Array(list) => {
            let words: Vec<_> =
                list.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned)).collect();
            fields.push((path.to_owned(), words.join(", ")));
        }
        other => fields.push((path.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::parse;

    const SPEC: &str = "version: 1\nproject: shop\nenvironments: [{name: dev}, {name: live}]\nlifecycle:\n  - {phase: a, environments: [dev]}\nvariables: {size: 1, key: {secret: true}}\nsteps:\n  - name: infra\n    image: i\n    pulumi: {operation: preview}\n    env: {B: b, A: a}\n  - {name: smoke, image: i, run: 'echo 1'}\n";

    fn lines(before: &str, after: &str) -> Vec<String> {
        let (before, after) = (parse(before).unwrap(), parse(after).unwrap());
        let change = |one: &Change| {
            let fields: Vec<_> =
                one.fields.iter().map(|f| format!("{}={:?}>{:?}", f.field, f.before, f.after)).collect();
            format!("{:?} {} {}", one.change, one.what, fields.join(" ")).replace("Some(", "").replace(')', "")
        };
        diff(Some(&before), &after).iter().map(change).collect()
    }

    #[test]
    fn what_means_the_same_has_no_difference() {
        assert_eq!(lines(SPEC, SPEC), [""; 0]);
        let same = format!(
            "# c\n{}",
            SPEC.replace("{B: b, A: a}", "{A: a, B: 'b'}")
                .replace("i\n    pulumi", "i\n    network: longshore\n    pulumi")
        );
        assert_eq!(lines(SPEC, &same), [""; 0]);
    }

    #[test]
    fn every_part_of_a_spec_shows_its_changes() {
        for (from, to, expected) in [
            ("operation: preview", "operation: up", r#"Changed step `infra` pulumi.operation="preview">"up""#),
            ("A: a", "A: c", r#"Changed step `infra` env.A="a">"c""#),
            ("'echo 1'", "[echo, '1']", r#"Changed step `smoke` run="echo 1">"echo, 1""#),
            (
                "size: 1,",
                "size: {value: 1, environments: {live: 6}},",
                r#"Changed variable `size` environments.live=None>"6""#,
            ),
            ("key: {secret: true}", "key: x", r#"Changed variable `key` secret="true">None value=None>"x""#),
            ("{name: live}", "{name: live, protected: true}", r#"Changed environment `live` protected=None>"true""#),
            ("[dev]}", "[dev], require: 1}", r#"Changed phase `a` require=None>"1""#),
            (
                "variables",
                "channels: [{name: a, versions: '<2.0.0', prerelease: [rc, b]}]\nvariables",
                r#"Added channel `a` prerelease=None>"rc, b" versions=None>"<2.0.0""#,
            ),
            (
                "size: 1,",
                "size: {value: 1, channels: {default: 6}},",
                r#"Changed variable `size` channels.default=None>"6""#,
            ),
            ("variables", "pool: big\nvariables", r#"Changed project pool=None>"big""#),
            (
                "{name: dev}, {name: live}",
                "{name: live}, {name: dev}",
                r#"Changed order of environments ="dev, live">"live, dev""#,
            ),
            ("size: 1, ", "", "Removed variable `size` "),
            ("size: 1", "size: 1, new: 2", r#"Added variable `new` value=None>"2""#),
            ("  - {name: smoke, image: i, run: 'echo 1'}\n", "", "Removed step `smoke` "),
        ] {
            let changed = SPEC.replace(from, to);
            assert_ne!(changed, SPEC, "{from}");
            assert_eq!(lines(SPEC, &changed), [expected], "{from}");
        }
    }

    #[test]
    fn a_new_project_is_added_whole() {
        let changes = diff(None, &parse(SPEC).unwrap());
        assert!(changes.iter().all(|one| one.change == ChangeKind::Added), "{changes:#?}");
        assert_eq!(changes.len(), 7);
    }
}
