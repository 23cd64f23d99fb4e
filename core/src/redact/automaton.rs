//! The automaton that finds the forms of secrets (Aho and Corasick, 1975), made for this one use: it knows
//! for each state how much of what was read may still become a match, and it is small, since it is a part of PID 1.
//!
//! States are numbered breadth first, so the children of a state have consecutive numbers, and the state
//! that is the `n`th edge's end has the number `n` + 1. Seventeen bytes a state and no pointers.

/// A position in the automaton: the longest end of the text read that begins some pattern.
pub(super) type State = u32;
/// Nothing read yet, or nothing of what was read begins a pattern.
pub(super) const ROOT: State = 0;

/// What it takes to read text in any state.
pub(super) struct Automaton {
    /// Byte on the edge into state `n` + 1.
    labels: Vec<u8>,
    /// Index of a state's first edge; its last is before that of the next state.
    edges: Vec<u32>,
    /// State of the longest proper end of this one's text.
    fail: Vec<State>,
    /// Length of the longest pattern that ends here; 0 for none.
    found: Vec<u32>,
    /// How many of the last bytes read may be the beginning of a match that is not complete.
    hold: Vec<u32>,
    /// The root's edges by byte; [`ROOT`] where there is none.
    first: Box<[State; 256]>,
    /// Bit per pair of bytes: whether a pattern begins with it (with the first of it, for patterns of one byte).
    pairs: Box<[u64; 1024]>,
}

/// A state that is being made: the patterns that begin with its text, and the text's length.
struct Open {
    patterns: std::ops::Range<usize>,
    depth: u32,
    fail: State,
}

impl Automaton {
    /// Builds it. `patterns` are sorted, differ, are not empty, and have less than 2^32 bytes in all.
    pub(super) fn new(patterns: &[&[u8]]) -> Self {
        let mut built = Self {
            labels: Vec::new(),
            edges: Vec::new(),
            fail: Vec::new(),
            found: Vec::new(),
            hold: Vec::new(),
            first: Box::new([ROOT; 256]),
            pairs: Box::new([0; 1024]),
        };
        patterns.iter().for_each(|pattern| built.pair(pattern));
        let mut level = vec![Open { patterns: 0..patterns.len(), depth: 0, fail: ROOT }];
        while !level.is_empty() {
            let mut next = Vec::new();
            for open in level {
                built.close(patterns, &open, &mut next);
            }
            level = next;
        }
        built.edges.push(number(built.labels.len()));
        built
    }

    /// Gives a state its values and opens its children. All states nearer to the root have theirs.
    fn close(&mut self, patterns: &[&[u8]], open: &Open, next: &mut Vec<Open>) {
        let state = number(self.fail.len());
        let depth = open.depth as usize;
        let mut at = open.patterns.start;
        // Sorted, so the one that ends here is the first.
        let ends = depth > 0 && patterns[at].len() == depth;
        at += usize::from(ends);
        let inner = at < open.patterns.end;
        self.fail.push(open.fail);
        // The root alone has nobody nearer.
        let of_fail = |values: &[u32]| values.get(open.fail as usize).copied().unwrap_or(0);
        let (found, hold) = (of_fail(&self.found), of_fail(&self.hold));
        self.found.push(if ends { open.depth } else { found });
        self.hold.push(if inner { open.depth } else { hold });
        self.edges.push(number(self.labels.len()));
        while at < open.patterns.end {
            let byte = patterns[at][depth];
            let end = at + patterns[at..open.patterns.end].partition_point(|pattern| pattern[depth] == byte);
            let fail = if state == ROOT { ROOT } else { self.next(open.fail, byte) };
            self.labels.push(byte);
            if state == ROOT {
                self.first[usize::from(byte)] = number(self.labels.len());
            }
            next.push(Open { patterns: at..end, depth: open.depth + 1, fail });
            at = end;
        }
    }

    /// The state after one more byte.
    pub(super) fn next(&self, mut state: State, byte: u8) -> State {
        while state != ROOT {
            let from = self.edges[state as usize] as usize;
            let to = self.edges[state as usize + 1] as usize;
            if let Some(edge) = self.labels[from..to].iter().position(|label| *label == byte) {
                return number(from + edge + 1);
            }
            state = self.fail[state as usize];
        }
        self.first[usize::from(byte)]
    }

    /// How many of the last bytes read may be the beginning of a match that is not yet complete.
    pub(super) fn hold(&self, state: State) -> u32 {
        self.hold[state as usize]
    }

    /// Reads `text` from `state` and returns the state after it. `found` gets, for each position where a
    /// pattern ends, the index behind it and the length of the longest pattern that ends there.
    pub(super) fn scan(&self, mut state: State, text: &[u8], mut found: impl FnMut(usize, usize)) -> State {
        let mut at = 0;
        while at < text.len() {
            if state == ROOT {
                // No pattern begins with these two bytes, so after the second the automaton is where it would be without the first.
                match text[at..].windows(2).position(|pair| self.begins(pair[0], pair[1])) {
                    Some(skip) => at += skip,
                    None => at = text.len() - 1,
                }
            }
            state = self.next(state, text[at]);
            at += 1;
            let length = self.found[state as usize];
            if length > 0 {
                found(at, length as usize);
            }
        }
        state
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
}

/// Counts of states and edges are below the bytes of the patterns, so they fit.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
