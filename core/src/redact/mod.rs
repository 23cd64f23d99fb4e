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

mod stream;
#[cfg(test)]
mod tests;
mod variants;

pub use stream::Redactor;

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::{contiguous, noncontiguous};
use aho_corasick::{Anchored, MatchKind};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most bytes of patterns in one set. About 300 KiB of secrets; the automaton then takes some 200 MiB.
pub const MAX_PATTERN_BYTES: usize = 4 << 20;

/// Why secrets cannot be masked. Names no secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The forms of the secrets are too long in sum.
    #[error(
        "secrets of {secrets} bytes in all are too long to be masked: their forms take {patterns} bytes, at most {MAX_PATTERN_BYTES} are possible"
    )]
    TooLong {
        /// Bytes of the secrets.
        secrets: usize,
        /// Bytes of all their forms.
        patterns: usize,
    },
    /// The automaton could not be built.
    #[error("cannot build the automaton that masks secrets")]
    Build(#[source] aho_corasick::BuildError),
}

/// Every form of a set of secrets. Cheap to clone; clones share the automaton.
#[derive(Clone, Default)]
pub struct Patterns(Option<Arc<Matcher>>);

impl std::fmt::Debug for Patterns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Patterns([secret])" } else { "Patterns()" })
    }
}

impl Patterns {
    /// Builds the forms of `secrets`. Empty ones are passed over; without any other nothing is masked.
    pub fn new<S: AsRef<[u8]>>(secrets: &[S]) -> Result<Self, Error> {
        let mut all = BTreeSet::new();
        for secret in secrets {
            variants::add(secret.as_ref(), &mut all);
        }
        let patterns = all.iter().map(|pattern| pattern.len()).sum();
        if patterns > MAX_PATTERN_BYTES {
            let secrets = secrets.iter().map(|secret| secret.as_ref().len()).sum();
            return Err(Error::TooLong { secrets, patterns });
        }
        let all: Vec<_> = all.into_iter().collect();
        Self::exactly(&all)
    }

    /// Masks these byte strings and no other form of them.
    pub fn exactly<S: AsRef<[u8]>>(patterns: &[S]) -> Result<Self, Error> {
        let patterns: Vec<&[u8]> = patterns.iter().map(AsRef::as_ref).filter(|pattern| !pattern.is_empty()).collect();
        if patterns.is_empty() {
            return Ok(Self(None));
        }
        Ok(Self(Some(Arc::new(Matcher::new(&patterns)?))))
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
        self.0.as_ref().is_some_and(|matcher| {
            let mut found = false;
            matcher.scan(matcher.root, text, |_, _| found = true);
            found
        })
    }
}

/// The automaton and what the stream needs to know of its states.
struct Matcher {
    nfa: contiguous::NFA,
    root: StateID,
    /// For each state that is a pattern or the beginning of one: how many of the last bytes may be the
    /// beginning of a (longer) match. Indexed by state, 0 elsewhere.
    hold: Vec<u32>,
    /// Bit per pair of bytes: whether a pattern begins with it (with the first of it, for patterns of one byte).
    pairs: Box<[u64; 1024]>,
}

impl Matcher {
    fn new(patterns: &[&[u8]]) -> Result<Self, Error> {
        let build = || {
            let nfa = noncontiguous::Builder::new().match_kind(MatchKind::Standard).prefilter(false).build(patterns)?;
            let nfa = contiguous::Builder::new().prefilter(false).build_from_noncontiguous(&nfa)?;
            Ok((nfa, patterns))
        };
        let (nfa, patterns): (contiguous::NFA, _) = build().map_err(Error::Build)?;
        let root = nfa.start_state(Anchored::No).unwrap_or_default();
        let mut matcher = Self { nfa, root, hold: Vec::new(), pairs: Box::new([0; 1024]) };
        matcher.hold_states(patterns);
        for pattern in patterns {
            matcher.pair(pattern);
        }
        Ok(matcher)
    }

    fn pair(&mut self, pattern: &[u8]) {
        match pattern {
            [first] => (0..=u8::MAX).for_each(|second| self.pair(&[*first, second])),
            [first, second, ..] => {
                let bit = usize::from(*first) << 8 | usize::from(*second);
                self.pairs[bit >> 6] |= 1 << (bit & 63);
            }
            [] => {}
        }
    }

    fn begins(&self, first: u8, second: u8) -> bool {
        let bit = usize::from(first) << 8 | usize::from(second);
        self.pairs[bit >> 6] >> (bit & 63) & 1 == 1
    }

    /// Fills `hold`: a state reached by a proper prefix of a pattern holds all of the prefix. A pattern that
    /// begins no longer one holds what its longest proper suffix in the automaton holds, hence shorter ones first.
    fn hold_states(&mut self, patterns: &[&[u8]]) {
        let mut leaves = Vec::new();
        for pattern in patterns {
            let mut state = self.root;
            for (depth, byte) in (1u32..).zip(*pattern) {
                state = self.nfa.next_state(Anchored::No, state, *byte);
                if (depth as usize) < pattern.len() {
                    self.set_hold(state, depth);
                }
            }
            leaves.push((pattern.len(), state, *pattern));
        }
        leaves.sort_by_key(|(len, ..)| *len);
        for (_, state, pattern) in leaves {
            if self.hold(state) == 0 {
                let suffix =
                    pattern[1..].iter().fold(self.root, |at, byte| self.nfa.next_state(Anchored::No, at, *byte));
                self.set_hold(state, self.hold(suffix));
            }
        }
    }

    fn set_hold(&mut self, state: StateID, hold: u32) {
        if self.hold.len() <= state.as_usize() {
            self.hold.resize(state.as_usize() + 1, 0);
        }
        self.hold[state.as_usize()] = hold;
    }

    /// How many of the last bytes read may be the beginning of a match that is not yet complete.
    fn hold(&self, state: StateID) -> u32 {
        self.hold.get(state.as_usize()).copied().unwrap_or(0)
    }

    /// Reads `text` from `state` and returns the state after it. `found` gets, for each position where a
    /// pattern ends, the index behind it and the length of the longest pattern that ends there.
    fn scan(&self, mut state: StateID, text: &[u8], mut found: impl FnMut(usize, usize)) -> StateID {
        let mut at = 0;
        while at < text.len() {
            if state == self.root {
                // No pattern begins with these two bytes, so after the second the automaton is where it would be without the first.
                match text[at..].windows(2).position(|pair| self.begins(pair[0], pair[1])) {
                    Some(skip) => at += skip,
                    None => at = text.len() - 1,
                }
            }
            state = self.nfa.next_state(Anchored::No, state, text[at]);
            at += 1;
            if self.nfa.is_match(state) {
                // The first pattern of a state is its own, those of its suffixes follow.
                found(at, self.nfa.pattern_len(self.nfa.match_pattern(state, 0)));
            }
        }
        state
    }
}
