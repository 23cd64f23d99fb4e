//! Whose settings and credentials count while a repository is fetched.
//!
//! Invariant: credentials reach git in files that only this user can read, in a folder that is private too, and are gone as soon as
//! the fetch has ended. They are in no argument and in no variable of a process.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use longshore_core::redact::Patterns;
use longshore_core::secret::Secret;
use longshore_core::source::Address;

use super::Error;

/// Where git's own helper looks for passwords, below its home.
const PASSWORDS: &str = ".git-credentials";
/// The private key, below git's home.
const KEY: &str = "key";
/// The keys that a host may show, below git's home.
const KNOWN_HOSTS: &str = "known_hosts";

/// Whose settings and credentials count.
#[derive(Debug)]
pub enum Access {
    /// Those of the user and the system.
    Users,
    /// Nobody's but these.
    Own(Option<Credentials>),
}

/// What opens a repository.
#[derive(Debug)]
pub enum Credentials {
    /// For https.
    Password {
        /// Who asks.
        user: String,
        /// Password or token.
        password: Secret,
    },
    /// For ssh.
    Key {
        /// The private key, as ssh keeps it in a file.
        key: Secret,
        /// Keys that the host may show; it may show no other one.
        known_hosts: String,
    },
}

/// Files that are removed at the end.
#[derive(Debug, Default)]
pub(super) struct Lent(Vec<PathBuf>);

impl Drop for Lent {
    fn drop(&mut self) {
        for path in &self.0 {
            // The folder around it goes away soon, too.
            drop(std::fs::remove_file(path));
        }
    }
}

impl Access {
    /// Writes the files that git reads while it fetches.
    pub(super) fn lend(&self, home: &Path, address: &Address) -> Result<Lent, Error> {
        let mut lent = Lent::default();
        let mut lend = |name: &str, text: &str| {
            let path = home.join(name);
            lent.0.push(path.clone());
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
            written.map_err(|source| Error::Folder { what: "write", path, source })
        };
        match self {
            Self::Users | Self::Own(None) => {}
            Self::Own(Some(Credentials::Password { user, password })) => {
                let password = password.expose().trim_end_matches(['\r', '\n']);
                if password.is_empty() || password.contains(char::is_control) {
                    return Err(Error::Credentials("the password is empty, or holds a line break"));
                }
                let (user, password) = (encoded(user), encoded(password));
                let (protocol, place) = (address.protocol(), address.place());
                lend(PASSWORDS, &format!("{protocol}://{user}:{password}@{place}\n"))?;
            }
            Self::Own(Some(Credentials::Key { key, known_hosts })) => {
                lend(KEY, &format!("{}\n", key.expose().trim_end()))?;
                lend(KNOWN_HOSTS, &format!("{}\n", known_hosts.trim_end()))?;
            }
        }
        Ok(lent)
    }

    /// What no message may hold.
    pub(super) fn hidden(&self) -> Patterns {
        let secrets = match self {
            Self::Users | Self::Own(None) => Vec::new(),
            Self::Own(Some(Credentials::Password { user, password })) => {
                let text = password.expose().trim_end_matches(['\r', '\n']);
                vec![text.to_owned(), format!("{user}:{text}")]
            }
            Self::Own(Some(Credentials::Key { key, .. })) => vec![key.expose().trim_end().to_owned()],
        };
        Patterns::new(&secrets).unwrap_or_default()
    }
}

/// As it stands in a URL.
fn encoded(text: &str) -> String {
    let one = |byte: u8| {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if plain { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(one).collect()
}
