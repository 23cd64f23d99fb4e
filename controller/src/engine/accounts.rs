//! Users, teams and the roles they are given.
//!
//! Invariants: a name is never given to another one, so what the audit says stays true; a role names only what there is;
//! as long as someone can administer the server, no change leaves nobody who can.

use longshore_core::access::{Grant, Permission, Role, allows};
use longshore_core::id::GrantId;
use longshore_core::spec::names;
use longshore_core::time::Timestamp;
use serde_json::json;

use super::create::project;
use super::tokens::counts;
use super::view::{GrantView, TeamView, UserView};
use super::{Engine, Error, Result};
use crate::store::Tx;
use crate::store::people::{GrantRow, Subject, TeamRow, UserKind, UserRow};

/// The user of the first start, who may do everything.
pub(crate) const ADMIN: &str = "admin";
/// Names that stand for something else in the audit.
const RESERVED: [&str; 1] = ["controller"];

/// Whether someone can administer the whole server: an enabled user with the role and a token without a limit.
pub(super) struct Administered(bool);

impl Administered {
    pub(super) async fn now(tx: &mut dyn Tx, now: Timestamp) -> Result<Self> {
        let tokens = tx.tokens().await?;
        for user in tx.users().await?.into_iter().filter(|user| user.disabled_at.is_none()) {
            let token = tokens.iter().any(|row| row.user == user.name && row.limit.is_none() && counts(row, now));
            if token && allows(&tx.grants_of(&user.name).await?, Permission::Administer, None, None) {
                return Ok(Self(true));
            }
        }
        Ok(Self(false))
    }

    /// Refuses a change that took it away; the error undoes the change.
    pub(super) async fn stays(self, tx: &mut dyn Tx, now: Timestamp) -> Result<()> {
        if self.0 && !Self::now(tx, now).await?.0 {
            let message = "after this nobody could administer the server any more; nothing was changed";
            let hint = "first give another user the role `admin` everywhere, and a token";
            return Err(Error::conflict("last_admin", message, hint.to_owned()));
        }
        Ok(())
    }
}

/// A user, or the refusal that says there is none.
pub(super) async fn user(tx: &mut dyn Tx, name: &str) -> Result<UserRow> {
    let hint = format!("`longshore user create {name}` makes it");
    tx.user(name).await?.ok_or_else(|| missing("user", name, hint))
}

async fn team(tx: &mut dyn Tx, name: &str) -> Result<TeamRow> {
    let hint = format!("`longshore team create {name}` makes it");
    tx.team(name).await?.ok_or_else(|| missing("team", name, hint))
}

fn missing(kind: &'static str, name: &str, hint: String) -> Error {
    Error::NotFound { kind, name: name.to_owned(), hint: Some(hint) }
}

/// Checks that the project and the environment of a grant exist: a typing mistake would hold nowhere, and nobody would see it.
pub(super) async fn known_place(tx: &mut dyn Tx, grant: &Grant) -> Result<()> {
    let projects = match &grant.project {
        Some(name) => vec![project(tx, name).await?],
        None => tx.projects().await?,
    };
    let Some(environment) = &grant.environment else { return Ok(()) };
    let mut known = std::collections::BTreeSet::new();
    for row in projects {
        let revision = tx.revision(row.id, row.revision).await?;
        let environments = revision.map(|revision| revision.spec.environments.clone()).unwrap_or_default();
        known.extend(environments.into_iter().map(|environment| environment.name));
    }
    if known.contains(environment) {
        return Ok(());
    }
    let known: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
    let there =
        if known.is_empty() { "there are none yet".to_owned() } else { format!("there are {}", known.join(", ")) };
    let hint = format!("{there}; add it to `environments` of the project and apply it");
    Err(missing("environment", environment, hint))
}

/// A name that nobody has.
fn check_name(name: &str) -> Result<()> {
    if !names::is_name(name) || RESERVED.contains(&name) {
        let reserved = if RESERVED.contains(&name) { "is reserved" } else { "is no name" };
        return Err(Error::invalid("name", format!("`{name}` {reserved}: write {}", names::NAME_RULE), None));
    }
    Ok(())
}

fn taken(kind: &str, name: &str) -> Error {
    let hint = format!("choose another name; `longshore {kind} list` shows what there is");
    Error::conflict("exists", format!("{kind} `{name}` exists; nothing was changed"), hint)
}

impl Engine {
    /// At the first start: makes the user `admin`, who may do everything.
    ///
    /// # Errors
    /// When rows cannot be saved.
    pub async fn ensure_admin(&self) -> Result<()> {
        let id = self.clock().grant_id();
        self.change("controller", move |tx, cx| {
            Box::pin(async move {
                if !tx.users().await?.is_empty() {
                    return Ok(());
                }
                let (name, created_at) = (ADMIN.to_owned(), cx.now);
                tx.insert_user(&UserRow { name, kind: UserKind::Person, created_at, disabled_at: None }).await?;
                let object = format!("user/{ADMIN}");
                cx.audit(tx, "user.created", object.clone(), json!({ "kind": "person" })).await?;
                let (subject, grant) = (Subject::User(ADMIN.to_owned()), Grant::everywhere(Role::Admin));
                let row = GrantRow { id, subject, grant, created_at, created_by: cx.actor.clone() };
                tx.insert_grant(&row).await?;
                cx.audit(tx, "role.granted", object, json!({ "id": id, "role": Role::Admin })).await
            })
        })
        .await
    }

    /// Makes a user. It may do nothing until it has a role.
    ///
    /// # Errors
    /// A bad name, or one that is taken.
    pub async fn create_user(&self, name: &str, kind: UserKind, by: &str) -> Result<UserView> {
        check_name(name)?;
        let name = name.to_owned();
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                if tx.user(&name).await?.is_some() {
                    return Err(taken("user", &name));
                }
                let row = UserRow { name, kind, created_at: cx.now, disabled_at: None };
                tx.insert_user(&row).await?;
                cx.audit(tx, "user.created", format!("user/{}", row.name), json!({ "kind": kind })).await?;
                Ok(UserView::of(&row))
            })
        })
        .await
    }

    /// All users by name.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn users(&self) -> Result<Vec<UserView>> {
        let rows = self.read(|tx| Box::pin(async move { Ok(tx.users().await?) })).await?;
        Ok(rows.iter().map(UserView::of).collect())
    }

    /// Lets a user's tokens count or not. What it has asked for before goes on.
    ///
    /// # Errors
    /// When there is no such user, or nobody could administer the server any more.
    pub async fn enable_user(&self, name: &str, enabled: bool, by: &str) -> Result<UserView> {
        let name = name.to_owned();
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                let mut row = user(tx, &name).await?;
                if row.disabled_at.is_none() == enabled {
                    return Ok(UserView::of(&row));
                }
                let before = Administered::now(tx, cx.now).await?;
                row.disabled_at = (!enabled).then_some(cx.now);
                tx.disable_user(&name, row.disabled_at).await?;
                before.stays(tx, cx.now).await?;
                let action = if enabled { "user.enabled" } else { "user.disabled" };
                cx.audit(tx, action, format!("user/{name}"), json!({})).await?;
                Ok(UserView::of(&row))
            })
        })
        .await
    }

    /// Makes a team with its first members.
    ///
    /// # Errors
    /// A bad name, one that is taken, or a member that is no user.
    pub async fn create_team(&self, name: &str, members: Vec<String>, by: &str) -> Result<TeamView> {
        check_name(name)?;
        let name = name.to_owned();
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                if tx.team(&name).await?.is_some() {
                    return Err(taken("team", &name));
                }
                tx.insert_team(&name, cx.now).await?;
                for member in &members {
                    user(tx, member).await?;
                    tx.insert_member(&name, member, cx.now).await?;
                }
                let row = team(tx, &name).await?;
                cx.audit(tx, "team.created", format!("team/{name}"), json!({ "members": row.members })).await?;
                Ok(TeamView::of(row))
            })
        })
        .await
    }

    /// All teams by name.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn teams(&self) -> Result<Vec<TeamView>> {
        let rows = self.read(|tx| Box::pin(async move { Ok(tx.teams().await?) })).await?;
        Ok(rows.into_iter().map(TeamView::of).collect())
    }

    /// Puts a user into a team or takes it out; where it is so already, nothing changes.
    ///
    /// # Errors
    /// When there is no such team or user, or nobody could administer the server any more.
    pub async fn set_member(&self, name: &str, member: &str, is_in: bool, by: &str) -> Result<TeamView> {
        let (name, member) = (name.to_owned(), member.to_owned());
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                team(tx, &name).await?;
                user(tx, &member).await?;
                let before = Administered::now(tx, cx.now).await?;
                let changed = match is_in {
                    true => tx.insert_member(&name, &member, cx.now).await?,
                    false => tx.remove_member(&name, &member).await?,
                };
                if changed {
                    before.stays(tx, cx.now).await?;
                    let action = if is_in { "team.member_added" } else { "team.member_removed" };
                    cx.audit(tx, action, format!("team/{name}"), json!({ "user": member })).await?;
                }
                Ok(TeamView::of(team(tx, &name).await?))
            })
        })
        .await
    }

    /// Gives a role. The same one again is the one there is; `true`: it is new.
    ///
    /// # Errors
    /// When there is no such user, team, project or environment.
    pub async fn grant_role(&self, subject: Subject, grant: Grant, by: &str) -> Result<(GrantView, bool)> {
        let (id, created_by) = (self.clock().grant_id(), by.to_owned());
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                match &subject {
                    Subject::User(name) => drop(user(tx, name).await?),
                    Subject::Team(name) => drop(team(tx, name).await?),
                }
                known_place(tx, &grant).await?;
                let before = tx.grants().await?;
                if let Some(row) = before.into_iter().find(|row| row.subject == subject && row.grant == grant) {
                    return Ok((GrantView::of(row), false));
                }
                let row = GrantRow { id, subject, grant, created_at: cx.now, created_by };
                tx.insert_grant(&row).await?;
                cx.audit(tx, "role.granted", object(&row), detail(&row)).await?;
                Ok((GrantView::of(row), true))
            })
        })
        .await
    }

    /// All roles that were given, oldest first.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn grants(&self) -> Result<Vec<GrantRow>> {
        self.read(|tx| Box::pin(async move { Ok(tx.grants().await?) })).await
    }

    /// Takes a role back.
    ///
    /// # Errors
    /// When it was not given, or nobody could administer the server any more.
    pub async fn revoke_role(&self, id: GrantId, by: &str) -> Result<GrantView> {
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                let hint = "`longshore role list` shows the ids".to_owned();
                let row = tx.grant(id).await?.ok_or_else(|| missing("role grant", &id.to_string(), hint))?;
                let before = Administered::now(tx, cx.now).await?;
                tx.remove_grant(id).await?;
                before.stays(tx, cx.now).await?;
                cx.audit(tx, "role.revoked", object(&row), detail(&row)).await?;
                Ok(GrantView::of(row))
            })
        })
        .await
    }
}

fn object(row: &GrantRow) -> String {
    match &row.subject {
        Subject::User(name) => format!("user/{name}"),
        Subject::Team(name) => format!("team/{name}"),
    }
}

fn detail(row: &GrantRow) -> serde_json::Value {
    let Grant { role, project, environment } = &row.grant;
    json!({ "id": row.id, "role": role, "project": project, "environment": environment })
}
