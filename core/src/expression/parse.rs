//! From source text to the parts of a template.

use super::{CLOSE, Error, OPEN, Part, Reference};
use crate::spec::{names, suggest};

/// Splits a source text at its expressions.
pub(super) fn parts(source: &str) -> Result<Vec<Part>, Error> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = source;
    while let Some((before, after)) = rest.split_once(OPEN) {
        if let Some(before) = before.strip_suffix('$') {
            literal.push_str(before);
            literal.push_str(OPEN);
            rest = after;
            continue;
        }
        literal.push_str(before);
        let offset = source.len() - after.len() - OPEN.len();
        let (inner, behind) = after.split_once(CLOSE).ok_or(Error::Unclosed { offset })?;
        if inner.contains(OPEN) {
            return Err(Error::Unclosed { offset });
        }
        let to = reference(inner.trim()).map_err(|hint| Error::NotAnExpression {
            offset,
            expression: inner.trim().to_owned(),
            hint,
        })?;
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal)));
        }
        parts.push(Part::Reference { offset, to });
        rest = behind;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(parts)
}

/// Reads what stands between the braces; the error is a hint, which may be empty.
pub(super) fn reference(expression: &str) -> Result<Reference, String> {
    let words: Vec<&str> = expression.split('.').map(str::trim).collect();
    match words.as_slice() {
        ["vars", name] if names::is_variable(name) => Ok(Reference::Vars((*name).to_owned())),
        ["secrets", name] if names::is_variable(name) => Ok(Reference::Secrets((*name).to_owned())),
        ["steps", step, "outputs", name] if names::is_name(step) && names::is_output(name) => {
            Ok(Reference::Output { step: (*step).to_owned(), name: (*name).to_owned() })
        }
        ["environment"] => Ok(Reference::Environment),
        ["project"] => Ok(Reference::Project),
        ["deployment"] => Ok(Reference::Deployment),
        ["steps", step, name] => Err(format!("; an output is `steps.{step}.outputs.{name}`")),
        [first, more @ ..] => Err(guess(first, more)),
        [] => Err(String::new()),
    }
}

/// A guess at what was meant by an expression whose first word is not known, or whose rest does not fit.
fn guess(first: &str, more: &[&str]) -> String {
    const WORDS: [&str; 6] = ["vars", "secrets", "steps", "environment", "project", "deployment"];
    let meant = match first {
        "var" | "variables" | "variable" => Some("vars"),
        "secret" => Some("secrets"),
        "env" => Some("environment"),
        _ => suggest::closest(first, WORDS),
    };
    match meant {
        Some(word) if word != first => {
            let whole: Vec<&str> = std::iter::once(word).chain(more.iter().copied()).collect();
            format!("; did you mean `{}`?", whole.join("."))
        }
        _ => String::new(),
    }
}
