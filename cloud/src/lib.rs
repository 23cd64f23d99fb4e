//! What Longshore asks clouds: metadata of the machine it runs on, and a few signed calls.
//!
//! Shapes are those of the vendors' documents. Whoever answers in another shape is not believed: a network that answers at every
//! address is no cloud, and nothing that is done about an answer may follow from one that was not understood ([`Error::Garbage`]).
//!
//! Invariants: nothing here reads a clock or starts a task; times and endpoints are arguments; credentials are
//! [`longshore_core::secret::Secret`] and stand in no message; no answer is read beyond a bound, no redirect is followed.

#[cfg(feature = "aws")]
pub mod aws;
#[cfg(feature = "azure")]
pub mod azure;
mod endpoint;
#[cfg(feature = "gcp")]
pub mod gcp;
mod http;
#[cfg(feature = "aws")]
pub mod imds;

pub use endpoint::{Endpoint, InvalidEndpoint};
pub use http::{Http, Request, Response};

/// Why a cloud did not say what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection.
    #[error("`{place}` is not reached")]
    Unreached {
        /// Where.
        place: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It took too long.
    #[error("`{place}` did not answer within {} ms", within.as_millis())]
    Late {
        /// Where.
        place: String,
        /// What it was given.
        within: std::time::Duration,
    },
    /// It answered with another status than success.
    #[error("`{place}` refused with status {status}: {said}")]
    Refused {
        /// Where, with what was asked.
        place: String,
        /// HTTP's status.
        status: u16,
        /// In its own words, shortened.
        said: String,
    },
    /// It answered, in another shape than its documents say.
    #[error("`{place}` answered what its documents do not allow for ({what}), so it is not believed")]
    Garbage {
        /// Where, with what was asked.
        place: String,
        /// What is wrong with it.
        what: String,
    },
    /// The request could not be made or signed.
    #[error("a request to `{place}` cannot be made: {what}")]
    Request {
        /// Where.
        place: String,
        /// Why.
        what: String,
    },
}

impl Error {
    pub(crate) fn garbage(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Garbage { place: place.into(), what: what.into() }
    }

    /// The message with its causes.
    #[must_use]
    pub fn full(&self) -> String {
        let cause = std::error::Error::source(self).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{self}{cause}")
    }
}

/// Text that is one visible ASCII word of bounded length, as ids, names and states in metadata are.
#[cfg(any(feature = "aws", feature = "gcp"))]
pub(crate) fn word(place: &str, bytes: &[u8]) -> Result<String, Error> {
    const MOST: usize = 256;
    let text = std::str::from_utf8(bytes).unwrap_or_default().trim();
    if text.is_empty() || text.len() > MOST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::garbage(place, "no single word"));
    }
    Ok(text.to_owned())
}

/// JSON of a documented shape.
#[cfg(any(feature = "aws", feature = "gcp", feature = "azure"))]
pub(crate) fn json<T: serde::de::DeserializeOwned>(place: &str, bytes: &[u8]) -> Result<T, Error> {
    // serde's message quotes no value but in type errors, and those of secrets are texts.
    serde_json::from_slice(bytes).map_err(|error| Error::garbage(place, error.to_string()))
}
