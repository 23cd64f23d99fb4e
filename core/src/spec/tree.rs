//! A tree of values that know their lines, and how to read it strictly.
//!
//! Readers answer `None` after they have recorded an error, so that what reads them goes on and finds the
//! next mistake. Nothing here knows what a spec holds.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{SpecError, duration, names, suggest};
use crate::expression::OPEN;

/// Most errors that are kept; more help nobody.
const MAX_ERRORS: usize = 200;
/// Longest piece of the user's text in a message, in characters.
const MAX_SHOWN: usize = 60;

/// A value of the file.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Line where it begins, from 1.
    pub(super) line: usize,
    pub(super) value: Value,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A text, a number, a truth value: its text as written.
#[derive(Debug, Clone)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Line of each `${{` in it.
    pub(super) expressions: Vec<usize>,
}

/// A name and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) node: Node,
}

/// The errors found so far.
#[derive(Debug, Default)]
pub(super) struct Errors(Vec<SpecError>);

impl Errors {
    pub(super) fn push(&mut self, error: SpecError) {
        if !self.is_full() {
            self.0.push(error);
        }
    }

    /// Whether more errors would not be kept, so that there is no use in looking for them.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= MAX_ERRORS
    }

    pub(super) fn add(&mut self, line: usize, field: &str, message: impl Into<String>) {
        self.push(SpecError { line, field: field.to_owned(), message: message.into() });
    }

    /// In the order of their lines.
    pub(super) fn into_sorted(mut self) -> Vec<SpecError> {
        self.0.sort_by_key(|error| error.line);
        self.0
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct At<'a> {
    /// Line that errors about it name.
    pub(super) line: usize,
    /// Line of the name before it, where there is one.
    pub(super) name_line: usize,
    /// Its path in the file.
    pub(super) field: String,
    pub(super) node: &'a Node,
}

impl<'a> At<'a> {
    pub(super) fn root(node: &'a Node) -> Self {
        Self { line: node.line, name_line: node.line, field: String::new(), node }
    }

    /// Records an error about this value.
    pub(super) fn error(&self, message: impl Into<String>, errors: &mut Errors) {
        errors.add(self.line, &self.field, message);
    }

    /// A single value, not empty of meaning: a list, a mapping and null are errors.
    pub(super) fn scalar(&self, errors: &mut Errors) -> Option<&'a Scalar> {
        match &self.node.value {
            Value::Scalar(scalar) => Some(scalar),
            Value::Null => {
                self.error("a value is missing here", errors);
                None
            }
            Value::List(_) => {
                self.error("one value is needed here, not a list", errors);
                None
            }
            Value::Map(_) => {
                self.error("one value is needed here, not a mapping", errors);
                None
            }
        }
    }

    /// A single value that expressions are not allowed in.
    pub(super) fn text(&self, errors: &mut Errors) -> Option<&'a str> {
        let scalar = self.scalar(errors)?;
        if scalar.text.contains(OPEN) {
            let line = scalar.expressions.first().copied().unwrap_or(self.line);
            errors.add(line, &self.field, "expressions are not allowed here: write the value itself");
            return None;
        }
        Some(&scalar.text)
    }

    /// A name by the rule of [`names::is_name`].
    pub(super) fn name(&self, errors: &mut Errors) -> Option<String> {
        let text = self.text(errors)?;
        if names::is_name(text) {
            return Some(text.to_owned());
        }
        let meant = names::as_name(text).map_or_else(String::new, |name| format!("; for example `{name}`"));
        self.error(format!("`{}` is no name: write {}{meant}", shown(text), names::NAME_RULE), errors);
        None
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, errors: &mut Errors) -> Option<bool> {
        self.choice(&[("true", true), ("false", false)], errors)
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(&self, words: &[(&'static str, T)], errors: &mut Errors) -> Option<T> {
        let text = self.text(errors)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let known = words.iter().map(|(word, _)| *word);
        let meant = suggest::hint(text, known.clone());
        self.error(format!("`{}` is not known here: write {}{meant}", shown(text), listed(known, "or")), errors);
        None
    }

    /// A whole number in a range.
    pub(super) fn number(&self, range: RangeInclusive<u32>, errors: &mut Errors) -> Option<u32> {
        let text = self.text(errors)?;
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let number = digits.then(|| text.parse().ok()).flatten().filter(|number| range.contains(number));
        if number.is_none() {
            let (from, to) = (range.start(), range.end());
            self.error(format!("`{}` does not fit here: write a number from {from} to {to}", shown(text)), errors);
        }
        number
    }

    /// A time in a range.
    pub(super) fn duration(&self, range: RangeInclusive<Duration>, errors: &mut Errors) -> Option<Duration> {
        let text = self.text(errors)?;
        let Some(time) = duration::parse(text) else {
            let message = format!("`{}` is no duration: write for example `30m`, `1h30m` or `45s`", shown(text));
            self.error(message, errors);
            return None;
        };
        if range.contains(&time) {
            return Some(time);
        }
        let (from, to) = (duration::format(*range.start()), duration::format(*range.end()));
        self.error(format!("`{}` does not fit here: write a time from `{from}` to `{to}`", shown(text)), errors);
        None
    }

    /// The elements of a list of at most `most`.
    pub(super) fn list(&self, most: usize, errors: &mut Errors) -> Option<Vec<At<'a>>> {
        let Value::List(nodes) = &self.node.value else {
            self.error("a list is needed here: one line that begins with `- ` for each element", errors);
            return None;
        };
        if nodes.len() > most {
            self.error(format!("{} elements are too many: at most {most}", nodes.len()), errors);
            return None;
        }
        let element = |(i, node): (usize, &'a Node)| At {
            line: node.line,
            name_line: node.line,
            field: format!("{}[{i}]", self.field),
            node,
        };
        Some(nodes.iter().enumerate().map(element).collect())
    }

    /// The entries of a mapping of at most `most`; a name that stands there twice is an error, the first counts.
    pub(super) fn map(&self, most: usize, errors: &mut Errors) -> Option<Vec<(&'a str, At<'a>)>> {
        let Value::Map(entries) = &self.node.value else {
            self.error("a mapping is needed here: one line `name: value` for each entry", errors);
            return None;
        };
        if entries.len() > most {
            self.error(format!("{} entries are too many: at most {most}", entries.len()), errors);
            return None;
        }
        let mut seen: HashMap<&str, usize> = HashMap::new();
        let mut found = Vec::new();
        for entry in entries {
            let at = self.entry(entry);
            match seen.get(entry.key.as_str()) {
                None => {
                    seen.insert(&entry.key, entry.line);
                    found.push((entry.key.as_str(), at));
                }
                Some(first) => {
                    let message = format!("`{}` is already there on line {first}", shown(&entry.key));
                    errors.add(entry.line, &at.field, message);
                }
            }
        }
        Some(found)
    }

    fn entry(&self, entry: &'a Entry) -> At<'a> {
        let key = shown(&entry.key);
        let field = if self.field.is_empty() { key } else { format!("{}.{key}", self.field) };
        // What is wrong with a whole list or mapping is best looked for where its name stands.
        let line = if matches!(entry.node.value, Value::Scalar(_)) { entry.node.line } else { entry.line };
        At { line, name_line: entry.line, field, node: &entry.node }
    }

    /// A mapping whose names are all known.
    pub(super) fn fields(&self, known: &[&'static str], errors: &mut Errors) -> Option<Fields<'a>> {
        let mut fields = Fields { line: self.line, field: self.field.clone(), found: Vec::new(), meant: Vec::new() };
        for (key, at) in self.map(usize::MAX, errors)? {
            if let Some(name) = known.iter().find(|name| **name == key) {
                fields.found.push((name, at));
                continue;
            }
            let meant = suggest::field(key, known);
            fields.meant.extend(meant);
            let hint = match meant {
                Some(name) => format!("did you mean `{name}`?"),
                None if key == "<<" => "merge keys are not part of YAML 1.2".to_owned(),
                None => format!("known here: {}", listed(known.iter().copied(), "and")),
            };
            errors.add(at.name_line, &at.field, format!("unknown field `{}`; {hint}", shown(key)));
        }
        Some(fields)
    }
}

/// The known fields of one mapping.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    line: usize,
    field: String,
    found: Vec<(&'static str, At<'a>)>,
    /// Fields that an unknown one was probably meant to be: they are not reported as missing too.
    meant: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// A field that may be left out.
    pub(super) fn get(&self, name: &str) -> Option<&At<'a>> {
        self.found.iter().find(|(found, _)| *found == name).map(|(_, at)| at)
    }

    /// A field that must be there; `example` shows how it is written.
    pub(super) fn require(&self, name: &'static str, example: &str, errors: &mut Errors) -> Option<&At<'a>> {
        let found = self.get(name);
        if found.is_none() && !self.meant.contains(&name) {
            let path = if self.field.is_empty() { name.to_owned() } else { format!("{}.{name}", self.field) };
            errors.add(self.line, &path, format!("`{name}` is missing: write `{example}`"));
        }
        found
    }

    /// Whether the field is there, or was meant to be.
    pub(super) fn has(&self, name: &'static str) -> bool {
        self.get(name).is_some() || self.meant.contains(&name)
    }
}

/// `a`, `b` or `c`.
fn listed<'a>(words: impl Iterator<Item = &'a str>, last: &str) -> String {
    let words: Vec<String> = words.map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        Some((end, front)) if !front.is_empty() => format!("{} {last} {end}", front.join(", ")),
        Some((end, _)) => end.clone(),
        None => String::new(),
    }
}

/// A piece of the user's text that fits into one line of a message.
pub(crate) fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        short.push('…');
    }
    short
}
