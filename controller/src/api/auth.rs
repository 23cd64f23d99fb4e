//! Bearer tokens, and the rules that a request has to pass before its handler sees it.
//!
//! A token is looked up by its hash, so the time of the look-up says nothing about how much of it was right.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::problem::Problem;
use super::{Api, OPEN, rules};
use crate::engine;
use crate::identity::{TokenHash, TokenKind};

/// The name of the user that the request's token speaks for.
#[derive(Debug, Clone)]
pub(super) struct Actor(pub(super) String);

/// The user that the request's token speaks for, with what it may do.
#[derive(Debug, Clone)]
pub(super) struct Who(pub(super) engine::Actor);

impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // Missing only if a route was made open that asks for it.
        parts.extensions.get::<Self>().cloned().ok_or_else(refused)
    }
}

impl<S: Sync> FromRequestParts<S> for Who {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(refused)
    }
}

fn refused() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "this needs a valid bearer token")
        .hint("set LONGSHORE_TOKEN, or send `Authorization: Bearer lst_...`".to_owned())
}

/// Refuses every request without a token that counts, or that its route's rule does not let through; but those to [`OPEN`] paths.
pub(super) async fn require_token(State(api): State<Api>, request: Request, next: Next) -> Response {
    if OPEN.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let actor = match authenticate(&api, hash_of(&request)).await {
        Ok(actor) => actor,
        Err(problem) => return problem.into_response(),
    };
    let (mut parts, body) = request.into_parts();
    tracing::Span::current().record("actor", actor.user.as_str());
    if let Err(mut response) = rules::check(&api, &actor, &mut parts).await {
        response.extensions_mut().insert(Actor(actor.user));
        return response;
    }
    let user = Actor(actor.user.clone());
    parts.extensions.insert(user.clone());
    parts.extensions.insert(Who(actor));
    let mut response = next.run(Request::from_parts(parts, body)).await;
    response.extensions_mut().insert(user);
    response
}

/// The hash of the token that a request shows; `None` without one of our form.
fn hash_of(request: &Request) -> Option<TokenHash> {
    let header = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| TokenKind::Api.hash(token.trim()))?
}

async fn authenticate(api: &Api, hash: Option<TokenHash>) -> Result<engine::Actor, Problem> {
    let hash = hash.ok_or_else(refused)?;
    match api.engine.authenticate(hash.as_bytes()).await? {
        Some(actor) => Ok(actor),
        None => {
            tracing::info!("a bearer token that is unknown, ended or taken back was refused");
            Err(refused())
        }
    }
}
