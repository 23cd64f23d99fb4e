//! Agents, as they are typed.

use clap::{Args, Subcommand};

/// `agent ...`
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Let an agent that was quarantined have jobs again.
    Release(AgentId),
}

/// One agent.
#[derive(Debug, Clone, Args)]
pub struct AgentId {
    /// The agent (`agt_...`).
    pub id: String,
}
