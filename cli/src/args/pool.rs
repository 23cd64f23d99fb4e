//! Pools, as they are typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `pool ...`
#[derive(Debug, Subcommand)]
pub enum PoolCommand {
    /// List the pools: those that something was set for, and those that an agent belongs to.
    List,
    /// Show what is set for a pool, as in the file that `pool apply` takes.
    Show(PoolName),
    /// Replace the settings of a pool by those of a file. What the file leaves out has its default.
    Apply(PoolApply),
    /// Show how many jobs wait for what, what the agents have, and what the scaler makes of it.
    Scaling(PoolName),
    /// Let no job of a pool start; what runs goes on.
    Pause(PoolPause),
    /// Let the jobs of a pool start again.
    Resume(PoolName),
}

/// One pool.
#[derive(Debug, Clone, Args)]
pub struct PoolName {
    /// The pool.
    pub pool: String,
}

/// `pool apply`
#[derive(Debug, Clone, Args)]
pub struct PoolApply {
    /// The pool.
    pub pool: String,
    /// The settings, TOML; `-` reads standard input.
    #[arg(long, short, value_name = "FILE")]
    pub file: PathBuf,
    /// Only if the settings are at this revision; 0: only if nothing was ever set.
    #[arg(long, value_name = "N")]
    pub if_revision: Option<u64>,
}

/// `pool pause`
#[derive(Debug, Clone, Args)]
pub struct PoolPause {
    /// The pool.
    pub pool: String,
    /// Why, for people who wait.
    #[arg(long)]
    pub reason: String,
}
