//! Reads `source:`: the repository that packages of the project are made of, and the names of the secrets that open it.

use super::model::{Source, SourceCredentials, Variable};
use super::names;
use super::tree::{At, Errors, shown};
use super::values::check_dir;
use super::variables::Declared;
use crate::source::{Address, Protocol, check_reference};

pub(super) const FIELDS: [&str; 4] = ["git", "ref", "dir", "credentials"];
pub(super) const CREDENTIALS: [&str; 4] = ["user", "password", "key", "known_hosts"];
/// Who asks for a repository by https when nothing else is said; servers that take a token take any name with it.
const DEFAULT_USER: &str = "git";
/// Longest list of host keys.
const MAX_KNOWN_HOSTS: usize = 64 << 10;

/// Reads the field. `open`: names that are not declared may come from a library.
pub(super) fn source(at: &At<'_>, (declared, open): (&Declared, bool), errors: &mut Errors) -> Option<Source> {
    let fields = at.fields(&FIELDS, errors)?;
    let place = fields.require("git", "git: https://HOST/PATH", errors);
    // Which protocols are spoken is for the server to say.
    let address = place.and_then(|at| {
        let text = at.text(errors)?;
        match Address::parse(text, &Protocol::ALL) {
            Ok(address) => Some(address),
            Err(error) => {
                at.error(error.to_string(), errors);
                None
            }
        }
    });
    let checked = |at: &At<'_>, check: &dyn Fn(&str) -> Result<(), String>, errors: &mut Errors| {
        let text = at.text(errors)?;
        match check(text) {
            Ok(()) => Some(text.to_owned()),
            Err(message) => {
                at.error(message, errors);
                None
            }
        }
    };
    let reference = fields.require("ref", "ref: main", errors);
    let reference = reference.and_then(|at| checked(at, &check_reference, errors));
    let dir = match fields.get("dir") {
        Some(at) => checked(at, &check_dir, errors).map(Some),
        None => Some(None),
    };
    let credentials = match fields.get("credentials") {
        Some(at) => credentials(at, address.as_ref(), (declared, open), errors).map(Some),
        None => Some(None),
    };
    let git = address?.as_str().to_owned();
    Some(Source { git, reference: reference?, dir: dir?, credentials: credentials? })
}

fn credentials(
    at: &At<'_>,
    address: Option<&Address>,
    known: (&Declared, bool),
    errors: &mut Errors,
) -> Option<SourceCredentials> {
    let fields = at.fields(&CREDENTIALS, errors)?;
    let ssh = fields.has("key") || fields.has("known_hosts");
    if ssh && (fields.has("password") || fields.has("user")) {
        at.error("write `password` (and `user`) for https, or `key` and `known_hosts` for ssh, not both", errors);
        return None;
    }
    let fits = match address.map(Address::protocol) {
        Some(Protocol::Ssh) => ssh,
        Some(Protocol::Https | Protocol::Http) => !ssh,
        Some(Protocol::Git | Protocol::File) => false,
        None => true,
    };
    if !fits {
        at.error("these do not fit the address: https takes `password`, ssh takes `key` and `known_hosts`", errors);
        return None;
    }
    if ssh {
        let key = fields.require("key", "key: NAME_OF_A_SECRET", errors).and_then(|at| secret(at, known, errors));
        let hosts = fields.require("known_hosts", "known_hosts: \"HOST ssh-ed25519 AAAA...\"", errors)?;
        let known_hosts = hosts.text(errors)?;
        if known_hosts.trim().is_empty() || known_hosts.len() > MAX_KNOWN_HOSTS {
            hosts.error("write the lines that `ssh-keyscan HOST` shows, once you have checked them", errors);
            return None;
        }
        return Some(SourceCredentials::Key { key: key?, known_hosts: known_hosts.to_owned() });
    }
    let password = fields.require("password", "password: NAME_OF_A_SECRET", errors);
    let password = password.and_then(|at| secret(at, known, errors));
    let user = match fields.get("user") {
        Some(at) => {
            let text = at.text(errors)?;
            if text.is_empty() || text.len() > 200 || text.contains([':', '@']) || text.chars().any(char::is_control) {
                at.error(format!("`{}` is no user of a repository", shown(text)), errors);
                return None;
            }
            text.to_owned()
        }
        None => DEFAULT_USER.to_owned(),
    };
    Some(SourceCredentials::Password { user, password: password? })
}

/// The name of a secret.
fn secret(at: &At<'_>, (declared, open): (&Declared, bool), errors: &mut Errors) -> Option<String> {
    let name = at.text(errors)?;
    if !names::is_variable(name) {
        // It may be the secret itself, so that it is not shown.
        at.error(format!("this is the name of a secret, never its value: write {}", names::VARIABLE_RULE), errors);
        return None;
    }
    match declared.iter().find(|(known, _)| known == name) {
        Some((_, None | Some(Variable::Secret))) => {}
        None if open => {}
        Some(_) => {
            at.error(format!("variable `{name}` is no secret: declare it as `{name}: {{secret: true}}`"), errors);
            return None;
        }
        None => {
            // Not shown either: a token may well have the form of a name.
            at.error("there is no such secret: declare it under `variables` as `NAME: {secret: true}`", errors);
            return None;
        }
    }
    Some(name.to_owned())
}
