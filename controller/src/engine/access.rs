//! The one place where someone is let through or refused.
//!
//! Core says what a role allows; here its answer is asked for and every refusal is written into the audit, in a transaction of
//! its own. Invariants: a refusal changes nothing else; when it cannot be recorded the request fails all the same.

use longshore_core::access::{self, Grant, Permission, Place};
use longshore_core::id::{DeploymentId, JobId};
use serde_json::json;

use super::{Engine, Error, Result};

/// Longest name that is repeated in a refusal: a caller can write anything into a path.
const LONGEST: usize = 80;

/// Who asks, as a token says; worked out anew for each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Name of the user.
    pub user: String,
    /// What it may do with this token: its own roles and those of its teams, within the token's limit.
    pub grants: Vec<Grant>,
    /// Names of its teams, sorted.
    pub teams: Vec<String>,
    /// The token's limit; it is in `grants` already.
    pub limit: Option<Grant>,
}

impl Actor {
    /// A user with roles and teams, by a token without a limit.
    #[must_use]
    pub fn new(user: impl Into<String>, grants: Vec<Grant>, teams: Vec<String>) -> Self {
        Self { user: user.into(), grants, teams, limit: None }
    }

    /// Whether it may do something in all of a place. Asks only; [`Engine::authorize`] refuses and records.
    #[must_use]
    pub fn may(&self, permission: Permission, project: Option<&str>, environment: Option<&str>) -> bool {
        access::allows(&self.grants, permission, project, environment)
    }

    /// Whether it may do something anywhere in a project, or without one anywhere at all.
    #[must_use]
    pub fn may_somewhere(&self, permission: Permission, project: Option<&str>) -> bool {
        access::allows_somewhere(&self.grants, permission, project)
    }

    /// Where it may do something; `None`: everywhere.
    #[must_use]
    pub fn places(&self, permission: Permission) -> Option<Vec<Place>> {
        access::places(&self.grants, permission)
    }
}

/// What a request takes: a permission and where, with the words for the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    permission: Permission,
    place: Place,
    somewhere: bool,
    action: &'static str,
    object: String,
}

impl Need {
    /// On the server as a whole. `action` as in `deployment.create`, `object` as in `project/shop`.
    #[must_use]
    pub fn new(permission: Permission, action: &'static str, object: &str) -> Self {
        Self { permission, place: Place::default(), somewhere: false, action, object: clip(object) }
    }

    /// In this place instead; without an environment in the project as a whole.
    #[must_use]
    pub fn at(mut self, project: Option<&str>, environment: Option<&str>) -> Self {
        self.place = Place { project: project.map(clip), environment: environment.map(clip) };
        self
    }

    /// Anywhere in the place is enough.
    #[must_use]
    pub const fn somewhere(mut self) -> Self {
        self.somewhere = true;
        self
    }

    fn is_met(&self, grants: &[Grant]) -> bool {
        let (project, environment) = (self.place.project.as_deref(), self.place.environment.as_deref());
        if self.somewhere {
            access::allows_somewhere(grants, self.permission, project)
        } else {
            access::allows(grants, self.permission, project, environment)
        }
    }

    fn where_to(&self) -> String {
        match (&self.place.project, self.somewhere) {
            (None, true) => "anything".to_owned(),
            (Some(project), true) => format!("anything in project `{project}`"),
            _ => self.place.to_string(),
        }
    }

    fn message(&self, actor: &Actor) -> String {
        let done = if self.permission == Permission::View { "shown" } else { "changed" };
        format!("user `{}` may not {} {}; nothing was {done}", actor.user, self.permission.verb(), self.where_to())
    }

    /// What is missing and who can give it.
    fn hint(&self, actor: &Actor) -> String {
        if let Some(limit) = actor.limit.as_ref().filter(|limit| !self.is_met(std::slice::from_ref(*limit))) {
            return format!(
                "the token is limited to the role `{}` on {}; use one without this limit",
                limit.role,
                limit.place()
            );
        }
        let role = self.permission.least_role();
        let option =
            |name, value: &Option<String>| value.as_ref().map(|v| format!(" --{name} {v}")).unwrap_or_default();
        format!(
            "ask an administrator of {} for the role `{role}`: `longshore role grant --user {} {role}{}{}`",
            self.place,
            actor.user,
            option("project", &self.place.project),
            option("env", &self.place.environment)
        )
    }
}

/// What a caller wrote, short and without anything that a terminal would obey.
fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}

impl Engine {
    /// Lets someone through, or records the refusal and gives it.
    ///
    /// # Errors
    /// [`Error::Refused`] with the code `forbidden`; others when the refusal cannot be recorded.
    pub async fn authorize(&self, actor: &Actor, need: Need) -> Result<()> {
        if need.is_met(&actor.grants) {
            return Ok(());
        }
        let (message, hint) = (need.message(actor), need.hint(actor));
        let detail = json!({
            "needs": need.permission.least_role(),
            "project": need.place.project,
            "environment": need.place.environment,
            "reason": message,
        });
        let Need { action, object, .. } = need;
        self.change(&actor.user, move |tx, cx| Box::pin(async move { cx.refused(tx, action, object, detail).await }))
            .await?;
        Err(Error::refused("forbidden", message, hint))
    }

    /// The deployment that an id means: a deployment's own, or a job's.
    ///
    /// # Errors
    /// When there is no such deployment or job.
    pub async fn deployment_named(&self, id: &str) -> Result<DeploymentId> {
        let none = |kind| Error::NotFound { kind, name: id.chars().take(80).collect(), hint: None };
        let Ok(job) = id.parse::<JobId>() else { return id.parse().map_err(|_| none("deployment")) };
        let row = self.read(move |tx| Box::pin(async move { Ok(tx.job(job).await?) })).await?;
        row.map(|row| row.job.deployment).ok_or_else(|| none("job"))
    }

    /// Where a deployment goes.
    ///
    /// # Errors
    /// When there is no such deployment.
    pub async fn place_of(&self, id: DeploymentId) -> Result<Place> {
        let row = self.read(move |tx| Box::pin(async move { Ok(tx.deployment(id).await?) })).await?;
        let row = row.ok_or_else(|| Error::not_found("deployment", &id))?;
        Ok(Place { project: Some(row.project_name), environment: Some(row.environment) })
    }
}
