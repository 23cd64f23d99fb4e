//! Wire to core and back. A value that core would not accept is an error that names the field.

mod complete;
mod grant;
mod offer;
mod plugins;

pub use complete::{Completion, Ending};
pub use longshore_core::trace::Took;
pub use offer::pull;
pub use plugins::{plugin_set, plugins, state};

use std::time::Duration;

use longshore_core::fence::Fence;
use longshore_core::time::Timestamp;
use longshore_core::trace::MAX_TOOK;

use crate::v1;

/// A message that cannot be taken for what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A message or `oneof` that has to be there is not.
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    /// An identifier of the wrong form or kind.
    #[error("field `{field}` is invalid")]
    Id {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        #[source]
        source: longshore_core::id::InvalidId,
    },
    /// A text that is none of the known words, or a value out of its range.
    #[error("field `{field}` has the value `{value}`, which is not known")]
    Value {
        /// The field.
        field: &'static str,
        /// What stands there, cut to 80 characters.
        value: String,
    },
}

impl Error {
    pub(crate) fn value(field: &'static str, value: &str) -> Self {
        Self::Value { field, value: value.chars().take(80).collect() }
    }
}

/// Unwraps a sub-message that has to be there.
///
/// # Errors
/// [`Error::Missing`] with the field's name.
pub fn required<T>(field: &'static str, value: Option<T>) -> Result<T, Error> {
    value.ok_or(Error::Missing(field))
}

pub(crate) fn id<T: std::str::FromStr<Err = longshore_core::id::InvalidId>>(
    field: &'static str,
    text: &str,
) -> Result<T, Error> {
    text.parse().map_err(|source| Error::Id { field, source })
}

pub(crate) fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

impl From<Fence> for v1::Fence {
    fn from(fence: Fence) -> Self {
        Self { attempt_id: fence.attempt.to_string(), epoch: fence.epoch, incarnation: fence.incarnation }
    }
}

impl TryFrom<v1::Fence> for Fence {
    type Error = Error;

    fn try_from(wire: v1::Fence) -> Result<Self, Error> {
        Ok(Self {
            attempt: id("fence.attempt_id", &wire.attempt_id)?,
            epoch: wire.epoch,
            incarnation: wire.incarnation,
        })
    }
}

/// The fence of a message in which it has to be there.
///
/// # Errors
/// [`Error`] naming what is wrong with it.
pub fn fence(wire: Option<v1::Fence>) -> Result<Fence, Error> {
    required("fence", wire)?.try_into()
}

/// What an agent says that parts of a step took. Nothing is decided by it, so what makes no sense is left out.
#[must_use]
pub fn took(wire: Vec<v1::Took>) -> Vec<Took> {
    let at = |micros: u64| i64::try_from(micros).map(Timestamp::from_micros).ok();
    let read = |took: v1::Took| Took::new(&took.what, at(took.began_at_us)?, at(took.ended_at_us)?);
    wire.into_iter().take(MAX_TOOK).filter_map(read).collect()
}

impl From<Took> for v1::Took {
    fn from(took: Took) -> Self {
        let micros = |at: Timestamp| u64::try_from(at.as_micros()).unwrap_or(0);
        Self { began_at_us: micros(took.began), ended_at_us: micros(took.ended), what: took.what }
    }
}
