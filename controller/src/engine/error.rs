//! Why the engine refused something.
//!
//! Every `code` is one of [`longshore_core::problem::CODES`]; a test reads the sources for them.

use crate::store;

/// A refusal or a failure. The API maps it to problem+json, the agent plane to a gRPC status.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such thing.
    #[error("there is no {kind} `{name}`")]
    NotFound {
        /// `project`, `deployment`, ...
        kind: &'static str,
        /// Its name or id.
        name: String,
        /// What to do.
        hint: Option<String>,
    },
    /// It does not fit what is there now.
    #[error("{message}")]
    Conflict {
        /// Stable word for scripts.
        code: &'static str,
        /// For people.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// A rule forbids it.
    #[error("{message}")]
    Refused {
        /// Stable word for scripts.
        code: &'static str,
        /// For people.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// A value that makes no sense.
    #[error("`{field}`: {message}")]
    Invalid {
        /// Which one.
        field: String,
        /// What is wrong with it.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// A spec with mistakes.
    #[error("the spec has {} mistakes", .0.len())]
    Spec(Vec<longshore_core::spec::SpecError>),
    /// The rows cannot be read or written.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Something sealed cannot be opened.
    #[error(transparent)]
    Vault(#[from] crate::secrets::Error),
    /// A stored file cannot be read.
    #[error("{what} cannot be read")]
    File {
        /// Which one.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The event does not belong to the attempt's state.
    #[error(transparent)]
    Attempt(longshore_core::attempt::Rejected),
    /// Something that cannot be, by all that is known.
    #[error("this is a mistake of Longshore: {0}")]
    Internal(String),
}

impl Error {
    /// Whether asking again would be answered the same: it is what was asked for that is wrong.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::NotFound { .. } | Self::Conflict { .. } | Self::Refused { .. } | Self::Invalid { .. } | Self::Spec(_)
        )
    }

    /// The message with what to do, for the reason of a step.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::NotFound { hint: Some(hint), .. }
            | Self::Conflict { hint: Some(hint), .. }
            | Self::Refused { hint: Some(hint), .. }
            | Self::Invalid { hint: Some(hint), .. } => format!("{self}; {hint}"),
            _ => self.to_string(),
        }
    }

    pub(crate) fn not_found(kind: &'static str, name: &(impl ToString + ?Sized)) -> Self {
        Self::NotFound { kind, name: name.to_string(), hint: None }
    }

    pub(crate) fn conflict(code: &'static str, message: impl Into<String>, hint: impl Into<Option<String>>) -> Self {
        Self::Conflict { code, message: message.into(), hint: hint.into() }
    }

    pub(crate) fn refused(code: &'static str, message: impl Into<String>, hint: impl Into<Option<String>>) -> Self {
        Self::Refused { code, message: message.into(), hint: hint.into() }
    }

    pub(crate) fn invalid(field: &str, message: impl Into<String>, hint: impl Into<Option<String>>) -> Self {
        Self::Invalid { field: field.to_owned(), message: message.into(), hint: hint.into() }
    }
}
