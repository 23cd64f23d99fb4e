//! Versions of releases: <https://semver.org/>, unique in a project, and in an order that a database can keep.

pub use semver::Version;

/// Longest version.
const MAX: usize = 100;

/// Reads a version.
///
/// # Errors
/// What is wrong with it and what to write.
pub fn parse(text: &str) -> Result<Version, String> {
    if text.len() > MAX {
        return Err(format!("a version has at most {MAX} characters"));
    }
    let version = Version::parse(text)
        .map_err(|error| format!("`{text}` is no version ({error}): write MAJOR.MINOR.PATCH, such as `1.4.0`"))?;
    if version.build.is_empty() {
        return Ok(version);
    }
    Err(format!("`{text}` has build metadata, which does not count in comparisons: leave `+{}` out", version.build))
}

/// Text that sorts as versions do, byte by byte.
#[must_use]
pub fn sort_key(version: &Version) -> String {
    let numbers = format!("{:020}.{:020}.{:020}", version.major, version.minor, version.patch);
    if version.pre.is_empty() {
        // After every pre-release of the same numbers.
        return format!("{numbers}~");
    }
    let word = |word: &str| match word.parse::<u64>() {
        Ok(number) => format!("0{number:020}"),
        Err(_) => format!("1{word}"),
    };
    let words: Vec<String> = version.pre.split('.').map(word).collect();
    // `!` sorts before everything that may stand in a word.
    format!("{numbers}-{}", words.join("!"))
}

/// The version after the newest one: the next patch, or the release that a pre-release leads to.
#[must_use]
pub fn next(newest: Option<&Version>) -> Version {
    match newest {
        None => Version::new(0, 0, 1),
        Some(newest) if newest.pre.is_empty() => {
            Version::new(newest.major, newest.minor, newest.patch.saturating_add(1))
        }
        Some(newest) => Version::new(newest.major, newest.minor, newest.patch),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_version_is_refused() {
        for bad in ["", "1", "1.2", "v1.2.3", "1.2.3.4", "01.2.3", "1.2.3-", "1.0.0+build", &"1".repeat(101)] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse("1.4.0-rc.1").unwrap().to_string(), "1.4.0-rc.1");
    }

    #[test]
    fn the_next_one_is_free() {
        let next = |text: Option<&str>| next(text.map(|text| parse(text).unwrap()).as_ref()).to_string();
        assert_eq!(next(None), "0.0.1");
        assert_eq!(next(Some("1.4.9")), "1.4.10");
        assert_eq!(next(Some("2.0.0-rc.3")), "2.0.0");
    }

    proptest! {
        #[test]
        fn keys_sort_as_versions_do(
            a in "[0-3]\\.[0-9]{1}\\.[1-9][0-9]?(-(a|b|rc|a-b|[1-9][0-9]?)(\\.(a|[1-9][0-9]?))?)?",
            b in "[0-3]\\.[0-9]{1}\\.[1-9][0-9]?(-(a|b|rc|a-b|[1-9][0-9]?)(\\.(a|[1-9][0-9]?))?)?",
        ) {
            let (a, b) = (parse(&a).unwrap(), parse(&b).unwrap());
            prop_assert_eq!(sort_key(&a).cmp(&sort_key(&b)), a.cmp(&b));
        }
    }
}
