//! What is shown of people, their roles and the audit. A token's text is in none of it.

use longshore_core::access::Grant;
use serde::Serialize;
use utoipa::ToSchema;

use crate::store::people::{GrantRow, Subject, TeamRow, UserRow};
use crate::store::rows::{EventRow, TokenRow};

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct UserView {
    /// The name.
    pub name: String,
    /// `person` or `service`.
    pub kind: &'static str,
    /// RFC 3339 in UTC, milliseconds.
    pub created_at: String,
    /// Since when its tokens count no more; RFC 3339 in UTC, milliseconds.
    pub disabled_at: Option<String>,
}

/// A team.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TeamView {
    /// The name.
    pub name: String,
    /// Names of its members, sorted.
    pub members: Vec<String>,
    /// RFC 3339 in UTC, milliseconds.
    pub created_at: String,
}

/// A role and where it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RoleView {
    /// `viewer`, `deployer`, `approver` or `admin`.
    pub role: &'static str,
    /// In this project only; `null`: in all.
    pub project: Option<String>,
    /// In this environment only; `null`: in all.
    pub environment: Option<String>,
}

/// A role that was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct GrantView {
    /// `grn_...`.
    pub id: String,
    /// The user that has it.
    pub user: Option<String>,
    /// The team whose members have it.
    pub team: Option<String>,
    /// `viewer`, `deployer`, `approver` or `admin`.
    pub role: &'static str,
    /// In this project only; `null`: in all.
    pub project: Option<String>,
    /// In this environment only; `null`: in all.
    pub environment: Option<String>,
    /// RFC 3339 in UTC, milliseconds.
    pub created_at: String,
    /// Who gave it.
    pub created_by: String,
}

/// A token, without its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TokenView {
    /// `tok_...`.
    pub id: String,
    /// The user it speaks for.
    pub user: String,
    /// All that it may do of what the user may; `null`: all of it.
    pub limit: Option<RoleView>,
    /// RFC 3339 in UTC, milliseconds.
    pub created_at: String,
    /// RFC 3339 in UTC, milliseconds; `null`: never.
    pub expires_at: Option<String>,
}

/// One line of the audit.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AuditView {
    /// RFC 3339 in UTC, milliseconds.
    pub at: String,
    /// A user's name, an agent's id, or `controller`.
    pub actor: String,
    /// What, as `deployment.created`; of a refusal what was asked for, as `deployment.create`.
    pub action: String,
    /// To what, as `project/shop`.
    pub object: String,
    /// `done` or `refused`.
    pub outcome: &'static str,
    /// More; never a secret.
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
}

/// A part of the audit, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AuditPage {
    /// Lines.
    pub events: Vec<AuditView>,
    /// Where to go on; `null`: this is all there is now.
    pub next: Option<String>,
}

impl UserView {
    pub(in crate::engine) fn of(row: &UserRow) -> Self {
        Self {
            name: row.name.clone(),
            kind: row.kind.as_str(),
            created_at: row.created_at.to_string(),
            disabled_at: row.disabled_at.map(|at| at.to_string()),
        }
    }
}

impl TeamView {
    pub(in crate::engine) fn of(row: TeamRow) -> Self {
        Self { name: row.name, members: row.members, created_at: row.created_at.to_string() }
    }
}

impl RoleView {
    /// As it is shown.
    #[must_use]
    pub fn of(grant: &Grant) -> Self {
        let Grant { role, project, environment } = grant.clone();
        Self { role: role.as_str(), project, environment }
    }
}

impl GrantView {
    /// As it is shown.
    #[must_use]
    pub fn of(row: GrantRow) -> Self {
        let (user, team) = match row.subject {
            Subject::User(name) => (Some(name), None),
            Subject::Team(name) => (None, Some(name)),
        };
        let Grant { role, project, environment } = row.grant;
        Self {
            id: row.id.to_string(),
            user,
            team,
            role: role.as_str(),
            project,
            environment,
            created_at: row.created_at.to_string(),
            created_by: row.created_by,
        }
    }
}

impl TokenView {
    pub(in crate::engine) fn of(row: &TokenRow) -> Self {
        Self {
            id: row.id.to_string(),
            user: row.user.clone(),
            limit: row.limit.as_ref().map(RoleView::of),
            created_at: row.created_at.to_string(),
            expires_at: row.expires_at.map(|at| at.to_string()),
        }
    }
}

impl AuditView {
    pub(in crate::engine) fn of(row: EventRow) -> Self {
        Self {
            at: row.at.to_string(),
            actor: row.actor,
            action: row.action,
            object: row.object,
            outcome: row.outcome.as_str(),
            detail: row.detail,
        }
    }
}
