//! Reads what a step does, where that is something in a container.

use super::gates;
use super::model::{Action, Operation, Pulumi, Script};
use super::scope::{Kind, Place, Scope};
use super::tree::{At, Errors, Fields, Value};
use super::values;
use crate::expression::OPEN;

pub(super) const PULUMI: [&str; 5] = ["operation", "stack", "dir", "backend", "install"];
pub(super) const OPERATIONS: [(&str, Operation); 4] = [
    ("preview", Operation::Preview),
    ("up", Operation::Up),
    ("refresh", Operation::Refresh),
    ("destroy", Operation::Destroy),
];
/// Most arguments of an exec form.
const MAX_ARGUMENTS: usize = 1000;

/// Reads the one field that says what the step does.
pub(super) fn action(at: &At<'_>, fields: &Fields<'_>, scope: &Scope, errors: &mut Errors) -> Option<Action> {
    let found: Vec<_> = Kind::ALL.iter().filter(|(name, _)| fields.has(name)).collect();
    if found.is_empty() {
        at.error(
            "the step does nothing: write `run: COMMAND` or `pulumi: {operation: up}`, or one of `approval`, `http` and \
             `deploy-release`",
            errors,
        );
        return None;
    }
    let (name, kind) = found.first()?;
    let at = fields.get(name)?;
    if let Some((other, _)) = found.get(1) {
        at.error(format!("a step does one thing: write `{name}` or `{other}`, or make two steps"), errors);
        return None;
    }
    match kind {
        Kind::Run => script(at, errors).map(|script| Action::Run { script }),
        Kind::Pulumi => pulumi(at, scope, errors).map(Action::Pulumi),
        Kind::Approval => gates::approval(at, scope, errors).map(Action::Approval),
        Kind::Http => gates::http(at, scope, errors).map(Action::Http),
        Kind::DeployRelease => gates::deploy_release(at, scope, errors).map(Action::DeployRelease),
        Kind::Unclear => None,
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
    let elements = at.list(MAX_ARGUMENTS, errors)?;
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
    let fields = at.fields(&PULUMI, errors)?;
    let operation = fields.require("operation", "operation: up", errors);
    let chosen = operation.and_then(|at| at.choice(&OPERATIONS, errors));
    if let (Some(at), Some(chosen), Some(approval)) = (operation, chosen, scope.plan_shown_by())
        && chosen != Operation::Up
    {
        let word = chosen.as_str();
        at.error(
            format!("approval `{approval}` shows the plan of this step, and `{word}` has none: only `up` does"),
            errors,
        );
    }
    let mut template = |name, place| fields.get(name).and_then(|at| scope.template(at, place, errors));
    let stack = template("stack", Place::Stack);
    let dir = template("dir", Place::Dir);
    let backend = template("backend", Place::Backend);
    let install = fields.get("install").and_then(|at| at.boolean(errors)).unwrap_or_default();
    Some(Pulumi { operation: chosen?, stack, dir, backend, install })
}
