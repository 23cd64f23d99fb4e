//! "Did you mean": the known word that is nearest to an unknown one.

/// The nearest of `known` to `word`, if it is near enough to have been meant.
pub(crate) fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = match word.chars().count() {
        0..=2 => 1,
        3..=5 => 2,
        _ => 3,
    };
    known
        .into_iter()
        .map(|candidate| (distance(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(d, candidate)| *d <= limit && *d < candidate.chars().count())
        .min_by_key(|(d, _)| *d)
        .map(|(_, candidate)| candidate)
}

/// A ` did you mean ...?` to put behind a message, or nothing.
pub(crate) fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    closest(word, known).map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"))
}

/// Names that other tools use for what a field here means.
const SYNONYMS: [(&str, &str); 13] = [
    ("script", "run"),
    ("command", "run"),
    ("environment", "env"),
    ("variables", "env"),
    ("volumes", "mounts"),
    ("name", "project"),
    ("name", "phase"),
    ("phases", "lifecycle"),
    ("if", "when"),
    ("condition", "when"),
    ("depends_on", "needs"),
    ("retry", "retries"),
    ("vars", "variables"),
];

/// The field that was meant by an unknown one.
pub(super) fn field(word: &str, known: &[&'static str]) -> Option<&'static str> {
    let synonym = SYNONYMS.iter().find(|(other, ours)| *other == word && known.contains(ours)).map(|(_, ours)| *ours);
    synonym.or_else(|| closest(word, known.iter().copied()))
}

/// Edits (insert, delete, replace, swap of neighbours) between two words; words too far apart in length count as
/// far, so that a long word costs nothing.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 3 {
        return usize::MAX;
    }
    // Three rows of the table: two back (for swaps), one back, this one.
    let mut older = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(older[j - 1] + 1);
            }
            row.push(best);
        }
        older = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognized() {
        let known = ["timeout", "image", "env", "run", "network"];
        assert_eq!(closest("tiemout", known), Some("timeout"));
        assert_eq!(closest("Image", known), Some("image"));
        assert_eq!(closest("envs", known), Some("env"));
        assert_eq!(closest("nework", known), Some("network"));
        assert_eq!(closest("when", known), None);
        assert_eq!(closest("x", known), None);
        assert_eq!(closest("", known), None);
    }

    #[test]
    fn a_swap_is_one_edit() {
        assert_eq!(distance("tiemout", "timeout"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }
}
