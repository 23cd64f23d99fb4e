//! The JSON Schema accepts what the reader accepts, refuses what is wrong in form, and is the one that is committed.

use std::path::Path;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value as Json;

use super::super::tree::{Node, Value};
use super::*;

static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| jsonschema::draft202012::new(&schema()).unwrap());

/// A file as an editor has it: plain scalars with the types that YAML gives them, or all as texts.
fn json(node: &Node, typed: bool) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Scalar(scalar) => match serde_json::from_str(&scalar.text) {
            Ok(value @ (Json::Bool(_) | Json::Number(_))) if typed => value,
            _ => Json::String(scalar.text.clone()),
        },
        Value::List(nodes) => nodes.iter().map(|node| json(node, typed)).collect(),
        Value::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), json(&entry.node, typed))).collect(),
    }
}

/// What the schema has to say against a file.
fn complaints(spec: &str, typed: bool) -> Vec<String> {
    let file = json(&yaml::load(spec).unwrap(), typed);
    VALIDATOR.iter_errors(&file).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Fails if the schema refuses a file that the reader accepts.
pub(super) fn accepts(spec: &str) {
    for typed in [true, false] {
        let complaints = complaints(spec, typed);
        assert!(complaints.is_empty(), "{spec}\n{complaints:#?}");
    }
}

#[test]
fn the_committed_schema_is_the_one_of_the_reader() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/longshore.schema.json");
    let made = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    if std::env::var_os("LONGSHORE_BLESS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == made,
        "docs/longshore.schema.json is not what the reader says: run this test with LONGSHORE_BLESS=1 and look at the difference"
    );
}

/// A field that the reader knows and the schema forgot has the schema `false`.
#[test]
fn no_field_is_forgotten() {
    fn forgotten(path: &str, value: &Json, found: &mut Vec<String>) {
        match value {
            Json::Object(fields) => {
                for (name, value) in fields {
                    let path = format!("{path}/{name}");
                    if *value == Json::Bool(false) && name != "additionalProperties" {
                        found.push(path.clone());
                    }
                    forgotten(&path, value, found);
                }
            }
            Json::Array(values) => values.iter().for_each(|value| forgotten(path, value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    forgotten("", &schema(), &mut found);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn every_kind_of_step_has_its_fields() {
    let schema = schema();
    let fields = |step: &str| {
        let properties = schema["$defs"][format!("step-{step}")]["properties"].as_object().unwrap();
        properties.keys().cloned().collect::<Vec<_>>().join(" ")
    };
    let container = "accounts env image mounts name needs network profile";
    assert_eq!(fields("run"), format!("{container} pull resources retries run skippable timeout when"));
    assert_eq!(fields("pulumi"), format!("{container} pull pulumi resources retries skippable timeout when"));
    assert_eq!(fields("approval"), "approval name needs when");
    assert_eq!(fields("http"), "http name needs retries skippable timeout when");
    assert_eq!(fields("deploy-release"), "deploy-release name needs skippable when");
}

#[test]
fn what_is_wrong_in_form_is_refused() {
    let releases = |from: &str, to: &str| {
        assert!(RELEASES.contains(from), "{from}");
        RELEASES.replacen(from, to, 1)
    };
    let broken = [
        "just text".to_owned(),
        "version: 1\n".to_owned(),
        releases("version: 1", "version: 2"),
        releases("project: shop", "project: My Shop"),
        releases("project: shop", "project: shop\nstages: []"),
        releases(
            "environments: [{name: dev}, {name: staging}, {name: production, protected: true}]",
            "environments: []",
        ),
        releases("protected: true", "protected: maybe"),
        releases("mode: automatic", "mode: auto"),
        releases("require: 1", "require: 0"),
        releases("require: 1", "require: any"),
        releases("environments: [dev], ", ""),
        releases("environments: [dev]", "environments: []"),
        releases("variables:", "channels: []\nvariables:"),
        releases("variables:", "channels: [{versions: '<1.0.0'}]\nvariables:"),
        releases("variables:", "channels: [{name: a, prerelease: 'a.b'}]\nvariables:"),
        releases("variables:", "channels: [{name: a, prerelease: ''}]\nvariables:"),
        releases("variables:", "channels: [{name: a, range: '<1.0.0'}]\nvariables:"),
        releases("replicas:", "re-plicas:"),
        releases("{value: 1, environments: {production: 6}}", "{}"),
        releases("{value: 1, environments: {production: 6}}", "{secret: false}"),
        releases("{value: 1, environments: {production: 6}}", "{secret: true, value: 1}"),
        releases("{value: 1, environments: {production: 6}}", "[1]"),
        releases("{production: 6}", "{production: [6]}"),
        releases("prompt: \"change ticket\", ", ""),
        releases("required: true", "required: maybe"),
        releases("teams: [ops]", "teams: []"),
        releases("teams: [ops]", "team: ops"),
        releases("needs: 1", "needs: 0"),
        releases("expires: 4h", "expires: 4"),
        releases("expires: 4h}", "expires: 4h}, image: i"),
        releases("expires: 4h}", "expires: 4h}, retries: {max: 1}"),
        releases("operation: up", "operation: upp"),
        releases("image: I, pulumi", "pulumi"),
        releases("name: infra, ", ""),
        releases("pulumi: {operation: up}", "timeout: 1h"),
        releases("pulumi: {operation: up}", "pulumi: {operation: up}, run: x"),
        releases("run: \"...\"", "run: \"${{ vars.x }}\""),
        releases("run: \"...\"", "run: []"),
        releases("run: \"...\"", "run: x, timeout: 30"),
        releases("run: \"...\"", "run: x, network: host"),
        releases("run: \"...\"", "run: x, env: {HOME: /}"),
        releases("run: \"...\"", "run: x, env: {LONGSHORE_X: y}"),
        releases("run: \"...\"", "run: x, mounts: [a, a]"),
        releases("run: \"...\"", "run: x, needs: a"),
        releases("run: \"...\"}", "parallel: [{name: c, image: i, run: x}]}"),
        releases("{name: a, image: I, run: \"...\"}", "{name: a, approval: {}}"),
        releases("- name: both", "- name: both\n    image: i"),
        releases("when: always()", "when: [always()]"),
        releases("max: 3", "max: 101"),
        releases("max: 3, ", ""),
        releases("backoff: 1s", "backoff: 1"),
        releases("https://x", "ftp://x"),
        releases("url: \"https://x\", ", ""),
        releases("status: 200", "status: 99"),
        releases("expect:", "expects:"),
        releases("http: {url: \"https://x\", expect: {status: 200, body: \"ok\"}}", "deploy-release: {version: 1.0.0}"),
    ];
    for spec in broken {
        assert!(parse(&spec).is_err(), "{spec}");
        assert!(!complaints(&spec, true).is_empty(), "the schema accepts this:\n{spec}");
    }
}

#[test]
fn the_examples_are_accepted() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let (mut folders, mut count) = (vec![examples], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name == "longshore.yaml") {
                let text = std::fs::read_to_string(path).unwrap();
                accepted(&text);
                count += 1;
            }
        }
    }
    assert!(count > 0, "there are no examples");
}
