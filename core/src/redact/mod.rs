//! Streaming redaction: no secret, in any usual form of it, passes (promise P8).
//!
//! [`Patterns`] holds every form of every secret (`variants` lists them) in one Aho-Corasick automaton.
//! A [`Redactor`] pushes one stream through it. In what comes out [`crate::init::MASK`] stands for each match:
//!
//! - Matches are found in the whole text, leftmost and longest; a match that overlaps another is one with it
//!   (so of two overlapping secrets no tail stays), matches that only touch are two.
//! - How the text is cut into chunks changes nothing.
//! - Only bytes are held back that are the beginning of some pattern; everything before them is out after each push.
//!
//! What no list of forms can find (a secret reversed, compressed, encrypted, printed one character a line) is
//! not found. Base64 of a text in which a secret starts or ends between two digits shows up to four bits of
//! the secret's first and last byte.

mod automaton;
mod scan;
mod stream;
#[cfg(test)]
mod tests;
mod variants;

pub use scan::Scanner;
pub use stream::Redactor;

use automaton::{Automaton, ROOT};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most bytes of patterns in one set. About 300 KiB of secrets; the automaton then takes some 70 MiB.
pub const MAX_PATTERN_BYTES: usize = 4 << 20;

/// Why secrets cannot be masked. Names no secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The forms of the secrets are too long in sum.
    #[error(
        "secrets of {secrets} bytes in all are too long to be masked: their encoded forms take more than {MAX_PATTERN_BYTES} bytes"
    )]
    TooLong {
        /// Bytes of the secrets.
        secrets: usize,
    },
}

/// Every form of a set of secrets. Cheap to clone; clones share the automaton.
#[derive(Clone, Default)]
pub struct Patterns(Option<Arc<Automaton>>);

impl std::fmt::Debug for Patterns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Patterns([secret])" } else { "Patterns()" })
    }
}

impl Patterns {
    /// Builds the forms of `secrets`. Empty ones are passed over; without any other nothing is masked.
    pub fn new<S: AsRef<[u8]>>(secrets: &[S]) -> Result<Self, Error> {
        let mut all = BTreeSet::new();
        // Each takes several times its length, so these would be too long in any case.
        if length(secrets) > MAX_PATTERN_BYTES / 8 {
            return Err(Error::TooLong { secrets: length(secrets) });
        }
        for secret in secrets {
            variants::add(secret.as_ref(), &mut all);
        }
        Self::of(&all.iter().map(Vec::as_slice).collect(), secrets)
    }

    /// Masks these byte strings and no other form of them.
    pub fn exactly<S: AsRef<[u8]>>(patterns: &[S]) -> Result<Self, Error> {
        Self::of(&patterns.iter().map(AsRef::as_ref).collect(), patterns)
    }

    fn of<S: AsRef<[u8]>>(patterns: &BTreeSet<&[u8]>, secrets: &[S]) -> Result<Self, Error> {
        let sorted: Vec<&[u8]> = patterns.iter().copied().filter(|pattern| !pattern.is_empty()).collect();
        if length(&sorted) > MAX_PATTERN_BYTES {
            return Err(Error::TooLong { secrets: length(secrets) });
        }
        Ok(Self((!sorted.is_empty()).then(|| Arc::new(Automaton::new(&sorted)))))
    }

    /// Whether there is nothing to mask, so that text may go past the redactor uncopied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// A redactor for one stream.
    #[must_use]
    pub fn redactor(&self) -> Redactor {
        Redactor::new(self.clone())
    }

    /// Looks for secrets in one stream.
    #[must_use]
    pub fn scanner(&self) -> Scanner {
        Scanner::new(self.clone())
    }

    /// Masks a whole text.
    #[must_use]
    pub fn mask_bytes(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        let mut redactor = self.redactor();
        redactor.push(text, &mut out);
        redactor.finish(&mut out);
        out
    }

    /// Masks a whole text. A mask that cuts a character (binary patterns only) leaves U+FFFD beside it.
    #[must_use]
    pub fn mask(&self, text: &str) -> String {
        if self.is_empty() {
            return text.to_owned();
        }
        String::from_utf8(self.mask_bytes(text.as_bytes()))
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// Whether any form of a secret is in `text`.
    #[must_use]
    pub fn found_in(&self, text: &[u8]) -> bool {
        self.0.as_ref().is_some_and(|automaton| {
            let mut found = false;
            automaton.scan(ROOT, text, |_, _| found = true);
            found
        })
    }
}

/// Bytes in all.
fn length<S: AsRef<[u8]>>(texts: &[S]) -> usize {
    texts.iter().map(|text| text.as_ref().len()).sum()
}
