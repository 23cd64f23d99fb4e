//! What goes around every request: its id, its span, its line in the log, its numbers, and the form of its refusal.

use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use longshore_core::id::DeploymentId;
use tracing::Instrument as _;
use tracing::field::Empty;

use super::auth::Actor;
use super::packages::{UPLOAD_LENGTH, UPLOAD_OFFSET};
use super::problem::Problem;
use super::spans::Traced;
use super::{Api, OPEN};
use crate::hex;
use crate::trace::{self, Field};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Target of the lines of the access log, to filter them by.
const ACCESS: &str = "longshore_controller::access";

/// Headers of an answer that stay when it becomes a problem document.
const KEPT: [HeaderName; 4] = [header::ALLOW, header::RETRY_AFTER, UPLOAD_OFFSET, UPLOAD_LENGTH];

/// The deployment that a request made, on its answer: for the log and for the request's span.
#[derive(Debug, Clone, Copy)]
pub(super) struct Made(pub(super) DeploymentId);

/// The outermost layer.
pub(super) async fn frame(State(api): State<Api>, request: Request, next: Next) -> Response {
    let id = format!("req_{}", hex::encode(&api.clock.random::<8>()));
    let method = request.method().clone();
    // Its pattern, not its text: names and ids would make a metric without bounds.
    let route =
        request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let traced = Traced::of(&api, &method, request.headers());
    let about = deployment_of(&route, request.uri());
    // At the level of errors, so that lines of every level have the ids.
    let span = tracing::error_span!(
        "request",
        request_id = id,
        method = label(&method),
        route,
        actor = Empty,
        deployment = Empty,
        trace_id = Empty
    );
    record(&span, "deployment", about);
    record(&span, "trace_id", traced.under.map(|under| under.trace));
    let began = api.clock.elapsed();
    let mut response = trace::within(traced.under, next.run(request).instrument(span.clone())).await;
    let made = response.extensions_mut().remove::<Made>().map(|Made(id)| id);
    record(&span, "deployment", made);
    let actor = response.extensions_mut().remove::<Actor>().map(|Actor(user)| user);
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
    metrics::histogram!("longshore_http_request_duration_seconds", "route" => route.clone()).record(took.as_secs_f64());
    span.in_scope(|| answered(&route, status, took));
    let attributes = attributes(&method, &route, (&id, status), (actor, made.or(about)));
    traced.ended(format!("{} {route}", label(&method)), api.clock.now(), status.is_server_error(), attributes);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn record(span: &tracing::Span, field: &'static str, value: Option<impl std::fmt::Display>) {
    if let Some(value) = value {
        span.record(field, tracing::field::display(value));
    }
}

/// The line of the access log. What machines ask all the time says nothing to people.
fn answered(route: &str, status: StatusCode, took: Duration) {
    let (status, duration_ms) = (status.as_u16(), took.as_secs_f64() * 1_000.0);
    if OPEN.contains(&route) {
        tracing::debug!(target: ACCESS, status, duration_ms, "answered");
    } else {
        tracing::info!(target: ACCESS, status, duration_ms, "answered");
    }
}

/// The deployment that a path is about.
fn deployment_of(route: &str, uri: &Uri) -> Option<DeploymentId> {
    let id = uri.path().strip_prefix("/api/v1/deployments/")?.split('/').next()?;
    if route.starts_with("/api/v1/deployments/{id}") { id.parse().ok() } else { None }
}

fn attributes(
    method: &Method,
    route: &str,
    (id, status): (&str, StatusCode),
    (actor, deployment): (Option<String>, Option<DeploymentId>),
) -> Vec<(&'static str, Field)> {
    let mut attributes = vec![
        ("http.request.method", Field::from(label(method))),
        ("http.route", Field::from(route)),
        ("http.response.status_code", Field::Number(status.as_u16().into())),
        ("longshore.request_id", Field::from(id)),
    ];
    attributes.extend(actor.map(|user| ("longshore.by", Field::Text(user))));
    attributes.extend(deployment.map(|id| ("longshore.deployment", Field::Text(id.to_string()))));
    attributes
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
