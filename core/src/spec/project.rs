//! Reads the file as a whole: project, environments, variables, and the steps in the scope these make.

use super::model::{DEFAULT_POOL, Environment, Project, Step, Variable};
use super::scope::{Kind, Scope};
use super::step::Outline;
use super::tree::{At, Errors, Node, Value, shown};
use super::{names, suggest, values};
use crate::expression::Template;

const FIELDS: [&str; 6] = ["version", "project", "pool", "environments", "variables", "steps"];
/// Most environments, variables or steps.
const MAX_ELEMENTS: usize = 500;

/// Reads a whole file; `None` or a recorded error, or both, mean that it cannot be used.
pub(super) fn project(root: &Node, errors: &mut Errors) -> Option<Project> {
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
    let environments = fields.require("environments", "environments: [{name: dev}]", errors);
    let environments = environments.and_then(|at| environments_of(at, errors));
    let declared = fields.get("variables").map(|at| variables(at, errors)).unwrap_or_default();
    let example = "steps: [{name: hello, image: alpine, run: echo hello}]";
    let (steps, declared) = match fields.require("steps", example, errors) {
        Some(at) => steps(at, declared, errors),
        None => (None, declared),
    };
    let variables = declared.into_iter().map(|(name, variable)| Some((name, variable?))).collect::<Option<_>>();
    Some(Project {
        version: 1,
        name: name?,
        pool: pool?,
        environments: environments?,
        lifecycle: Vec::new(),
        variables: variables?,
        steps: steps?,
    })
}

fn environments_of(at: &At<'_>, errors: &mut Errors) -> Option<Vec<Environment>> {
    let elements = at.list(MAX_ELEMENTS, errors)?;
    if elements.is_empty() {
        at.error("at least one environment is needed: write `- name: dev`", errors);
    }
    let mut environments: Vec<Environment> = Vec::new();
    for element in elements {
        let Some(fields) = element.fields(&["name", "protected"], errors) else {
            continue;
        };
        let protected = fields.get("protected").and_then(|at| at.boolean(errors)).unwrap_or_default();
        let Some(at) = fields.require("name", "name: dev", errors) else {
            continue;
        };
        let Some(name) = at.name(errors) else {
            continue;
        };
        if environments.iter().any(|other| other.name == name) {
            at.error(format!("there is already an environment `{name}`"), errors);
        } else {
            environments.push(Environment { name, protected });
        }
    }
    Some(environments)
}

/// The declared variables; `None` for one that is declared wrongly.
fn variables(at: &At<'_>, errors: &mut Errors) -> Vec<(String, Option<Variable>)> {
    let mut variables = Vec::new();
    for (name, value) in at.map(MAX_ELEMENTS, errors).unwrap_or_default() {
        if !names::is_variable(name) {
            let message = format!("`{}` cannot name a variable: write {}", shown(name), names::VARIABLE_RULE);
            errors.add(value.name_line, &value.field, message);
        }
        variables.push((name.to_owned(), variable(name, &value, errors)));
    }
    variables
}

fn variable(name: &str, at: &At<'_>, errors: &mut Errors) -> Option<Variable> {
    match &at.node.value {
        Value::Map(entries) => {
            if entries.iter().any(|e| e.key == "secret") && entries.iter().any(|e| e.key == "value") {
                let message = format!(
                    "a secret's value never stands in the file: write `{name}: {{secret: true}}` and set it with \
                     `longshore variable set PROJECT {name} --secret`"
                );
                at.error(message, errors);
                return None;
            }
            if !entries.iter().any(|e| suggest::field(&e.key, &["secret"]).is_some()) {
                let message =
                    format!("write `{name}: VALUE` for a plain variable, `{name}: {{secret: true}}` for a secret one");
                at.error(message, errors);
                return None;
            }
            let fields = at.fields(&["secret"], errors)?;
            let secret = fields.require("secret", "secret: true", errors)?;
            if secret.boolean(errors)? {
                return Some(Variable::Secret);
            }
            secret.error(format!("a plain variable is written `{name}: VALUE`"), errors);
            None
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
        Value::Scalar(scalar) => match Template::parse(&scalar.text).as_ref().map(Template::as_literal) {
            Ok(Some(text)) => match values::check_argument(text) {
                Ok(()) => Some(Variable::Plain(text.to_owned())),
                Err(message) => {
                    at.error(message, errors);
                    None
                }
            },
            _ => {
                let line = scalar.expressions.first().copied().unwrap_or(at.line);
                let message = "a variable's value is not expanded: write the value itself (`$${{` for the text `${{`)";
                errors.add(line, &at.field, message);
                None
            }
        },
    }
}

type Declared = Vec<(String, Option<Variable>)>;

/// Reads the steps, each in the scope of those before it. Gives the variables back.
fn steps(at: &At<'_>, variables: Declared, errors: &mut Errors) -> (Option<Vec<Step>>, Declared) {
    let Some(elements) = at.list(MAX_ELEMENTS, errors) else {
        return (None, variables);
    };
    if elements.is_empty() {
        at.error("at least one step is needed: write `- name: hello`, `image: alpine` and `run: echo hello`", errors);
    }
    let outlines: Vec<_> = elements.into_iter().map(|element| Outline::read(element, errors)).collect();
    let mut names: Vec<(String, Kind)> = Vec::new();
    for outline in &outlines {
        let name = outline.as_ref().and_then(Outline::name).unwrap_or_default();
        if let Some(outline) = outline
            && !name.is_empty()
            && names.iter().any(|(other, _)| other == name)
        {
            outline.name_at().error(format!("there is already a step `{name}`"), errors);
        }
        names.push((name.to_owned(), outline.as_ref().map_or(Kind::Unclear, Outline::kind)));
    }
    let mut scope = Scope { variables, steps: names, current: 0 };
    let mut steps = Vec::new();
    for (current, outline) in outlines.into_iter().enumerate() {
        scope.current = current;
        steps.extend(outline.and_then(|outline| outline.step(&scope, errors)));
    }
    (Some(steps), scope.variables)
}
