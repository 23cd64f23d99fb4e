//! Libraries: sets of variables that projects share.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Api;
use super::auth::Actor;
use super::extract::Strict;
use super::problem::{Problem, ProblemView};
use super::variables::{SetVariable, VariableSet};
use crate::engine::LibraryView;

/// A library to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateLibrary {
    /// The name, unique for ever.
    name: String,
}

/// All libraries by name, without their variables.
#[utoipa::path(get, path = "/libraries", tag = "projects", operation_id = "list_libraries", security(("token" = [])),
    responses((status = 200, body = Vec<LibraryView>), (status = 403, body = ProblemView)))]
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Vec<LibraryView>>, Problem> {
    Ok(Json(api.engine.libraries().await?))
}

/// Makes a library. A project that names it under `libraries` may use its variables.
#[utoipa::path(post, path = "/libraries", tag = "projects", operation_id = "create_library", security(("token" = [])),
    request_body = CreateLibrary,
    responses((status = 201, body = LibraryView), (status = 403, body = ProblemView), (status = 409, body = ProblemView), (status = 422, body = ProblemView)))]
pub(super) async fn create(
    State(api): State<Api>,
    Actor(by): Actor,
    Strict(body): Strict<CreateLibrary>,
) -> Result<(StatusCode, Json<LibraryView>), Problem> {
    Ok((StatusCode::CREATED, Json(api.engine.create_library(&body.name, &by).await?)))
}

/// A library with its variables; values of secrets are never shown.
#[utoipa::path(get, path = "/libraries/{library}", tag = "projects", operation_id = "show_library", security(("token" = [])),
    params(("library" = String, Path, description = "Name of the library")),
    responses((status = 200, body = LibraryView), (status = 403, body = ProblemView), (status = 404, body = ProblemView)))]
pub(super) async fn show(State(api): State<Api>, Path(library): Path<String>) -> Result<Json<LibraryView>, Problem> {
    Ok(Json(api.engine.library(&library).await?))
}

/// Sets a variable of a library. Releases that were made before keep the old value.
#[utoipa::path(put, path = "/libraries/{library}/variables/{variable}", tag = "projects", operation_id = "set_library_variable", security(("token" = [])),
    params(("library" = String, Path, description = "Name of the library"), ("variable" = String, Path, description = "Name of the variable")),
    request_body = SetVariable,
    responses((status = 200, body = VariableSet), (status = 403, body = ProblemView), (status = 404, body = ProblemView), (status = 422, body = ProblemView)))]
pub(super) async fn set(
    State(api): State<Api>,
    Actor(by): Actor,
    Path((library, name)): Path<(String, String)>,
    Strict(body): Strict<SetVariable>,
) -> Result<Json<VariableSet>, Problem> {
    let set = api.engine.set_library_variable(&library, body.into_new(name)?, &by).await?;
    Ok(Json(VariableSet { name: set.name, secret: set.secret }))
}
