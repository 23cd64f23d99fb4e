//! What each route asks for, as one table.
//!
//! A request passes only by a rule of its route: a route that is not in [`RULES`] is not served, and a test compares the table
//! with the description of what is served. What the path says is checked here, before the body is read; rules over
//! [`Over::Body`] name what the handler has to ask [`Engine::authorize`](crate::engine::Engine::authorize) for itself.

use axum::extract::{FromRequestParts as _, MatchedPath, RawPathParams};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, header};
use axum::response::{IntoResponse as _, Response};
use longshore_core::access::Permission;

use super::Api;
use super::problem::Problem;
use super::request::no_such_method;
use crate::engine::{Actor, Need};

/// Where the permission of a rule must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Nobody is asked who they are.
    Open,
    /// Everybody with a token that counts.
    SignedIn,
    /// The server as a whole.
    Server,
    /// Anywhere; the handler shows only what may be seen, or asks for the very place.
    Somewhere,
    /// All of the project `{name}` of the path.
    Project,
    /// Anything in the project `{name}` of the path; the handler shows only what may be seen, or asks for the environment.
    InProject,
    /// The environment that the deployment `{id}` of the path goes to.
    Deployment,
    /// The handler asks, since the body or a row says where.
    Body,
}

/// What a route asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The method.
    pub method: &'static str,
    /// The path, as in the description.
    pub path: &'static str,
    /// What a refusal is called in the audit, as `deployment.cancel`.
    pub action: &'static str,
    /// What it is about in the audit; names in braces are those of the path.
    pub object: &'static str,
    /// The permission.
    pub permission: Permission,
    /// Where it must hold.
    pub over: Over,
}

const fn rule(
    route: (&'static str, &'static str),
    what: (&'static str, &'static str),
    need: (Permission, Over),
) -> Rule {
    Rule { method: route.0, path: route.1, action: what.0, object: what.1, permission: need.0, over: need.1 }
}

const fn open(path: &'static str) -> Rule {
    rule(("GET", path), ("", ""), (View, Over::Open))
}

use Over::{Body, Deployment, InProject, Project, Server, SignedIn, Somewhere};
use Permission::{Administer, Approve, Deploy, View};

/// Every route there is.
#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    open("/healthz"),
    open("/readyz"),
    open("/metrics"),

    rule(("GET", "/api/v1/projects"), ("project.list", "project"), (View, Somewhere)),
    rule(("GET", "/api/v1/projects/{name}"), ("project.show", "project/{name}"), (View, InProject)),
    rule(("GET", "/api/v1/projects/{name}/spec"), ("project.show", "project/{name}"), (View, Project)),
    rule(("PUT", "/api/v1/projects/{name}"), ("project.apply", "project/{name}"), (Administer, Project)),
    rule(("GET", "/api/v1/projects/{name}/variables"), ("variable.list", "project/{name}"), (View, InProject)),
    rule(("PUT", "/api/v1/projects/{name}/variables/{variable}"), ("variable.set", "variable/{name}/{variable}"), (Deploy, Body)),

    rule(("GET", "/api/v1/accounts"), ("account.list", "account"), (Administer, Server)),
    rule(("PUT", "/api/v1/accounts/{account}"), ("account.set", "account/{account}"), (Administer, Server)),
    rule(("GET", "/api/v1/libraries"), ("library.list", "library"), (View, Server)),
    rule(("POST", "/api/v1/libraries"), ("library.create", "library"), (Administer, Server)),
    rule(("GET", "/api/v1/libraries/{library}"), ("library.show", "library/{library}"), (View, Server)),
    rule(("PUT", "/api/v1/libraries/{library}/variables/{variable}"), ("library.set", "library/{library}/{variable}"), (Administer, Server)),

    rule(("GET", "/api/v1/packages"), ("package.list", "package"), (View, Server)),
    rule(("HEAD", "/api/v1/packages/{sha256}"), ("package.show", "package/{sha256}"), (Deploy, Somewhere)),
    rule(("PUT", "/api/v1/packages/{sha256}"), ("package.push", "package/{sha256}"), (Deploy, Somewhere)),

    rule(("POST", "/api/v1/projects/{name}/packages"), ("package.make", "project/{name}"), (Deploy, InProject)),

    rule(("GET", "/api/v1/deployments"), ("deployment.list", "deployment"), (View, Somewhere)),
    rule(("POST", "/api/v1/deployments"), ("deployment.create", "deployment"), (Deploy, Body)),
    rule(("POST", "/api/v1/projects/{name}/operations"), ("operation.create", "project/{name}"), (Deploy, Body)),
    rule(("GET", "/api/v1/deployments/{id}"), ("deployment.show", "deployment/{id}"), (View, Deployment)),
    rule(("POST", "/api/v1/deployments/{id}/cancel"), ("deployment.cancel", "deployment/{id}"), (Deploy, Deployment)),
    rule(("POST", "/api/v1/deployments/{id}/resolve"), ("deployment.resolve", "deployment/{id}"), (Administer, Deployment)),
    rule(("POST", "/api/v1/deployments/{id}/top"), ("deployment.top", "deployment/{id}"), (Deploy, Deployment)),
    rule(("POST", "/api/v1/deployments/{id}/steps/{step}/guide"), ("deployment.guide", "deployment/{id}"), (Deploy, Deployment)),
    rule(("GET", "/api/v1/deployments/{id}/timeline"), ("deployment.show", "deployment/{id}"), (View, Deployment)),
    rule(("GET", "/api/v1/deployments/{id}/log"), ("log.read", "deployment/{id}"), (View, Deployment)),
    rule(("GET", "/api/v1/deployments/{id}/artifacts"), ("artifact.list", "deployment/{id}"), (View, Deployment)),
    rule(("GET", "/api/v1/deployments/{id}/artifacts/{artifact}"), ("artifact.read", "deployment/{id}"), (View, Deployment)),
    rule(("GET", "/api/v1/deployments/{id}/events"), ("log.read", "deployment/{id}"), (View, Deployment)),

    rule(("GET", "/api/v1/deployments/{id}/explain"), ("deployment.show", "deployment/{id}"), (View, Deployment)),

    rule(("GET", "/api/v1/projects/{name}/releases"), ("release.list", "project/{name}"), (View, InProject)),
    rule(("POST", "/api/v1/projects/{name}/releases"), ("release.create", "project/{name}"), (Deploy, InProject)),
    rule(("GET", "/api/v1/projects/{name}/releases/{version}"), ("release.show", "release/{name}/{version}"), (View, InProject)),
    rule(("POST", "/api/v1/projects/{name}/releases/{version}/block"), ("release.block", "release/{name}/{version}"), (Administer, Project)),
    rule(("POST", "/api/v1/projects/{name}/releases/{version}/unblock"), ("release.unblock", "release/{name}/{version}"), (Administer, Project)),
    rule(("POST", "/api/v1/projects/{name}/releases/{version}/promote"), ("release.promote", "release/{name}/{version}"), (Deploy, InProject)),
    rule(("POST", "/api/v1/projects/{name}/rollback"), ("release.roll_back", "project/{name}"), (Deploy, InProject)),
    rule(("GET", "/api/v1/projects/{name}/variables/{variable}/explain"), ("variable.list", "variable/{name}/{variable}"), (View, InProject)),

    rule(("GET", "/api/v1/approvals"), ("approval.list", "approval"), (View, Somewhere)),
    rule(("GET", "/api/v1/approvals/{id}"), ("approval.show", "approval/{id}"), (View, Somewhere)),
    rule(("POST", "/api/v1/approvals/{id}/grant"), ("approval.decide", "approval/{id}"), (Approve, Somewhere)),
    rule(("POST", "/api/v1/approvals/{id}/reject"), ("approval.decide", "approval/{id}"), (Approve, Somewhere)),

    rule(("GET", "/api/v1/agents"), ("agent.list", "agent"), (View, Server)),
    rule(("POST", "/api/v1/agents/{id}/drain"), ("agent.drain", "agent/{id}"), (Administer, Server)),
    rule(("POST", "/api/v1/agents/{id}/undrain"), ("agent.undrain", "agent/{id}"), (Administer, Server)),
    rule(("POST", "/api/v1/agents/{id}/revoke"), ("agent.revoke", "agent/{id}"), (Administer, Server)),
    rule(("POST", "/api/v1/agents/{id}/release"), ("agent.release", "agent/{id}"), (Administer, Server)),
    rule(("GET", "/api/v1/pools"), ("pool.list", "pool"), (View, Server)),
    rule(("GET", "/api/v1/pools/{pool}"), ("pool.show", "pool/{pool}"), (View, Server)),
    rule(("GET", "/api/v1/pools/{pool}/scaling"), ("pool.show", "pool/{pool}"), (View, Server)),
    rule(("PUT", "/api/v1/pools/{pool}"), ("pool.set", "pool/{pool}"), (Administer, Server)),
    rule(("POST", "/api/v1/agents/{id}/readmit"), ("agent.readmit", "agent/{id}"), (Administer, Server)),
    rule(("GET", "/api/v1/locks"), ("lock.list", "lock"), (View, Somewhere)),
    rule(("POST", "/api/v1/join-rules"), ("join_rule.create", "join_rule"), (Administer, Server)),
    rule(("GET", "/api/v1/join-rules"), ("join_rule.list", "join_rule"), (Administer, Server)),
    rule(("DELETE", "/api/v1/join-rules/{id}"), ("join_rule.revoke", "join_rule/{id}"), (Administer, Server)),
    rule(("POST", "/api/v1/join-tokens"), ("join_token.create", "join_token"), (Administer, Server)),
    rule(("GET", "/api/v1/join-tokens"), ("join_token.list", "join_token"), (Administer, Server)),
    rule(("DELETE", "/api/v1/join-tokens/{id}"), ("join_token.revoke", "join_token/{id}"), (Administer, Server)),

    rule(("GET", "/api/v1/users"), ("user.list", "user"), (View, Server)),
    rule(("POST", "/api/v1/users"), ("user.create", "user"), (Administer, Server)),
    rule(("POST", "/api/v1/users/{name}/disable"), ("user.disable", "user/{name}"), (Administer, Server)),
    rule(("POST", "/api/v1/users/{name}/enable"), ("user.enable", "user/{name}"), (Administer, Server)),
    rule(("GET", "/api/v1/teams"), ("team.list", "team"), (View, Server)),
    rule(("POST", "/api/v1/teams"), ("team.create", "team"), (Administer, Server)),
    rule(("PUT", "/api/v1/teams/{team}/members/{user}"), ("team.add_member", "team/{team}"), (Administer, Server)),
    rule(("DELETE", "/api/v1/teams/{team}/members/{user}"), ("team.remove_member", "team/{team}"), (Administer, Server)),
    rule(("GET", "/api/v1/role-grants"), ("role.list", "role"), (Administer, Somewhere)),
    rule(("POST", "/api/v1/role-grants"), ("role.grant", "role"), (Administer, Body)),
    rule(("DELETE", "/api/v1/role-grants/{id}"), ("role.revoke", "role/{id}"), (Administer, Body)),
    rule(("GET", "/api/v1/tokens"), ("token.list", "token"), (Administer, Server)),
    rule(("POST", "/api/v1/tokens"), ("token.create", "token"), (Administer, Server)),
    rule(("DELETE", "/api/v1/tokens/{id}"), ("token.revoke", "token/{id}"), (Administer, Server)),
    rule(("GET", "/api/v1/secrets"), ("secrets.show", "secrets"), (Administer, Server)),
    rule(("POST", "/api/v1/secrets/rotate"), ("secrets.rotate", "secrets"), (Administer, Server)),
    rule(("GET", "/api/v1/audit"), ("audit.read", "audit"), (Administer, Server)),
    rule(("GET", "/api/v1/whoami"), ("whoami", ""), (View, SignedIn)),
];

/// Lets a request of someone through, or refuses it.
pub(super) async fn check(api: &Api, actor: &Actor, parts: &mut Parts) -> Result<(), Response> {
    let Some(path) = parts.extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned()) else {
        // Nothing is served there: the fallback says so.
        return Ok(());
    };
    let Some(rule) = find(&parts.method, &path) else { return Err(not_allowed(parts, &path)) };
    let names =
        RawPathParams::from_request_parts(parts, &()).await.map_err(axum::response::IntoResponse::into_response)?;
    let name = |wanted: &str| names.iter().find(|(name, _)| *name == wanted).map_or("", |(_, value)| value);
    let mut object = rule.object.to_owned();
    for (name, value) in &names {
        object = object.replace(&format!("{{{name}}}"), value);
    }
    let need = Need::new(rule.permission, rule.action, &object);
    let need = match rule.over {
        Over::Open | SignedIn | Body => return Ok(()),
        Server => need,
        Somewhere => need.somewhere(),
        Project => need.at(Some(name("name")), None),
        InProject => need.at(Some(name("name")), None).somewhere(),
        Deployment => {
            let place = place_of(api, name("id")).await.map_err(|problem| problem.into_response())?;
            need.at(place.project.as_deref(), place.environment.as_deref())
        }
    };
    api.engine.authorize(actor, need).await.map_err(|error| Problem::from(error).into_response())
}

fn find(method: &Method, path: &str) -> Option<&'static Rule> {
    let by = |method: &str| RULES.iter().find(|rule| rule.path == path && rule.method == method);
    // A read is also served without its body.
    by(method.as_str()).or_else(|| by("GET").filter(|_| *method == Method::HEAD))
}

async fn place_of(api: &Api, id: &str) -> Result<longshore_core::access::Place, Problem> {
    let id = api.engine.deployment_named(id).await?;
    Ok(api.engine.place_of(id).await?)
}

/// For a method without a rule, whether it is served or not.
fn not_allowed(parts: &Parts, path: &str) -> Response {
    let methods: Vec<_> = RULES.iter().filter(|rule| rule.path == path).map(|rule| rule.method).collect();
    let mut response = no_such_method(&parts.method, &parts.uri).into_response();
    if let Ok(allow) = HeaderValue::from_str(&methods.join(",")) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}
