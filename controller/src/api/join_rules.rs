//! Join rules: which machines of a cloud join without a token.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use longshore_core::id::JoinRuleId;
use longshore_core::join::Conditions;
use longshore_core::spec::names;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::auth::Actor;
use super::extract::{Id, Strict};
use super::join_tokens::check_labels;
use super::problem::{Problem, ProblemView};
use crate::engine::NewJoinRule;
use crate::store::joins::JoinRuleRow;

/// A join rule to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateJoinRule {
    /// Pool that the machines join; `default` when it is not said.
    #[serde(default)]
    pool: Option<String>,
    /// Labels that they get. They come from here alone: no agent names its own.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// What they have to be: `cloud` (`aws`, `gcp`, `azure`); for `aws` `account`, `region`, `role`, `vpc`; for `gcp` `project`, `zone`,
    /// `service_account`; for `azure` `subscription`. The first one of each is needed, there are no patterns.
    #[schema(value_type = Object)]
    conditions: Conditions,
}

/// A join rule.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JoinRuleView {
    /// `jru_...`.
    id: String,
    /// Pool that the machines join.
    pool: String,
    /// Labels that they get.
    labels: BTreeMap<String, String>,
    /// What they have to be.
    #[schema(value_type = Object)]
    conditions: Conditions,
    /// `valid` or `revoked`.
    state: &'static str,
    /// RFC 3339 in UTC.
    created_at: String,
    /// Who made it.
    created_by: String,
}

/// A join rule that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MadeJoinRule {
    #[serde(flatten)]
    rule: JoinRuleView,
    /// Certificate of the authority that the agents have to trust; no secret.
    ca_pem: String,
}

fn view(row: JoinRuleRow) -> JoinRuleView {
    JoinRuleView {
        id: row.id.to_string(),
        pool: row.pool,
        labels: row.labels,
        conditions: row.conditions,
        state: if row.revoked_at.is_some() { "revoked" } else { "valid" },
        created_at: row.created_at.to_string(),
        created_by: row.created_by,
    }
}

/// Makes a rule by which machines can join.
#[utoipa::path(post, path = "/join-rules", tag = "agents", operation_id = "create_join_rule", security(("token" = [])),
    request_body = CreateJoinRule, responses((status = 201, body = MadeJoinRule), (status = 409, body = ProblemView), (status = 422, body = ProblemView)))]
pub(super) async fn create(
    State(api): State<Api>,
    Actor(by): Actor,
    Strict(body): Strict<CreateJoinRule>,
) -> Result<(StatusCode, Json<MadeJoinRule>), Problem> {
    let invalid = |detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail);
    let pool = body.pool.unwrap_or_else(|| longshore_core::spec::DEFAULT_POOL.to_owned());
    if !names::is_name(&pool) {
        return Err(invalid(format!("`pool`: `{pool}` is no name; one is {}", names::NAME_RULE)));
    }
    check_labels(&body.labels).map_err(invalid)?;
    let mut conditions = body.conditions;
    // Azure shows it in either case.
    if let Conditions::Azure { subscription } = &mut conditions {
        subscription.make_ascii_lowercase();
    }
    let new = NewJoinRule { pool, labels: body.labels, conditions };
    let row = api.engine.add_join_rule(new, &by).await?;
    Ok((StatusCode::CREATED, Json(MadeJoinRule { rule: view(row), ca_pem: api.ca.ca_pem().to_owned() })))
}

/// All join rules, oldest first.
#[utoipa::path(get, path = "/join-rules", tag = "agents", operation_id = "list_join_rules", security(("token" = [])),
    responses((status = 200, body = Vec<JoinRuleView>)))]
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Vec<JoinRuleView>>, Problem> {
    Ok(Json(api.engine.join_rules().await?.into_iter().map(view).collect()))
}

/// Takes a join rule back. Agents that came in by it stay.
#[utoipa::path(delete, path = "/join-rules/{id}", tag = "agents", operation_id = "revoke_join_rule", security(("token" = [])),
    params(("id" = String, Path, description = "`jru_...`")),
    responses((status = 204), (status = 404, body = ProblemView)))]
pub(super) async fn revoke(
    State(api): State<Api>,
    Actor(by): Actor,
    Id(id): Id<JoinRuleId>,
) -> Result<StatusCode, Problem> {
    api.engine.revoke_join_rule(id, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}
