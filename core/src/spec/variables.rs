//! Reads `variables:` in their four forms: a value, a secret, a value with scopes, a value that is asked for.

use super::known::Known;
use super::model::{Prompt, PromptType, Scoped, Variable};
use super::names;
use super::tree::{At, Errors, Fields, Value, shown};
use super::values::check_argument;
use crate::expression::Template;

pub(super) const FIELDS: [&str; 10] =
    ["secret", "prompt", "required", "value", "type", "options", "environments", "steps", "channels", "pools"];
/// Fields of one form each; a variable has one form.
pub(super) const SCOPED: [&str; 5] = ["value", "environments", "steps", "channels", "pools"];
pub(super) const PROMPT: [&str; 5] = ["prompt", "required", "value", "type", "options"];
const TYPES: [(&str, PromptType); 3] =
    [("text", PromptType::Text), ("number", PromptType::Number), ("boolean", PromptType::Boolean)];
/// Most options of a variable that is asked for.
const MAX_OPTIONS: usize = 100;
/// Most variables, and most values of one of them in one sort of scope.
const MAX_VARIABLES: usize = 500;

/// The declared variables; `None` for one that is declared wrongly.
pub(super) type Declared = Vec<(String, Option<Variable>)>;

/// What the scopes of a variable may name.
#[derive(Debug)]
pub(super) struct Names<'a> {
    pub(super) environments: &'a Known,
    pub(super) steps: &'a Known,
    pub(super) channels: &'a Known,
}

/// Reads all variables.
pub(super) fn variables(at: &At<'_>, known: &Names<'_>, errors: &mut Errors) -> Declared {
    let mut variables = Vec::new();
    for (name, value) in at.map(MAX_VARIABLES, errors).unwrap_or_default() {
        if !names::is_variable(name) {
            let message = format!("`{}` cannot name a variable: write {}", shown(name), names::VARIABLE_RULE);
            errors.add(value.name_line, &value.field, message);
        }
        variables.push((name.to_owned(), variable(name, &value, known, errors)));
    }
    variables
}

fn variable(name: &str, at: &At<'_>, known: &Names<'_>, errors: &mut Errors) -> Option<Variable> {
    match &at.node.value {
        Value::Map(entries) if entries.is_empty() => {
            let message =
                format!("write `{name}: VALUE` for a plain variable, `{name}: {{secret: true}}` for a secret one");
            at.error(message, errors);
            None
        }
        Value::Map(_) => {
            let fields = at.fields(&FIELDS, errors)?;
            if fields.has("secret") {
                secret(name, at, &fields, errors)
            } else if ["prompt", "required", "type", "options"].iter().any(|name| fields.has(name)) {
                prompt(&fields, errors).map(Variable::Prompt)
            } else {
                scoped(at, &fields, known, errors).map(Variable::Scoped)
            }
        }
        Value::List(_) => {
            let message = "a variable has one value, not a list: write a text, which the step may take apart";
            at.error(message, errors);
            None
        }
        Value::Null => {
            at.error(format!("a value is missing: write `{name}: VALUE` or `{name}: {{secret: true}}`"), errors);
            None
        }
        Value::Scalar(_) => value(at, errors).map(Variable::Plain),
    }
}

/// One value, as text that is not expanded.
fn value(at: &At<'_>, errors: &mut Errors) -> Option<String> {
    let scalar = at.scalar(errors)?;
    match Template::parse(&scalar.text).as_ref().map(Template::as_literal) {
        Ok(Some(text)) => {
            check_argument(text).map_err(|message| at.error(message, errors)).ok()?;
            Some(text.to_owned())
        }
        _ => {
            let line = scalar.expressions.first().copied().unwrap_or(at.line);
            let message = "a variable's value is not expanded: write the value itself (`$${{` for the text `${{`)";
            errors.add(line, &at.field, message);
            None
        }
    }
}

fn secret(name: &str, at: &At<'_>, fields: &Fields<'_>, errors: &mut Errors) -> Option<Variable> {
    let set = format!(
        "write `{name}: {{secret: true}}` and set it with `longshore variable set PROJECT {name} --secret`, with \
         `--env E` for one environment only"
    );
    if fields.has("value") {
        at.error(format!("a secret's value never stands in the file: {set}"), errors);
        return None;
    }
    let others = FIELDS.iter().filter(|field| **field != "secret").filter_map(|field| fields.get(field));
    let others: Vec<_> = others.collect();
    for other in &others {
        other.error(format!("a secret has nothing but `secret: true` in the file: {set}"), errors);
    }
    let secret = fields.require("secret", "secret: true", errors)?;
    if !secret.boolean(errors)? {
        secret.error(format!("a plain variable is written `{name}: VALUE`"), errors);
        return None;
    }
    others.is_empty().then_some(Variable::Secret)
}

fn prompt(fields: &Fields<'_>, errors: &mut Errors) -> Option<Prompt> {
    for name in SCOPED.iter().filter(|name| !PROMPT.contains(name)) {
        if let Some(at) = fields.get(name) {
            at.error(format!("a variable that is asked for has one value a deployment: leave `{name}` out"), errors);
        }
    }
    let at = fields.require("prompt", "prompt: QUESTION", errors);
    let prompt = at.and_then(|at| at.text(errors));
    if let (Some(at), Some(text)) = (at, prompt)
        && text.trim().is_empty()
    {
        at.error("there is nothing to ask: write what is wanted, such as `change ticket`", errors);
    }
    let required = fields.get("required").and_then(|at| at.boolean(errors)).unwrap_or_default();
    let default = fields.get("value").and_then(|at| value(at, errors));
    let kind = fields.get("type").and_then(|at| at.choice(&TYPES, errors)).unwrap_or_default();
    let mut asked = Prompt { prompt: prompt?.to_owned(), required, value: default, kind, options: Vec::new() };
    asked.options = fields.get("options").map(|at| options(at, &asked, errors)).unwrap_or_default();
    if let (Some(at), Some(text)) = (fields.get("value"), &asked.value)
        && let Err(message) = asked.check(text)
    {
        at.error(message, errors);
    }
    Some(asked)
}

/// The values that there are to choose from, each of the type.
fn options(at: &At<'_>, asked: &Prompt, errors: &mut Errors) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let elements = at.list(MAX_OPTIONS, errors).unwrap_or_default();
    if elements.is_empty() {
        at.error("there is nothing to choose from: leave `options` out, or name them", errors);
    }
    for element in elements {
        let Some(text) = value(&element, errors) else { continue };
        if let Err(message) = asked.check(&text) {
            element.error(message, errors);
        } else if text.is_empty() || found.contains(&text) {
            element.error("an option is a text of its own", errors);
        } else {
            found.push(text);
        }
    }
    found
}

fn scoped(at: &At<'_>, fields: &Fields<'_>, known: &Names<'_>, errors: &mut Errors) -> Option<Scoped> {
    let unconditional = fields.get("value").and_then(|at| value(at, errors));
    let mut scope = |name: &'static str, check: &dyn Fn(&str, &At<'_>, &mut Errors) -> bool| {
        let mut values = Vec::new();
        for (key, at) in fields.get(name).and_then(|at| at.map(MAX_VARIABLES, errors)).unwrap_or_default() {
            let good = check(key, &at, errors);
            if let (Some(text), true) = (value(&at, errors), good) {
                values.push((key.to_owned(), text));
            }
        }
        values
    };
    let in_known =
        |known: &Known, key: &str, at: &At<'_>, errors: &mut Errors| known.check(key, at.name_line, &at.field, errors);
    let environments = scope("environments", &|key, at, errors| in_known(known.environments, key, at, errors));
    let steps = scope("steps", &|key, at, errors| in_known(known.steps, key, at, errors));
    let channels = scope("channels", &|key, at, errors| in_known(known.channels, key, at, errors));
    let pools = scope("pools", &|key, at, errors| {
        let good = names::is_name(key);
        if !good {
            errors.add(at.name_line, &at.field, format!("`{}` is no name: write {}", shown(key), names::NAME_RULE));
        }
        good
    });
    let found: Vec<_> = SCOPED.iter().filter_map(|name| fields.get(name)).collect();
    if found.iter().all(|at| matches!(&at.node.value, Value::Map(entries) if entries.is_empty())) {
        // Nothing but unknown fields is an error already.
        if !found.is_empty() {
            at.error("a variable needs at least one value: write `value: VALUE`", errors);
        }
        return None;
    }
    Some(Scoped { value: unconditional, environments, steps, channels, pools })
}
