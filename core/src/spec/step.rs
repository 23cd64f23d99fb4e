//! Reads one step.

use super::env::env;
use super::model::{Action, Network, Operation, Profile, Pulumi, Script, Step};
use super::scope::{Kind, Place, Scope};
use super::tree::{At, Errors, Fields, Value, shown};
use super::{duration, values};
use crate::expression::OPEN;

const FIELDS: [&str; 9] = ["name", "image", "run", "pulumi", "mounts", "env", "timeout", "network", "profile"];
const PULUMI_FIELDS: [&str; 5] = ["operation", "stack", "dir", "backend", "install"];
const OPERATIONS: [(&str, Operation); 4] = [
    ("preview", Operation::Preview),
    ("up", Operation::Up),
    ("refresh", Operation::Refresh),
    ("destroy", Operation::Destroy),
];
/// Most arguments of an exec form, and most mounts.
const MAX_LIST: usize = 1000;

/// A step whose fields are known but whose values have not been read.
#[derive(Debug)]
pub(super) struct Outline<'a> {
    at: At<'a>,
    fields: Fields<'a>,
    name: Option<String>,
}

impl<'a> Outline<'a> {
    /// Reads the names of the fields and of the step itself, which later checks need of all steps.
    pub(super) fn read(at: At<'a>, errors: &mut Errors) -> Option<Self> {
        let fields = at.fields(&FIELDS, errors)?;
        let name = fields.require("name", "name: NAME", errors).and_then(|at| at.name(errors));
        Some(Self { at, fields, name })
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Where an error about its name belongs.
    pub(super) fn name_at(&self) -> &At<'a> {
        self.fields.get("name").unwrap_or(&self.at)
    }

    pub(super) fn kind(&self) -> Kind {
        match (self.fields.has("run"), self.fields.has("pulumi")) {
            (true, false) => Kind::Run,
            (false, true) => Kind::Pulumi,
            _ => Kind::Unclear,
        }
    }

    /// Reads the values.
    pub(super) fn step(self, scope: &Scope, errors: &mut Errors) -> Option<Step> {
        let Self { at, fields, name } = self;
        let image = fields.require("image", "image: NAME:TAG", errors);
        let image = image.and_then(|at| scope.template(at, Place::Image, errors));
        let action = action(&at, &fields, scope, errors);
        let backend = matches!(&action, Some(Action::Pulumi(Pulumi { backend: Some(_), .. })));
        let mounts = fields.get("mounts").map(|at| mounts(at, errors)).unwrap_or_default();
        let env = fields.get("env").map(|at| env(at, backend, scope, errors)).unwrap_or_default();
        let timeout = fields.get("timeout").and_then(|at| timeout(at, errors));
        let networks = [("longshore", Network::Longshore), ("none", Network::None)];
        let network = fields.get("network").and_then(|at| at.choice(&networks, errors)).unwrap_or_default();
        let profiles = [("standard", Profile::Standard), ("locked", Profile::Locked)];
        let profile = fields.get("profile").and_then(|at| at.choice(&profiles, errors)).unwrap_or_default();
        let (name, image, action) = (name?, image?, action?);
        Some(Step {
            name,
            image: Some(image),
            action,
            mounts,
            env,
            timeout,
            network,
            profile,
            needs: None,
            group: None,
            when: None,
            retries: None,
            line: at.line,
        })
    }
}

fn action(at: &At<'_>, fields: &Fields<'_>, scope: &Scope, errors: &mut Errors) -> Option<Action> {
    match (fields.get("run"), fields.get("pulumi")) {
        (Some(run), Some(_)) => {
            run.error("a step does one thing: write `run` or `pulumi`, or make two steps", errors);
            None
        }
        (Some(run), None) => script(run, errors).map(|script| Action::Run { script }),
        (None, Some(at)) => pulumi(at, scope, errors).map(Action::Pulumi),
        (None, None) => {
            if !fields.has("run") && !fields.has("pulumi") {
                at.error("the step does nothing: write `run: COMMAND` or `pulumi: {operation: up}`", errors);
            }
            None
        }
    }
}

/// `run:` as text for a shell, or as a list of program and arguments.
fn script(at: &At<'_>, errors: &mut Errors) -> Option<Script> {
    if !matches!(at.node.value, Value::List(_)) {
        let text = word(at, errors)?;
        if text.trim().is_empty() {
            at.error("there is nothing to run: write a command", errors);
            return None;
        }
        return Some(Script::Shell(text));
    }
    let elements = at.list(MAX_LIST, errors)?;
    if elements.is_empty() {
        at.error("there is nothing to run: write the program and its arguments", errors);
        return None;
    }
    let words: Vec<Option<String>> = elements.iter().map(|at| word(at, errors)).collect();
    let words = words.into_iter().collect::<Option<Vec<_>>>()?;
    if words.first().is_some_and(String::is_empty) {
        at.error("the first element is the program: it cannot be empty", errors);
        return None;
    }
    Some(Script::Exec(words))
}

/// Text that is run: no expressions, whatever is written before the braces.
fn word(at: &At<'_>, errors: &mut Errors) -> Option<String> {
    let scalar = at.scalar(errors)?;
    if scalar.text.contains(OPEN) {
        let message = "expressions are not put into what is run, where a value could become a command: write \
                       `env: {NAME: \"${{ ... }}\"}` and use `\"$NAME\"` here";
        errors.add(scalar.expressions.first().copied().unwrap_or(at.line), &at.field, message);
        return None;
    }
    values::check_argument(&scalar.text).map_err(|message| at.error(message, errors)).ok()?;
    Some(scalar.text.clone())
}

fn pulumi(at: &At<'_>, scope: &Scope, errors: &mut Errors) -> Option<Pulumi> {
    let fields = at.fields(&PULUMI_FIELDS, errors)?;
    let operation = fields.require("operation", "operation: up", errors);
    let operation = operation.and_then(|at| at.choice(&OPERATIONS, errors));
    let mut template = |name, place| fields.get(name).and_then(|at| scope.template(at, place, errors));
    let stack = template("stack", Place::Stack);
    let dir = template("dir", Place::Dir);
    let backend = template("backend", Place::Backend);
    let install = fields.get("install").and_then(|at| at.boolean(errors)).unwrap_or_default();
    Some(Pulumi { operation: operation?, stack, dir, backend, install })
}

fn mounts(at: &At<'_>, errors: &mut Errors) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for element in at.list(MAX_LIST, errors).unwrap_or_default() {
        let Some(name) = element.name(errors) else {
            continue;
        };
        if names.contains(&name) {
            element.error(format!("`{name}` is already there"), errors);
        } else {
            names.push(name);
        }
    }
    names
}

fn timeout(at: &At<'_>, errors: &mut Errors) -> Option<std::time::Duration> {
    let text = at.text(errors)?;
    let Some(duration) = duration::parse(text) else {
        at.error(format!("`{}` is no duration: write for example `30m`, `1h30m` or `45s`", shown(text)), errors);
        return None;
    };
    values::check_timeout(duration).map_err(|message| at.error(message, errors)).ok()?;
    Some(duration)
}
