//! Reads what jobs ask of their hosts and how long and how many of them may wait or run.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::tree::{At, Errors, Value};
use crate::resources::{Bytes, Resources};

pub(super) const RESOURCES: [&str; 3] = ["cpus", "memory", "disk"];
/// Shortest and longest wait in the queue; the longest is [`crate::job::MAX_QUEUED`].
pub(super) const QUEUE_WAIT: RangeInclusive<Duration> = Duration::from_secs(1)..=crate::job::MAX_QUEUED;
/// Most jobs of a project at once.
pub(super) const MAX_RUNNING: RangeInclusive<u32> = 1..=100_000;
/// The least memory that a container engine takes for a limit.
const LEAST_MEMORY: Bytes = Bytes(6 << 20);

/// Reads `resources:`.
pub(super) fn resources(at: &At<'_>, errors: &mut Errors) -> Option<Resources> {
    if matches!(at.node.value, Value::Scalar(_)) {
        at.error("a mapping is needed here: write `resources: {cpus: 1.5, memory: 2GiB, disk: 5GiB}`", errors);
        return None;
    }
    let fields = at.fields(&RESOURCES, errors)?;
    let mut found = Resources::default();
    if let Some(at) = fields.get("cpus") {
        found.cpus = amount(at, errors)?;
    }
    if let Some(at) = fields.get("memory") {
        found.memory = amount(at, errors)?;
        if found.memory < LEAST_MEMORY {
            at.error(format!("`{}` is less than a container can do with: write at least 6MiB", found.memory), errors);
            return None;
        }
    }
    if let Some(at) = fields.get("disk") {
        found.disk = amount(at, errors)?;
    }
    Some(found)
}

fn amount<T: std::str::FromStr<Err = crate::resources::Error>>(at: &At<'_>, errors: &mut Errors) -> Option<T> {
    match at.text(errors)?.parse() {
        Ok(amount) => Some(amount),
        Err(error) => {
            at.error(error.to_string(), errors);
            None
        }
    }
}
