//! The difference between two specs as text.

use longshore_core::spec::{Change, ChangeKind, FieldChange};

use crate::output::paint::Paint;

/// Longest value on one line, in characters.
const MAX_SHOWN: usize = 120;
/// Most lines of a text that are shown.
const MAX_LINES: usize = 40;

/// One block for each thing, `+` for what is added, `-` for what is removed and `~` for what is changed.
pub(super) fn render(changes: &[Change], paint: Paint) -> String {
    let mut lines = Vec::new();
    for change in changes {
        let sign = match change.change {
            ChangeKind::Added => '+',
            ChangeKind::Removed => '-',
            ChangeKind::Changed => '~',
        };
        lines.push(paint.change(sign, &format!("  {sign} {}", change.what.replace('`', ""))));
        for field in &change.fields {
            if change.change == ChangeKind::Added {
                added(field, &mut lines);
            } else {
                changed(field, paint, &mut lines);
            }
        }
    }
    lines.join("\n")
}

fn added(field: &FieldChange, lines: &mut Vec<String>) {
    let value = field.after.as_deref().unwrap_or_default();
    if !value.trim_end().contains('\n') {
        lines.push(format!("      {}{}", label(field), shown(value)));
        return;
    }
    lines.push(format!("      {}", label(field).trim_end()));
    lines.extend(some_of(value.lines().map(|line| format!("        {}", shown(line))).collect()));
}

fn changed(field: &FieldChange, paint: Paint, lines: &mut Vec<String>) {
    let (before, after) = (field.before.as_deref().unwrap_or_default(), field.after.as_deref().unwrap_or_default());
    if before.trim_end().contains('\n') || after.trim_end().contains('\n') {
        lines.push(format!("      {}", label(field).trim_end()));
        lines.extend(some_of(text_lines(before, after)).iter().map(|line| {
            let sign =
                line.trim_start().chars().next().filter(|sign| line.starts_with("        ") && "+-".contains(*sign));
            sign.map_or_else(|| line.clone(), |sign| paint.change(sign, line))
        }));
        return;
    }
    for (sign, value) in [('-', &field.before), ('+', &field.after)] {
        if let Some(value) = value {
            lines.push(paint.change(sign, &format!("      {sign} {}{}", label(field), shown(value))));
        }
    }
}

/// The lines between what both texts begin and end with.
fn text_lines(before: &str, after: &str) -> Vec<String> {
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let room = old.len().min(new.len()) - head;
    let tail = old.iter().rev().zip(new.iter().rev()).take(room).take_while(|(a, b)| a == b).count();
    let middle = |lines: &[&str], sign: char| -> Vec<String> {
        let middle = lines.get(head..lines.len() - tail).unwrap_or_default();
        middle.iter().map(|line| format!("        {sign} {}", shown(line))).collect()
    };
    let mut lines = Vec::new();
    if head > 0 {
        lines.push(format!("        ({head} lines as before)"));
    }
    lines.extend(middle(&old, '-'));
    lines.extend(middle(&new, '+'));
    if tail > 0 {
        lines.push(format!("        ({tail} lines as before)"));
    }
    if head + tail == old.len() && head + tail == new.len() {
        lines.push("        (only the end of the last line differs)".to_owned());
    }
    lines
}

fn some_of(mut lines: Vec<String>) -> Vec<String> {
    if lines.len() > MAX_LINES {
        let more = lines.len() - MAX_LINES;
        lines.truncate(MAX_LINES);
        lines.push(format!("        ... and {more} lines more"));
    }
    lines
}

fn label(field: &FieldChange) -> String {
    if field.field.is_empty() { String::new() } else { format!("{}: ", field.field) }
}

/// A value on one line of a terminal, whatever it holds.
fn shown(value: &str) -> String {
    let value = value.trim_end();
    let mut text: String = value.chars().take(MAX_SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if value.chars().count() > MAX_SHOWN {
        text.push_str(" ...");
    }
    text
}

#[cfg(test)]
mod tests {
    use longshore_core::spec::{diff, parse};

    use super::*;

    fn shown(before: Option<&str>, after: &str) -> String {
        let before = before.map(|text| parse(text).unwrap());
        render(&diff(before.as_ref(), &parse(after).unwrap()), Paint::new(false))
    }

    #[test]
    fn a_difference_reads_as_such() {
        let before = "version: 1\nproject: shop\nenvironments: [{name: dev}]\nvariables: {a: 1, key: {secret: true}}\nsteps:\n  - name: one\n    image: i\n    network: none\n    run: |\n      echo 1\n      echo 2\n      echo 3\n";
        let after = "version: 1\nproject: shop\nenvironments: [{name: dev}, {name: live, protected: true}]\nvariables: {a: 2, b: \"x\\ty\"}\nsteps:\n  - name: one\n    image: i\n    run: |\n      echo 1\n      echo two\n      echo 3\n";
        assert_eq!(
            shown(Some(before), after),
            "  + environment live\n      protected: true\n  ~ variable a\n      - value: 1\n      + value: 2\n  - variable key\n  + variable b\n      value: x y\n  ~ step one\n      run:\n        (1 lines as before)\n        - echo 2\n        + echo two\n        (1 lines as before)\n      - network: none"
        );
        assert!(shown(None, before).contains("  + step one\n      run:\n        echo 1\n"), "{}", shown(None, before));
        assert!(shown(None, before).contains("  + variable key\n      secret: true"));
    }

    #[test]
    fn long_values_are_cut() {
        let long = "x".repeat(500);
        let text = format!(
            "version: 1\nproject: shop\nenvironments: [{{name: dev}}]\nvariables: {{a: {long}}}\nsteps: [{{name: one, image: i, run: true}}]\n"
        );
        assert!(shown(None, &text).contains(&format!("value: {} ...\n", "x".repeat(MAX_SHOWN))));
        let lines: String = (0..100).map(|n| format!("{n}\n")).collect();
        assert_eq!(text_lines(&lines, "").len(), 100);
        assert_eq!(some_of(text_lines(&lines, "")).len(), MAX_LINES + 1);
        assert_eq!(
            text_lines("a\nb\n", "a\nb"),
            ["        (2 lines as before)", "        (only the end of the last line differs)"]
        );
    }
}
