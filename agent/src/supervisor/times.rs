//! What the parts of a step took, for the controller to tell people. In memory only: a restart forgets it, and nothing depends on it.

use std::sync::{Mutex, PoisonError};

use longshore_core::time::Timestamp;
use longshore_core::trace::Took;

/// What was not told yet.
#[derive(Debug, Default)]
pub(super) struct Times(Mutex<Vec<Took>>);

impl Times {
    /// Something that began then has ended now.
    pub(super) fn note(&self, what: &str, began: Timestamp) {
        let took = Took::new(what, began, crate::clock::now());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(took);
    }

    /// Everything since it was taken last.
    pub(super) fn take(&self) -> Vec<Took> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
