//! The command line of `longshore-controller`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// The Longshore controller.
#[derive(Debug, Parser)]
#[command(name = "longshore-controller", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serves the API and the agents until it is told to stop.
    Serve {
        /// The configuration, TOML.
        #[arg(long, value_name = "FILE", env = "LONGSHORE_CONTROLLER_CONFIG")]
        config: PathBuf,
        /// Ends when the process that started this one does.
        #[arg(long)]
        die_with_parent: bool,
    },
    /// Checks a configuration and does nothing else.
    CheckConfig {
        /// The configuration, TOML.
        #[arg(long, value_name = "FILE", env = "LONGSHORE_CONTROLLER_CONFIG")]
        config: PathBuf,
    },
    /// Prints the description of the API, OpenAPI 3.1.
    Openapi,
    /// Prints the version.
    Version,
}
