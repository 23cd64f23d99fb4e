//! What names may look like.
//!
//! Names of things (projects, environments, steps, pools, mounts) fit into a path, a label and a host name;
//! names of values (variables) are those a shell takes too.

/// The rule of [`is_name`] in words, for messages.
pub const NAME_RULE: &str = "a lowercase letter, then up to 62 lowercase letters, digits or `-`";
/// The rule of [`is_variable`] in words, for messages.
pub const VARIABLE_RULE: &str = "a letter or `_`, then letters, digits or `_`, at most 128";
/// Longest name of a variable, an output or an environment variable.
const MAX_VARIABLE: usize = 128;

/// Name of a project, environment, step, pool or mount: `[a-z][a-z0-9-]{0,62}`.
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Name of a variable or of an environment variable: `[A-Za-z_][A-Za-z0-9_]*`, at most 128 bytes.
#[must_use]
pub fn is_variable(text: &str) -> bool {
    text.len() <= MAX_VARIABLE
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Name of an output where it is referred to: as [`is_variable`], with `-` after the first character, since
/// Pulumi programs export such names.
#[must_use]
pub fn is_output(text: &str) -> bool {
    crate::outputs::is_name(text)
}

/// The rule of [`is_label_value`] in words, for messages.
pub const LABEL_RULE: &str = "1 to 63 letters, digits, `-`, `_` or `.`";

/// Value of a label: it fits into a label of a container and of a metric.
#[must_use]
pub fn is_label_value(text: &str) -> bool {
    (1..=63).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// The closest text to `text` that [`is_name`] takes.
#[must_use]
pub fn as_name(text: &str) -> Option<String> {
    let lower: String = text
        .trim()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .skip_while(|c| !c.is_ascii_lowercase())
        .take(63)
        .collect();
    let name = lower.trim_end_matches('-');
    is_name(name).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_paths_labels_and_host_names() {
        for good in ["a", "shop", "shop-2", &"x".repeat(63)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "2a", "-a", "Shop", "a_b", "a.b", "a b", "é", "a\n", &"x".repeat(64)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn variables_are_what_a_shell_takes() {
        for good in ["a", "_", "A_1", "PULUMI_CONFIG_PASSPHRASE"] {
            assert!(is_variable(good), "{good}");
        }
        for bad in ["", "1a", "a-b", "a=b", "a b", "é", "a\n", "a\0", &"x".repeat(129)] {
            assert!(!is_variable(bad), "{bad}");
        }
        assert!(is_output("bucket-name") && !is_output("-name") && !is_output("a.b"));
    }

    #[test]
    fn a_bad_name_is_turned_into_a_good_one() {
        assert_eq!(as_name("My Shop_2!").as_deref(), Some("my-shop-2"));
        assert_eq!(as_name("42"), None);
    }
}
