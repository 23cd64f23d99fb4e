//! The audit: who did what to what, and what was refused.

#![expect(unused_qualifications, reason = "utoipa writes paths out in full")]

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use longshore_core::spec::duration;
use longshore_core::time::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Api;
use super::extract::Asked;
use super::problem::{Problem, ProblemView};
use crate::engine::AuditPage;

/// Which part of the audit.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct AskAudit {
    /// Not before this: RFC 3339, or how long ago, as in `1h`.
    since: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// At most so many, from 1 to 500; 500 when it is not said.
    limit: Option<u32>,
}

/// Lines of the audit, oldest first, a page at a time.
#[utoipa::path(get, path = "/audit", tag = "people", operation_id = "audit", security(("token" = [])),
    params(AskAudit),
    responses((status = 200, body = AuditPage), (status = 400, body = ProblemView), (status = 403, body = ProblemView), (status = 422, body = ProblemView)))]
pub(super) async fn list(State(api): State<Api>, Asked(asked): Asked<AskAudit>) -> Result<Json<AuditPage>, Problem> {
    let since = asked.since.as_deref().map(|text| since(text, api.clock.now())).transpose()?;
    Ok(Json(api.engine.audit(since, asked.after.as_deref(), asked.limit).await?))
}

fn since(text: &str, now: Timestamp) -> Result<Timestamp, Problem> {
    let ago = |lasts: std::time::Duration| {
        let micros = i64::try_from(lasts.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(now.as_micros().saturating_sub(micros))
    };
    let read = duration::parse(text).map(ago).or_else(|| text.parse().ok());
    read.ok_or_else(|| {
        let text: String = text.chars().take(80).collect();
        let detail =
            format!("`since`: `{text}` is neither a time as in `2026-11-21T10:00:00Z` nor a duration as in `1h`");
        Problem::new(StatusCode::BAD_REQUEST, "bad_query", detail)
    })
}
