//! Files that a deployment's steps left: listed and handed out.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use longshore_core::access::Permission;
use longshore_core::artifacts::Kind;
use longshore_core::id::DeploymentId;
use tokio::io::AsyncReadExt as _;

use super::Api;
use super::auth::Who;
use super::extract::Id;
use super::problem::{Problem, ProblemView, chain};
use crate::engine::{self, ArtifactsView, Need};

/// Bytes of a piece of the body.
const PIECE: u64 = 256 << 10;

/// Files that the steps of a deployment left, and those of them that are not kept, and why.
#[utoipa::path(get, path = "/deployments/{id}/artifacts", tag = "deployments", operation_id = "list_artifacts", security(("token" = [])),
    params(("id" = String, Path, description = "`dep_...`")),
    responses((status = 200, body = ArtifactsView), (status = 404, body = ProblemView)))]
pub(super) async fn list(State(api): State<Api>, Id(id): Id<DeploymentId>) -> Result<Json<ArtifactsView>, Problem> {
    Ok(Json(api.engine.artifacts(id).await?))
}

/// The bytes of one file. One of kind `state` takes the right to deploy there.
#[utoipa::path(get, path = "/deployments/{id}/artifacts/{artifact}", tag = "deployments", operation_id = "get_artifact", security(("token" = [])),
    params(
        ("id" = String, Path, description = "`dep_...`"),
        ("artifact" = i64, Path, description = "`id` of the list")
    ),
    responses(
        (status = 200, content((Vec<u8> = "application/octet-stream"))),
        (status = 403, body = ProblemView),
        (status = 404, body = ProblemView),
    ))]
pub(super) async fn get(
    State(api): State<Api>,
    Who(who): Who,
    Path((id, artifact)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let missing = |kind, name: &str| {
        Problem::from(engine::Error::NotFound { kind, name: name.chars().take(80).collect(), hint: None })
    };
    let id: DeploymentId = id.parse().map_err(|_| missing("deployment", &id))?;
    let number: i64 = artifact.parse().map_err(|_| missing("artifact", &artifact))?;
    let (kind, path, bytes, sha256) = api.engine.artifact(id, number).await?;
    if kind == Kind::State {
        let place = api.engine.place_of(id).await?;
        let need = Need::new(Permission::Deploy, "artifact.read", &format!("deployment/{id}"));
        api.engine.authorize(&who, need.at(place.project.as_deref(), place.environment.as_deref())).await?;
    }
    let file = api.engine.artifact_blobs().open_file(&sha256).await?;
    let file = file.ok_or_else(|| engine::Error::Internal(format!("file `{sha256}` is not on the disk any more")))?;
    let mut response = Body::from_stream(pieces(file, bytes)).into_response();
    headers(response.headers_mut(), &path, bytes, &sha256);
    Ok(response)
}

/// Exactly so many bytes of a file; an error ends the body before its length is reached, so the reader knows that it is not whole.
fn pieces(file: tokio::fs::File, bytes: u64) -> impl stream::Stream<Item = std::io::Result<Bytes>> {
    stream::try_unfold((file, bytes), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let mut piece = Vec::new();
        let read = (&mut file).take(left.min(PIECE)).read_to_end(&mut piece).await;
        let read = read.and_then(|read| match read {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => Ok(read as u64),
        });
        let read =
            read.inspect_err(|error| tracing::error!(error = %chain(error), "a file of a step cannot be read"))?;
        Ok(Some((Bytes::from(piece), (file, left - read))))
    })
}

/// The file is whatever a step wrote: no browser is to take it for a page of ours.
fn headers(headers: &mut HeaderMap, path: &str, bytes: u64, sha256: &str) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    let texts = [(header::CONTENT_DISPOSITION, disposition(path)), (header::ETAG, format!("\"{sha256}\""))];
    for (name, text) in texts {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    }
}

/// The last part of the path as a name to save under (RFC 6266), in a plain form and in an exact one.
fn disposition(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let simple: String = name.bytes().map(|byte| if plain(byte) { char::from(byte) } else { '_' }).collect();
    let exact: String = name
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    format!("attachment; filename=\"{simple}\"; filename*=UTF-8''{exact}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_header() {
        assert_eq!(disposition("a/plan.txt"), "attachment; filename=\"plan.txt\"; filename*=UTF-8''plan.txt");
        let odd = disposition("x/\"ä; y.html");
        assert_eq!(odd, "attachment; filename=\"_____y.html\"; filename*=UTF-8''%22%C3%A4%3B%20y.html");
    }
}
