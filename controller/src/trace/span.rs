//! A span as it is sent.

use longshore_core::time::Timestamp;
use longshore_core::trace::{SpanId, TraceId};

/// A span that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The trace.
    pub trace: TraceId,
    /// Its id.
    pub id: SpanId,
    /// The span it belongs under.
    pub parent: Option<SpanId>,
    /// What it is.
    pub name: String,
    /// Somebody else called, and waited for it.
    pub server: bool,
    /// When it began.
    pub began: Timestamp,
    /// When it had ended.
    pub ended: Timestamp,
    /// More, without secrets.
    pub attributes: Vec<(&'static str, Field)>,
    /// It went wrong; why.
    pub error: Option<String>,
}

/// A value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// Words.
    Text(String),
    /// A number.
    Number(i64),
}

impl From<&str> for Field {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Field {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Field {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl Span {
    /// With one more attribute.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Field>) -> Self {
        self.attributes.push((key, value.into()));
        self
    }

    /// With one more attribute, if there is a value.
    #[must_use]
    pub fn with_some(self, key: &'static str, value: Option<impl Into<Field>>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// As one that went wrong, if it did.
    #[must_use]
    pub fn failed(mut self, failed: bool, reason: Option<&str>) -> Self {
        self.error = failed.then(|| reason.unwrap_or_default().to_owned());
        self
    }
}
