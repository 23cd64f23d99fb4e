//! Values of variables that are set on the server.

#![expect(unused_qualifications, reason = "utoipa writes paths out in full")]

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use longshore_core::access::Permission;
use longshore_core::secret::Secret;
use longshore_core::variables::Scope;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::auth::{Actor, Who};
use super::extract::{Asked, Strict};
use super::problem::{Problem, ProblemView};
use crate::engine::{Need, NewVariable, VariableExplained, VariableView};

/// A value to set.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetVariable {
    /// The value.
    #[schema(value_type = String)]
    value: Secret,
    /// Never shown again, masked in logs.
    #[serde(default)]
    secret: bool,
    /// For this environment only.
    #[serde(default)]
    environment: Option<String>,
    /// For releases of this channel only. A value has one scope: no more than one of these four is taken.
    #[serde(default)]
    channel: Option<String>,
    /// For this step only.
    #[serde(default)]
    step: Option<String>,
    /// For jobs of this pool only.
    #[serde(default)]
    pool: Option<String>,
}

impl SetVariable {
    pub(super) fn into_new(self, name: String) -> Result<NewVariable, Problem> {
        let scopes = [
            self.environment.map(Scope::Environment),
            self.channel.map(Scope::Channel),
            self.step.map(Scope::Step),
            self.pool.map(Scope::Pool),
        ];
        let mut scopes = scopes.into_iter().flatten();
        let scope = scopes.next().unwrap_or(Scope::All);
        if let Some(other) = scopes.next() {
            let detail = format!("a value has one scope, and {scope} and {other} are named: set two values");
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail));
        }
        Ok(NewVariable { name, value: self.value, secret: self.secret, scope })
    }
}

/// What was set.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VariableSet {
    /// Its name.
    pub(super) name: String,
    /// Whether it is a secret.
    pub(super) secret: bool,
}

/// Variables of a project; values of secrets are never shown.
#[utoipa::path(get, path = "/projects/{name}/variables", tag = "projects", operation_id = "list_variables", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the project")),
    responses((status = 200, body = Vec<VariableView>), (status = 404, body = ProblemView)))]
pub(super) async fn list(
    State(api): State<Api>,
    Who(who): Who,
    Path(name): Path<String>,
) -> Result<Json<Vec<VariableView>>, Problem> {
    let mut views = api.engine.variables(&name).await?;
    // What is for all environments is for the one that the caller may see, too.
    let seen = |environment: &String| who.may(Permission::View, Some(&name), Some(environment));
    views.retain(|view| view.environment.as_ref().is_none_or(seen));
    Ok(Json(views))
}

/// Sets a variable's value. Deployments that were accepted before keep the old one.
#[utoipa::path(put, path = "/projects/{name}/variables/{variable}", tag = "projects", operation_id = "set_variable", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the project"), ("variable" = String, Path, description = "Name of the variable")),
    request_body = SetVariable,
    responses((status = 200, body = VariableSet), (status = 404, body = ProblemView), (status = 422, body = ProblemView)))]
pub(super) async fn set(
    State(api): State<Api>,
    Actor(by): Actor,
    Who(who): Who,
    Path((project, name)): Path<(String, String)>,
    Strict(body): Strict<SetVariable>,
) -> Result<Json<VariableSet>, Problem> {
    let permission = if body.secret { Permission::Administer } else { Permission::Deploy };
    let need = Need::new(permission, "variable.set", &format!("variable/{project}/{name}"));
    api.engine.authorize(&who, need.at(Some(&project), body.environment.as_deref())).await?;
    let set = api.engine.set_variable(&project, body.into_new(name)?, &by).await?;
    Ok(Json(VariableSet { name: set.name, secret: set.secret }))
}

/// For which place.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainPlace {
    /// The environment.
    environment: String,
    /// For releases of this channel; the default channel when it is not said.
    channel: Option<String>,
    /// The step, if it is for one.
    step: Option<String>,
}

/// Where the value of a variable comes from, and what it beat.
#[utoipa::path(get, path = "/projects/{name}/variables/{variable}/explain", tag = "projects", operation_id = "explain_variable", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the project"), ("variable" = String, Path, description = "Name of the variable"), ExplainPlace),
    responses((status = 200, body = VariableExplained), (status = 404, body = ProblemView)))]
pub(super) async fn explain(
    State(api): State<Api>,
    Who(who): Who,
    Path((project, name)): Path<(String, String)>,
    Asked(place): Asked<ExplainPlace>,
) -> Result<Json<VariableExplained>, Problem> {
    let need = Need::new(Permission::View, "variable.list", &format!("variable/{project}/{name}"));
    api.engine.authorize(&who, need.at(Some(&project), Some(&place.environment))).await?;
    Ok(Json(api.engine.explain_variable(&project, &name, &place.environment, (place.channel, place.step)).await?))
}
