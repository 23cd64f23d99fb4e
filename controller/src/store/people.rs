//! Users, teams, roles and the audit: their rows, and the row methods of a transaction.

use async_trait::async_trait;
use longshore_core::access::Grant;
use longshore_core::id::GrantId;
use longshore_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::Error;
use super::rows::EventRow;

type Result<T> = std::result::Result<T, Error>;

/// What a user stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserKind {
    /// Someone.
    Person,
    /// Something, such as a CI server.
    Service,
}

impl UserKind {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Service => "service",
        }
    }
}

/// A user. The name is the key and never given to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRow {
    /// The name.
    pub name: String,
    /// What it stands for.
    pub kind: UserKind,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when its tokens count no more.
    pub disabled_at: Option<Timestamp>,
}

/// A team with its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamRow {
    /// The name.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Names of users, sorted.
    pub members: Vec<String>,
}

/// Who has a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A user.
    User(String),
    /// Every member of a team.
    Team(String),
}

/// A role that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRow {
    /// Its id.
    pub id: GrantId,
    /// Who has it.
    pub subject: Subject,
    /// What it is and where it holds.
    pub grant: Grant,
    /// When it was given.
    pub created_at: Timestamp,
    /// Who gave it.
    pub created_by: String,
}

/// Which part of the audit, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Not before this.
    pub since: Option<Timestamp>,
    /// Behind the event of this time and id.
    pub after: Option<(Timestamp, i64)>,
    /// At most so many.
    pub limit: u32,
}

/// The row methods of people. One statement each.
#[async_trait]
pub trait People: Send {
    /// Adds a user; fails when the name is taken.
    async fn insert_user(&mut self, row: &UserRow) -> Result<()>;
    /// A user.
    async fn user(&mut self, name: &str) -> Result<Option<UserRow>>;
    /// All users by name.
    async fn users(&mut self) -> Result<Vec<UserRow>>;
    /// Sets since when a user counts no more; `None`: it counts again.
    async fn disable_user(&mut self, name: &str, at: Option<Timestamp>) -> Result<()>;
    /// Adds a team without members; fails when the name is taken.
    async fn insert_team(&mut self, name: &str, at: Timestamp) -> Result<()>;
    /// A team.
    async fn team(&mut self, name: &str) -> Result<Option<TeamRow>>;
    /// All teams by name.
    async fn teams(&mut self) -> Result<Vec<TeamRow>>;
    /// Names of the teams that a user is in, sorted.
    async fn teams_of(&mut self, user: &str) -> Result<Vec<String>>;
    /// Adds a member; `false` when it is one.
    async fn insert_member(&mut self, team: &str, user: &str, at: Timestamp) -> Result<bool>;
    /// Takes a member out; `false` when it is none.
    async fn remove_member(&mut self, team: &str, user: &str) -> Result<bool>;
    /// Gives a role; fails when the same one was given.
    async fn insert_grant(&mut self, row: &GrantRow) -> Result<()>;
    /// A role that was given.
    async fn grant(&mut self, id: GrantId) -> Result<Option<GrantRow>>;
    /// All roles that were given, oldest first.
    async fn grants(&mut self) -> Result<Vec<GrantRow>>;
    /// The roles of a user, its own and those of its teams.
    async fn grants_of(&mut self, user: &str) -> Result<Vec<Grant>>;
    /// Takes a role back; `false` when there is none.
    async fn remove_grant(&mut self, id: GrantId) -> Result<bool>;
    /// Lines of the timeline of everything.
    async fn audit(&mut self, filter: &AuditFilter) -> Result<Vec<EventRow>>;
}
