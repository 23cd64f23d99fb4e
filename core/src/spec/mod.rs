//! `longshore.yaml`: the project as code.
//!
//! [`parse`] takes the text and answers either a [`Project`] in which everything has been checked, or every
//! mistake it could find, each with its line and field. It is strict: an unknown field, a name
//! that is not defined, a value that makes no sense is an error, never ignored.
//!
//! `yaml` alone knows the YAML library and turns the text into a tree of nodes that know their lines; `tree`
//! reads such a tree strictly; `project`, `lifecycle`, `channels`, `variables`, `outside`, `source`, `steps`, `step`, `action`, `gates`, `env` say what the file may
//! hold; `order` says which steps come before which; `scope` checks expressions.
//! Values keep the text as it was written: `1.10` is "1.10", `yes` is "yes".

mod action;
mod channels;
mod diff;
pub mod duration;
mod env;
mod flow;
mod gates;
mod known;
mod lifecycle;
mod limits;
mod model;
pub mod names;
mod order;
mod outside;
mod project;
mod pulumi_file;
mod schema;
mod scope;
mod source;
mod step;
mod steps;
pub(crate) mod suggest;
mod tree;
mod values;
mod variables;
mod yaml;

use serde::{Deserialize, Serialize};

pub use diff::{Change, ChangeKind, FieldChange, diff};
pub use flow::{
    Approval, DEFAULT_EXPIRY, DeployRelease, Http, MAX_BACKOFF, MAX_RETRIES, Mode, Phase, Require, Retries, When,
};
pub use model::{
    Action, DEFAULT_POOL, DEFAULT_TIMEOUT, Environment, Network, Operation, Profile, Project, Prompt, PromptType,
    Pulumi, Scoped, Script, Source, SourceCredentials, Step, Variable,
};
pub use order::{ancestors, predecessors};
pub use outside::Outside;
pub use pulumi_file::{PulumiFile, read_pulumi_file};
pub use schema::schema;
pub(crate) use tree::shown;
pub use values::{check_backend, check_dir, check_image, check_stack, check_url, check_version};

/// Longest spec in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// One mistake in a spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("line {line}: {}{message}", if field.is_empty() { String::new() } else { format!("`{field}`: ") })]
pub struct SpecError {
    /// Line in the file, from 1.
    pub line: usize,
    /// Path of the field, such as `steps[0].timeout`; empty when it is about the file as a whole.
    pub field: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

/// Parses and checks a spec.
///
/// # Errors
/// Every mistake that could be found, in the order of their lines; at least one. Text that is no YAML gives one.
pub fn parse(text: &str) -> Result<Project, Vec<SpecError>> {
    parse_with(text, None)
}

/// [`parse`] with what the server knows, so that names from libraries are checked too.
///
/// # Errors
/// As [`parse`].
pub fn parse_with(text: &str, outside: Option<&Outside>) -> Result<Project, Vec<SpecError>> {
    let mut errors = tree::Errors::default();
    let project = match yaml::load(text) {
        Ok(root) => project::project(&root, outside, &mut errors),
        Err(error) => {
            errors.push(error);
            None
        }
    };
    let errors = errors.into_sorted();
    match project {
        Some(project) if errors.is_empty() => Ok(project),
        _ => Err(errors),
    }
}

/// [`parse`] for the bytes of a file.
///
/// # Errors
/// As [`parse`]; one for bytes that are not UTF-8.
pub fn parse_bytes(bytes: &[u8]) -> Result<Project, Vec<SpecError>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(text),
        Err(error) => {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = 1 + before.iter().filter(|b| **b == b'\n').count();
            let message = "the file is not UTF-8 text: save it as UTF-8".to_owned();
            Err(vec![SpecError { line, field: String::new(), message }])
        }
    }
}

#[cfg(test)]
mod tests;
