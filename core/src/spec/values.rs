//! Rules for single values that hold for the text in the file and for the text that comes out of a template.

use std::time::Duration;

use crate::expression::{Part, Template};

/// Shortest and longest time limit of a step.
const TIMEOUT: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 60 * 60);
/// Longest reference to an image.
const MAX_IMAGE: usize = 512;

/// Whether a text can be a reference to an image. Only an engine can say whether there is such an image.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_image(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("the name of an image is missing: write for example `alpine:3`".to_owned());
    }
    if text.starts_with('-') {
        return Err("an image cannot begin with `-`".to_owned());
    }
    if text.len() > MAX_IMAGE {
        return Err(format!("an image's name has at most {MAX_IMAGE} characters"));
    }
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "._-/:@[]".contains(*c))) {
        Some(c) if c.is_whitespace() => {
            Err("an image's name has no spaces: write `NAME:TAG` or `NAME@DIGEST`".to_owned())
        }
        Some(c) => {
            Err(format!("`{}` cannot stand in an image's name: write `NAME:TAG` or `NAME@DIGEST`", c.escape_debug()))
        }
        None => Ok(()),
    }
}

/// Whether a text is a directory inside the package.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_dir(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("a directory is missing: leave `dir` out for the package's root".to_owned());
    }
    if text.starts_with('/') || text.contains('\\') {
        return Err("write a path inside the package, such as `infra/network`".to_owned());
    }
    if text.split('/').any(|part| part == "..") {
        return Err("`..` cannot lead out of the package: write a path from its root".to_owned());
    }
    if text.starts_with('-') {
        return Err("a directory cannot begin with `-`: write `./` before it".to_owned());
    }
    no_control(text)
}

/// Whether a text is the name of a Pulumi stack: `[A-Za-z0-9._-]`, if need be with `ORGANIZATION/` or
/// `ORGANIZATION/PROJECT/` before it (Pulumi's own rule for names).
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_stack(text: &str) -> Result<(), String> {
    let parts: Vec<&str> = text.split('/').collect();
    let good = |part: &&str| {
        !part.is_empty()
            && part.len() <= 100
            && !part.starts_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    if parts.len() <= 3 && parts.iter().all(good) {
        return Ok(());
    }
    Err("a stack's name is letters, digits, `.`, `_` and `-`, if need be after `ORGANIZATION/PROJECT/`".to_owned())
}

/// Whether a text is the URL of a Pulumi backend without a password in it.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_backend(text: &str) -> Result<(), String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err("a backend is a URL, such as `file:///state` or `s3://bucket`".to_owned());
    };
    let known = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.bytes().all(known) {
        return Err("a backend is a URL, such as `file:///state` or `s3://bucket`".to_owned());
    }
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) {
        return Err(
            "this URL holds a password: leave `backend` out and write `PULUMI_BACKEND_URL: ${{ secrets.NAME }}` \
                    under `env`"
                .to_owned(),
        );
    }
    if text.contains(char::is_whitespace) {
        return Err("a URL has no spaces".to_owned());
    }
    no_control(text)
}

/// Whether a text can be an environment variable's value or an argument of a program.
pub(super) fn check_argument(text: &str) -> Result<(), String> {
    if text.contains('\0') { Err("a NUL character cannot be passed to a program".to_owned()) } else { Ok(()) }
}

/// Whether a time limit makes sense.
pub(super) fn check_timeout(duration: Duration) -> Result<(), String> {
    if TIMEOUT.contains(&duration) {
        return Ok(());
    }
    Err("a step may take from `1s` to `7d`".to_owned())
}

/// Applies a rule to what is known of a template now: to the whole text if it names nothing; otherwise with a stand-in
/// for each value, since the text as a whole is only known later.
pub(super) fn check_template(template: &Template, rule: fn(&str) -> Result<(), String>) -> Result<(), String> {
    let known: String = template
        .parts()
        .iter()
        .map(|part| match part {
            Part::Literal(text) => text.as_str(),
            Part::Reference { .. } => "x",
        })
        .collect();
    rule(&known)
}

fn no_control(text: &str) -> Result<(), String> {
    if text.contains(char::is_control) { Err("control characters cannot stand here".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images() {
        for good in ["alpine", "a/b:1", "host:5000/a@sha256:00", "[::1]:5000/x", "longshore/tiny:1"] {
            assert_eq!(check_image(good), Ok(()), "{good}");
        }
        for bad in ["", "--privileged", "a b", "a\nb", "a\0", "a,b", "a$b", &"a".repeat(513)] {
            assert!(check_image(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn directories_stay_inside() {
        for good in [".", "infra", "./-x", "a/b/", "..a/b.."] {
            assert_eq!(check_dir(good), Ok(()), "{good}");
        }
        for bad in ["", "/", "/etc", "..", "a/../b", "../x", "-x", "a\\b", "a\0b", "a\nb"] {
            assert!(check_dir(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn stacks_and_backends() {
        for good in ["dev", "acme/shop/dev", "a.b_c-d"] {
            assert_eq!(check_stack(good), Ok(()), "{good}");
        }
        for bad in ["", "-s", "--yes", "a b", "a//b", "a/b/c/d", "é"] {
            assert!(check_stack(bad).is_err(), "{bad:?}");
        }
        for good in
            ["file:///state", "file://~", "s3://bucket?region=eu", "https://api.example.com", "postgres://me@db/x"]
        {
            assert_eq!(check_backend(good), Ok(()), "{good}");
        }
        for bad in ["", "state", "://x", "-x://y", "postgres://me:pw@db/x", "s3://a b", "s3://a\0"] {
            assert!(check_backend(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_template_is_checked_as_far_as_it_is_known() {
        let check = |source: &str| check_template(&Template::parse(source).unwrap(), check_image);
        assert_eq!(check("${{ vars.image }}:${{ vars.tag }}"), Ok(()));
        assert!(check("a b:${{ vars.tag }}").is_err());
        assert!(check("-${{ vars.tag }}").is_err());
    }
}
