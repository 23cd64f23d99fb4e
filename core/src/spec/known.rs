//! Names that are defined in one place of the file and used in another.

use super::suggest;
use super::tree::{At, Errors};

/// The names of one sort of thing.
#[derive(Debug)]
pub(super) struct Known {
    /// What they name, for messages: `environment`.
    what: &'static str,
    names: Vec<String>,
    /// Every definition could be read. If not, an unknown name may be one of those, and is no reason for one more error.
    complete: bool,
}

impl Known {
    pub(super) fn new(what: &'static str, names: Vec<String>, complete: bool) -> Self {
        Self { what, names, complete }
    }

    /// Records an error if there is no such name. `at`: the line and the field of its use.
    pub(super) fn check(&self, name: &str, line: usize, field: &str, errors: &mut Errors) -> bool {
        let found = self.names.iter().any(|known| known == name);
        if !found && self.complete && !errors.is_full() {
            let hint = suggest::hint(name, self.names.iter().map(String::as_str));
            errors.add(line, field, format!("there is no {} `{}`{hint}", self.what, super::shown(name)));
        }
        found
    }
}

/// Reads a list of names, each once; `None` if there was an error in it.
pub(super) fn names(at: &At<'_>, most: usize, errors: &mut Errors) -> Option<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    let mut good = true;
    for element in at.list(most, errors)? {
        match element.name(errors) {
            Some(name) if names.contains(&name) => {
                element.error(format!("`{name}` is already there"), errors);
                good = false;
            }
            Some(name) => names.push(name),
            None => good = false,
        }
    }
    good.then_some(names)
}
