//! Tables of text, aligned by characters.

use std::fmt::Write as _;

use super::paint::Paint;

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// Text as it is.
    Text(String),
    /// A state, coloured as one.
    State(String),
}

impl Cell {
    /// Text, or `-` when there is none.
    #[must_use]
    pub fn optional(text: Option<impl ToString>) -> Self {
        Self::Text(text.map_or_else(|| "-".to_owned(), |text| text.to_string()))
    }

    /// A state.
    #[must_use]
    pub fn state(state: &str) -> Self {
        Self::State(state.to_owned())
    }

    /// What is shown, on one line and without anything that a terminal would obey: cells hold names and reasons that
    /// come from elsewhere.
    fn shown(&self) -> String {
        let (Self::Text(text) | Self::State(text)) = self;
        one_line(text)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// Text on one line, with control characters replaced.
#[must_use]
pub fn one_line(text: &str) -> String {
    text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Rows under headings; columns are two spaces apart and lines have no spaces at their end.
#[must_use]
pub fn table<const N: usize>(headings: [&str; N], rows: &[[Cell; N]], paint: Paint) -> String {
    let mut widths = headings.map(|heading| heading.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.shown().chars().count());
        }
    }
    let mut text = String::new();
    line(&mut text, widths, headings.map(|heading| (heading.to_owned(), paint.dim(heading))));
    for row in rows {
        text.push('\n');
        let cells = row.each_ref().map(|cell| {
            let shown = cell.shown();
            let painted = match cell {
                Cell::Text(_) => shown.clone(),
                Cell::State(_) => paint.state(&shown),
            };
            (shown, painted)
        });
        line(&mut text, widths, cells);
    }
    text
}

fn line<const N: usize>(text: &mut String, widths: [usize; N], cells: [(String, String); N]) {
    let mut gap = 0;
    for (width, (plain, painted)) in widths.into_iter().zip(cells) {
        let used = plain.chars().count();
        if used > 0 {
            let _never_fails = write!(text, "{:gap$}{painted}", "");
            gap = 0;
        }
        gap += width - used + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_characters() {
        let rows = [
            ["é".into(), Cell::state("running"), "".into()],
            ["longer".into(), Cell::state("ok"), "x\ny\u{1b}[31m".into()],
        ];
        let expected = "NAME    STATE    WHY\né       running\nlonger  ok       x y [31m";
        assert_eq!(table(["NAME", "STATE", "WHY"], &rows, Paint::new(false)), expected);
    }

    #[test]
    fn colours_do_not_shift_columns() {
        let rows = [[Cell::state("failed"), "x".into()]];
        let shown = table(["S", "T"], &rows, Paint::new(true));
        assert!(shown.ends_with("\x1b[31mfailed\x1b[0m  x"), "{shown:?}");
    }

    #[test]
    fn an_empty_cell_keeps_its_column() {
        let rows = [["a".into(), "".into(), "c".into()]];
        assert_eq!(table(["A", "BB", "C"], &rows, Paint::new(false)), "A  BB  C\na      c");
    }
}
