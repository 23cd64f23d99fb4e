//! Outputs that a step writes to the file named by [`VARIABLE`], one a line.
//!
//! A line is `NAME=VALUE`, whose value is a text and reaches to the line's end, or a JSON object with `name`, `value` and, if it
//! is one, `"secret": true`; so a value of several lines is written as JSON. Lines end with `\n` or `\r\n`, the last one with
//! either or the file. Blank lines mean nothing. Of several lines with one name the last counts.
//!
//! Invariant: no error quotes anything of the file, since nothing of it is masked yet.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use zeroize::Zeroize as _;

/// The environment variable that names the file.
pub const VARIABLE: &str = "LONGSHORE_OUTPUT";
/// Most outputs of one file.
pub const MAX_NAMES: usize = 1000;
/// Longest name of an output in bytes.
const MAX_NAME: usize = 128;

/// One output as a step wrote it. Its value is overwritten when it goes.
pub struct Written {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Value,
    /// The step says that it is secret.
    pub secret: bool,
}

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Written").field("name", &self.name).field("secret", &self.secret).finish_non_exhaustive()
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        wipe(&mut self.value);
    }
}

/// Overwrites every text in a value.
pub fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(fields) => fields.values_mut().for_each(wipe),
        _ => {}
    }
}

/// A line that is no output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the file `${VARIABLE}` {why}")]
pub struct Malformed {
    /// Which, counted from 1.
    pub line: usize,
    /// What is wrong with it; completes "line 3 ...".
    pub why: &'static str,
}

/// What a file holds.
#[derive(Debug, Default)]
pub struct Read {
    /// Its good lines in their order, those included that a later one replaces.
    pub written: Vec<Written>,
    /// The first bad line.
    pub malformed: Option<Malformed>,
}

/// Reads a whole file. A bad line does not keep the others from being read.
#[must_use]
pub fn read(file: &[u8]) -> Read {
    let mut read = Read::default();
    let mut names = BTreeSet::new();
    for (index, line) in file.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.trim_ascii().is_empty() {
            continue;
        }
        let one = one(line).and_then(|one| match names.contains(&one.name) || names.len() < MAX_NAMES {
            true => Ok(one),
            false => Err("is one output more than the 1000 that a step may have"),
        });
        match one {
            Ok(one) => {
                names.insert(one.name.clone());
                read.written.push(one);
            }
            Err(why) => {
                read.malformed.get_or_insert(Malformed { line: index + 1, why });
            }
        }
    }
    read
}

/// Takes a line in the JSON form apart; `None` when it is something else. Reading it into a type of its own would make
/// init larger by 10 kB, and what it needs for this is there already.
fn object(line: &str) -> Option<Written> {
    let mut fields: BTreeMap<String, Value> = serde_json::from_slice(line.as_bytes()).ok()?;
    let value = fields.remove("value");
    let written = match (fields.remove("name"), value, fields.remove("secret"), fields.is_empty()) {
        (Some(Value::String(name)), Some(value), None, true) => Some(Written { name, value, secret: false }),
        (Some(Value::String(name)), Some(value), Some(Value::Bool(secret)), true) => {
            Some(Written { name, value, secret })
        }
        (_, mut value, ..) => {
            value.iter_mut().for_each(wipe);
            None
        }
    };
    fields.values_mut().for_each(wipe);
    written
}

fn one(line: &[u8]) -> Result<Written, &'static str> {
    let line = std::str::from_utf8(line).map_err(|_| "is not UTF-8")?;
    let written = if line.trim_start().starts_with('{') {
        object(line).ok_or("is no JSON object of `name`, `value` and, optionally, `secret` (true or false)")?
    } else {
        let (name, value) = line.split_once('=').ok_or("is neither `NAME=VALUE` nor a JSON object")?;
        Written { name: name.to_owned(), value: Value::String(value.to_owned()), secret: false }
    };
    if is_name(&written.name) {
        Ok(written)
    } else {
        Err("has a name that is not a letter or `_`, then letters, digits, `_` or `-`, at most 128 in all")
    }
}

/// Name of an output: `[A-Za-z_][A-Za-z0-9_-]*`, at most 128 bytes.
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(file: &[u8]) -> Vec<String> {
        let read = read(file);
        assert_eq!(read.malformed, None);
        read.written.iter().map(|one| format!("{} {} {}", one.name, one.value, one.secret)).collect()
    }

    fn malformed(file: &[u8]) -> String {
        read(file).malformed.unwrap().to_string()
    }

    #[test]
    fn both_forms_are_read() {
        let file = b"url=http://x/?a=b c \r\n\n  \nempty=\n{\"name\":\"pw\",\"value\":\"a\\nb\",\"secret\":true}\n {\"value\":[1,null],\"name\":\"n-1\"}\n_x=last";
        assert_eq!(
            shown(file),
            [
                r#"url "http://x/?a=b c " false"#,
                r#"empty "" false"#,
                r#"pw "a\nb" true"#,
                "n-1 [1,null] false",
                r#"_x "last" false"#
            ]
        );
        assert_eq!(shown(b""), Vec::<String>::new());
    }

    #[test]
    fn a_bad_line_is_named_by_its_number_and_never_quoted() {
        for (line, says) in [
            (&b"canary"[..], "neither `NAME=VALUE`"),
            (b"canary \xff=1", "not UTF-8"),
            (b"1canary=x", "has a name"),
            (b" canary=x", "has a name"),
            (b"can.ary=x", "has a name"),
            (b"=canary", "has a name"),
            (b"{\"name\":\"canary\"}", "no JSON object"),
            (b"{\"name\":\"a\",\"value\":1,\"secert\":\"canary\"}", "no JSON object"),
            (b"{\"name\":\"a\",\"value\":1,\"secret\":\"canary\"}", "no JSON object"),
            (b"{\"name\":1,\"value\":\"canary\"}", "no JSON object"),
            (b"{\"name\":\"can ary\",\"value\":1}", "has a name"),
            (b"{\"name\":\"canary\",", "no JSON object"),
        ] {
            let file = [b"a=1\n\n", line, b"\nb=2\nworse"].concat();
            let (read, text) = (read(&file), malformed(&file));
            assert!(text.starts_with("line 3 of the file `$LONGSHORE_OUTPUT` ") && text.contains(says), "{text}");
            assert!(!text.contains("canary") && !format!("{read:?}").contains("canary"), "{text}");
            assert_eq!(read.written.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        }
    }

    #[test]
    fn names_are_bounded_in_length_and_number() {
        assert!(is_name(&"x".repeat(128)) && !is_name(&"x".repeat(129)) && !is_name("") && !is_name("-a"));
        let many: String = (0..=MAX_NAMES).map(|n| format!("n{n}=\nn0=again\n")).collect();
        assert!(malformed(many.as_bytes()).starts_with(&format!("line {} ", 2 * MAX_NAMES + 1)));
        assert_eq!(read(many.as_bytes()).written.len(), 2 * MAX_NAMES + 1);
    }

    #[test]
    fn a_value_is_overwritten_when_it_goes() {
        let mut value = serde_json::json!({"a": ["secret", 1], "b": "secret"});
        wipe(&mut value);
        assert_eq!(value, serde_json::json!({"a": ["", 1], "b": ""}));
    }
}
