//! Traces for OpenTelemetry: spans made of what the rows say, sent to a collector.
//!
//! Invariants: a span of a deployment is made of the timeline and of rows, with their times, and its id follows from what it is
//! of; so it is the same one whoever makes it, and a crash between the sending and the note of it repeats it without
//! inventing another. Only the span of a request is in memory alone. The engine never waits for the collector: the timeline is
//! the queue, and what cannot be sent for an hour is dropped and counted.

#[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "nothing is sent without it"))]
mod facts;
#[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "nothing is sent without it"))]
mod follow;
#[cfg(feature = "otlp")]
mod otlp;
mod settings;
mod span;

use longshore_core::id::DeploymentId;
use longshore_core::trace::{SpanId, TraceId, TraceParent};

use crate::store::rows::DeploymentRow;

pub use follow::Traces;
#[cfg(any(test, feature = "otlp"))]
pub(crate) use follow::start;
#[cfg(test)]
pub(crate) use follow::{Export, Failed, Follower};
#[cfg(feature = "otlp")]
pub(crate) use otlp::Otlp;
pub(crate) use settings::check;
pub use settings::{Headers, Settings};
pub use span::{Field, Span};

tokio::task_local! {
    /// What is called from now on belongs under this span.
    static CURRENT: TraceParent;
}

/// The span that this task works in, if it is in a trace.
pub(crate) fn current() -> Option<TraceParent> {
    CURRENT.try_with(|parent| *parent).ok()
}

/// Runs a call in a span.
pub(crate) async fn within<T>(parent: Option<TraceParent>, call: impl Future<Output = T>) -> T {
    match parent {
        Some(parent) => CURRENT.scope(parent, call).await,
        None => call.await,
    }
}

/// Whether the spans of a deployment are sent. Who asked for it has said so, or else it is the one part in so many.
pub(crate) fn sampled(row: &DeploymentRow, part: Option<f64>) -> bool {
    match row.trace_parent {
        Some(parent) => parent.sampled,
        None => part.is_some_and(|part| TraceId::of(row.deployment.id).within(part)),
    }
}

/// Under which span a deployment belongs that a step of another one begins.
pub(crate) fn under_step(parent: &DeploymentRow, index: u32, part: Option<f64>) -> Option<TraceParent> {
    let span = step_span(parent.deployment.id, index);
    Some(TraceParent { trace: parent.trace(), span, sampled: sampled(parent, part) })
}

fn step_span(deployment: DeploymentId, index: u32) -> SpanId {
    SpanId::of(deployment, "step", &index.to_string())
}

/// The span of one start of a step: what the step's program is told to belong under.
pub(crate) fn try_span(deployment: DeploymentId, attempt: longshore_core::id::AttemptId, slot: u32) -> SpanId {
    SpanId::of(deployment, "try", &format!("{attempt}/{slot}"))
}
