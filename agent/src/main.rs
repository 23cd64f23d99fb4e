//! `longshore-agent`: reads its arguments, starts the agent, says how it ended.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use longshore_agent::app::{self, BAD_USAGE, exit_code};
use longshore_agent::config::{Config, Flags};
use longshore_agent::{doctor, status};
use longshore_core::secret::Secret;

/// Runs Longshore's jobs on this machine.
#[derive(Debug, Parser)]
#[command(name = "longshore-agent", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Claim jobs and run them
    ///
    /// SIGTERM or SIGINT waits for the jobs that run, a second one ends it at once; jobs then go on in their containers.
    /// SIGHUP reads the configuration again.
    Run {
        #[command(flatten)]
        config: ConfigArguments,
        /// End when the process that started this one has ended
        #[arg(long)]
        die_with_parent: bool,
    },
    /// Trade a one-use join token for this agent's certificate
    Enroll {
        #[command(flatten)]
        config: ConfigArguments,
        /// File with the join token
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
        /// Replace the identity that is there
        #[arg(long)]
        force: bool,
    },
    /// Check the configuration and change nothing
    CheckConfig {
        #[command(flatten)]
        config: ConfigArguments,
    },
    /// Look at everything the agent needs, change nothing, and say what to do about what is missing
    ///
    /// Works without a running agent and before enrolling. Exit code 0: the agent works, there may be warnings; 1: there
    /// is an error.
    Doctor {
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
enum Output {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

impl Output {
    fn print(self, what: &(impl std::fmt::Display + serde::Serialize)) -> anyhow::Result<()> {
        let text = match self {
            Self::Text => what.to_string(),
            Self::Json => serde_json::to_string_pretty(what)?,
        };
        writeln!(std::io::stdout(), "{}", text.trim_end())?;
        Ok(())
    }
}

#[derive(Debug, Clone, clap::Args)]
struct ConfigArguments {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    flags: Flags,
}

impl ConfigArguments {
    fn load(self) -> Result<Config, longshore_agent::config::Error> {
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Config::load(&self.config, environment, self.flags)
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let shown = error.print().is_ok();
            return if error.use_stderr() || !shown { ExitCode::from(BAD_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match start(arguments.command) {
        Ok(code) => code,
        Err(error) => {
            // Nobody reads it when this fails, and the exit code says the rest.
            drop(writeln!(std::io::stderr(), "longshore-agent: {error:#}"));
            ExitCode::from(exit_code(&error))
        }
    }
}

fn start(command: Command) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    match command {
        Command::Version => writeln!(out, "longshore-agent {}", env!("CARGO_PKG_VERSION"))?,
        Command::CheckConfig { config } => {
            let config = config.load()?;
            writeln!(out, "ok: agent `{}` with {} slots for {}", config.name, config.slots, config.controller)?;
        }
        Command::Enroll { config, token_file, force } => {
            let config = config.load()?;
            let token = std::fs::read_to_string(&token_file)
                .map_err(|err| anyhow::anyhow!("cannot read the join token `{}`: {err}", token_file.display()))?;
            let identity = runtime()?.block_on(app::enroll(&config, Secret::new(token.trim().to_owned()), force))?;
            writeln!(out, "enrolled as {} in pool {}", identity.agent, identity.pool)?;
        }
        Command::Run { config, die_with_parent } => {
            if die_with_parent {
                longshore_agent::lifecycle::die_with_parent()?;
            }
            let arguments = config.clone();
            let config = config.load()?;
            longshore_agent::lifecycle::init_log();
            runtime()?.block_on(app::run(config, Box::new(move || arguments.clone().load())))?;
        }
        Command::Doctor { config, output } => {
            let report = runtime()?.block_on(doctor::examine(config.load()));
            output.print(&report)?;
            return Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Status { config, output } => {
            let config = config.load()?;
            let status = runtime()?.block_on(status::look(&config)).map_err(|error| {
                anyhow::anyhow!(
                    "cannot look into `{}`: {error}; run this as the agent's user",
                    config.state_dir.display()
                )
            })?;
            output.print(&status)?;
            return Ok(if status.running { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
