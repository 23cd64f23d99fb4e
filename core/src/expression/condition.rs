//! `when`: whether a step runs.
//!
//! `success()`, `failure()` and `always()` look at the steps that this one comes after.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A parsed condition. Serialized as its source text.
#[derive(Clone, PartialEq, Eq)]
pub struct Condition {
    source: String,
    root: Node,
}

#[derive(Clone, PartialEq, Eq)]
enum Node {
    Success,
    Failure,
    Always,
}

impl Condition {
    /// Parses a condition.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(source: &str) -> Result<Self, String> {
        let root = match source.trim() {
            "success()" => Node::Success,
            "failure()" => Node::Failure,
            "always()" => Node::Always,
            other => return Err(format!("`{other}` is no condition: write `success()`, `failure()` or `always()`")),
        };
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

    /// Whether the step runs. `failed`: a step before it ended badly.
    ///
    /// # Errors
    /// A name without a value.
    pub fn holds(&self, context: &(impl super::Context + ?Sized), failed: bool) -> Result<bool, super::Error> {
        let _ = context;
        Ok(match self.root {
            Node::Success => !failed,
            Node::Failure => failed,
            Node::Always => true,
        })
    }
}

impl std::fmt::Debug for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Condition").field(&self.source).finish()
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
