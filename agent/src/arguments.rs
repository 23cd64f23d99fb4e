//! What the agent's program is told to do, as it is typed.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::{Config, Error, Flags};

/// Runs Longshore's jobs on this machine.
#[derive(Debug, Parser)]
#[command(name = "longshore-agent", version, arg_required_else_help = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Claim jobs and run them
    ///
    /// SIGTERM or SIGINT waits for the jobs that run, a second one ends it at once; jobs then go on in their containers.
    /// SIGHUP reads the configuration again.
    Run {
        /// Which configuration.
        #[command(flatten)]
        config: ConfigArguments,
        /// End when the process that started this one has ended
        #[arg(long)]
        die_with_parent: bool,
    },
    /// Trade a join token, or what this machine is to its cloud, for this agent's certificate
    #[command(group(clap::ArgGroup::new("by").required(true)))]
    Enroll {
        /// Which configuration.
        #[command(flatten)]
        config: ConfigArguments,
        /// File with the join token
        #[arg(long, value_name = "FILE", group = "by")]
        token_file: Option<PathBuf>,
        /// Join as this EC2 instance, by its identity document and, where it has an instance profile, a request that the role signs
        #[arg(long, group = "by")]
        aws: bool,
        /// Join as this Compute Engine instance, by an identity token
        #[arg(long, group = "by")]
        gcp: bool,
        /// Join as this Azure virtual machine, by its attested document
        #[arg(long, group = "by")]
        azure: bool,
        /// Replace the identity that is there
        #[arg(long)]
        force: bool,
    },
    /// Check the configuration and change nothing
    CheckConfig {
        /// Which configuration.
        #[command(flatten)]
        config: ConfigArguments,
    },
    /// Look at everything the agent needs, change nothing, and say what to do about what is missing
    ///
    /// Works without a running agent and before enrolling. Exit code 0: the agent works, there may be warnings; 1: there
    /// is an error.
    Doctor {
        /// Which configuration.
        #[command(flatten)]
        config: ConfigArguments,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Say what the running agent does, or what is left here of one that does not run
    ///
    /// Exit code 0: it runs; 1: it does not.
    Status {
        /// Which configuration.
        #[command(flatten)]
        config: ConfigArguments,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Print the version
    Version,
}

/// For whom something is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

impl Output {
    /// Prints it to standard output.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn print(self, what: &(impl std::fmt::Display + serde::Serialize)) -> std::io::Result<()> {
        let text = match self {
            Self::Text => what.to_string(),
            Self::Json => serde_json::to_string_pretty(what).map_err(std::io::Error::other)?,
        };
        writeln!(std::io::stdout(), "{}", text.trim_end())
    }
}

/// Where the configuration is, and what goes over it.
#[derive(Debug, Clone, clap::Args)]
pub struct ConfigArguments {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// What goes over the file.
    #[command(flatten)]
    flags: Flags,
}

impl ConfigArguments {
    /// Reads and checks it.
    ///
    /// # Errors
    /// When it cannot be read, or says what makes no sense.
    pub fn load(self) -> Result<Config, Error> {
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Config::load(&self.config, environment, self.flags)
    }
}
