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
    /// Let an agent that was quarantined have jobs again.
    Release(Agent),
    /// Cut an agent off: its certificate counts no more and its streams end at once.
    ///
    /// What it was running becomes `unknown` when its lease lapses. The machine of an agent that joined by a rule stays out until
    /// `agent readmit`.
    Revoke(Agent),
    /// Let the machine of an agent that joined by a rule join again, as another agent.
    Readmit(Agent),
}

/// `agents`
#[derive(Debug, Clone, Args)]
pub struct Agents {
    /// Ephemeral agents that are gone as well.
    #[arg(long)]
    pub all: bool,
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
