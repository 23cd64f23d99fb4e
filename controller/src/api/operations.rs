//! Operations on a stack outside the lifecycle.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use longshore_core::access::Permission;
use longshore_core::operation;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Api;
use super::auth::{Actor, Who};
use super::deployments::DeploymentRef;
use super::extract::Strict;
use super::problem::{Problem, ProblemView};
use super::request::Made;
use crate::engine::{Need, NewDeployment, NewOperation};

/// What is to be done to a stack.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateOperation {
    /// `preview`, `up`, `refresh`, `destroy`, `drift` or `unlock`.
    operation: String,
    /// Name of the environment.
    environment: String,
    /// The `pulumi` step whose program, stack and settings count; not needed where there is only one.
    #[serde(default)]
    step: Option<String>,
    /// Version of the release; without one that which is in the environment.
    #[serde(default)]
    release: Option<String>,
    /// For a `destroy`: the name of the stack, as a person typed it.
    #[serde(default)]
    confirm: Option<String>,
    /// Values of the variables that the spec asks for; those of the deployment that is there count where nothing is said.
    #[serde(default)]
    variables: BTreeMap<String, String>,
    /// Made by the client, unique: a repeated request with the same one does it no second time.
    operation_id: String,
}

/// Does something to a stack that a release left in an environment, without moving a release. It is a deployment like any other: it waits
/// for the same locks, and has a log and a timeline.
#[utoipa::path(post, path = "/projects/{name}/operations", tag = "deployments", operation_id = "create_operation", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the project.")), request_body = CreateOperation,
    responses((status = 202, body = DeploymentRef), (status = 404, body = ProblemView), (status = 409, body = ProblemView), (status = 422, body = ProblemView)))]
pub(super) async fn create(
    State(api): State<Api>,
    Actor(by): Actor,
    Who(who): Who,
    Path(project): Path<String>,
    Strict(body): Strict<CreateOperation>,
) -> Result<(StatusCode, Extension<Made>, Json<DeploymentRef>), Problem> {
    let need = Need::new(Permission::Deploy, "operation.create", &format!("project/{project}"));
    api.engine.authorize(&who, need.at(Some(&project), Some(&body.environment))).await?;
    let operation = operation::by_name(&body.operation).map_err(|rejected| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", format!("`operation`: {rejected}"))
    })?;
    let new = NewDeployment {
        project,
        environment: body.environment,
        release: body.release,
        variables: body.variables,
        operation_id: body.operation_id,
        operation: Some(NewOperation { operation, step: body.step, confirm: body.confirm }),
        ..NewDeployment::default()
    };
    let deployment = api.engine.create_deployment(new, &by).await?;
    Ok((StatusCode::ACCEPTED, Extension(Made(deployment)), Json(DeploymentRef { deployment })))
}
