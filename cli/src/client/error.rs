//! What can go wrong between this command and the server.

use std::time::Duration;

use super::problem::Problem;
use crate::exit::Exit;
use crate::failure::{Failure, chain};

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer came.
    #[error("the server at `{url}` cannot be reached{}", waited_text(*waited))]
    Unreachable {
        /// Its address.
        url: String,
        /// How long it was tried.
        waited: Duration,
        /// What happened at the last try.
        #[source]
        source: reqwest::Error,
    },
    /// It answered, but is not ready to serve.
    #[error("the server at `{url}` is not ready{}: {}", waited_text(*waited), problem.sentence())]
    NotReady {
        /// Its address.
        url: String,
        /// How long it was tried.
        waited: Duration,
        /// Its last answer.
        problem: Box<Problem>,
    },
    /// The answer is a refusal or a fault of the server.
    #[error("{}", .0.sentence())]
    Refused(Box<Problem>),
    /// What answers does not speak Longshore.
    #[error("what answers at `{url}` is not a Longshore server: {detail}")]
    NotLongshore {
        /// Its address.
        url: String,
        /// How that shows.
        detail: String,
    },
    /// The connection broke off in an answer, and it was not possible to go on where it did.
    #[error("the connection to `{url}` broke off")]
    BrokenOff {
        /// The server's address.
        url: String,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
    /// The event stream is not readable.
    #[error("the server's event stream cannot be read")]
    Events(#[from] super::sse::Error),
    /// A result could not be written or read on this side.
    #[error("{what}")]
    Local {
        /// What was being done.
        what: String,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
}

fn waited_text(waited: Duration) -> String {
    if waited.as_secs() == 0 { String::new() } else { format!(" (tried for {} s)", waited.as_secs()) }
}

impl Error {
    /// The exit code it leads to.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { .. } | Self::NotReady { .. } | Self::NotLongshore { .. } | Self::BrokenOff { .. } => {
                Exit::Unreachable
            }
            Self::Refused(problem) if problem.is_bad_spec() => Exit::Usage,
            Self::Refused(problem) => Exit::of_status(problem.status),
            Self::Events(_) | Self::Local { .. } => Exit::Failed,
        }
    }

    /// HTTP status of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(problem) => Some(problem.status),
            _ => None,
        }
    }

    fn next(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => Some("check that it runs and that LONGSHORE_URL (or --url) names it; on this machine: `longshore dev --data DIR`".to_owned()),
            Self::NotReady { .. } | Self::BrokenOff { .. } => Some("try again; if it stays so, look at the server's log".to_owned()),
            Self::NotLongshore { .. } => Some("check LONGSHORE_URL (or --url)".to_owned()),
            Self::Refused(problem) => problem.hint.clone().or_else(|| advice(problem.status)),
            Self::Events(_) | Self::Local { .. } => None,
        }
    }
}

fn advice(status: u16) -> Option<String> {
    let text = match status {
        401 => "check LONGSHORE_TOKEN (or --token-file): it is missing, wrong or expired",
        403 => "ask an administrator for the right to do this",
        500.. => "try again; the server's log says more",
        _ => return None,
    };
    Some(text.to_owned())
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut failure = Self::new(error.exit(), chain(&error));
        if let Some(next) = error.next() {
            failure = failure.next(next);
        }
        match &error {
            Error::Refused(problem) => failure.more(problem.more()),
            _ => failure,
        }
    }
}
