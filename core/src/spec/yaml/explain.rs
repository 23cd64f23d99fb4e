//! What a person has to change when the text is no YAML: the library says what its scanner expected.

use granit_parser::{ErrorKind, ScanError};

use crate::expression::OPEN;
use crate::spec::SpecError;

/// The library's error with the line that has to be changed, and in the words of whoever typed it.
pub(super) fn explain(error: &ScanError, source: &str) -> SpecError {
    let found = error.marker().line().max(1);
    let (line, advice) = match error.kind() {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabInPlainScalar
        | ErrorKind::TabAtBlockScalarStart => (tab_line(found, source), Some("indent with spaces, not with tabs")),
        ErrorKind::MappingValueNotAllowed => (
            found,
            Some("`: ` stands inside of a value: put the value in quotes, or check how far the line is indented"),
        ),
        ErrorKind::ExpectedBlockMappingKey | ErrorKind::ExpectedBlockSequenceEntry => {
            (found, Some("this line is not indented like the lines it belongs to"))
        }
        ErrorKind::SimpleKeyExpected => (found, Some("this line is no `name: value`")),
        ErrorKind::ExpectedFlowMappingSeparator | ErrorKind::ExpectedFlowSequenceSeparator
            if text_of(found, source).contains(OPEN) =>
        {
            (found, Some("between `{` and `}` or `[` and `]` put an expression in quotes: `\"${{ ... }}\"`"))
        }
        ErrorKind::InvalidQuotedScalarIndent => {
            (quote_line(found, source), Some("a quote is opened here and not closed"))
        }
        ErrorKind::InvalidTrailingSingleQuotedScalar | ErrorKind::InvalidTrailingDoubleQuotedScalar => {
            (found, Some("text follows a closed quote: put the whole value in quotes"))
        }
        ErrorKind::UnknownAnchor => {
            (found, Some("there is no anchor of this alias: put a text that begins with `*` in quotes"))
        }
        ErrorKind::UnexpectedCharacter { .. } => (
            found,
            Some("a value cannot begin with this character, or the file cannot hold it: put the value in quotes"),
        ),
        ErrorKind::RecursionLimitExceeded => (found, Some("lists and mappings are nested too deep")),
        ErrorKind::DirectiveDisallowed => (found, Some("a line cannot begin with `%`: leave it out")),
        _ => (found, None),
    };
    let message = match advice {
        Some(advice) => format!("this is not YAML: {advice} ({})", error.info()),
        None => format!("this is not YAML: {}", error.info()),
    };
    SpecError { line, field: String::new(), message }
}

/// The text of one line.
fn text_of(line: usize, source: &str) -> &str {
    source.lines().nth(line - 1).unwrap_or_default()
}

/// The first line from `from` on that is indented with a tab: the library names the line where the value before
/// it began.
fn tab_line(from: usize, source: &str) -> usize {
    let indented = |text: &str| text.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
    source.lines().skip(from - 1).position(indented).map_or(from, |after| from + after)
}

/// The line where a quote was opened that goes on at `found`: the nearest one before it with a quote.
fn quote_line(found: usize, source: &str) -> usize {
    let before = source.lines().take(found - 1).enumerate().filter(|(_, text)| text.contains(['"', '\'']));
    before.last().map_or(found, |(index, _)| index + 1)
}
