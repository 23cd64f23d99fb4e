//! Ranges of versions, such as `>=1.0.0 <2.0.0`.
//!
//! Every comparison has to hold. One whose version is without a pre-release looks at the three numbers alone: `2.0.0-rc.1` belongs
//! to 2.0.0, so `<2.0.0` is without it and `>=2.0.0` with it. One that names a pre-release compares as <https://semver.org/> does.
//! Invariant: whatever was written, the versions that it admits are those from one bound up to another one, in the order of versions.

use std::fmt;

use semver::{Prerelease, Version};
use serde::{Deserialize, Serialize};

use crate::version;

/// Longest range.
const MAX: usize = 300;
/// How it is written, for messages.
const RULE: &str = "write comparisons with `>=`, `>`, `<=`, `<` or `=`, such as `>=1.0.0 <2.0.0`";

/// A range of versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Range {
    /// As it was written, with one space between comparisons.
    text: String,
    /// The first version that belongs to it; `None`: there is no lower bound.
    from: Option<Version>,
    /// The first version behind it; `None`: there is no upper bound.
    to: Option<Version>,
}

impl Range {
    /// Reads a range.
    ///
    /// # Errors
    /// What is wrong with it and what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX {
            return Err(format!("a range has at most {MAX} characters"));
        }
        let mut range = Self { text: String::new(), from: None, to: None };
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(format!("there is no comparison in it: {RULE}"));
        }
        let mut never = false;
        while !rest.is_empty() {
            let (operator, behind) = operator(rest)?;
            let end = behind.find([' ', '\t', ',', '<', '>', '=']).unwrap_or(behind.len());
            let (word, behind) = behind.split_at(end);
            let version = version::parse(word).map_err(|why| format!("{why}; {RULE}"))?;
            let gap = if range.text.is_empty() { "" } else { " " };
            range.text = format!("{}{gap}{operator}{version}", range.text);
            never |= !range.narrow(operator, &version);
            rest = behind.trim_start();
            if let Some(behind) = rest.strip_prefix(',') {
                rest = behind.trim_start();
                if rest.is_empty() {
                    return Err(format!("a comparison is missing behind the comma: {RULE}"));
                }
            }
        }
        let lowest = Version { pre: lowest(), ..Version::new(0, 0, 0) };
        let from = range.from.as_ref().unwrap_or(&lowest);
        if never || range.to.as_ref().is_some_and(|to| from >= to) {
            return Err(format!("no version is in `{}`: its comparisons exclude each other", range.text));
        }
        Ok(range)
    }

    /// Adds a comparison; `false` if there is no version that it admits.
    fn narrow(&mut self, operator: &str, version: &Version) -> bool {
        let first = Version { pre: first_of(version), ..version.clone() };
        let behind = after(version);
        if matches!(operator, "<" | "<=" | "=") {
            let to = if operator == "<" { Some(first.clone()) } else { behind.clone() };
            // No bound stands above every version, so it excludes nothing.
            self.to = match (self.to.take(), to) {
                (Some(old), Some(new)) => Some(old.min(new)),
                (old, new) => old.or(new),
            };
        }
        if matches!(operator, ">" | ">=" | "=") {
            let from = if operator == ">" { behind } else { Some(first) };
            let Some(from) = from else { return false };
            self.from = Some(self.from.take().map_or_else(|| from.clone(), |old| old.max(from.clone())));
        }
        true
    }

    /// Whether a version belongs to it.
    #[must_use]
    pub fn admits(&self, version: &Version) -> bool {
        self.from.as_ref().is_none_or(|from| from <= version) && self.to.as_ref().is_none_or(|to| version < to)
    }

    /// The first version behind it, if there is an upper bound.
    #[must_use]
    pub fn end(&self) -> Option<&Version> {
        self.to.as_ref()
    }

    /// Whether a version without a pre-release belongs to it.
    #[must_use]
    pub fn has_finished(&self) -> bool {
        // Behind every pre-release comes the version that it leads to.
        let from = self.from.as_ref().map_or_else(|| Version::new(0, 0, 0), finished);
        self.admits(&from)
    }
}

/// The version that a pre-release leads to.
fn finished(version: &Version) -> Version {
    Version::new(version.major, version.minor, version.patch)
}

/// The operator at the beginning of a text, and what is behind it.
fn operator(text: &str) -> Result<(&'static str, &str), String> {
    for known in [">=", "<=", ">", "<", "="] {
        if let Some(behind) = text.strip_prefix(known) {
            return Ok((known, behind.trim_start()));
        }
    }
    Err(format!("`{}` does not begin with a comparison: {RULE}", crate::spec::shown(text)))
}

/// The lowest pre-release that a comparison with a version means: its own one, or, where it has none, the lowest that there is.
fn first_of(version: &Version) -> Prerelease {
    if version.pre.is_empty() { lowest() } else { version.pre.clone() }
}

/// Nothing sorts before it but the same numbers have no pre-release below.
fn lowest() -> Prerelease {
    Prerelease::new("0").unwrap_or_default()
}

/// The first version behind those that a comparison with a version means; `None`: it is the highest there is.
fn after(version: &Version) -> Option<Version> {
    if !version.pre.is_empty() {
        let pre = Prerelease::new(&format!("{}.0", version.pre)).ok()?;
        return Some(Version { pre, ..version.clone() });
    }
    let (major, minor, patch) = (version.major, version.minor, version.patch);
    let next = match (patch.checked_add(1), minor.checked_add(1), major.checked_add(1)) {
        (Some(patch), ..) => Version::new(major, minor, patch),
        (None, Some(minor), _) => Version::new(major, minor, 0),
        (None, None, Some(major)) => Version::new(major, 0, 0),
        (None, None, None) => return None,
    };
    Some(Version { pre: lowest(), ..next })
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Range> for String {
    fn from(range: Range) -> Self {
        range.text
    }
}

impl TryFrom<String> for Range {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn admits(range: &str, version: &str) -> bool {
        Range::parse(range).unwrap().admits(&version::parse(version).unwrap())
    }

    #[test]
    fn numbers_alone_count_unless_the_range_names_a_pre_release() {
        for (range, inside, outside) in [
            (">=1.0.0 <2.0.0", "1.0.0-rc.1 1.0.0 1.9.9 1.5.0-beta", "0.9.9 2.0.0 2.0.0-0 2.0.0-rc.1"),
            (">1.0.0", "1.0.1-0 1.0.1 2.0.0", "1.0.0 1.0.0-rc.1 0.9.0"),
            ("<=1.0.0", "1.0.0 1.0.0-rc.1 0.1.0", "1.0.1-0 1.0.1"),
            ("=1.4.0", "1.4.0 1.4.0-rc.1", "1.4.1 1.4.1-0 1.3.9"),
            (">=1.0.0-rc.2", "1.0.0-rc.2 1.0.0-rc.10 1.0.0 1.0.1-a", "1.0.0-rc.1 1.0.0-beta"),
            (">1.0.0-rc <=1.0.0-rc.5", "1.0.0-rc.0 1.0.0-rc.5", "1.0.0-rc 1.0.0-rc.6 1.0.0"),
            ("= 1.0.0-rc.1", "1.0.0-rc.1", "1.0.0-rc.1.0 1.0.0"),
            (">= 1.0.0,<1.1.0", "1.0.5", "1.1.0"),
            (">=1.0.0<1.1.0", "1.0.5", "1.1.0"),
        ] {
            for version in inside.split(' ') {
                assert!(admits(range, version), "{range} has {version}");
            }
            for version in outside.split(' ') {
                assert!(!admits(range, version), "{range} has no {version}");
            }
        }
    }

    #[test]
    fn what_is_no_range_or_an_empty_one_is_refused() {
        let no = |text: &str| Range::parse(text).unwrap_err();
        for bad in
            ["", " ", "1.0.0", "^1.0.0", "~1.2.0", ">=1", ">=1.0", ">=v1.0.0", ">=", ">=1.0.0,", "||", ">=1.0.0+b"]
        {
            assert!(no(bad).contains("such as"), "{bad}: {}", no(bad));
        }
        assert!(no(&format!(">=1.0.0{}", " ".repeat(300))).contains("at most"));
        let most = u64::MAX;
        for empty in
            [">=2.0.0 <1.0.0", ">1.0.0 <=1.0.0", "=1.0.0 =1.0.1", "<0.0.0", ">1.0.0-a <1.0.0-a.0", ">=1.0.0 <1.0.0"]
        {
            assert!(no(empty).starts_with("no version is in"), "{empty}");
        }
        assert!(no(&format!(">{most}.{most}.{most}")).starts_with("no version is in"));
        assert!(Range::parse(&format!("<={most}.{most}.{most}")).unwrap().end().is_none());
        assert!(!Range::parse(">=1.0.0-a <1.0.0-b").unwrap().has_finished());
        assert!(Range::parse(">=1.0.0-a <=1.0.0").unwrap().has_finished());
        assert!(Range::parse("<1.0.0").unwrap().has_finished());
    }

    #[test]
    fn a_range_is_kept_as_its_text() {
        let range = Range::parse("  >= 1.0.0 ,  <2.0.0 ").unwrap();
        assert_eq!(range.to_string(), ">=1.0.0 <2.0.0");
        let json = serde_json::to_string(&range).unwrap();
        assert_eq!(serde_json::from_str::<Range>(&json).unwrap(), range);
        assert!(serde_json::from_str::<Range>("\">=2.0.0 <1.0.0\"").is_err());
    }

    /// One comparison as the documentation says it.
    fn holds(operator: &str, bound: &Version, version: &Version) -> bool {
        let order = if bound.pre.is_empty() { finished(version).cmp(bound) } else { version.cmp(bound) };
        match operator {
            ">=" => order.is_ge(),
            ">" => order.is_gt(),
            "<=" => order.is_le(),
            "<" => order.is_lt(),
            _ => order.is_eq(),
        }
    }

    proptest! {
        /// The bounds say the same as every comparison by itself, and a range that is refused as empty has no version.
        #[test]
        fn a_range_admits_what_every_comparison_admits(
            parts in proptest::collection::vec(
                ("(>=|>|<=|<|=)", "[0-2]\\.[0-2]\\.[0-2](-(0|a|a\\.0|b\\.1))?"), 1..4),
            versions in proptest::collection::vec("[0-2]\\.[0-2]\\.[0-3](-(0|a|a\\.0|b\\.1|c))?", 1..30),
        ) {
            let text: Vec<String> = parts.iter().map(|(operator, version)| format!("{operator}{version}")).collect();
            let range = Range::parse(&text.join(" "));
            for version in versions {
                let version = version::parse(&version).unwrap();
                let all = parts.iter().all(|(operator, bound)| holds(operator, &version::parse(bound).unwrap(), &version));
                prop_assert_eq!(range.as_ref().is_ok_and(|range| range.admits(&version)), all, "{} {}", text.join(" "), version);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[>=<0-9., a-c^~|-]{0,40}") {
            if let Ok(range) = Range::parse(&text) {
                prop_assert_eq!(Range::parse(&range.to_string()), Ok(range));
            }
        }
    }
}
