//! `config.json` of the Docker command line: `auths`, `credHelpers` and `credsStore`.

use std::collections::HashMap;

use base64::Engine as _;
use longshore_core::secret::Secret;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{Dated, HUB, Login, program};

/// What the command line calls Docker Hub.
const HUB_KEYS: [&str; 3] = ["https://index.docker.io/v1/", "index.docker.io", HUB];

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct File {
    auths: HashMap<String, Auth>,
    cred_helpers: HashMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    auth: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    identitytoken: Option<Secret>,
}

/// The login for a host, as the command line would have it: its own helper, then the store, then what stands in the file.
pub(super) async fn login(text: &Secret, host: &str) -> Result<Dated, String> {
    // The parser's message may hold a piece of the file.
    let file: File = serde_json::from_str(text.expose()).map_err(|error| {
        format!("the Docker configuration is wrong at line {}, column {}", error.line(), error.column())
    })?;
    if let Some(helper) = of_host(&file.cred_helpers, host).or(file.creds_store.as_ref()) {
        let named = helper.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !named || helper.is_empty() {
            return Err("the Docker configuration names a credential helper that is no name of one".to_owned());
        }
        return program::helper(&[format!("docker-credential-{helper}")], key(host)).await;
    }
    let login = of_host(&file.auths, host).map(of_auth).transpose()?.flatten();
    Ok(Dated { login, until: None })
}

/// What the command line calls a registry when it asks a helper.
fn key(host: &str) -> &str {
    if host == HUB { HUB_KEYS[0] } else { host }
}

/// The entry of a host, which may stand there with a scheme and a path.
fn of_host<'a, T>(entries: &'a HashMap<String, T>, host: &str) -> Option<&'a T> {
    if host == HUB {
        return HUB_KEYS.iter().find_map(|key| entries.get(*key));
    }
    entries.get(host).or_else(|| {
        entries.iter().find_map(|(key, entry)| {
            let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"))?;
            (rest.split('/').next() == Some(host)).then_some(entry)
        })
    })
}

fn of_auth(auth: &Auth) -> Result<Option<Login>, String> {
    if let Some(token) = auth.identitytoken.as_ref().filter(|token| !token.expose().is_empty()) {
        return Ok(Some(Login { username: String::new(), password: token.clone(), token: true }));
    }
    if let (Some(username), Some(password)) = (&auth.username, &auth.password) {
        return Ok(Some(Login { username: username.clone(), password: password.clone(), token: false }));
    }
    let Some(encoded) = auth.auth.as_ref().filter(|auth| !auth.expose().is_empty()) else { return Ok(None) };
    let wrong = || "an `auth` in the Docker configuration is not base64 of `user:password`".to_owned();
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded.expose()).map_err(|_| wrong())?;
    let text = Zeroizing::new(String::from_utf8(bytes).map_err(|_| wrong())?);
    let (username, password) = text.split_once(':').ok_or_else(wrong)?;
    let password = Secret::new(password.trim_end_matches('\0').to_owned());
    Ok(Some(Login { username: username.to_owned(), password, token: false }))
}
