//! Projects: `longshore.yaml` in, revisions out.

#![expect(unused_qualifications, reason = "utoipa writes paths out in full")]

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use longshore_core::access::Permission;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Api;
use super::auth::{Actor, Who};
use super::extract::Asked;
use super::problem::{Problem, ProblemView};
use crate::engine::{AppliedView, ProjectView, SpecView};

/// All projects that the caller may see, by name.
#[utoipa::path(get, path = "/projects", tag = "projects", operation_id = "list_projects", security(("token" = [])),
    responses((status = 200, body = Vec<ProjectView>), (status = 401, body = ProblemView)))]
pub(super) async fn list(State(api): State<Api>, Who(who): Who) -> Result<Json<Vec<ProjectView>>, Problem> {
    let mut views = api.engine.projects().await?;
    views.retain(|view| who.may_somewhere(Permission::View, Some(&view.name)));
    Ok(Json(views))
}

/// One project.
#[utoipa::path(get, path = "/projects/{name}", tag = "projects", operation_id = "show_project", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the project")),
    responses((status = 200, body = ProjectView), (status = 404, body = ProblemView)))]
pub(super) async fn show(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<ProjectView>, Problem> {
    Ok(Json(api.engine.project(&name).await?))
}

/// The newest revision of a project's spec, as JSON.
#[utoipa::path(get, path = "/projects/{name}/spec", tag = "projects", operation_id = "show_spec", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the project")),
    responses((status = 200, body = SpecView), (status = 404, body = ProblemView)))]
pub(super) async fn spec(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<SpecView>, Problem> {
    Ok(Json(api.engine.spec(&name).await?))
}

/// When a spec is to be applied.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ApplyQuery {
    /// Only if this is the newest revision; 0: only if there is no such project. A spec that means the same as the newest one is
    /// never refused.
    if_revision: Option<u64>,
}

/// Creates or updates a project from its spec. The name in the path must be the one in the spec.
#[utoipa::path(put, path = "/projects/{name}", tag = "projects", operation_id = "apply_project", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the project"), ApplyQuery),
    request_body(content = String, content_type = "application/yaml", description = "`longshore.yaml`"),
    responses(
        (status = 200, body = AppliedView),
        (status = 409, body = ProblemView, description = "`revision_moved`: the newest revision is not `if_revision`"),
        (status = 422, body = ProblemView, description = "`bad_spec`: `errors` has every mistake with its line and field"),
    ))]
pub(super) async fn apply(
    State(api): State<Api>,
    Actor(by): Actor,
    Path(name): Path<String>,
    Asked(query): Asked<ApplyQuery>,
    spec: Bytes,
) -> Result<Json<AppliedView>, Problem> {
    // The engine parses again when it saves; a spec is small, and nothing may be saved under another name.
    let parsed =
        longshore_core::spec::parse_bytes(&spec).map_err(|errors| Problem::from(crate::engine::Error::Spec(errors)))?;
    if parsed.name != name {
        let detail =
            format!("the spec is of project `{}`, the request is for `{name}`; nothing was changed", parsed.name);
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "other_project", detail));
    }
    Ok(Json(api.engine.apply_project_if(&spec, query.if_revision, &by).await?))
}
