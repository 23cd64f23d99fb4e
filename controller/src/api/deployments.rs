//! Deployments: asked for, shown, canceled, resolved.

#![expect(unused_qualifications, reason = "utoipa writes paths out in full")]

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use longshore_core::access::Permission;
use longshore_core::id::DeploymentId;
use longshore_core::step::Choice;
use longshore_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::auth::{Actor, Who};
use super::extract::{Asked, Id, Optional, Strict};
use super::problem::{Problem, ProblemView};
use super::request::Made;
use crate::engine::{self, DeploymentView, EventView, ExplainView, Need, NewDeployment, NewLocal, Subject};
use crate::store::rows::DeploymentFilter;

/// Longest operation id.
const MAX_OPERATION: usize = 200;

/// A deployment to start.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateDeployment {
    /// Name of the project.
    project: String,
    /// Name of the environment.
    environment: String,
    /// SHA-256 of a stored package; without one and a release, and for a project that names a `source`, the package of that.
    #[serde(default)]
    package: Option<String>,
    /// Branch, tag or whole commit id of the project's `source`, instead of the one in its spec.
    #[serde(default, rename = "ref")]
    reference: Option<String>,
    /// Version of a release; without one it is made on the spot of the project as it is now and the package.
    #[serde(default)]
    release: Option<String>,
    /// Channel of the release that is made on the spot; without one the default channel.
    #[serde(default)]
    channel: Option<String>,
    /// The working tree that it is of, instead of the project as it was applied. Nothing but this deployment uses it.
    #[serde(default)]
    local: Option<CreateLocal>,
    /// Values of the variables that the spec asks for (`prompt`).
    #[serde(default)]
    variables: BTreeMap<String, String>,
    /// Greater ones begin first among those that wait for the same thing; 0 when it is not said.
    #[serde(default)]
    priority: i64,
    /// RFC 3339: it does not begin before.
    #[serde(default)]
    not_before: Option<String>,
    /// RFC 3339: it is not begun after.
    #[serde(default)]
    expires_at: Option<String>,
    /// Names of steps that are not run; each has to be `skippable`.
    #[serde(default)]
    skip: Vec<String>,
    /// A step that fails waits for a person, who decides whether it is tried again, ignored or has failed.
    #[serde(default)]
    guided: bool,
    /// Made by the client, unique: a repeated request with the same one makes no second deployment.
    operation_id: String,
}

/// A working tree.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateLocal {
    /// Text of its `longshore.yaml`.
    spec: String,
    /// The commit that is checked out, 7 to 64 hex digits; for people.
    #[serde(default)]
    commit: Option<String>,
    /// Whether something differs from the commit; for people.
    #[serde(default)]
    dirty: Option<bool>,
}

/// What was accepted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeploymentRef {
    /// `dep_...`.
    #[schema(value_type = String)]
    pub(super) deployment: DeploymentId,
}

/// Which deployments.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ListDeployments {
    /// Of this project.
    project: Option<String>,
    /// To this environment.
    environment: Option<String>,
    /// At most so many, from 1 to 500; 50 when it is not said.
    limit: Option<u32>,
    /// Made before this one, `dep_...`.
    #[param(value_type = Option<String>)]
    before: Option<DeploymentId>,
}

/// Asks for an end.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Cancel {
    /// Taken for symmetry; asking twice is the same as asking once.
    #[serde(default)]
    #[expect(dead_code, reason = "a repeated cancel changes nothing, so there is nothing to tell apart")]
    operation_id: Option<String>,
}

/// A person's word on a step that failed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Guide {
    /// What becomes of the step.
    choice: GuideChoice,
    /// Why; kept with the step.
    comment: String,
}

/// What becomes of a step that failed.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum GuideChoice {
    /// A new job begins with it, in a fresh workspace.
    Retry,
    /// It counts as if it had ended well.
    Ignore,
    /// It has failed.
    Fail,
}

/// Declares an outcome that is unknown as lost.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Resolve {
    /// Why it is known that nothing of it runs any more. Recorded.
    reason: String,
}

/// Deployments that the caller may see, newest first.
#[utoipa::path(get, path = "/deployments", tag = "deployments", operation_id = "list_deployments", security(("token" = [])),
    params(ListDeployments), responses((status = 200, body = Vec<DeploymentView>), (status = 400, body = ProblemView)))]
pub(super) async fn list(
    State(api): State<Api>,
    Who(who): Who,
    Asked(asked): Asked<ListDeployments>,
) -> Result<Json<Vec<DeploymentView>>, Problem> {
    let ListDeployments { project, environment, limit, before } = asked;
    if let Some(name) = &project {
        // Asked for by name, what may not be seen is refused: an empty list would say that there is nothing.
        let need = Need::new(Permission::View, "deployment.list", &format!("project/{name}"));
        let need = need.at(project.as_deref(), environment.as_deref());
        let need = if environment.is_some() { need } else { need.somewhere() };
        api.engine.authorize(&who, need).await?;
    }
    let places = who.places(Permission::View);
    let filter = DeploymentFilter { project, environment, before, places, limit: limit.unwrap_or_default() };
    Ok(Json(api.engine.deployments(filter).await?))
}

/// Starts a deployment. Accepted is kept: what was answered here survives a crash.
#[utoipa::path(post, path = "/deployments", tag = "deployments", operation_id = "create_deployment", security(("token" = [])),
    request_body = CreateDeployment,
    responses((status = 202, body = DeploymentRef), (status = 404, body = ProblemView), (status = 409, body = ProblemView), (status = 422, body = ProblemView)))]
pub(super) async fn create(
    State(api): State<Api>,
    Actor(by): Actor,
    Who(who): Who,
    Strict(body): Strict<CreateDeployment>,
) -> Result<(StatusCode, Extension<Made>, Json<DeploymentRef>), Problem> {
    let CreateDeployment { project, environment, package, release, variables, priority, guided, operation_id, .. } =
        body;
    let need = Need::new(Permission::Deploy, "deployment.create", &format!("project/{project}"));
    api.engine.authorize(&who, need.at(Some(&project), Some(&environment))).await?;
    if operation_id.is_empty() || operation_id.len() > MAX_OPERATION {
        let detail = format!("`operation_id`: it has {} bytes; 1 to {MAX_OPERATION} are taken", operation_id.len());
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail));
    }
    let local = body.local.map(|local| NewLocal { spec: local.spec, commit: local.commit, dirty: local.dirty });
    let subject = match &release {
        Some(version) => Subject::Release(version.clone()),
        None => Subject::New { channel: body.channel.clone(), version: None },
    };
    let permitted = match &local {
        Some(local) => children_of_tree(&api, &who, (&project, &environment), local).await?,
        None => children(&api, &who, "deployment.create", (&project, &subject), &[&environment]).await?,
    };
    let not_before = instant("not_before", body.not_before.as_deref())?;
    let expires_at = instant("expires_at", body.expires_at.as_deref())?;
    let new = NewDeployment {
        project,
        environment,
        package,
        reference: body.reference,
        release,
        local,
        variables,
        priority,
        not_before,
        expires_at,
        operation_id,
        guided,
        channel: body.channel,
        skip: body.skip,
        permitted: Some(permitted),
        ..NewDeployment::default()
    };
    let deployment = api.engine.create_deployment(new, &by).await?;
    Ok((StatusCode::ACCEPTED, Extension(Made(deployment)), Json(DeploymentRef { deployment })))
}

/// Asks for the right to deploy every other project that a release deploys too, where it goes: a child is no way around a role. A
/// release that is made on the spot may go on by itself, so it is asked for there as well.
pub(super) async fn children(
    api: &Api,
    who: &engine::Actor,
    action: &'static str,
    (project, subject): (&str, &Subject),
    environments: &[&str],
) -> Result<BTreeSet<String>, Problem> {
    let below = api.engine.below(project, subject).await?;
    let places: BTreeSet<&str> =
        environments.iter().copied().chain(below.automatic.iter().map(String::as_str)).collect();
    for child in &below.projects {
        for environment in &places {
            let need = Need::new(Permission::Deploy, action, &format!("project/{project}"));
            api.engine.authorize(who, need.at(Some(child), Some(environment))).await?;
        }
    }
    Ok(below.projects)
}

/// What a working tree takes more than a release: it changes what runs, as an `apply` does, so it takes the right to apply.
async fn children_of_tree(
    api: &Api,
    who: &engine::Actor,
    (project, environment): (&str, &str),
    local: &NewLocal,
) -> Result<BTreeSet<String>, Problem> {
    let object = format!("project/{project}");
    let action = "deployment.create_local";
    api.engine.authorize(who, Need::new(Permission::Administer, action, &object).at(Some(project), None)).await?;
    let below = api.engine.below_local(project, local).await?;
    for child in &below {
        let need = Need::new(Permission::Deploy, action, &object);
        api.engine.authorize(who, need.at(Some(child), Some(environment))).await?;
    }
    Ok(below)
}

fn instant(field: &str, text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    let wrong = |text: &str| {
        let detail = format!("`{field}`: `{text}` is no time: write it as `2026-11-21T10:00:00Z`");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
    };
    text.map(|text| text.parse().map_err(|_| wrong(text))).transpose()
}

/// One deployment.
#[utoipa::path(get, path = "/deployments/{id}", tag = "deployments", operation_id = "show_deployment", security(("token" = [])),
    params(("id" = String, Path, description = "`dep_...`")),
    responses((status = 200, body = DeploymentView), (status = 404, body = ProblemView)))]
pub(super) async fn show(State(api): State<Api>, Id(id): Id<DeploymentId>) -> Result<Json<DeploymentView>, Problem> {
    Ok(Json(view(&api, id).await?))
}

/// A deployment's view, or the refusal that says it is not there.
pub(super) async fn view(api: &Api, id: DeploymentId) -> Result<DeploymentView, Problem> {
    let found = api.engine.deployment_view(id).await?;
    found.ok_or_else(|| engine::Error::NotFound { kind: "deployment", name: id.to_string(), hint: None }.into())
}

/// Why a deployment waits, or the one of a job: every rule, and for each agent what rejects it.
#[utoipa::path(get, path = "/deployments/{id}/explain", tag = "deployments", operation_id = "explain_deployment", security(("token" = [])),
    params(("id" = String, Path, description = "`dep_...`, or `job_...`")),
    responses((status = 200, body = ExplainView), (status = 404, body = ProblemView)))]
pub(super) async fn explain(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<ExplainView>, Problem> {
    let id = api.engine.deployment_named(&id).await?;
    Ok(Json(api.engine.explain(id).await?))
}

/// Asks for a deployment's end: one SIGINT to its tool, SIGKILL after a grace time. Answers with the deployment as it is now.
#[utoipa::path(post, path = "/deployments/{id}/cancel", tag = "deployments", operation_id = "cancel_deployment", security(("token" = [])),
    params(("id" = String, Path, description = "`dep_...`")), request_body = Cancel,
    responses((status = 202, body = DeploymentView), (status = 404, body = ProblemView), (status = 409, body = ProblemView, description = "It has ended.")))]
pub(super) async fn cancel(
    State(api): State<Api>,
    Actor(by): Actor,
    Id(id): Id<DeploymentId>,
    _body: Optional<Cancel>,
) -> Result<(StatusCode, Json<DeploymentView>), Problem> {
    api.engine.cancel(id, &by).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&api, id).await?)))
}

/// Declares a deployment whose outcome is unknown as lost; its lock is released. The reason is recorded.
#[utoipa::path(post, path = "/deployments/{id}/resolve", tag = "deployments", operation_id = "resolve_deployment", security(("token" = [])),
    params(("id" = String, Path, description = "`dep_...`")), request_body = Resolve,
    responses((status = 200, body = DeploymentView), (status = 404, body = ProblemView), (status = 409, body = ProblemView, description = "Its outcome is not unknown.")))]
pub(super) async fn resolve(
    State(api): State<Api>,
    Actor(by): Actor,
    Id(id): Id<DeploymentId>,
    Strict(body): Strict<Resolve>,
) -> Result<Json<DeploymentView>, Problem> {
    if body.reason.trim().is_empty() {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid",
            "`reason`: it is empty; write how it is known that nothing runs any more",
        ));
    }
    api.engine.resolve(id, &body.reason, &by).await?;
    Ok(Json(view(&api, id).await?))
}

/// Lets a deployment that has not begun begin before all others that wait.
#[utoipa::path(post, path = "/deployments/{id}/top", tag = "deployments", operation_id = "move_deployment_to_top", security(("token" = [])),
    params(("id" = String, Path, description = "`dep_...`")),
    responses((status = 200, body = DeploymentView), (status = 404, body = ProblemView), (status = 409, body = ProblemView, description = "It has begun.")))]
pub(super) async fn top(
    State(api): State<Api>,
    Actor(by): Actor,
    Id(id): Id<DeploymentId>,
) -> Result<Json<DeploymentView>, Problem> {
    api.engine.move_to_top(id, &by).await?;
    Ok(Json(view(&api, id).await?))
}

/// Decides about a step that failed in a guided deployment.
#[utoipa::path(post, path = "/deployments/{id}/steps/{step}/guide", tag = "deployments", operation_id = "guide_step", security(("token" = [])),
    params(("id" = String, Path, description = "`dep_...`"), ("step" = String, Path, description = "Name of the step.")), request_body = Guide,
    responses((status = 200, body = DeploymentView), (status = 404, body = ProblemView), (status = 409, body = ProblemView, description = "Nobody is asked about the step."), (status = 422, body = ProblemView)))]
pub(super) async fn guide(
    State(api): State<Api>,
    Actor(by): Actor,
    Path((id, step)): Path<(String, String)>,
    Strict(body): Strict<Guide>,
) -> Result<Json<DeploymentView>, Problem> {
    let id: DeploymentId =
        id.parse().map_err(|_| engine::Error::NotFound { kind: "deployment", name: id.clone(), hint: None })?;
    let choice = match body.choice {
        GuideChoice::Retry => Choice::Retry,
        GuideChoice::Ignore => Choice::Ignore,
        GuideChoice::Fail => Choice::Fail,
    };
    api.engine.guide(id, &step, choice, &body.comment, &by).await?;
    Ok(Json(view(&api, id).await?))
}

/// What happened to a deployment, oldest first.
#[utoipa::path(get, path = "/deployments/{id}/timeline", tag = "deployments", operation_id = "deployment_timeline", security(("token" = [])),
    params(("id" = String, Path, description = "`dep_...`")),
    responses((status = 200, body = Vec<EventView>), (status = 404, body = ProblemView)))]
pub(super) async fn timeline(
    State(api): State<Api>,
    Id(id): Id<DeploymentId>,
) -> Result<Json<Vec<EventView>>, Problem> {
    Ok(Json(api.engine.timeline(id).await?))
}
