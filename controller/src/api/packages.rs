//! Packages: asked for and uploaded by digest.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::auth::Actor;
use super::problem::{Problem, ProblemView};

/// A stored package.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PackageView {
    /// SHA-256 in lowercase hex.
    sha256: String,
    /// Its length.
    bytes: u64,
}

/// Whether a package is stored.
#[utoipa::path(head, path = "/packages/{sha256}", tag = "packages", operation_id = "has_package", security(("token" = [])),
    params(("sha256" = String, Path, description = "SHA-256 in lowercase hex")),
    responses((status = 200, description = "It is."), (status = 404, description = "It is not.")))]
pub(super) async fn head(State(api): State<Api>, Path(sha256): Path<String>) -> Result<StatusCode, Problem> {
    let there = api.blobs.exists(&sha256).await? && api.engine.has_package(&sha256).await?;
    Ok(if there { StatusCode::OK } else { StatusCode::NOT_FOUND })
}

/// Uploads a package, a zstd-compressed tar. It is durable when this answers.
#[utoipa::path(put, path = "/packages/{sha256}", tag = "packages", operation_id = "put_package", security(("token" = [])),
    params(("sha256" = String, Path, description = "SHA-256 in lowercase hex of the body")),
    request_body(content = Vec<u8>, content_type = "application/zstd"),
    responses(
        (status = 201, body = PackageView, description = "It is stored."),
        (status = 200, body = PackageView, description = "It was there already."),
        (status = 413, body = ProblemView),
        (status = 422, body = ProblemView, description = "`digest_mismatch` or `bad_package`; nothing was stored."),
    ))]
pub(super) async fn put(
    State(api): State<Api>,
    Actor(by): Actor,
    Path(sha256): Path<String>,
    body: Body,
) -> Result<Response, Problem> {
    let stored = api.blobs.put(&sha256, body.into_data_stream()).await?;
    api.engine.add_package(&sha256, stored.bytes, &by).await?;
    let status = if stored.new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(PackageView { sha256, bytes: stored.bytes })).into_response())
}
