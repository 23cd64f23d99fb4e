//! Bearer tokens: shown once, with an end, and taken back.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use longshore_core::access::{Grant, Role};
use longshore_core::id::TokenId;
use longshore_core::spec::duration;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::auth::{Actor, Who};
use super::extract::{Id, Strict};
use super::problem::{Problem, ProblemView};
use super::roles::role;
use crate::engine::{NewToken, RoleView, TokenView};
use crate::identity::{TokenHash, TokenKind};

/// How long a token lasts when nothing is said.
const DEFAULT: Duration = Duration::from_secs(90 * 86_400);
/// The longest a token may last.
const LONGEST: Duration = Duration::from_secs(3_650 * 86_400);

/// A token to make. With a role, a project or an environment it may do only so much of what its user may.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateToken {
    /// The user it speaks for.
    user: String,
    /// How long it lasts, as in `1h`; at most 3650 days, 90 days when it is not said.
    #[serde(default)]
    expires_in: Option<String>,
    /// Not more than this role.
    #[serde(default)]
    role: Option<String>,
    /// In this project only.
    #[serde(default)]
    project: Option<String>,
    /// In this environment only.
    #[serde(default)]
    environment: Option<String>,
}

/// A token that was made. Its text is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NewTokenView {
    /// `tok_...`.
    id: String,
    /// The token, a secret.
    token: String,
    /// The user it speaks for.
    user: String,
    /// All that it may do of what the user may; `null`: all of it.
    limit: Option<RoleView>,
    /// RFC 3339 in UTC, milliseconds.
    expires_at: Option<String>,
}

/// Who a token speaks for.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WhoView {
    /// The user.
    user: String,
    /// Its teams, sorted.
    teams: Vec<String>,
    /// What it may do with this token: its own roles and those of its teams, within the token's limit.
    roles: Vec<RoleView>,
    /// All that the token may do of what the user may; `null`: all of it.
    limit: Option<RoleView>,
}

/// Tokens that were not taken back, oldest first, without their text.
#[utoipa::path(get, path = "/tokens", tag = "people", operation_id = "list_tokens", security(("token" = [])),
    responses((status = 200, body = Vec<TokenView>), (status = 403, body = ProblemView)))]
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Vec<TokenView>>, Problem> {
    Ok(Json(api.engine.tokens().await?))
}

/// Makes a token for a user.
#[utoipa::path(post, path = "/tokens", tag = "people", operation_id = "create_token", security(("token" = [])),
    request_body = CreateToken,
    responses((status = 201, body = NewTokenView), (status = 403, body = ProblemView), (status = 404, body = ProblemView), (status = 409, body = ProblemView, description = "The user is disabled."), (status = 422, body = ProblemView)))]
pub(super) async fn create(
    State(api): State<Api>,
    Actor(by): Actor,
    Strict(body): Strict<CreateToken>,
) -> Result<(StatusCode, Json<NewTokenView>), Problem> {
    let CreateToken { user, expires_in, role: text, project, environment } = body;
    let expires_at = Some(api.clock.now().after(lasts(expires_in.as_deref())?));
    let cap = text.as_deref().map(role).transpose()?;
    let limited = cap.is_some() || project.is_some() || environment.is_some();
    let limit = limited.then(|| Grant { role: cap.unwrap_or(Role::Admin), project, environment });
    let token = TokenKind::Api.make(api.clock.random());
    let hash = TokenHash::of(token.expose());
    let TokenView { id, user, limit, expires_at, .. } =
        api.engine.add_token(NewToken { user, expires_at, limit }, hash.as_bytes(), &by).await?;
    // Shown here and nowhere else.
    let view = NewTokenView { id, token: token.expose().to_owned(), user, limit, expires_at };
    Ok((StatusCode::CREATED, Json(view)))
}

fn lasts(text: Option<&str>) -> Result<Duration, Problem> {
    let Some(text) = text else { return Ok(DEFAULT) };
    let lasts = duration::parse(text).filter(|lasts| !lasts.is_zero() && *lasts <= LONGEST);
    lasts.ok_or_else(|| {
        let detail = format!(
            "`expires_in`: `{text}` is no duration of at most 3650 days: write it as in `1h`; no token was made"
        );
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
    })
}

/// Takes a token back; it counts no more from now on.
#[utoipa::path(delete, path = "/tokens/{id}", tag = "people", operation_id = "revoke_token", security(("token" = [])),
    params(("id" = String, Path, description = "`tok_...`")),
    responses((status = 204), (status = 403, body = ProblemView), (status = 404, body = ProblemView), (status = 409, body = ProblemView, description = "Nobody could administer the server any more.")))]
pub(super) async fn revoke(
    State(api): State<Api>,
    Actor(by): Actor,
    Id(id): Id<TokenId>,
) -> Result<StatusCode, Problem> {
    api.engine.revoke_token(id, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who the token of this request speaks for, and what it may do.
#[utoipa::path(get, path = "/whoami", tag = "people", operation_id = "whoami", security(("token" = [])),
    responses((status = 200, body = WhoView), (status = 401, body = ProblemView)))]
pub(super) async fn whoami(Who(who): Who) -> Json<WhoView> {
    let roles = who.grants.iter().map(RoleView::of).collect();
    Json(WhoView { roles, limit: who.limit.as_ref().map(RoleView::of), user: who.user, teams: who.teams })
}
