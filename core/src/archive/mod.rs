//! What may be in a package: one rule for whoever packs it, stores it or unpacks it.
//!
//! A package is unpacked into a job's workspace, so nothing in it may reach outside of that: no absolute names, no `..` in
//! names, no devices, no link that leaves. A symbolic link's target may begin with `..` as often as the link lies deep, and have
//! none after that; and no name may lead through a link. With both rules what a link reaches can be told from its text alone.
//! [`Checker`] looks at the entries one after the other; [`Gate`] bounds what reading them may cost.
//!
//! Invariant: what a [`Checker`] admits needs memory and disk in proportion to its [`Limits`], whatever an archive claims.

mod checker;
mod gate;

use std::io;

pub use checker::{Admitted, Checker, What};
pub use gate::{Gate, Meter};

/// Most bytes of one name or link, so that it fits into a path below the workspace.
pub const MAX_NAME: usize = 4_000;
/// Most bytes of one part of a name: what file systems take.
pub const MAX_PART: usize = 255;
/// Deepest nesting of folders.
pub const MAX_DEPTH: usize = 100;
/// Most bytes of all names, of folders that are only implied too.
pub const MAX_NAMES: usize = 64 << 20;
/// Unpacked bytes below which the ratio to the packed ones does not count.
const RATIO_FROM: u64 = 64 << 20;
/// Most bytes between two entries: headers, long names, extended attributes.
const MAX_HEADERS: u64 = 1 << 20;

/// Bounds of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes as it is uploaded.
    pub packed: u64,
    /// Bytes when it is unpacked.
    pub unpacked: u64,
    /// Unpacked bytes for each packed one.
    pub ratio: u64,
    /// Files, folders (those that are only implied too) and links.
    pub entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { packed: 1 << 30, unpacked: 16 << 30, ratio: 200, entries: 200_000 }
    }
}

impl Limits {
    /// Most bytes that an archive of `packed` bytes may unpack to, and what to say of one that has more.
    fn growth(&self, packed: u64) -> (u64, Refused) {
        let growth = packed.saturating_mul(self.ratio).max(RATIO_FROM);
        if growth < self.unpacked {
            (growth, Refused::Ratio(self.ratio))
        } else {
            (self.unpacked, Refused::TooLarge(self.unpacked))
        }
    }
}

/// Why a package is refused. Completes "the package is refused: ...".
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It cannot be read as an archive.
    #[error("it cannot be read as {form} ({source})")]
    Unreadable {
        /// What it should be.
        form: &'static str,
        /// What went wrong.
        source: io::Error,
    },
    /// It is too large when it is unpacked.
    #[error("it has more than {0} bytes when it is unpacked")]
    TooLarge(u64),
    /// It grows more than honest data does.
    #[error("it grows more than {0}-fold when it is unpacked")]
    Ratio(u64),
    /// Too many files.
    #[error("it has more than {0} entries")]
    TooMany(usize),
    /// Names that fill the memory.
    #[error("its names take more than {MAX_NAMES} bytes")]
    Names,
    /// Headers that fill the memory.
    #[error("it has more than {MAX_HEADERS} bytes of headers before one entry, behind `{after}`")]
    Headers {
        /// The entry before; empty at the beginning.
        after: String,
    },
    /// One entry is not admitted.
    #[error("entry `{entry}` {why}")]
    Entry {
        /// Its name.
        entry: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Refused {
    /// One entry is not admitted; `why` completes "entry `x` ...".
    pub fn entry(name: &[u8], why: impl Into<String>) -> Self {
        Self::Entry { entry: shown(name), why: why.into() }
    }
}

/// A name for messages: bounded, and without what a terminal would act on.
#[must_use]
pub fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(200).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The parts of a name, without `.`; none for the package's root. A name is relative and goes down only.
///
/// # Errors
/// What is wrong with it; completes "entry `x` ...".
pub fn parts(name: &[u8]) -> Result<Vec<&[u8]>, String> {
    if name.is_empty() || name.contains(&0) {
        return Err("has an empty name or one with a NUL".to_owned());
    }
    if name.len() > MAX_NAME {
        return Err(format!("has a name longer than {MAX_NAME} bytes"));
    }
    if name.starts_with(b"/") {
        return Err("has an absolute name".to_owned());
    }
    let parts: Vec<&[u8]> = split(name).collect();
    if parts.contains(&b"..".as_slice()) {
        return Err("has `..` in its name".to_owned());
    }
    if parts.iter().any(|part| part.len() > MAX_PART) {
        return Err(format!("has a part of its name longer than {MAX_PART} bytes"));
    }
    if parts.len() > MAX_DEPTH {
        return Err(format!("lies deeper than {MAX_DEPTH} folders"));
    }
    Ok(parts)
}

/// Whether a symbolic link that lies in `depth` folders may have this target.
///
/// # Errors
/// What is wrong with it; completes "entry `x` ...".
pub fn check_target(target: &[u8], depth: usize) -> Result<(), String> {
    if target.is_empty() || target.contains(&0) || target.len() > MAX_NAME {
        return Err("is a link with an empty or overlong target".to_owned());
    }
    let ups = split(target).take_while(|part| *part == b"..").count();
    if target.starts_with(b"/") || ups > depth {
        return Err(format!("is a link to `{}`, outside of the package", shown(target)));
    }
    if split(target).skip(ups).any(|part| part == b"..") {
        // Behind a name it would be resolved behind whatever that name links to.
        return Err(format!("is a link to `{}`: `..` may stand only at its beginning", shown(target)));
    }
    Ok(())
}

fn split(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

#[cfg(test)]
mod tests;
