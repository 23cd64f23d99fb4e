//! Whether a secret is anywhere in a stream, without keeping any of it.

use super::Patterns;
use super::automaton::{ROOT, State};

/// Reads one stream, in chunks of any length.
pub struct Scanner {
    patterns: Patterns,
    state: State,
    found: bool,
}

impl std::fmt::Debug for Scanner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scanner").field("found", &self.found).finish_non_exhaustive()
    }
}

impl Scanner {
    pub(super) fn new(patterns: Patterns) -> Self {
        Self { patterns, state: ROOT, found: false }
    }

    /// Takes the next bytes; true once a form of a secret was complete in what was read so far.
    pub fn push(&mut self, chunk: &[u8]) -> bool {
        if let Some(automaton) = self.patterns.0.as_ref().filter(|_| !self.found) {
            self.state = automaton.scan(self.state, chunk, |_, _| self.found = true);
        }
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_however_the_stream_is_cut() {
        let patterns = Patterns::new(&["hunter2-secret"]).unwrap();
        let text = b"a hunter2-secre h hunter2-hunter2-secret and more";
        for cut in 1..text.len() {
            let mut scanner = patterns.scanner();
            let found: Vec<bool> = text.chunks(cut).map(|chunk| scanner.push(chunk)).collect();
            assert_eq!(found.last(), Some(&true), "in pieces of {cut}");
        }
        let mut scanner = patterns.scanner();
        assert!(
            !scanner.push(b"hunter2-secre") && !scanner.push(b"") && !scanner.push(b"x") && scanner.push(&text[..])
        );
        assert!(!Patterns::default().scanner().push(text));
    }
}
