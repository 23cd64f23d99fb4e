//! The keys that the server's secrets are encrypted with, as they are typed.

use clap::Subcommand;

/// `secrets ...`
#[derive(Debug, Subcommand)]
pub enum SecretsCommand {
    /// Show the keys that secrets are encrypted with, and how many are on each.
    Status,
    /// Make a new data key and move every secret to it; the server goes on serving.
    ///
    /// What was sealed before opens all the time. When the server dies in between, it goes on at its next start. While one
    /// rotation is under way no other one begins.
    Rotate,
}
