//! The REST API: requests to calls of the engine, answers to JSON. Decides nothing.
//!
//! Every route is registered together with its description, so `docs/openapi.json` is made from what is served. Invariants:
//! each route but those of [`OPEN`] asks for a bearer token and has one line in [`RULES`]; each refusal is a problem document (RFC 9457) with a stable
//! `code`; unknown fields are refused; bodies are bounded, and streams hold a bounded part of a log in memory.

mod accounts;
mod agents;
mod approvals;
mod artifacts;
mod audit;
mod auth;
mod deployments;
mod events;
mod extract;
mod health;
mod join_rules;
mod join_tokens;
mod libraries;
mod logs;
mod operations;
mod packages;
mod pool_metrics;
mod pools;
mod problem;
mod projects;
mod releases;
mod request;
mod roles;
mod rules;
mod secrets;
mod serve;
mod spans;
mod tokens;
mod users;
mod variables;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use axum::routing::get;
use axum::{Json, Router, middleware};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::blobs::Blobs;
use crate::clock::Clock;
use crate::engine::Engine;
use crate::identity::Ca;
use crate::store::Store;
use crate::tasks::Tasks;
use crate::trace::Traces;

use pool_metrics::PoolMetrics;

pub use problem::Problem;
pub use rules::{Over, RULES, Rule};
pub use serve::serve;

/// Longest body of a request that is no package.
const MAX_BODY: usize = 2 << 20;

/// Paths that answer without a token.
pub const OPEN: [&str; 5] = ["/healthz", "/readyz", "/metrics", "/openapi.json", "/api/v1/openapi.json"];

/// What handlers work with. A cheap handle.
#[derive(Clone)]
pub struct Api(Arc<Parts>, Arc<PoolMetrics>);

/// What an [`Api`] is made of.
pub struct Parts {
    /// Decides.
    pub engine: Engine,
    /// Rows; asked only whether they can be read.
    pub store: Arc<dyn Store>,
    /// Packages.
    pub blobs: Blobs,
    /// The authority that agents trust.
    pub ca: Arc<Ca>,
    /// Time and randomness.
    pub clock: Clock,
    /// Owner of tasks that feed streams.
    pub tasks: Tasks,
    /// Cancelled when no request is taken any more: streams end then, since they would end by themselves only much later.
    pub accepting: CancellationToken,
    /// Renders what was counted.
    pub metrics: PrometheusHandle,
    /// Takes the spans of requests; `None`: no traces are sent.
    pub traces: Option<Traces>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Api")
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parts")
    }
}

impl std::ops::Deref for Api {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Api {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts), Arc::default())
    }
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Longshore", description = "Self-hosted infrastructure deployments. Refusals are problem documents (RFC 9457) with a stable `code`."),
    modifiers(&Bearer),
    tags(
        (name = "projects", description = "What is deployed."),
        (name = "packages", description = "Immutable inputs, by SHA-256."),
        (name = "releases", description = "Snapshots that go through environments."),
        (name = "approvals", description = "What people decide."),
        (name = "deployments", description = "What goes where, and how it ended."),
        (name = "agents", description = "Where it runs."),
        (name = "people", description = "Who may do what, and who did what."),
        (name = "server", description = "The controller itself."),
    )
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme =
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("A token as in `lst_...`.")).build();
        openapi.components.get_or_insert_default().add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

fn described() -> OpenApiRouter<Api> {
    let guarded = OpenApiRouter::new()
        .routes(routes!(projects::list))
        .routes(routes!(projects::show, projects::apply))
        .routes(routes!(projects::spec))
        .routes(routes!(variables::list))
        .routes(routes!(variables::set))
        .routes(routes!(accounts::list))
        .routes(routes!(accounts::put))
        .routes(routes!(libraries::list, libraries::create))
        .routes(routes!(libraries::show))
        .routes(routes!(libraries::set))
        .routes(routes!(pools::list))
        .routes(routes!(pools::show, pools::set))
        .routes(routes!(pools::scaling))
        .routes(routes!(packages::list))
        .routes(routes!(packages::make))
        .routes(routes!(packages::head, packages::put))
        .routes(routes!(deployments::list, deployments::create))
        .routes(routes!(operations::create))
        .routes(routes!(deployments::show))
        .routes(routes!(deployments::cancel))
        .routes(routes!(deployments::resolve))
        .routes(routes!(deployments::explain))
        .routes(routes!(deployments::guide))
        .routes(routes!(deployments::top))
        .routes(routes!(releases::list, releases::create))
        .routes(routes!(releases::show))
        .routes(routes!(releases::block))
        .routes(routes!(releases::unblock))
        .routes(routes!(releases::promote))
        .routes(routes!(releases::rollback))
        .routes(routes!(approvals::list))
        .routes(routes!(approvals::show))
        .routes(routes!(approvals::grant))
        .routes(routes!(approvals::reject))
        .routes(routes!(variables::explain))
        .routes(routes!(deployments::timeline))
        .routes(routes!(logs::log))
        .routes(routes!(artifacts::list))
        .routes(routes!(artifacts::get))
        .routes(routes!(events::events))
        .routes(routes!(agents::list))
        .routes(routes!(agents::drain))
        .routes(routes!(agents::undrain))
        .routes(routes!(agents::revoke))
        .routes(routes!(agents::release))
        .routes(routes!(agents::readmit))
        .routes(routes!(agents::locks))
        .routes(routes!(join_rules::list, join_rules::create))
        .routes(routes!(join_rules::revoke))
        .routes(routes!(join_tokens::list, join_tokens::create))
        .routes(routes!(join_tokens::revoke))
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::disable))
        .routes(routes!(users::enable))
        .routes(routes!(users::list_teams, users::create_team))
        .routes(routes!(users::add_member, users::remove_member))
        .routes(routes!(roles::list, roles::grant))
        .routes(routes!(roles::revoke))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(tokens::whoami))
        .routes(routes!(secrets::show))
        .routes(routes!(secrets::rotate))
        .routes(routes!(audit::list));
    OpenApiRouter::with_openapi(Document::openapi())
        .nest("/api/v1", guarded)
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
}

/// The description of everything that is served, OpenAPI 3.1.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    described().into_openapi()
}

/// The whole API as a service.
pub fn router(api: Api) -> Router {
    let (routes, document) = described().split_for_parts();
    let document = Arc::new(document);
    let served = move || {
        let document = Arc::clone(&document);
        async move { Json(document.as_ref().clone()) }
    };
    routes
        .route("/openapi.json", get(served.clone()))
        .route("/api/v1/openapi.json", get(served))
        .fallback(request::no_such_path)
        .method_not_allowed_fallback(async |method: Method, uri: Uri| request::no_such_method(&method, &uri))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(api.clone(), auth::require_token))
        .layer(middleware::from_fn_with_state(api.clone(), request::frame))
        .with_state(api)
}
