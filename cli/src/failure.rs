//! What a command says when it fails: what failed, what was left untouched, what to do next.

use std::error::Error;
use std::fmt;
use std::fmt::Write as _;

use crate::exit::Exit;

/// A failed command, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    what: String,
    untouched: Option<String>,
    next: Option<String>,
    more: Option<String>,
}

impl Failure {
    /// A failure with its text: lowercase, one sentence, the object in backticks.
    #[must_use]
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), untouched: None, next: None, more: None }
    }

    /// Wrong usage, found before anything was done.
    #[must_use]
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// From an error with its causes.
    #[must_use]
    pub fn of(exit: Exit, error: &dyn Error) -> Self {
        Self::new(exit, chain(error))
    }

    /// The end of a command whose reader went away: nothing is shown and the code is 0, as for `longshore logs | head`.
    #[must_use]
    pub fn reader_gone() -> Self {
        Self::new(Exit::Done, "")
    }

    /// The same failure with another code.
    #[must_use]
    pub fn with_exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// Says what was left as it was, unless that is said already.
    #[must_use]
    pub fn untouched(mut self, text: impl Into<String>) -> Self {
        self.untouched.get_or_insert_with(|| text.into());
        self
    }

    /// Says what to do next, unless that is said already.
    #[must_use]
    pub fn next(mut self, text: impl Into<String>) -> Self {
        self.next.get_or_insert_with(|| text.into());
        self
    }

    /// Says where more is to be read.
    #[must_use]
    pub fn more(mut self, text: Option<String>) -> Self {
        self.more = text;
        self
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.what.is_empty()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        for (label, text) in [("unchanged", &self.untouched), ("next", &self.next), ("more", &self.more)] {
            if let Some(text) = text {
                write!(f, "\n{label:>9}: {text}")?;
            }
        }
        Ok(())
    }
}

/// An error and its causes on one line, outermost first.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let shown = inner.to_string();
        // Libraries often repeat their cause in their own text; saying it twice helps nobody.
        if !text.contains(&shown) {
            let _never_fails = write!(text, ": {shown}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_what_not_and_what_next() {
        let failure = Failure::usage("cannot read `x`").untouched("nothing was sent").next("check the path");
        assert_eq!(
            failure.to_string(),
            "error: cannot read `x`\nunchanged: nothing was sent\n     next: check the path"
        );
        assert_eq!(failure.untouched("other").to_string().matches("nothing was sent").count(), 1);
    }

    #[test]
    fn a_cause_is_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer: inner")]
        struct Outer(#[source] std::io::Error);
        assert_eq!(chain(&Outer(std::io::Error::other("inner"))), "outer: inner");
        assert_eq!(chain(&Outer(std::io::Error::other("deep"))), "outer: inner: deep");
    }
}
