//! A log as people read it: what the steps wrote, with a heading where a deployment of several steps goes on to the next.

use crate::client::model::LogPiece;
use crate::output::paint::Paint;

/// Turns pieces of log into bytes for a terminal or a file.
#[derive(Debug)]
pub(super) struct LogText {
    paint: Paint,
    headings: bool,
    step: Option<String>,
    at_line_start: bool,
}

impl LogText {
    /// `headings`: name the step before its first byte.
    pub(super) const fn new(paint: Paint, headings: bool) -> Self {
        Self { paint, headings, step: None, at_line_start: true }
    }

    pub(super) const fn set_headings(&mut self, headings: bool) {
        self.headings = headings;
    }

    /// Whether what was shown so far ends with a newline.
    pub(super) const fn ends_line(&self) -> bool {
        self.at_line_start
    }

    /// What to write for a piece.
    pub(super) fn show(&mut self, piece: &LogPiece) -> Vec<u8> {
        let bytes = piece.exact();
        if bytes.is_empty() {
            return bytes;
        }
        let mut shown = Vec::new();
        if self.headings && self.step.as_deref() != Some(&piece.step) {
            if !self.at_line_start {
                shown.push(b'\n');
            }
            shown.extend_from_slice(self.paint.bold(&format!("==> {}", piece.step)).as_bytes());
            shown.push(b'\n');
        }
        self.step = Some(piece.step.clone());
        self.at_line_start = bytes.ends_with(b"\n");
        shown.extend(bytes);
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(step: &str, text: &str, bytes: Option<&str>) -> LogPiece {
        LogPiece { step: step.to_owned(), text: text.to_owned(), bytes: bytes.map(str::to_owned) }
    }

    #[test]
    fn headings_stand_on_lines_of_their_own() {
        let mut text = LogText::new(Paint::new(false), true);
        let shown: Vec<u8> = [piece("a", "one", None), piece("a", " line", None), piece("b", "two\n", None)]
            .iter()
            .flat_map(|piece| text.show(piece))
            .collect();
        assert_eq!(String::from_utf8(shown).unwrap(), "==> a\none line\n==> b\ntwo\n");
        assert!(text.ends_line());
    }

    #[test]
    fn bytes_are_exact() {
        let mut text = LogText::new(Paint::new(false), false);
        assert_eq!(text.show(&piece("a", "a\u{fffd}", Some("Yf8="))), b"a\xff");
        assert!(!text.ends_line());
    }
}
