//! Environment variables of a step.

use super::names;
use super::scope::{Place, Scope};
use super::tree::{At, Errors, shown};
use crate::expression::Template;

/// Most environment variables of a step.
const MAX_ENV: usize = 500;

/// Names that a step may not set, and why. Names of an engine or a loader have no good use in a job, and
/// have carried attacks out of other runners' jobs (CVE-2022-39321).
pub(super) const RESERVED: [(&str, &str); 8] = [
    ("HOME", "Longshore sets it to a directory that the image's user can write to"),
    ("PULUMI_HOME", "Longshore sets it, so that plugins are found in any image"),
    ("PULUMI_CREDENTIALS_PATH", "Longshore sets it to a place that is never on a disk"),
    ("LD_PRELOAD", "code is not loaded into a step's programs from outside"),
    ("LD_AUDIT", "code is not loaded into a step's programs from outside"),
    ("DOCKER_HOST", "a step cannot reach the engine it runs on"),
    ("DOCKER_CONTEXT", "a step cannot reach the engine it runs on"),
    ("DOCKER_CERT_PATH", "a step cannot reach the engine it runs on"),
];

/// Reads `env:`. `backend`: the step has a `backend:` of its own.
pub(super) fn env(at: &At<'_>, backend: bool, scope: &Scope, errors: &mut Errors) -> Vec<(String, Template)> {
    let mut env = Vec::new();
    for (name, value) in at.map(MAX_ENV, errors).unwrap_or_default() {
        if let Err(message) = check_name(name, backend) {
            errors.add(value.name_line, &value.field, message);
        }
        if let Some(template) = scope.template(&value, Place::Env, errors) {
            env.push((name.to_owned(), template));
        }
    }
    env
}

fn check_name(name: &str, backend: bool) -> Result<(), String> {
    if !names::is_variable(name) {
        return Err(format!("`{}` cannot name an environment variable: write {}", shown(name), names::VARIABLE_RULE));
    }
    if name.starts_with("LONGSHORE_") {
        return Err(format!("`{name}` is reserved: names that begin with `LONGSHORE_` are set by Longshore"));
    }
    if let Some((_, why)) = RESERVED.iter().find(|(reserved, _)| *reserved == name) {
        return Err(format!("`{name}` is reserved: {why}"));
    }
    if name == "PULUMI_BACKEND_URL" && backend {
        return Err("`PULUMI_BACKEND_URL` says the same as `backend`: write one of the two".to_owned());
    }
    Ok(())
}
