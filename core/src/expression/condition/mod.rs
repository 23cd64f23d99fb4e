//! `when`: whether a step runs.
//!
//! `success()`, `failure()` and `always()` look at the steps that this one comes after; the rest compares texts. A condition
//! that calls none of the three means `success() && (...)`. Texts are compared as they are: case counts, `1` is not `1.0`.
//! A step that was skipped or failed has no outputs, and a condition is what asks about such steps, so an output that is
//! not there is an empty text. Secrets are refused: what was skipped would tell something about them.
//!
//! Length and nesting are bounded, so neither parsing nor evaluating can run out of stack.

mod parse;
mod token;

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Context, Error, Reference};

/// A parsed condition. Serialized as its source text.
#[derive(Clone, PartialEq, Eq)]
pub struct Condition {
    source: String,
    root: Node,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Success,
    Failure,
    Always,
    Constant(bool),
    Not(Box<Node>),
    All(Vec<Node>),
    Any(Vec<Node>),
    Compare { left: Operand, equal: bool, right: Operand },
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Operand {
    Text(String),
    Reference(Reference),
}

impl Condition {
    /// Parses a condition, with or without `${{` and `}}` around it.
    ///
    /// # Errors
    /// What is wrong with it, in words. Whether the names exist is for the caller to check.
    pub fn parse(source: &str) -> Result<Self, String> {
        let root = parse::root(source)?;
        let root = if root.asks_for_status() { root } else { Node::All(vec![Node::Success, root]) };
        Ok(Self { source: source.to_owned(), root })
    }

    /// What holds for a step that does not say: everything before it ended well.
    #[must_use]
    pub fn success() -> Self {
        Self { source: "success()".to_owned(), root: Node::Success }
    }

    /// The text as it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What it names, in order, repeats included.
    #[must_use]
    pub fn references(&self) -> Vec<&Reference> {
        let mut found = Vec::new();
        self.root.collect(&mut found);
        found
    }

    /// Whether the step runs. `failed`: a step before it ended badly.
    ///
    /// Only as much is looked at as decides it: after a failure, `vars.x == 'a'` is false whatever `x` is.
    ///
    /// # Errors
    /// [`Error::NoVariable`] for a variable without a value, [`Error::SecretOutput`] for an output that was marked as secret.
    pub fn holds(&self, context: &(impl Context + ?Sized), failed: bool) -> Result<bool, Error> {
        self.root.holds(context, failed)
    }
}

impl Node {
    fn asks_for_status(&self) -> bool {
        match self {
            Self::Success | Self::Failure | Self::Always => true,
            Self::Not(inner) => inner.asks_for_status(),
            Self::All(nodes) | Self::Any(nodes) => nodes.iter().any(Self::asks_for_status),
            Self::Constant(_) | Self::Compare { .. } => false,
        }
    }

    fn collect<'a>(&'a self, found: &mut Vec<&'a Reference>) {
        match self {
            Self::Not(inner) => inner.collect(found),
            Self::All(nodes) | Self::Any(nodes) => nodes.iter().for_each(|node| node.collect(found)),
            Self::Compare { left, right, .. } => {
                for side in [left, right] {
                    if let Operand::Reference(to) = side {
                        found.push(to);
                    }
                }
            }
            Self::Success | Self::Failure | Self::Always | Self::Constant(_) => {}
        }
    }

    fn holds(&self, context: &(impl Context + ?Sized), failed: bool) -> Result<bool, Error> {
        match self {
            Self::Success => Ok(!failed),
            Self::Failure => Ok(failed),
            Self::Always => Ok(true),
            Self::Constant(value) => Ok(*value),
            Self::Not(inner) => Ok(!inner.holds(context, failed)?),
            Self::All(nodes) => Self::until(nodes, false, context, failed),
            Self::Any(nodes) => Self::until(nodes, true, context, failed),
            Self::Compare { left, equal, right } => Ok((left.text(context)? == right.text(context)?) == *equal),
        }
    }

    /// `decides` if one of the nodes gives it, looking no further.
    fn until(nodes: &[Self], decides: bool, context: &(impl Context + ?Sized), failed: bool) -> Result<bool, Error> {
        for node in nodes {
            if node.holds(context, failed)? == decides {
                return Ok(decides);
            }
        }
        Ok(!decides)
    }
}

impl Operand {
    fn text<'a>(&'a self, context: &'a (impl Context + ?Sized)) -> Result<Cow<'a, str>, Error> {
        match self {
            Self::Text(text) => Ok(Cow::Borrowed(text)),
            Self::Reference(Reference::Vars(name)) => {
                context.variable(name).map(Cow::Borrowed).ok_or_else(|| Error::NoVariable { name: name.clone() })
            }
            Self::Reference(Reference::Output { step, name }) => match context.output(step, name) {
                Some(output) if output.secret => Err(Error::SecretOutput { step: step.clone(), name: name.clone() }),
                Some(output) => Ok(output.text),
                None => Ok(Cow::Borrowed("")),
            },
            Self::Reference(Reference::Environment) => Ok(Cow::Borrowed(context.environment())),
            Self::Reference(Reference::Project) => Ok(Cow::Borrowed(context.project())),
            Self::Reference(Reference::Deployment) => Ok(Cow::Borrowed(context.deployment())),
            // The parser lets none of these through.
            Self::Reference(Reference::Secrets(name)) => Err(Error::NoSecret { name: name.clone() }),
        }
    }
}

impl std::fmt::Debug for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Condition").field(&self.source).finish()
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.source)
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
