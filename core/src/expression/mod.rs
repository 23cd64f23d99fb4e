//! Expressions: `${{ vars.region }}` in single values of `longshore.yaml`.
//!
//! A [`Template`] is parsed once and rendered in a single pass: what comes out of a reference is never
//! read again, so a value that holds `${{` stays that text. A name that is not defined is an error, never an
//! empty text. `$${{` stands for a literal `${{`. There is nothing to evaluate: a reference names a value,
//! and values reach scripts through `env` alone, so that nothing can be injected into a shell. Only `when` evaluates
//! something, see [`Condition`].

mod condition;
mod parse;
mod render;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use condition::Condition;
pub use render::{Context, Output, Rendered, output_text};

/// What opens an expression.
pub const OPEN: &str = "${{";
/// What closes an expression.
pub const CLOSE: &str = "}}";
/// What an expression may say, for messages.
pub const ALLOWED: &str =
    "`vars.NAME`, `secrets.NAME`, `steps.STEP.outputs.NAME`, `environment`, `project` or `deployment`";

/// Why a template cannot be parsed or rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `${{` without a `}}` after it.
    #[error("`${{{{` is not closed: write `}}}}` after the expression, or `$${{{{` for the text itself")]
    Unclosed {
        /// Byte offset of the expression in the template's source.
        offset: usize,
    },
    /// Something stands between the braces that is no reference.
    #[error("`{expression}` is no expression: write {ALLOWED}{hint}")]
    NotAnExpression {
        /// Byte offset of the expression in the template's source.
        offset: usize,
        /// What stands between the braces.
        expression: String,
        /// Empty, or a guess at what was meant, to be put behind the message.
        hint: String,
    },
    /// A plain variable has no value where the template is rendered.
    #[error("variable `{name}` has no value")]
    NoVariable {
        /// Its name.
        name: String,
    },
    /// A secret variable has no value where the template is rendered.
    #[error("secret `{name}` has no value: set it with `longshore variable set PROJECT {name} --secret`")]
    NoSecret {
        /// Its name.
        name: String,
    },
    /// An earlier step ended without that output.
    #[error("step `{step}` has no output `{name}`")]
    NoOutput {
        /// The step that was to produce it.
        step: String,
        /// Name of the output.
        name: String,
    },
    /// A condition compares an output that its step marked as secret.
    #[error("output `{name}` of step `{step}` is secret, so a condition cannot compare it")]
    SecretOutput {
        /// The step that produced it.
        step: String,
        /// Name of the output.
        name: String,
    },
}

impl Error {
    /// Byte offset of the expression in the template's source, for errors of parsing.
    #[must_use]
    pub fn offset(&self) -> Option<usize> {
        match self {
            Self::Unclosed { offset } | Self::NotAnExpression { offset, .. } => Some(*offset),
            _ => None,
        }
    }
}

/// What an expression names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reference {
    /// `vars.NAME`: a plain variable.
    Vars(String),
    /// `secrets.NAME`: a secret variable.
    Secrets(String),
    /// `steps.STEP.outputs.NAME`: an output of an earlier step.
    Output {
        /// Name of the step.
        step: String,
        /// Name of the output.
        name: String,
    },
    /// `environment`: name of the environment that is deployed to.
    Environment,
    /// `project`: name of the project.
    Project,
    /// `deployment`: id of the deployment.
    Deployment,
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Vars(name) => write!(f, "vars.{name}"),
            Self::Secrets(name) => write!(f, "secrets.{name}"),
            Self::Output { step, name } => write!(f, "steps.{step}.outputs.{name}"),
            Self::Environment => f.write_str("environment"),
            Self::Project => f.write_str("project"),
            Self::Deployment => f.write_str("deployment"),
        }
    }
}

/// One piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text that stands for itself; never empty, never two in a row.
    Literal(String),
    /// A value to be put in.
    Reference {
        /// Byte offset of its `${{` in the source.
        offset: usize,
        /// What it names.
        to: Reference,
    },
}

/// A text with expressions in it. Serialized as its source text.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

impl Template {
    /// Parses a source text.
    ///
    /// # Errors
    /// [`Error::Unclosed`] and [`Error::NotAnExpression`]; whether the names exist is for the caller to check.
    pub fn parse(source: &str) -> Result<Self, Error> {
        Ok(Self { parts: parse::parts(source)?, source: source.to_owned() })
    }

    /// The template that renders to exactly `text`, whatever stands in it.
    #[must_use]
    pub fn literal(text: &str) -> Self {
        let parts = if text.is_empty() { Vec::new() } else { vec![Part::Literal(text.to_owned())] };
        Self { source: text.replace(OPEN, "$${{"), parts }
    }

    /// A template of one reference.
    #[must_use]
    pub fn reference(to: Reference) -> Self {
        Self { source: format!("${{{{ {to} }}}}"), parts: vec![Part::Reference { offset: 0, to }] }
    }

    /// The text as it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The pieces in order.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// What it names, in order, repeats included.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.parts.iter().filter_map(|part| match part {
            Part::Reference { to, .. } => Some(to),
            Part::Literal(_) => None,
        })
    }

    /// Its text, if it names nothing and so renders to the same text everywhere.
    #[must_use]
    pub fn as_literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Template").field(&self.source).finish()
    }
}

impl std::fmt::Display for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.source)
    }
}

impl std::str::FromStr for Template {
    type Err = Error;

    fn from_str(source: &str) -> Result<Self, Error> {
        Self::parse(source)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
