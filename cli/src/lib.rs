//! The `longshore` command line: what operators and CI servers type.
//!
//! It holds no rule that the API does not enforce. Invariants:
//!
//! - Results go to stdout, messages to stderr; with `-o json` stdout holds nothing but JSON.
//! - Exit codes are those of [`exit::Exit`] and nothing else.
//! - A secret is in no argument and in no environment of a process that is started here.
//! - Following a deployment survives a restart of the server without a hole or a duplicate in the log.
//!
//! `args` is what can be typed, `commands` one file for each, `client` the API, `pack` makes packages, `git` checks commits
//! out, `init` writes a first
//! spec, `errors` explains refusals, `dev` runs a controller and an agent, `output` writes.

pub mod args;
pub mod client;
pub mod clock;
pub mod commands;
pub mod connect;
pub mod dev;
pub mod errors;
pub mod exit;
pub mod failure;
pub mod git;
pub mod init;
pub mod output;
mod packing;
pub mod signals;
pub mod tasks;

use std::ffi::OsString;

use clap::Parser as _;

use args::Cli;
use exit::Exit;
use failure::Failure;
use output::Output;

/// Runs one command line from its arguments (the first is the program's name) to its exit code.
#[must_use]
pub fn run(args: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to stdout, usage errors to stderr; whether someone reads it changes nothing.
            let _nobody_reads = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    let output = Output::new(&cli.global);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output.failure(&Failure::new(Exit::Failed, format!("cannot start: {error}")));
            return Exit::Failed;
        }
    };
    let result = runtime.block_on(commands::run(cli, output));
    // Work that nobody waits for any more, such as a read from a terminal, must not hold the process.
    runtime.shutdown_background();
    match result {
        Ok(exit) => exit,
        Err(failure) => {
            output.failure(&failure);
            failure.exit
        }
    }
}
