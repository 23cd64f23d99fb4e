//! Join tokens: shown once, and used by as many agents as they say.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use longshore_core::id::TokenId;
use longshore_core::spec::{duration, names};
use longshore_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::auth::Actor;
use super::extract::{Id, Optional};
use super::problem::{Problem, ProblemView};
use crate::engine::NewJoinToken;
use crate::identity::{TokenHash, TokenKind};
use crate::store::rows::JoinTokenRow;

/// How long a token lasts when nothing is said.
const DEFAULT: Duration = Duration::from_secs(3_600);
/// The longest a token may last.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// Most agents that one token lets in.
const MOST_USES: u32 = 10_000;
/// Most labels.
const MOST_LABELS: usize = 32;

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
    /// How many agents it lets in, from 1 to 10000; 1 when it is not said.
    #[serde(default)]
    uses: Option<u32>,
    /// Labels that its agents get. They come from here alone: no agent names its own.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Its agents leave the list when they are gone; `false` when it is not said.
    #[serde(default)]
    ephemeral: bool,
}

/// A join token, without its text.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JoinTokenLine {
    /// `tok_...`.
    id: String,
    /// Pool that its agents join.
    pool: String,
    /// Labels that they get.
    labels: BTreeMap<String, String>,
    /// How many agents it lets in.
    uses: u32,
    /// How many came in.
    used: u32,
    /// Its agents leave the list when they are gone.
    ephemeral: bool,
    /// `valid`, `used_up`, `expired` or `revoked`.
    state: &'static str,
    /// RFC 3339 in UTC.
    created_at: String,
    /// Who made it.
    created_by: String,
    /// RFC 3339 in UTC.
    expires_at: String,
}

/// A join token that was made. The token is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JoinTokenView {
    /// `tok_...`, to take it back by.
    id: String,
    /// The token, a secret.
    token: String,
    /// Certificate of the authority that the agent has to trust.
    ca_pem: String,
    /// Pool that its agents join.
    pool: String,
    /// Labels that they get.
    labels: BTreeMap<String, String>,
    /// How many agents it lets in.
    uses: u32,
    /// Its agents leave the list when they are gone.
    ephemeral: bool,
    /// RFC 3339 in UTC.
    expires_at: String,
}

/// Makes a token with which agents can join.
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
    let uses = body.uses.unwrap_or(1);
    if uses == 0 || uses > MOST_USES {
        return Err(invalid(format!("`uses`: {uses} is not in 1 to {MOST_USES}")));
    }
    check_labels(&body.labels).map_err(invalid)?;
    let token = TokenKind::Join.make(api.clock.random());
    let expires_at = api.clock.now().after(lasts);
    let new = NewJoinToken { pool, labels: body.labels, uses, expires_at, ephemeral: body.ephemeral };
    let row = api.engine.add_join_token(new, TokenHash::of(token.expose()).as_bytes(), &by).await?;
    let view = JoinTokenView {
        id: row.id.to_string(),
        // Shown here and nowhere else.
        token: token.expose().to_owned(),
        ca_pem: api.ca.ca_pem().to_owned(),
        pool: row.pool,
        labels: row.labels,
        uses: row.uses,
        ephemeral: row.ephemeral,
        expires_at: row.expires_at.to_string(),
    };
    Ok((StatusCode::CREATED, Json(view)))
}

/// All join tokens, oldest first. Their texts are not kept.
#[utoipa::path(get, path = "/join-tokens", tag = "agents", operation_id = "list_join_tokens", security(("token" = [])),
    responses((status = 200, body = Vec<JoinTokenLine>)))]
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Vec<JoinTokenLine>>, Problem> {
    let now = api.clock.now();
    Ok(Json(api.engine.join_tokens().await?.into_iter().map(|row| line(row, now)).collect()))
}

fn line(row: JoinTokenRow, now: Timestamp) -> JoinTokenLine {
    let state = match &row {
        row if row.revoked_at.is_some() => "revoked",
        row if row.expires_at <= now => "expired",
        row if row.used >= row.uses => "used_up",
        _ => "valid",
    };
    JoinTokenLine {
        id: row.id.to_string(),
        pool: row.pool,
        labels: row.labels,
        uses: row.uses,
        used: row.used,
        ephemeral: row.ephemeral,
        state,
        created_at: row.created_at.to_string(),
        created_by: row.created_by,
        expires_at: row.expires_at.to_string(),
    }
}

/// Takes a join token back. Agents that came in by it stay.
#[utoipa::path(delete, path = "/join-tokens/{id}", tag = "agents", operation_id = "revoke_join_token", security(("token" = [])),
    params(("id" = String, Path, description = "`tok_...`")),
    responses((status = 204), (status = 404, body = ProblemView)))]
pub(super) async fn revoke(
    State(api): State<Api>,
    Actor(by): Actor,
    Id(id): Id<TokenId>,
) -> Result<StatusCode, Problem> {
    api.engine.revoke_join_token(id, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Names as everywhere; values that fit into a label of a container or a metric.
pub(super) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), String> {
    if labels.len() > MOST_LABELS {
        return Err(format!("`labels`: there are {}; {MOST_LABELS} are taken", labels.len()));
    }
    for (name, value) in labels {
        if !names::is_name(name) {
            return Err(format!("`labels`: `{name}` is no name; one is {}", names::NAME_RULE));
        }
        if !names::is_label_value(value) {
            return Err(format!("`labels.{name}`: `{value}` is no value of a label: {}", names::LABEL_RULE));
        }
    }
    Ok(())
}
