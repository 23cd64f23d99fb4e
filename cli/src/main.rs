//! The `longshore` command. Everything is in the library beside it, where tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    longshore_cli::run(std::env::args_os()).into()
}
