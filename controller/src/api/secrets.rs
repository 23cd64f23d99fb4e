//! The keys that secrets are encrypted with.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::Api;
use super::auth::Actor;
use super::problem::{Problem, ProblemView};
use crate::engine::{RotationView, SecretsView};

/// Which data keys there are and how many secrets are on each.
#[utoipa::path(get, path = "/secrets", tag = "server", operation_id = "show_secrets", security(("token" = [])),
    responses((status = 200, body = SecretsView), (status = 403, body = ProblemView)))]
pub(super) async fn show(State(api): State<Api>) -> Result<Json<SecretsView>, Problem> {
    Ok(Json(api.engine.secrets().await?))
}

/// Makes a new data key and moves every secret to it while everything is served.
#[utoipa::path(post, path = "/secrets/rotate", tag = "server", operation_id = "rotate_secrets", security(("token" = [])),
    responses((status = 202, body = RotationView), (status = 403, body = ProblemView)))]
pub(super) async fn rotate(
    State(api): State<Api>,
    Actor(by): Actor,
) -> Result<(StatusCode, Json<RotationView>), Problem> {
    Ok((StatusCode::ACCEPTED, Json(api.engine.rotate_secrets(&by).await?)))
}
