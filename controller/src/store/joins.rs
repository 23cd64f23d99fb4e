//! Join rules, and where agents come from: their rows, and the row methods of a transaction.

use std::collections::BTreeMap;

use async_trait::async_trait;
use longshore_core::id::{AgentId, JoinRuleId};
use longshore_core::join::Conditions;
use longshore_core::time::Timestamp;

use super::Error;

type Result<T> = std::result::Result<T, Error>;

/// A join rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRuleRow {
    /// Its id.
    pub id: JoinRuleId,
    /// The pool that machines join.
    pub pool: String,
    /// Labels that they get.
    pub labels: BTreeMap<String, String>,
    /// What they have to be.
    pub conditions: Conditions,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// When it was taken back.
    pub revoked_at: Option<Timestamp>,
}

/// Where an agent comes from that is bound to a machine or ephemeral.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginRow {
    /// The agent.
    pub agent: AgentId,
    /// The rule that let it in; `None`: a token did.
    pub rule: Option<JoinRuleId>,
    /// The machine that it is, as it was proven.
    pub machine: Option<String>,
    /// SHA-256 of the signing request of its last joining.
    pub request: String,
    /// When its newest certificate ends.
    pub expires_at: Timestamp,
    /// It leaves the list when it is gone.
    pub ephemeral: bool,
    /// Since when a person lets its machine join again.
    pub allowed_at: Option<Timestamp>,
    /// The agent that its machine is now.
    pub replaced_by: Option<AgentId>,
    /// Since when it is gone, and how that is known.
    pub gone: Option<(Timestamp, Gone)>,
}

/// How it is known that an agent is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// It had nothing left to do and took its leave.
    Left,
    /// Its machine is another agent now.
    Replaced,
    /// It held nothing and was silent for long.
    Silent,
    /// The cloud says that its machine is terminated.
    Terminated,
}

impl Gone {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Replaced => "replaced",
            Self::Silent => "silent",
            Self::Terminated => "terminated",
        }
    }
}

impl std::str::FromStr for Gone {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let all = [Self::Left, Self::Replaced, Self::Silent, Self::Terminated];
        all.into_iter().find(|gone| gone.as_str() == text).ok_or_else(|| format!("`{text}` is no way to be gone"))
    }
}

/// The row methods of join rules and origins. One statement each.
#[async_trait]
pub trait Joins: Send {
    /// Adds a join rule.
    async fn insert_join_rule(&mut self, row: &JoinRuleRow) -> Result<()>;
    /// All join rules, oldest first.
    async fn join_rules(&mut self) -> Result<Vec<JoinRuleRow>>;
    /// Takes a join rule back; `false` when there is none that counts.
    async fn revoke_join_rule(&mut self, id: JoinRuleId, at: Timestamp) -> Result<bool>;
    /// Adds where an agent comes from; fails when its machine is another agent already.
    async fn insert_origin(&mut self, row: &OriginRow) -> Result<()>;
    /// Where an agent comes from, if it has a row.
    async fn origin(&mut self, agent: AgentId) -> Result<Option<OriginRow>>;
    /// The agent that a machine is.
    async fn origin_of_machine(&mut self, machine: &str) -> Result<Option<OriginRow>>;
    /// All of them.
    async fn origins(&mut self) -> Result<Vec<OriginRow>>;
    /// Saves what changes of one.
    async fn update_origin(&mut self, row: &OriginRow) -> Result<()>;
}
