//! One agent, as it is typed.

use clap::{Args, Subcommand};

/// `agent ...`
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Show one agent: its host, its jobs, and why it drains.
    Show(Agent),
    /// Offer an agent no more jobs. What it has goes on; it stays so until `undrain`, over restarts.
    Drain(AgentDrain),
    /// Offer an agent jobs again.
    Undrain(Agent),
}

/// An agent.
#[derive(Debug, Clone, Args)]
pub struct Agent {
    /// Its id: `agt_...`.
    #[arg(value_name = "AGENT")]
    pub id: String,
}

/// `agent drain`
#[derive(Debug, Clone, Args)]
pub struct AgentDrain {
    /// Its id: `agt_...`.
    #[arg(value_name = "AGENT")]
    pub id: String,
    /// Why, for people.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}
