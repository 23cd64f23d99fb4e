//! The trace that a request is in, and the request's own span.

use axum::http::{HeaderMap, HeaderName, Method};
use longshore_core::time::Timestamp;
use longshore_core::trace::{SpanId, TraceId, TraceParent};

use super::Api;
use crate::trace::{Field, Span, Traces};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Where a request stands in a trace.
pub(super) struct Traced {
    /// What a deployment that it asks for belongs under; `None`: it has a trace of its own.
    pub(super) under: Option<TraceParent>,
    /// Its own span, if it has one.
    own: Option<Own>,
}

struct Own {
    traces: Traces,
    /// Who called.
    parent: Option<SpanId>,
    began: Timestamp,
}

impl Traced {
    /// Of what the caller says. Without a word of it only what changes something has a trace: reading would drown the rest.
    pub(super) fn of(api: &Api, method: &Method, headers: &HeaderMap) -> Self {
        let mut said = headers.get_all(TRACEPARENT).iter();
        // Said twice it says nothing.
        let caller: Option<TraceParent> = match (said.next(), said.next()) {
            (Some(said), None) => said.to_str().ok().and_then(|text| text.trim().parse().ok()),
            _ => None,
        };
        let Some(traces) = &api.traces else { return Self { under: caller, own: None } };
        let Some(span) = SpanId::new(api.clock.random()) else { return Self { under: caller, own: None } };
        let under = match caller {
            Some(caller) => Some(TraceParent { span, ..caller }),
            None if method.is_safe() => None,
            None => TraceId::new(api.clock.random()).map(|trace| TraceParent {
                trace,
                span,
                sampled: trace.within(traces.part()),
            }),
        };
        let parent = caller.map(|caller| caller.span);
        let own = under.filter(|under| under.sampled);
        let own = own.map(|_| Own { traces: traces.clone(), parent, began: api.clock.now() });
        Self { under, own }
    }

    /// Leaves the request's span to be sent.
    pub(super) fn ended(self, name: String, ended: Timestamp, failed: bool, attributes: Vec<(&'static str, Field)>) {
        let (Some(under), Some(Own { traces, parent, began })) = (self.under, self.own) else { return };
        // The clock may have been set meanwhile.
        let ended = ended.max(began);
        let (trace, id, error) = (under.trace, under.span, failed.then(String::new));
        traces.leave(Span { trace, id, parent, name, server: true, began, ended, attributes, error });
    }
}
