//! YAML text to a tree of nodes. The only module that knows the YAML library.
//!
//! An event parser is used rather than a serde decoder: it gives every value its line, keeps scalars as they were
//! written, and lets one reading find all mistakes. What the file costs is bounded: bytes, nesting, and the
//! size of the tree with all aliases replaced by what they stand for.

mod explain;

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::tree::{Entry, Node, Scalar, Value};
use super::{MAX_BYTES, SpecError};
use crate::expression::OPEN;

/// Deepest nesting; the spec itself needs 7.
const MAX_DEPTH: usize = 32;
/// Largest tree, in [`Builder::charge`]'s measure.
const MAX_WEIGHT: usize = 4 * MAX_BYTES;
/// What a node costs beside its text.
const NODE_WEIGHT: usize = 16;

/// Reads the one document of a spec.
pub(super) fn load(text: &str) -> Result<Node, SpecError> {
    document(text)?.ok_or_else(|| error(1, "the file is empty: a spec begins with `version: 1` and `project: NAME`"))
}

/// Reads the one document of a file; `None` when nothing stands in it.
pub(super) fn document(text: &str) -> Result<Option<Node>, SpecError> {
    if text.len() > MAX_BYTES {
        return Err(error(1, format!("the file has {} bytes: at most {MAX_BYTES} are read", text.len())));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let options = granit_parser::options! {
        disallow_directives: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut builder = Builder { source: text, ..Builder::default() };
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|e| explain::explain(&e, text))?;
        builder.event(event, &span)?;
    }
    Ok(builder.root.filter(|root| !matches!(root.value, Value::Null)))
}

fn error(line: usize, message: impl Into<String>) -> SpecError {
    SpecError { line: line.max(1), field: String::new(), message: message.into() }
}

/// A list or mapping that is not complete yet.
struct Open {
    node: Node,
    anchor: usize,
    /// The name that waits for its value, in a mapping.
    key: Option<(String, usize)>,
}

#[derive(Default)]
struct Builder<'a> {
    source: &'a str,
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    anchors: HashMap<usize, Node>,
    weight: usize,
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), SpecError> {
        let line = span.start.line();
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(error(line, "a second document begins here: a file holds one project"));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let node = Node { line, value: self.scalar(&text, style, tag.as_deref(), span)? };
                self.charge(&node)?;
                self.done(node, anchor)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.begin(Value::List(Vec::new()), "seq", tag.as_deref(), anchor, line)?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.begin(Value::Map(Vec::new()), "map", tag.as_deref(), anchor, line)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    self.done(open.node, open.anchor)?;
                }
            }
            Event::Alias(id) => {
                let node = self.anchors.get(&id).cloned();
                let node = node.ok_or_else(|| error(line, "this alias stands inside of what it refers to"))?;
                self.charge(&node)?;
                self.done(node, 0)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: &Span) -> Result<Value, SpecError> {
        let null = match tag {
            None => style == ScalarStyle::Plain && matches!(text, "" | "~" | "null" | "Null" | "NULL"),
            Some(tag) if tag.is_yaml_core_schema_tag("null") => true,
            Some(tag) if ["str", "int", "float", "bool"].iter().any(|t| tag.is_yaml_core_schema_tag(t)) => false,
            Some(tag) => return Err(bad_tag(tag, span.start.line())),
        };
        if null {
            return Ok(Value::Null);
        }
        let expressions = if text.contains(OPEN) { expression_lines(span, self.source) } else { Vec::new() };
        Ok(Value::Scalar(Scalar { text: text.to_owned(), expressions }))
    }

    fn begin(
        &mut self,
        value: Value,
        kind: &str,
        tag: Option<&Tag>,
        anchor: usize,
        line: usize,
    ) -> Result<(), SpecError> {
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema_tag(kind)) {
            return Err(bad_tag(tag, line));
        }
        let node = Node { line, value };
        self.charge(&node)?;
        self.open.push(Open { node, anchor, key: None });
        Ok(())
    }

    /// Puts a complete node where it belongs.
    fn done(&mut self, node: Node, anchor: usize) -> Result<(), SpecError> {
        if anchor != 0 {
            self.charge(&node)?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut parent.node.value {
            Value::List(nodes) => nodes.push(node),
            Value::Map(entries) => match parent.key.take() {
                Some((key, line)) => {
                    // The library puts an empty value where the next thing begins.
                    let line_of_value = if matches!(node.value, Value::Null) { line } else { node.line };
                    entries.push(Entry { key, line, node: Node { line: line_of_value, value: node.value } });
                }
                None => parent.key = Some(key_of(node)?),
            },
            Value::Null | Value::Scalar(_) => {}
        }
        Ok(())
    }

    /// Counts what a node adds to the memory in use: each once, and again what an anchor or an alias copies.
    fn charge(&mut self, node: &Node) -> Result<(), SpecError> {
        self.weight = self.weight.saturating_add(weight(node));
        if self.weight > MAX_WEIGHT {
            return Err(error(node.line, "the file holds too much (with every alias replaced by what it stands for)"));
        }
        Ok(())
    }
}

fn weight(node: &Node) -> usize {
    NODE_WEIGHT
        + match &node.value {
            Value::Null => 0,
            Value::Scalar(scalar) => scalar.text.len(),
            Value::List(nodes) => nodes.iter().map(weight).sum(),
            Value::Map(entries) => entries.iter().map(|e| NODE_WEIGHT + e.key.len() + weight(&e.node)).sum(),
        }
}

fn key_of(node: Node) -> Result<(String, usize), SpecError> {
    match node.value {
        Value::Scalar(scalar) => Ok((scalar.text, node.line)),
        Value::Null => Err(error(node.line, "a name is missing before `:`")),
        Value::List(_) | Value::Map(_) => {
            Err(error(node.line, "a name before `:` is needed here, not a list or a mapping"))
        }
    }
}

fn bad_tag(tag: &Tag, line: usize) -> SpecError {
    error(
        line,
        format!("the tag `{tag}` is not known here: leave it out, or put a text that begins with `!` in quotes"),
    )
}

/// The line of each `${{` in a scalar, from its source, since folding and chomping move lines.
fn expression_lines(span: &Span, source: &str) -> Vec<usize> {
    let Some(raw) = span.slice(source) else {
        return Vec::new();
    };
    let mut line = span.start.line();
    let mut lines = Vec::new();
    for (i, text) in raw.split('\n').enumerate() {
        line += usize::from(i > 0);
        lines.extend(text.matches(OPEN).map(|_| line));
    }
    lines
}
