//! Accounts of clouds and of Pulumi: written, never read.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use longshore_core::secret::Secret;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Api;
use super::auth::Actor;
use super::extract::Strict;
use super::problem::{Problem, ProblemView};
use crate::engine::{AccountView, Error, NewAccount};

/// Values of an account.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetAccount {
    /// `aws`, `azure`, `gcp` or `pulumi`.
    #[serde(rename = "type")]
    kind: String,
    /// For this environment only.
    #[serde(default)]
    environment: Option<String>,
    /// Values by field.
    #[schema(value_type = BTreeMap<String, String>)]
    fields: BTreeMap<String, Secret>,
}

/// All accounts by name; their values are never shown.
#[utoipa::path(get, path = "/accounts", tag = "projects", operation_id = "list_accounts", security(("token" = [])),
    responses((status = 200, body = Vec<AccountView>), (status = 403, body = ProblemView)))]
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Vec<AccountView>>, Problem> {
    Ok(Json(api.engine.accounts().await?))
}

/// Makes an account, or gives it new values. Releases that were made before keep the old ones.
#[utoipa::path(put, path = "/accounts/{account}", tag = "projects", operation_id = "set_account", security(("token" = [])),
    params(("account" = String, Path, description = "Name of the account")),
    request_body = SetAccount,
    responses((status = 200, body = AccountView), (status = 403, body = ProblemView), (status = 409, body = ProblemView), (status = 422, body = ProblemView)))]
pub(super) async fn put(
    State(api): State<Api>,
    Actor(by): Actor,
    Path(account): Path<String>,
    Strict(body): Strict<SetAccount>,
) -> Result<Json<AccountView>, Problem> {
    let kind = body.kind.parse().map_err(|message: String| Error::invalid("type", message, None))?;
    let new = NewAccount { kind, environment: body.environment, fields: body.fields };
    Ok(Json(api.engine.set_account(&account, new, &by).await?))
}
