//! Packages: listed, asked for and uploaded by digest.

#![expect(unused_qualifications, reason = "utoipa writes paths out in full")]

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::auth::Actor;
use super::extract::Asked;
use super::problem::{Problem, ProblemView};
use crate::store::rows::PackageRow;

/// A stored package.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PackageView {
    /// SHA-256 in lowercase hex.
    sha256: String,
    /// Its length.
    bytes: u64,
}

/// A stored package and how it came.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StoredPackageView {
    /// SHA-256 in lowercase hex.
    sha256: String,
    /// Its length.
    bytes: u64,
    /// RFC 3339 in UTC, milliseconds.
    created_at: String,
    /// Who brought it first.
    created_by: String,
}

/// What is asked for of the packages.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ListPackages {
    /// At most so many, from 1 to 500; 50 when it is not said.
    limit: Option<u32>,
}

/// The packages, newest first.
#[utoipa::path(get, path = "/packages", tag = "packages", operation_id = "list_packages", security(("token" = [])),
    params(ListPackages),
    responses((status = 200, body = Vec<StoredPackageView>), (status = 400, body = ProblemView)))]
pub(super) async fn list(
    State(api): State<Api>,
    Asked(asked): Asked<ListPackages>,
) -> Result<Json<Vec<StoredPackageView>>, Problem> {
    let rows = api.engine.packages(asked.limit).await?;
    let view = |row: PackageRow| StoredPackageView {
        sha256: row.sha256,
        bytes: row.bytes,
        created_at: row.created_at.to_string(),
        created_by: row.created_by,
    };
    Ok(Json(rows.into_iter().map(view).collect()))
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
