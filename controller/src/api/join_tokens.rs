//! Join tokens: shown once, used once.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use longshore_core::spec::{duration, names};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::auth::Actor;
use super::extract::Optional;
use super::problem::{Problem, ProblemView};
use crate::identity::{TokenHash, TokenKind};

/// How long a token lasts when nothing is said.
const DEFAULT: Duration = Duration::from_secs(3_600);
/// The longest a token may last.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// A join token to make.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateJoinToken {
    /// Pool that the agent joins; `default` when it is not said.
    #[serde(default)]
    pool: Option<String>,
    /// How long it lasts, as in `1h`; at most 30 days, 1 hour when it is not said.
    #[serde(default)]
    expires_in: Option<String>,
}

/// A join token that was made. The token is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JoinTokenView {
    /// The token, a secret.
    token: String,
    /// Certificate of the authority that the agent has to trust.
    ca_pem: String,
    /// Pool that the agent joins.
    pool: String,
    /// RFC 3339 in UTC.
    expires_at: String,
}

/// Makes a token with which one agent can join.
#[utoipa::path(post, path = "/join-tokens", tag = "agents", operation_id = "create_join_token", security(("token" = [])),
    request_body = CreateJoinToken, responses((status = 201, body = JoinTokenView), (status = 422, body = ProblemView)))]
pub(super) async fn create(
    State(api): State<Api>,
    Actor(by): Actor,
    Optional(body): Optional<CreateJoinToken>,
) -> Result<(StatusCode, Json<JoinTokenView>), Problem> {
    let invalid = |detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail);
    let pool = body.pool.unwrap_or_else(|| longshore_core::spec::DEFAULT_POOL.to_owned());
    if !names::is_name(&pool) {
        return Err(invalid(format!("`pool`: `{pool}` is no name; one is {}", names::NAME_RULE)));
    }
    let lasts = match &body.expires_in {
        None => DEFAULT,
        Some(text) => duration::parse(text)
            .ok_or_else(|| invalid(format!("`expires_in`: `{text}` is not a duration: write it as in `1h`")))?,
    };
    if lasts.is_zero() || lasts > LONGEST {
        return Err(invalid(format!(
            "`expires_in`: `{}` is not more than 0 and at most 30 days",
            duration::format(lasts)
        )));
    }
    let token = TokenKind::Join.make(api.clock.random());
    let row = api
        .engine
        .add_join_token(&pool, api.clock.now().after(lasts), TokenHash::of(token.expose()).as_bytes(), &by)
        .await?;
    let view = JoinTokenView {
        // Shown here and nowhere else.
        token: token.expose().to_owned(),
        ca_pem: api.ca.ca_pem().to_owned(),
        pool: row.pool,
        expires_at: row.expires_at.to_string(),
    };
    Ok((StatusCode::CREATED, Json(view)))
}
