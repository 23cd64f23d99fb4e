//! Packages: listed, asked for and uploaded by digest, in one piece or from where an upload before broke off.

#![expect(unused_qualifications, reason = "utoipa writes paths out in full")]

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::auth::Actor;
use super::extract::{Asked, Optional};
use super::problem::{Problem, ProblemView};
use crate::blobs::{Resumed, Upload};
use crate::engine::{MadeView, SourceView};
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
    /// The commit that the controller made it of first.
    source: Option<SourceView>,
}

/// A commit to make a package of.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MakePackage {
    /// Branch, tag or whole commit id; the one of the spec when it is not said.
    #[serde(default, rename = "ref")]
    reference: Option<String>,
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
        source: row.source.map(Into::into),
    };
    Ok(Json(rows.into_iter().map(view).collect()))
}

/// How far an upload is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UploadView {
    /// SHA-256 in lowercase hex.
    sha256: String,
    /// So many bytes are durable; the rest is sent from there.
    offset: u64,
    /// Length of the whole.
    length: u64,
}

/// Where the body of an upload begins.
pub(super) const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
/// Length of the whole.
pub(super) const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");

/// Whether a package is stored, and else how far the caller's own upload of it is: in the header `Upload-Offset` of the 404.
#[utoipa::path(head, path = "/packages/{sha256}", tag = "packages", operation_id = "has_package", security(("token" = [])),
    params(("sha256" = String, Path, description = "SHA-256 in lowercase hex")),
    responses(
        (status = 200, description = "It is."),
        (status = 404, description = "It is not.", headers(
            ("Upload-Offset" = u64, description = "So many bytes of it are durable, of an upload of the caller's that broke off; missing: none."),
            ("Upload-Length" = u64, description = "Length that was announced then."),
        )),
    ))]
pub(super) async fn head(
    State(api): State<Api>,
    Actor(by): Actor,
    Path(sha256): Path<String>,
) -> Result<Response, Problem> {
    let whole = api.blobs.size(&sha256).await?;
    if whole.is_some() && api.engine.has_package(&sha256).await? {
        return Ok(StatusCode::OK.into_response());
    }
    // A controller may have ended after the file and before the row: nothing is left to send then.
    let partial = || api.blobs.partial(&sha256, &by).map(|partial| (partial.offset, partial.length));
    Ok(match whole.map(|bytes| (bytes, bytes)).or_else(partial) {
        Some((offset, length)) => {
            (StatusCode::NOT_FOUND, [(UPLOAD_OFFSET, offset.to_string()), (UPLOAD_LENGTH, length.to_string())])
                .into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    })
}

/// Uploads a package, a zstd-compressed tar. It is durable when this answers. With `Upload-Offset` and `Upload-Length` the body is the
/// package from that byte on, and what has come of it is kept when it breaks off; without them it is all or nothing.
#[utoipa::path(put, path = "/packages/{sha256}", tag = "packages", operation_id = "put_package", security(("token" = [])),
    params(
        ("sha256" = String, Path, description = "SHA-256 in lowercase hex of the whole"),
        ("Upload-Offset" = Option<u64>, Header, description = "Where the body begins: 0, or what HEAD says. Only with `Upload-Length`."),
        ("Upload-Length" = Option<u64>, Header, description = "Length of the whole. Only with `Upload-Offset`."),
    ),
    request_body(content = Vec<u8>, content_type = "application/zstd"),
    responses(
        (status = 201, body = PackageView, description = "It is stored."),
        (status = 200, body = PackageView, description = "It was there already."),
        (status = 202, body = UploadView, description = "The body ended before `Upload-Length`: it is kept, and the rest may follow."),
        (status = 400, body = ProblemView, description = "`upload_cut`: it ended early."),
        (status = 409, body = ProblemView, description = "`upload_offset`: it does not stand there, or a newer upload took over."),
        (status = 413, body = ProblemView),
        (status = 422, body = ProblemView, description = "`digest_mismatch` or `bad_package`; nothing was stored, and nothing is kept."),
        (status = 429, body = ProblemView, description = "`uploads_crowded`: too many are under way."),
    ))]
pub(super) async fn put(
    State(api): State<Api>,
    Actor(by): Actor,
    Path(sha256): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = body.into_data_stream();
    let stored = match (number(&headers, &UPLOAD_OFFSET)?, number(&headers, &UPLOAD_LENGTH)?) {
        (None, None) => api.blobs.put(&sha256, body).await?,
        (Some(offset), Some(length)) => {
            let now = api.clock.now();
            let upload = Upload { sha256: sha256.clone(), by: by.clone(), offset, length, now };
            match api.blobs.resume(upload, body).await? {
                Resumed::Stored(stored) => stored,
                Resumed::Kept(offset) => {
                    let view = UploadView { sha256, offset, length };
                    return Ok(
                        (StatusCode::ACCEPTED, [(UPLOAD_OFFSET, offset.to_string())], Json(view)).into_response()
                    );
                }
            }
        }
        _ => return Err(bad_headers("one of them is missing")),
    };
    api.engine.add_package(&sha256, stored.bytes, &by).await?;
    let status = if stored.new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(PackageView { sha256, bytes: stored.bytes })).into_response())
}

/// Makes a package of a commit of the repository that the project's spec names. The same commit is the same package.
#[utoipa::path(post, path = "/projects/{name}/packages", tag = "packages", operation_id = "make_package", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the project.")), request_body = MakePackage,
    responses(
        (status = 201, body = MadeView, description = "It is stored, or was there already."),
        (status = 403, body = ProblemView, description = "`source_protocol` or `secret_missing`."),
        (status = 404, body = ProblemView),
        (status = 409, body = ProblemView, description = "`no_source`, `no_git` or `source_failed`; nothing was stored."),
        (status = 422, body = ProblemView, description = "What is in the repository is no package."),
    ))]
pub(super) async fn make(
    State(api): State<Api>,
    Actor(by): Actor,
    Path(project): Path<String>,
    Optional(body): Optional<MakePackage>,
) -> Result<(StatusCode, Json<MadeView>), Problem> {
    let made = api.engine.make_package(&project, body.reference.as_deref(), &by).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| bad_headers("each is a number of bytes"))
}

fn bad_headers(why: &str) -> Problem {
    let detail = format!("the headers `Upload-Offset` and `Upload-Length` go together: {why}; nothing was stored");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
}
