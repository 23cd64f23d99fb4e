//! Where a repository is.

use std::fmt;

/// An address that holds no password and speaks a protocol that is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    text: String,
    protocol: &'static str,
}

/// Why an address is not taken. The address itself is not repeated: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another protocol.
    #[error("the address of a repository is `https://HOST/PATH`, `ssh://USER@HOST/PATH` or `USER@HOST:PATH`")]
    Protocol,
    /// A folder of this machine.
    #[error("a repository of this machine is taken only with `--allow-file`")]
    File,
    /// A password, or a token in the place of a user.
    #[error("the address holds a password or a token, which others could read in the list of processes")]
    Password,
}

impl Address {
    /// Reads an address; `files`: also `file:///PATH`.
    ///
    /// # Errors
    /// [`Error`]
    pub fn parse(text: &str, files: bool) -> Result<Self, Error> {
        let plain = |c: char| c.is_ascii_graphic() && !"'\"\\`$<>|;".contains(c);
        if !text.chars().all(plain) {
            return Err(Error::Protocol);
        }
        let protocol = match text.split_once("://") {
            Some(("https", rest)) => {
                if authority(rest).contains('@') {
                    return Err(Error::Password);
                }
                host(authority(rest))?;
                "https"
            }
            Some(("ssh", rest)) => {
                let place = authority(rest);
                let (user, name) = place.rsplit_once('@').unwrap_or(("", place));
                if user.contains(':') {
                    return Err(Error::Password);
                }
                if !user.is_empty() {
                    host(user)?;
                }
                host(name)?;
                "ssh"
            }
            Some(("file", rest)) if rest.starts_with('/') => {
                if !files {
                    return Err(Error::File);
                }
                "file"
            }
            Some(_) => return Err(Error::Protocol),
            None => {
                let (place, path) = text.split_once(':').ok_or(Error::Protocol)?;
                let (user, name) = place.split_once('@').ok_or(Error::Protocol)?;
                // `a::b` is a helper of git's, and could run anything.
                if path.is_empty() || path.starts_with([':', '-']) {
                    return Err(Error::Protocol);
                }
                host(user)?;
                host(name)?;
                "ssh"
            }
        };
        Ok(Self { text: text.to_owned(), protocol })
    }

    /// As git takes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it speaks, as git calls it.
    #[must_use]
    pub const fn protocol(&self) -> &'static str {
        self.protocol
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn authority(rest: &str) -> &str {
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// A host, with a port if need be, or a user: nothing that ssh could take for an option.
fn host(text: &str) -> Result<(), Error> {
    let good = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    if text.is_empty() || text.starts_with('-') || !text.chars().all(good) { Err(Error::Protocol) } else { Ok(()) }
}
