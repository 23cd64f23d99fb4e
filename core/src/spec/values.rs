//! Rules for single values that hold for the text in the file and for the text that comes out of a template.

use crate::expression::{Part, Template};

/// Longest reference to an image.
const MAX_IMAGE: usize = 512;
/// Longest version of a release.
const MAX_VERSION: usize = 128;

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

/// Whether a text is an address that an http check can ask, without a password in it.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_url(text: &str) -> Result<(), String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let Some(rest) = rest else {
        return Err(
            "an address begins with `http://` or `https://`, such as `https://shop.example.com/health`".to_owned()
        );
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.contains('@') {
        return Err("this address holds a user or a password, which would be shown: write it without".to_owned());
    }
    if host.is_empty() {
        return Err("the address names no host: write for example `https://shop.example.com/health`".to_owned());
    }
    if text.contains(char::is_whitespace) {
        return Err("an address has no spaces".to_owned());
    }
    no_control(text)
}

/// Whether a text can be the version of a release.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_version(text: &str) -> Result<(), String> {
    let good = text.len() <= MAX_VERSION
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b));
    if good {
        return Ok(());
    }
    Err(format!("a version is letters, digits, `.`, `-`, `_` and `+`, at most {MAX_VERSION}, such as `1.4.0`"))
}

/// Whether a text can be an environment variable's value or an argument of a program.
pub(super) fn check_argument(text: &str) -> Result<(), String> {
    if text.contains('\0') { Err("a NUL character cannot be passed to a program".to_owned()) } else { Ok(()) }
}

/// Applies a rule to what is known of a template now: to the whole text if it names nothing; otherwise with a stand-in
/// for each value, since the text as a whole is only known later. `first`: stands in for a value that the text begins with.
pub(super) fn check_template(
    template: &Template,
    first: &str,
    rule: fn(&str) -> Result<(), String>,
) -> Result<(), String> {
    let known = template.parts().iter().enumerate().map(|(index, part)| match part {
        Part::Literal(text) => text.as_str(),
        Part::Reference { .. } if index == 0 => first,
        Part::Reference { .. } => "x",
    });
    rule(&known.collect::<String>())
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
        let check = |source: &str| check_template(&Template::parse(source).unwrap(), "x", check_image);
        assert_eq!(check("${{ vars.image }}:${{ vars.tag }}"), Ok(()));
        assert!(check("a b:${{ vars.tag }}").is_err());
        assert!(check("-${{ vars.tag }}").is_err());
        let check = |source: &str| check_template(&Template::parse(source).unwrap(), "http://x", check_url);
        for good in
            ["${{ vars.url }}", "${{ vars.url }}/health", "${{ vars.a }}://${{ vars.b }}", "http://${{ vars.b }}:80"]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["x${{ vars.url }}", "${{ vars.url }} x", "ftp://${{ vars.host }}", "http://a:${{ vars.b }}@c"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_and_versions() {
        for good in ["http://x", "https://x.test:8443/a?b=c@d#e", "http://[::1]:80/"] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in ["", "x", "http://", "https:///a", "ftp://x", "HTTP//x", "http://u:p@x", "http://a b", "http://a\0"]
        {
            assert!(check_url(bad).is_err(), "{bad:?}");
        }
        for good in ["1", "1.4.0", "v1.4.0-rc.1+b_2"] {
            assert_eq!(check_version(good), Ok(()), "{good}");
        }
        for bad in ["", "-1", ".1", "1 2", "1/2", "é", &"1".repeat(129)] {
            assert!(check_version(bad).is_err(), "{bad:?}");
        }
    }
}
