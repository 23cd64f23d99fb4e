//! Refusals as problem documents (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use longshore_core::spec::SpecError;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{blobs, engine, identity, store};

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    hint: Option<String>,
    errors: Vec<SpecError>,
}

/// Why a request was refused (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemView {
    /// Always `about:blank`: `code` says which kind it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The status.
    status: u16,
    /// Stable word for scripts, such as `not_found`.
    code: &'static str,
    /// What is wrong in this case.
    detail: String,
    /// What to do about it.
    hint: Option<String>,
    /// The page that explains `code`, from the root of the repository; `longshore errors CODE` prints it.
    help: String,
    /// Names this request in the controller's log.
    request_id: String,
    /// Every mistake of a spec, for the code `bad_spec`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<SpecMistake>, required = false)]
    errors: Vec<SpecError>,
}

/// One mistake in a spec.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes core's type, which knows nothing of OpenAPI")]
struct SpecMistake {
    /// Line in the file, from 1.
    line: usize,
    /// Path of the field; empty when it is about the file as a whole.
    field: String,
    /// What is wrong, and what to write instead.
    message: String,
}

impl Problem {
    /// A refusal with a stable word (one of [`longshore_core::problem::CODES`]) and the words for people.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), hint: None, errors: Vec::new() }
    }

    /// What is wrong, for people.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }

    /// A failure that is not the caller's: the cause goes to the log, not to the caller.
    fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = %chain(error), "request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the controller failed; nothing was changed by this request",
        )
        .hint("the controller's log has the cause under this request id".to_owned())
    }

    /// The document as it is sent. [`super::request::frame`] calls it: it knows the request's id.
    pub(super) fn render(self, request_id: &str) -> Response {
        let view = ProblemView {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            code: self.code,
            detail: self.detail,
            hint: self.hint,
            help: longshore_core::problem::page(self.code),
            request_id: request_id.to_owned(),
            errors: self.errors,
        };
        let mut response = (self.status, serde_json::to_vec(&view).unwrap_or_default()).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Travels in the response's extensions to [`super::request::frame`], which knows the request's id.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// An error with all its causes.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |e| e.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl From<engine::Error> for Problem {
    fn from(error: engine::Error) -> Self {
        let message = error.to_string();
        match error {
            engine::Error::NotFound { hint, .. } => Self::new(StatusCode::NOT_FOUND, "not_found", message).hint(hint),
            engine::Error::Conflict { code, hint, .. } => Self::new(StatusCode::CONFLICT, code, message).hint(hint),
            engine::Error::Refused { code, hint, .. } => Self::new(StatusCode::FORBIDDEN, code, message).hint(hint),
            engine::Error::Invalid { hint, .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message).hint(hint)
            }
            engine::Error::Spec(errors) => bad_spec(errors),
            engine::Error::Store(error) => error.into(),
            other => Self::internal(&other),
        }
    }
}

fn bad_spec(errors: Vec<SpecError>) -> Problem {
    let detail = match errors.as_slice() {
        [one] => format!("the spec has a mistake: {one}"),
        [first, rest @ ..] => format!("the spec has {} mistakes; the first: {first}", rest.len() + 1),
        [] => "the spec has a mistake".to_owned(),
    };
    let mut problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_spec", detail);
    problem.errors = errors;
    problem
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Full => Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", error.to_string()),
            store::Error::Closed => Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", error.to_string()),
            store::Error::Stale(_) => Self::new(StatusCode::CONFLICT, "stale", error.to_string())
                .hint("read it again and repeat the request".to_owned()),
            store::Error::Database(_)
            | store::Error::Migrate(_)
            | store::Error::Newer { .. }
            | store::Error::Copy { .. }
            | store::Error::Thread(_)
            | store::Error::Row { .. } => Self::internal(&error),
        }
    }
}

impl From<blobs::Error> for Problem {
    fn from(error: blobs::Error) -> Self {
        use blobs::Error;
        let message = error.to_string();
        match &error {
            Error::Digest(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message),
            Error::Mismatch { .. } | Error::Length { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "digest_mismatch", message)
            }
            Error::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message),
            Error::Cut(_) | Error::CutAt { .. } => Self::new(StatusCode::BAD_REQUEST, "upload_cut", message),
            Error::LongerThanSaid { .. } => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message),
            Error::Offset { .. } | Error::TakenOver => Self::new(StatusCode::CONFLICT, "upload_offset", message)
                .hint("ask with HEAD where it stands (`Upload-Offset`) and send the rest from there".to_owned()),
            Error::Crowded => Self::new(StatusCode::TOO_MANY_REQUESTS, "uploads_crowded", message)
                .hint("try again later; uploads that nobody goes on with are removed after a day".to_owned()),
            Error::Archive(_) | Error::EntryTooLarge { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_package", message)
            }
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "disk_full",
                "the controller's disk is full; nothing was stored",
            ),
            Error::Io { .. } => Self::internal(&error),
            Error::Stopping => Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", message),
        }
    }
}

impl From<crate::logs::Error> for Problem {
    fn from(error: crate::logs::Error) -> Self {
        Self::internal(&error)
    }
}

impl From<identity::Error> for Problem {
    fn from(error: identity::Error) -> Self {
        Self::internal(&error)
    }
}
