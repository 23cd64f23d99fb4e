//! One agent, as it is typed.

use clap::{Args, Subcommand};

/// `agent ...`
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Let an agent that was quarantined have jobs again.
    Release(AgentId),
    /// Cut an agent off: its certificate counts no more and its streams end at once.
    ///
    /// What it was running becomes `unknown` when its lease lapses. The machine of an agent that joined by a rule stays out until
    /// `agent readmit`.
    Revoke(AgentId),
    /// Let the machine of an agent that joined by a rule join again, as another agent.
    Readmit(AgentId),
}

/// One agent.
#[derive(Debug, Clone, Args)]
pub struct AgentId {
    /// The agent (`agt_...`).
    pub id: String,
}

/// `agents`
#[derive(Debug, Clone, Args)]
pub struct Agents {
    /// Ephemeral agents that are gone as well.
    #[arg(long)]
    pub all: bool,
}
