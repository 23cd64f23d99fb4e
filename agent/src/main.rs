//! `longshore-agent`: reads its arguments, starts the agent, says how it ended.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use longshore_agent::app::{self, BAD_USAGE, By, exit_code};
use longshore_agent::arguments::{Arguments, Command};
use longshore_agent::attest::Cloud;
use longshore_agent::{doctor, status};
use longshore_core::secret::Secret;

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
        Command::Enroll { config, token_file, aws, gcp, azure: _, force } => {
            let config = config.load()?;
            let by = match token_file {
                Some(path) => {
                    let token = std::fs::read_to_string(&path)
                        .map_err(|err| anyhow::anyhow!("cannot read the join token `{}`: {err}", path.display()))?;
                    By::Token(Secret::new(token.trim().to_owned()))
                }
                None if aws => By::Machine(Cloud::Aws),
                None if gcp => By::Machine(Cloud::Gcp),
                None => By::Machine(Cloud::Azure),
            };
            let identity = runtime()?.block_on(app::enroll(&config, by, force))?;
            writeln!(out, "enrolled as {} in pool {}", identity.agent, identity.pool)?;
        }
        Command::Run { config, die_with_parent } => {
            if die_with_parent {
                longshore_agent::lifecycle::die_with_parent()?;
            }
            let arguments = config.clone();
            let config = config.load()?;
            longshore_agent::lifecycle::init_log(config.log_format)?;
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
