//! What goes around every request: its id, its span, its numbers, and the form of its refusal.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument as _;

use super::Api;
use super::packages::{UPLOAD_LENGTH, UPLOAD_OFFSET};
use super::problem::Problem;
use crate::hex;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Headers of an answer that stay when it becomes a problem document.
const KEPT: [HeaderName; 4] = [header::ALLOW, header::RETRY_AFTER, UPLOAD_OFFSET, UPLOAD_LENGTH];

/// The outermost layer.
pub(super) async fn frame(State(api): State<Api>, request: Request, next: Next) -> Response {
    let id = format!("req_{}", hex::encode(&api.clock.random::<8>()));
    let method = request.method().clone();
    // Its pattern, not its text: names and ids would make a metric without bounds.
    let route =
        request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let span = tracing::info_span!("request", id, %method, route);
    let began = api.clock.elapsed();
    let mut response = next.run(request).instrument(span.clone()).await;
    if let Some(problem) = refusal(&mut response) {
        let headers = std::mem::take(response.headers_mut());
        response = problem.render(&id);
        for name in KEPT {
            if let Some(value) = headers.get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
    }
    let took = api.clock.elapsed().saturating_sub(began);
    let status = response.status();
    metrics::counter!("longshore_http_requests_total", "method" => label(&method), "route" => route.clone(), "status" => status.as_u16().to_string()).increment(1);
    metrics::histogram!("longshore_http_request_duration_seconds", "route" => route).record(took.as_secs_f64());
    span.in_scope(|| tracing::debug!(status = status.as_u16(), ms = took.as_millis(), "answered"));
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Methods are text of the caller's own.
fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// The problem of a response that is none of ours or one of the framework's own refusals.
fn refusal(response: &mut Response) -> Option<Problem> {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        return Some(problem);
    }
    let status = response.status();
    let own =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/"));
    if own || !(status.is_client_error() || status.is_server_error()) {
        return None;
    }
    let (code, detail) = match status {
        StatusCode::PAYLOAD_TOO_LARGE => ("too_large", "the body of the request is too large"),
        StatusCode::BAD_REQUEST => ("bad_request", "the path or the query cannot be read"),
        _ => ("refused", "the request was refused"),
    };
    Some(Problem::new(status, code, detail))
}

/// For a path that is not served.
pub(super) async fn no_such_path(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Problem::new(StatusCode::NOT_FOUND, "no_such_path", format!("there is nothing at `{path}`"))
        .hint("GET /openapi.json lists what there is".to_owned())
}

/// For a path that is served with other methods.
pub(super) fn no_such_method(method: &Method, uri: &Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "no_such_method", format!("`{path}` does not take {}", label(method)))
}
