//! Where a package comes from when it is made of a commit: the repository's address and the ref, as far as a text says whether they
//! are good.
//!
//! Invariants: an [`Address`] holds no password and nothing that git or ssh could take for an option or a program; a ref that passes
//! [`check_reference`] is taken by git for nothing but a name.

use std::fmt;

/// How a repository is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Encrypted; the server shows a certificate.
    Https,
    /// Encrypted; the server shows a key.
    Ssh,
    /// Everybody on the way can read and change what is fetched.
    Http,
    /// As [`Protocol::Http`].
    Git,
    /// A folder of the machine that fetches.
    File,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Https, Self::Ssh, Self::Http, Self::Git, Self::File];
    /// Those that are taken when nothing else is said.
    pub const SAFE: [Self; 2] = [Self::Https, Self::Ssh];

    /// As git calls it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Ssh => "ssh",
            Self::Http => "http",
            Self::Git => "git",
            Self::File => "file",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|one| one.as_str() == text);
        found.ok_or_else(|| format!("`{text}` is no protocol: write `https`, `ssh`, `http`, `git` or `file`"))
    }
}

/// An address that holds no password and speaks a protocol that is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    text: String,
    protocol: Protocol,
}

/// Why an address is not taken. The address itself is not repeated: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// None that is known.
    #[error("the address of a repository is `https://HOST/PATH`, `ssh://USER@HOST/PATH` or `USER@HOST:PATH`")]
    Form,
    /// A protocol that is not allowed here.
    #[error("a repository is not reached by `{0}` here")]
    Protocol(Protocol),
    /// A password, or a token in the place of a user.
    #[error("the address holds a password or a token, which others could read in lists, logs and processes")]
    Password,
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// [`Error`]
    pub fn parse(text: &str, allowed: &[Protocol]) -> Result<Self, Error> {
        let plain = |c: char| c.is_ascii_graphic() && !"'\"\\`$<>|;".contains(c);
        if !text.chars().all(plain) || text.len() > 2_000 {
            return Err(Error::Form);
        }
        let protocol = match text.split_once("://") {
            Some(("https", rest)) => web(rest).map(|()| Protocol::Https)?,
            Some(("http", rest)) => web(rest).map(|()| Protocol::Http)?,
            Some(("git", rest)) => web(rest).map(|()| Protocol::Git)?,
            Some(("ssh", rest)) => ssh(rest).map(|()| Protocol::Ssh)?,
            Some(("file", rest)) if rest.starts_with('/') => Protocol::File,
            Some(_) => return Err(Error::Form),
            None => short(text).map(|()| Protocol::Ssh)?,
        };
        if !allowed.contains(&protocol) {
            return Err(Error::Protocol(protocol));
        }
        Ok(Self { text: text.to_owned(), protocol })
    }

    /// As git takes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it speaks.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Host and port of a URL, for what belongs to that place alone.
    #[must_use]
    pub fn place(&self) -> &str {
        self.text.split_once("://").map_or("", |(_, rest)| authority(rest))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn web(rest: &str) -> Result<(), Error> {
    if authority(rest).contains('@') {
        return Err(Error::Password);
    }
    host(authority(rest))
}

fn ssh(rest: &str) -> Result<(), Error> {
    let place = authority(rest);
    let (user, name) = place.rsplit_once('@').unwrap_or(("", place));
    if user.contains(':') {
        return Err(Error::Password);
    }
    if !user.is_empty() {
        host(user)?;
    }
    host(name)
}

/// `USER@HOST:PATH`
fn short(text: &str) -> Result<(), Error> {
    let (place, path) = text.split_once(':').ok_or(Error::Form)?;
    let (user, name) = place.split_once('@').ok_or(Error::Form)?;
    // `a::b` is a helper of git's, and could run anything.
    if path.is_empty() || path.starts_with([':', '-']) {
        return Err(Error::Form);
    }
    host(user)?;
    host(name)
}

fn authority(rest: &str) -> &str {
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// A host, with a port if need be, or a user: nothing that ssh could take for an option.
fn host(text: &str) -> Result<(), Error> {
    let good = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    if text.is_empty() || text.starts_with('-') || !text.chars().all(good) { Err(Error::Form) } else { Ok(()) }
}

/// Checks a branch, a tag or a commit id: no option, no refspec, no expression.
///
/// # Errors
/// What is wrong.
pub fn check_reference(text: &str) -> Result<(), String> {
    let good = |c: char| c.is_alphanumeric() || "._-/+@#".contains(c);
    let odd = text.is_empty()
        || text.len() > 500
        || text.starts_with(['-', '+', '/'])
        || text.ends_with('/')
        || text.contains("..")
        || text.contains("@{")
        || !text.chars().all(good);
    if odd {
        let shown: String = text.escape_default().take(200).collect();
        return Err(format!("`{shown}` is no ref: write a branch, a tag, or a commit id in full"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_without_passwords_and_of_allowed_protocols_are_taken() {
        for (text, protocol) in [
            ("https://example.com/a/b.git", "https"),
            ("https://example.com:8443/a", "https"),
            ("ssh://git@example.com:22/a", "ssh"),
            ("git@example.com:a/b.git", "ssh"),
            ("http://example.com/a", "http"),
            ("git://example.com/a", "git"),
            ("file:///tmp/x", "file"),
        ] {
            let protocol: Protocol = protocol.parse().unwrap();
            assert_eq!(Address::parse(text, &Protocol::ALL).unwrap().protocol(), protocol, "{text}");
            let safe = Address::parse(text, &Protocol::SAFE);
            assert_eq!(safe.is_ok(), Protocol::SAFE.contains(&protocol), "{text}");
            assert!(safe.is_ok() || safe == Err(Error::Protocol(protocol)), "{text}");
        }
        for text in ["https://u:p@example.com/a", "https://t0ken@example.com/a", "ssh://git:p@example.com/a"] {
            assert_eq!(Address::parse(text, &Protocol::ALL), Err(Error::Password), "{text}");
        }
        for text in [
            "ext::sh -c x",
            "ext::x",
            "a@b::c",
            "/tmp/x",
            "../x",
            "-x",
            "",
            "ssh://-oProxyCommand=x/a",
            "git@-oProxyCommand=x:a",
            "-u@h:a",
            "https://",
            "ssh:///a",
            "u@h:",
            "file://host/x",
            "https://e/a b",
        ] {
            assert_eq!(Address::parse(text, &Protocol::ALL), Err(Error::Form), "{text}");
        }
        assert_eq!(Address::parse("https://e:1/a", &Protocol::ALL).unwrap().place(), "e:1");
    }

    #[test]
    fn a_ref_is_a_name_and_nothing_else() {
        for good in ["main", "release/1.2", "v1.0.0", "refs/heads/x", "0123456789abcdef0123456789abcdef01234567"] {
            assert_eq!(check_reference(good), Ok(()), "{good}");
        }
        for odd in ["", "--upload-pack=touch x", "main:main", "+main", "a..b", "main^", "HEAD@{1}", "a b", "*", "a\n"] {
            assert!(check_reference(odd).unwrap_err().contains("is no ref"), "{odd}");
        }
    }
}
