//! One stream through the automaton.

use super::Patterns;
use super::automaton::{ROOT, State};
use crate::init::MASK;

/// Masks one stream, pushed in chunks of any length. See the module for what it promises.
pub struct Redactor {
    patterns: Patterns,
    state: State,
    /// Bytes that were read and not yet written.
    held: Vec<u8>,
    /// Position of the first held byte in the stream.
    base: u64,
    /// Matches that reach into the held bytes, in order, none overlapping another: begin and end in the stream.
    matches: Vec<(u64, u64)>,
    /// End of the last match that was written as a mask; never past `base`.
    masked: u64,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").field("held", &self.held.len()).finish_non_exhaustive()
    }
}

impl Redactor {
    pub(super) fn new(patterns: Patterns) -> Self {
        Self { patterns, state: ROOT, held: Vec::new(), base: 0, matches: Vec::new(), masked: 0 }
    }

    /// Whether everything passes unchanged, so that the caller may leave this redactor out.
    #[must_use]
    pub fn is_transparent(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Bytes held back now because they may begin a secret.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes the next bytes of the stream and appends to `out` what is certain now.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let Some(automaton) = self.patterns.0.clone() else {
            out.extend_from_slice(chunk);
            return;
        };
        let start = self.base + self.held.len() as u64;
        let matches = &mut self.matches;
        self.state = automaton.scan(self.state, chunk, |end, len| {
            let end = start + end as u64;
            let mut begin = end - len as u64;
            while let Some((earlier, _)) = matches.pop_if(|(_, last_end)| *last_end > begin) {
                begin = begin.min(earlier);
            }
            matches.push((begin, end));
        });
        let end = start + chunk.len() as u64;
        self.write(chunk, end - u64::from(automaton.hold(self.state)), end, out);
    }

    /// Ends the stream: writes what was held back. The redactor is then as new.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let end = self.base + self.held.len() as u64;
        self.write(&[], end, end, out);
        *self = Self::new(self.patterns.clone());
    }

    /// Writes what lies before `certain` of the held bytes and `chunk`, which end at `end`; holds the rest.
    fn write(&mut self, chunk: &[u8], certain: u64, end: u64, out: &mut Vec<u8>) {
        let mut at = self.base;
        let mut done = 0;
        for (begin, match_end) in &self.matches {
            // A match still to come begins at `certain` or later, so one that begins before cannot grow to the left.
            if *begin >= certain {
                break;
            }
            done += 1;
            // Else it overlaps a mask that is out already, and makes it longer.
            if *begin >= self.masked {
                copy(&self.held, chunk, (at - self.base, *begin - self.base), out);
                out.extend_from_slice(MASK.as_bytes());
            }
            self.masked = *match_end;
            at = *match_end;
        }
        self.matches.drain(..done);
        if at < certain {
            copy(&self.held, chunk, (at - self.base, certain - self.base), out);
            at = certain;
        }
        self.hold(chunk, at, end);
    }

    /// Keeps the bytes from `at` to `end`.
    fn hold(&mut self, chunk: &[u8], at: u64, end: u64) {
        let keep = index(end - at);
        if keep <= chunk.len() {
            self.held.clear();
            self.held.extend_from_slice(&chunk[chunk.len() - keep..]);
        } else {
            self.held.drain(..self.held.len() + chunk.len() - keep);
            self.held.extend_from_slice(chunk);
        }
        self.base = at;
    }
}

/// Appends the range of `held` followed by `chunk` to `out`.
fn copy(held: &[u8], chunk: &[u8], (from, to): (u64, u64), out: &mut Vec<u8>) {
    let (from, to) = (index(from), index(to));
    let split = held.len();
    out.extend_from_slice(&held[from.min(split)..to.min(split)]);
    out.extend_from_slice(&chunk[from.max(split) - split..to.max(split) - split]);
}

/// Distances inside what is held and one chunk; they fit into memory, so into `usize`.
fn index(distance: u64) -> usize {
    usize::try_from(distance).unwrap_or(usize::MAX)
}
