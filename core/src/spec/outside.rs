//! What a server knows beyond the file: the libraries, and what is in them.
//!
//! Without it (`longshore validate`) a name that may come from a library passes. With it every name must be somewhere.

use std::collections::BTreeMap;

use super::known;
use super::model::Variable;
use super::suggest;
use super::tree::{At, Errors};
use super::variables::Declared;
use crate::account;

/// Most accounts of a step.
const MAX_ACCOUNTS: usize = 20;
/// Most libraries of a project.
const MAX_LIBRARIES: usize = 50;

/// What stands on the server and can be named in a spec.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outside {
    /// Names of the variables of each library; `true` for a secret.
    pub libraries: BTreeMap<String, BTreeMap<String, bool>>,
    /// Accounts by name.
    pub accounts: BTreeMap<String, account::Kind>,
}

/// `libraries:` as it was read.
#[derive(Debug, Default)]
pub(super) struct Included {
    /// `None` if it could not be read.
    pub(super) names: Option<Vec<String>>,
    /// Variables of the libraries that the project does not declare itself.
    pub(super) variables: Declared,
    /// There may be variables that are not known here.
    pub(super) open: bool,
}

/// Reads `accounts:` of a step. `known`: those that there are; `env`: names that the step sets; `backend`: it has one of its own.
pub(super) fn accounts(
    at: &At<'_>,
    known: Option<&BTreeMap<String, account::Kind>>,
    (env, backend): (&[&str], bool),
    errors: &mut Errors,
) -> Vec<String> {
    let Some(names) = known::names(at, MAX_ACCOUNTS, errors) else { return Vec::new() };
    let Some(known) = known else { return names };
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, element) in names.iter().zip(at.list(MAX_ACCOUNTS, errors).unwrap_or_default()) {
        let Some(kind) = known.get(name) else {
            let hint = suggest::hint(name, known.keys().map(String::as_str));
            let make = format!("make it with `longshore account create {name} --type TYPE`");
            element.error(format!("there is no account `{name}`: {make}{hint}"), errors);
            continue;
        };
        for field in kind.fields() {
            if env.contains(&field.env) {
                let message = format!(
                    "`{}` stands under `env` too, and account `{name}` sets it: write one of the two",
                    field.env
                );
                element.error(message, errors);
            }
            if field.env == account::BACKEND && backend {
                let message =
                    format!("`backend` says where the state is, and account `{name}` does too: write one of the two");
                element.error(message, errors);
            }
            if let Some(other) = taken.insert(field.env, name) {
                element.error(
                    format!("accounts `{other}` and `{name}` both set `{}`: name one of them", field.env),
                    errors,
                );
                break;
            }
        }
    }
    names
}

/// Reads `libraries:`. `declared`: the project's own variables.
pub(super) fn libraries(
    at: Option<&At<'_>>,
    declared: &Declared,
    outside: Option<&Outside>,
    errors: &mut Errors,
) -> Included {
    let Some(at) = at else { return Included { names: Some(Vec::new()), ..Included::default() } };
    let Some(names) = known::names(at, MAX_LIBRARIES, errors) else {
        return Included { open: true, ..Included::default() };
    };
    let mut included = Included { open: outside.is_none() && !names.is_empty(), ..Included::default() };
    for (name, element) in names.iter().zip(at.list(MAX_LIBRARIES, errors).unwrap_or_default()) {
        let Some(outside) = outside else { break };
        let Some(library) = outside.libraries.get(name) else {
            included.open = true;
            let hint = suggest::hint(name, outside.libraries.keys().map(String::as_str));
            element.error(
                format!("there is no library `{name}`: make it with `longshore library create {name}`{hint}"),
                errors,
            );
            continue;
        };
        for (variable, secret) in library {
            if declared.iter().any(|(known, _)| known == variable) {
                continue;
            }
            let kind = if *secret { Variable::Secret } else { Variable::Plain(String::new()) };
            // In one library plain and in another one secret: both ways of writing it have a value.
            let kind = match included.variables.iter_mut().find(|(known, _)| known == variable) {
                Some((_, known)) => {
                    if known.as_ref().is_some_and(|known| matches!(known, Variable::Secret) != *secret) {
                        *known = None;
                    }
                    continue;
                }
                None => Some(kind),
            };
            included.variables.push((variable.clone(), kind));
        }
    }
    included.names = Some(names);
    included
}
