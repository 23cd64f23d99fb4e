//! Logins at image registries: a password in a file, a Docker configuration, or a program that is asked for one.
//!
//! Invariants: a password is a [`Secret`] from the moment it is read, and is in no message, argument or file of the agent; a program
//! is run as it stands, never by a shell, and what it prints is never repeated but its standard error, cut; a login that has ended is not used.

mod docker;
mod program;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use longshore_core::secret::Secret;
use longshore_core::time::Timestamp;

/// What the engine calls the registry of references without a host.
pub const HUB: &str = "docker.io";
/// How long a program's login is used that says nothing of its end.
const UNSAID: Duration = Duration::from_secs(300);
/// A login is not used for the last bit of its time: the pull has to begin with it.
const MARGIN: Duration = Duration::from_secs(60);

/// One entry of `[[registries]]`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// `HOST` or `HOST:PORT` as in references, `*.HOST` for all below it, or `*` for all.
    pub host: String,
    /// User, with `password_file`.
    #[serde(default)]
    pub username: Option<String>,
    /// Refused: taken for a secret, so that a message about it does not show it.
    #[serde(default)]
    pub password: Option<Secret>,
    /// File with the password, read for each pull.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// A configuration of the Docker command line (`config.json`).
    #[serde(default)]
    pub docker_config: Option<PathBuf>,
    /// A Docker credential helper and its arguments; `get` is added.
    #[serde(default)]
    pub helper: Option<Vec<String>>,
    /// A program and its arguments that prints `{"username", "password", "expires_at"}`.
    #[serde(default)]
    pub command: Option<Vec<String>>,
}

/// A login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// User; empty with an identity token.
    pub username: String,
    /// Password or token.
    pub password: Secret,
    /// The password is an identity token.
    pub token: bool,
}

/// A login, and until when it may be used.
#[derive(Debug, Clone)]
struct Dated {
    login: Option<Login>,
    /// `None`: it is asked for anew each time.
    until: Option<Timestamp>,
}

/// Why there is no login.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the login at registry `{host}` cannot be had: {cause}")]
pub struct Error {
    /// The registry.
    pub host: String,
    /// Why.
    pub cause: String,
}

/// Logins of all registries.
#[derive(Debug, Default)]
pub struct Logins {
    known: std::sync::Mutex<HashMap<String, Dated>>,
    /// One program at a time: many jobs at once need its answer once.
    asking: tokio::sync::Mutex<()>,
}

impl Registry {
    /// Whether everything in it is of its form.
    ///
    /// # Errors
    /// The field, and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let pattern = self.host.strip_prefix("*.").unwrap_or(&self.host);
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._:[]".contains(c);
        if self.host != "*" && (pattern.is_empty() || !pattern.chars().all(plain)) {
            let message = format!(
                "`{}` is no `HOST`, `HOST:PORT`, `*.HOST` or `*`, in lowercase and without `https://`",
                self.host
            );
            return Err(("registries.host", message));
        }
        if self.password.is_some() {
            let message = "may not stand in the configuration; write it to a file of mode 0600 and set `password_file`";
            return Err(("registries.password", message.to_owned()));
        }
        let static_ = self.username.is_some() || self.password_file.is_some();
        let ways = [static_, self.docker_config.is_some(), self.helper.is_some(), self.command.is_some()];
        if ways.iter().filter(|way| **way).count() != 1 {
            let message = format!(
                "the one of `{}` needs exactly one of `username` with `password_file`, `docker_config`, `helper` and `command`",
                self.host
            );
            return Err(("registries", message));
        }
        if static_ && (self.username.is_none() || self.password_file.is_none()) {
            return Err((
                "registries.username",
                "needs `password_file` beside it, and that needs `username`".to_owned(),
            ));
        }
        for (field, path) in
            [("registries.password_file", &self.password_file), ("registries.docker_config", &self.docker_config)]
        {
            if let Some(path) = path.as_ref().filter(|path| !path.is_absolute()) {
                return Err((field, format!("`{}` is not an absolute path", path.display())));
            }
        }
        for (field, words) in [("registries.helper", &self.helper), ("registries.command", &self.command)] {
            if words.as_ref().is_some_and(|words| words.first().is_none_or(String::is_empty)) {
                return Err((field, "names no program".to_owned()));
            }
        }
        Ok(())
    }

    fn is_for(&self, host: &str) -> bool {
        let below = |suffix: &str| host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1);
        self.host == "*" || self.host == host || self.host.strip_prefix("*.").is_some_and(below)
    }

    async fn ask(&self, host: &str) -> Result<Dated, String> {
        if let (Some(username), Some(file)) = (&self.username, &self.password_file) {
            let password = read(file).await?;
            let login = Login { username: username.clone(), password, token: false };
            return Ok(Dated { login: Some(login), until: None });
        }
        if let Some(file) = &self.docker_config {
            return docker::login(&read(file).await?, host).await;
        }
        if let Some(words) = &self.helper {
            return program::helper(words, host).await;
        }
        match &self.command {
            Some(words) => program::command(words, host).await,
            None => Ok(Dated { login: None, until: None }),
        }
    }
}

impl Logins {
    /// The login at the registry of a reference, by the first entry that is for its host; `None`: nobody's.
    ///
    /// # Errors
    /// [`Error`] says which registry and why.
    pub async fn of(&self, registries: &[Registry], reference: &str) -> Result<Option<Login>, Error> {
        let host = host_of(reference);
        let Some(registry) = registries.iter().find(|registry| registry.is_for(host)) else { return Ok(None) };
        let _asking = self.asking.lock().await;
        if let Some(known) = self.known(host) {
            return Ok(known);
        }
        let dated = registry.ask(host).await.map_err(|cause| Error { host: host.to_owned(), cause })?;
        if dated.until.is_some() {
            self.lock().insert(host.to_owned(), dated.clone());
        }
        Ok(dated.login)
    }

    /// The registry did not take the login of a reference: the next pull asks for another one.
    pub fn refused(&self, reference: &str) -> bool {
        self.lock().remove(host_of(reference)).is_some()
    }

    /// Everything is asked for anew, as after another configuration.
    pub fn forget(&self) {
        self.lock().clear();
    }

    fn known(&self, host: &str) -> Option<Option<Login>> {
        let now = crate::clock::now();
        let known = self.lock();
        let dated = known.get(host)?;
        dated.until.is_some_and(|until| until > now).then(|| dated.login.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Dated>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The registry's host in a reference, by the engine's own rule: the first part, if it can be no name of a repository.
#[must_use]
pub fn host_of(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => match first {
            "index.docker.io" | "registry-1.docker.io" => HUB,
            host => host,
        },
        _ => HUB,
    }
}

/// Until when a login may be used that ends at a time; none: it does not say.
fn until(expires: Option<Timestamp>) -> Timestamp {
    let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    let until = match expires {
        Some(expires) => expires.as_micros().saturating_sub(micros(MARGIN)),
        None => crate::clock::now().as_micros().saturating_add(micros(UNSAID)),
    };
    Timestamp::from_micros(until)
}

/// A file with a secret in it. Whoever may read it has the registry's password, so it has to be for its owner alone.
async fn read(path: &Path) -> Result<Secret, String> {
    let file = path.to_owned();
    let read = crate::tasks::blocking(move || {
        use std::os::unix::fs::PermissionsExt as _;
        if std::fs::metadata(&file)?.permissions().mode() & 0o007 != 0 {
            return Err(std::io::Error::other("everybody on this host may use it; set its mode to 0600 or 0640"));
        }
        std::fs::read_to_string(&file)
    });
    let text = read.await.map_err(|error| format!("`{}` cannot be read: {error}", path.display()))?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

#[cfg(test)]
mod tests;
