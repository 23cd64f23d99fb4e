//! Each line of the timeline and of the audit is a line of the controller's own log too, once it is durable.
//!
//! Of the detail only the ids are repeated: the rest stands in the row.

use serde_json::Value as Json;

use crate::store::rows::{EventRow, Outcome};

/// Writes them.
pub(super) fn log(rows: &[EventRow]) {
    for row in rows {
        let text = |key: &str| row.detail.get(key).and_then(Json::as_str);
        tracing::info!(
            event = row.action,
            deployment = row.deployment.map(tracing::field::display),
            by = row.actor,
            object = row.object,
            refused = (row.outcome == Outcome::Refused).then_some(true),
            job = text("job"),
            attempt = text("attempt"),
            agent = text("agent"),
            step = text("step"),
            exit_code = row.detail.get("exit_code").and_then(Json::as_i64),
            "recorded"
        );
    }
}
