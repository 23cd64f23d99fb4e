//! Outputs of a step: captured from Pulumi or read from its file, told apart into plain and secret, the secret ones encrypted.

use crate::clock;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use longshore_core::init::{ExitRecord, MASK, MAX_OUTPUTS};
use longshore_core::outputs::{Written, wipe};
use longshore_core::redact::Patterns;
use serde_json::Value;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// Why outputs could not be taken. Quotes nothing of them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More than [`MAX_OUTPUTS`].
    #[error("outputs of {0} bytes are more than the {MAX_OUTPUTS} that can be kept")]
    TooLong(usize),
    /// Not a JSON object.
    #[error("outputs printed by `{program}` are no JSON object (line {line}, column {column})")]
    NotJson {
        /// The program.
        program: String,
        /// Line of its output.
        line: usize,
        /// Column of its output.
        column: usize,
    },
    /// The key is not 32 bytes in hex.
    #[error("key for secret outputs is malformed")]
    Key,
    /// A secret output whose value no command has shown.
    #[error("value of secret output `{0}` was not captured")]
    Missing(String),
    /// No encryption, so the output is not kept.
    #[error("cannot encrypt output `{0}`")]
    Encrypt(String),
    /// The secret outputs of the file cannot be looked for in the others, so none is kept.
    #[error("cannot look for secret outputs in the others")]
    Patterns(#[source] longshore_core::redact::Error),
}

/// Names and JSON values.
#[derive(Debug, Default)]
pub struct Outputs(BTreeMap<String, Value>);

impl Outputs {
    /// Outputs that were read already.
    #[must_use]
    pub fn from_map(outputs: BTreeMap<String, Value>) -> Self {
        Self(outputs)
    }

    /// Reads what `program` printed.
    pub fn parse(program: &str, text: &[u8]) -> Result<Self, Error> {
        if text.len() > MAX_OUTPUTS {
            return Err(Error::TooLong(text.len()));
        }
        serde_json::from_slice(text).map(Self).map_err(|error| Error::NotJson {
            program: program.to_owned(),
            line: error.line(),
            column: error.column(),
        })
    }

    /// Whether any of them stands there as `[secret]`.
    #[must_use]
    pub fn any_hidden(&self) -> bool {
        self.0.values().any(hidden)
    }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        self.0.values_mut().for_each(wipe);
    }
}

/// Whether `[secret]` stands in it anywhere.
fn hidden(value: &Value) -> bool {
    match value {
        Value::String(text) => text == MASK,
        Value::Array(items) => items.iter().any(hidden),
        Value::Object(fields) => fields.values().any(hidden),
        _ => false,
    }
}

/// Where the outputs of a step come from.
#[derive(Debug, Default)]
pub struct Sources {
    /// The stack's, as far as they were captured; in place of a secret stands `[secret]`.
    pub masked: Option<Outputs>,
    /// The same with the secrets, if a command showed them.
    pub revealed: Option<Outputs>,
    /// What the commands wrote to the step's file. It wins over the stack's, and a later one over an earlier.
    pub file: Vec<Written>,
    /// Whether a lock was removed, of a step that had to look for one.
    pub unlocked: Option<bool>,
}

impl Sources {
    /// The stack's outputs that the file does not replace.
    fn stack(&self) -> impl Iterator<Item = (&String, &Value)> {
        let masked = self.masked.iter().flat_map(|masked| &masked.0);
        masked.filter(|(name, _)| !self.file.iter().any(|written| written.name == **name))
    }

    /// The file's outputs, each name once.
    fn written(&self) -> impl Iterator<Item = &Written> {
        let last: BTreeMap<&str, &Written> = self.file.iter().map(|written| (written.name.as_str(), written)).collect();
        last.into_values()
    }

    /// Every secret that the file names, those included that a later line replaces: another line may hold the same.
    pub fn secrets(&self) -> Result<Patterns, Error> {
        let text = |written: &Written| match &written.value {
            Value::String(text) => Zeroizing::new(text.clone()),
            other => Zeroizing::new(other.to_string()),
        };
        let secrets: Vec<Zeroizing<String>> = self.file.iter().filter(|written| written.secret).map(text).collect();
        let bytes: Vec<&[u8]> = secrets.iter().map(|secret| secret.as_bytes()).collect();
        Patterns::new(&bytes).map_err(Error::Patterns)
    }
}

/// Puts outputs into the exit record. An error leaves none in it.
///
/// A plain one in which a secret is found, one of the step or one that its file names, is kept like a secret one, never altered.
pub fn keep(sources: &Sources, patterns: &Patterns, key: &str, record: &mut ExitRecord) -> Result<(), Error> {
    let cipher = cipher(key)?;
    let of_file = sources.written().map(|written| (&written.name, &written.value));
    let size = sources.stack().chain(of_file).map(|(name, value)| name.len() + value.to_string().len()).sum();
    if size > MAX_OUTPUTS {
        return Err(Error::TooLong(size));
    }
    let own = sources.secrets()?;
    let secret = |name: &str, value: &Value| {
        [patterns, &own].iter().any(|known| betrays(value, known) || known.found_in(name.as_bytes()))
    };
    let (mut plain, mut sealed) = (BTreeMap::new(), BTreeMap::new());
    for (name, value) in sources.stack() {
        if !hidden(value) && !secret(name, value) {
            plain.insert(name.clone(), value.clone());
            continue;
        }
        let revealed = sources.revealed.as_ref();
        let shown = if hidden(value) { revealed.and_then(|all| all.0.get(name)) } else { Some(value) };
        // Without a command that reveals them, secret outputs are known by name alone.
        match (shown, revealed) {
            (Some(shown), _) => sealed.insert(name.clone(), encrypt(&cipher, name, shown)?),
            (None, Some(_)) => return Err(Error::Missing(name.clone())),
            (None, None) => plain.insert(name.clone(), value.clone()).map(|_| String::new()),
        };
    }
    for Written { name, value, secret: said } in sources.written() {
        if *said || secret(name, value) {
            sealed.insert(name.clone(), encrypt(&cipher, name, value)?);
        } else {
            plain.insert(name.clone(), value.clone());
        }
    }
    (record.outputs, record.secret_outputs) = (plain, sealed);
    Ok(())
}

/// Whether a secret is in its JSON text or in any text of it.
fn betrays(value: &Value, patterns: &Patterns) -> bool {
    fn within(value: &Value, patterns: &Patterns) -> bool {
        match value {
            Value::String(text) => patterns.found_in(text.as_bytes()),
            Value::Array(items) => items.iter().any(|item| within(item, patterns)),
            Value::Object(fields) => {
                fields.iter().any(|(name, item)| patterns.found_in(name.as_bytes()) || within(item, patterns))
            }
            _ => false,
        }
    }
    patterns.found_in(value.to_string().as_bytes()) || within(value, patterns)
}

/// The cipher for what leaves the container encrypted. `key` is 32 bytes in hex.
pub fn cipher(key: &str) -> Result<ChaCha20Poly1305, Error> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Zeroizing::new([0; 32]);
    let (pairs, rest) = key.as_bytes().as_chunks::<2>();
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return Err(Error::Key);
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
            return Err(Error::Key);
        };
        *byte = high << 4 | low;
    }
    Ok(ChaCha20Poly1305::new(&Key::from(*bytes)))
}

fn encrypt(cipher: &ChaCha20Poly1305, name: &str, value: &Value) -> Result<String, Error> {
    seal(cipher, name, Zeroizing::new(value.to_string()).as_bytes())
}

/// Encrypts a text, bound to a name.
pub fn seal(cipher: &ChaCha20Poly1305, name: &str, text: &[u8]) -> Result<String, Error> {
    let failed = || Error::Encrypt(name.to_owned());
    let nonce = clock::nonce().map_err(|_| failed())?;
    let payload = Payload { msg: text, aad: name.as_bytes() };
    let sealed = cipher.encrypt(&Nonce::from(nonce), payload).map_err(|_| failed())?;
    Ok(BASE64_STANDARD.encode([&nonce[..], &sealed].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";

    fn parse(text: &str) -> Outputs {
        Outputs::parse("pulumi", text.as_bytes()).unwrap()
    }

    fn open(record: &ExitRecord, name: &str) -> Value {
        let sealed = BASE64_STANDARD.decode(&record.secret_outputs[name]).unwrap();
        let (nonce, sealed) = sealed.split_at(12);
        let nonce: [u8; 12] = nonce.try_into().unwrap();
        let payload = Payload { msg: sealed, aad: name.as_bytes() };
        serde_json::from_slice(&cipher(KEY).unwrap().decrypt(&Nonce::from(nonce), payload).unwrap()).unwrap()
    }

    fn kept(sources: &Sources, secrets: &[&str]) -> Result<ExitRecord, Error> {
        let mut record = ExitRecord::default();
        keep(sources, &Patterns::new(secrets).unwrap(), KEY, &mut record).map(|()| record)
    }

    fn file(text: &str) -> Vec<Written> {
        longshore_core::outputs::read(text.as_bytes()).written
    }

    #[test]
    fn secret_ones_are_encrypted_and_plain_ones_with_a_secret_in_them_too() {
        let masked =
            parse(r#"{"url":"http://x","password":"[secret]","nested":{"a":["[secret]",1]},"dsn":"db://u:hunter2@h"}"#);
        let revealed = parse(r#"{"url":"http://x","password":"s3","nested":{"a":["x",1]},"dsn":"db://u:hunter2@h"}"#);
        assert!(masked.any_hidden() && !revealed.any_hidden());
        let sources = Sources { masked: Some(masked), revealed: Some(revealed), file: vec![], unlocked: None };
        let record = kept(&sources, &["hunter2"]).unwrap();
        assert_eq!(record.outputs, BTreeMap::from([("url".to_owned(), "http://x".into())]));
        assert_eq!(open(&record, "password"), "s3");
        assert_eq!(open(&record, "nested"), serde_json::json!({"a": ["x", 1]}));
        assert_eq!(open(&record, "dsn"), "db://u:hunter2@h");
    }

    #[test]
    fn without_revealed_values_the_names_stay() {
        let mut sources = Sources { masked: Some(parse(r#"{"password":"[secret]"}"#)), ..Sources::default() };
        assert_eq!(kept(&sources, &[]).unwrap().outputs["password"], "[secret]");
        sources.revealed = Some(parse("{}"));
        let error = kept(&sources, &[]).unwrap_err();
        assert_eq!(error.to_string(), "value of secret output `password` was not captured");
    }

    #[test]
    fn the_file_wins_over_the_stack_and_its_last_line_over_the_first() {
        let sources = Sources {
            masked: Some(parse(r#"{"a":"stack","b":"[secret]","c":"stack"}"#)),
            revealed: None,
            file: file("a=first\na=last\n{\"name\":\"b\",\"value\":[2],\"secret\":true}\nliteral=[secret]"),
            unlocked: None,
        };
        let record = kept(&sources, &[]).unwrap();
        let plain = [("a", "last"), ("c", "stack"), ("literal", "[secret]")];
        assert_eq!(record.outputs, plain.map(|(name, value)| (name.to_owned(), value.into())).into());
        assert_eq!((record.secret_outputs.len(), open(&record, "b")), (1, serde_json::json!([2])));
    }

    #[test]
    fn a_plain_line_with_a_secret_in_it_becomes_secret() {
        let secret = r#"{"name":"pw","value":"s3cret","secret":true}"#;
        let lines = format!("before=db://u:s3cret@h\n{secret}\npw=replaced\nafter=czNjcmV0\nknown=is hunter2\nplain=x");
        let sources = Sources { file: file(&lines), ..Sources::default() };
        let record = kept(&sources, &["hunter2"]).unwrap();
        assert_eq!(record.outputs.keys().collect::<Vec<_>>(), ["plain", "pw"]);
        assert_eq!(record.secret_outputs.keys().collect::<Vec<_>>(), ["after", "before", "known"]);
        assert_eq!(open(&record, "before"), "db://u:s3cret@h");
    }

    #[test]
    fn stack_and_file_are_bounded_together() {
        let half = "x".repeat(MAX_OUTPUTS / 2);
        let masked = Some(parse(&format!(r#"{{"a":"{half}","b":1}}"#)));
        let mut sources = Sources { masked, revealed: None, file: file(&format!("a={half}")), unlocked: None };
        assert_eq!(kept(&sources, &[]).unwrap().outputs.len(), 2);
        sources.file = file(&format!("c={half}"));
        assert!(matches!(kept(&sources, &[]), Err(Error::TooLong(_))));
    }

    #[test]
    fn errors_quote_no_output() {
        let error = Outputs::parse("pulumi", b"{\"a\": hunter2}").unwrap_err().to_string();
        assert_eq!(error, "outputs printed by `pulumi` are no JSON object (line 1, column 7)");
        assert!(matches!(Outputs::parse("p", &vec![b' '; MAX_OUTPUTS + 1]), Err(Error::TooLong(_))));
        assert!(matches!(cipher("00"), Err(Error::Key)));
    }
}
