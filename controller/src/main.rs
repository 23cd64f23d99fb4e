//! `longshore-controller`: reads its configuration, builds the controller, serves until it is told to stop.
//!
//! Exit codes: 0 stopped as asked, 1 could not start or failed, 64 wrong usage or configuration (EX_USAGE).

mod arguments;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use arguments::{Arguments, Command};
use clap::Parser as _;
use longshore_controller::app::App;
use longshore_controller::clock::Clock;
use longshore_controller::config::Config;
use longshore_controller::manager::Manager;
use longshore_controller::{api, telemetry};
use tokio::signal::unix::{SignalKind, signal};

/// Wrong usage or configuration (sysexits.h).
const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // To standard output for `--help`, to standard error for mistakes.
            let _printed = error.print().is_ok();
            return if error.use_stderr() { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match arguments.command {
        Command::Serve { config, die_with_parent } => {
            load(&config).map_or_else(|code| code, |config| serve(config, die_with_parent))
        }
        Command::CheckConfig { config: path } => {
            load(&path).map_or_else(|code| code, |_| print(&format!("`{}` is good\n", path.display())))
        }
        Command::Openapi => match api::openapi().to_pretty_json() {
            Ok(text) => print(&format!("{text}\n")),
            Err(error) => failed(&error.into(), ExitCode::FAILURE),
        },
        Command::Version => print(concat!("longshore-controller ", env!("CARGO_PKG_VERSION"), "\n")),
    }
}

/// The configuration, or the exit code after its mistake was told.
fn load(path: &Path) -> Result<Config, ExitCode> {
    Config::load(path, std::env::vars()).map_err(|error| failed(&error.into(), ExitCode::from(EX_USAGE)))
}

fn print(text: &str) -> ExitCode {
    use std::io::Write as _;
    // A reader that went away has what it wanted.
    let _written = std::io::stdout().write_all(text.as_bytes()).is_ok();
    ExitCode::SUCCESS
}

#[expect(clippy::print_stderr, reason = "the log may not be set up yet, and this must be seen")]
fn failed(error: &anyhow::Error, code: ExitCode) -> ExitCode {
    eprintln!("longshore-controller: {error:#}");
    code
}

fn serve(config: Config, die_with_parent: bool) -> ExitCode {
    match start(config, die_with_parent) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            failed(&anyhow::anyhow!("something it needs has failed; the log above says what"), ExitCode::FAILURE)
        }
        Err(error) => failed(&error, ExitCode::FAILURE),
    }
}

/// Builds and serves; `false` when it ended because something failed.
fn start(config: Config, die_with_parent: bool) -> anyhow::Result<bool> {
    if die_with_parent {
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM)
            .context("cannot ask to end with the parent process")?;
    }
    // Everything it makes is for nobody else.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    telemetry::init_log(&config.log)?;
    let metrics = telemetry::init_metrics()?;
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        anyhow::bail!("another TLS library was installed in this process");
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let app = App::build(config, Clock::system(), metrics).await.context("cannot start")?;
        tracing::info!(api = %app.api_address(), agents = %app.agents_address(), version = env!("CARGO_PKG_VERSION"), "serving");
        let stop = async move {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        };
        Ok(app.run(stop, Manager).await)
    })
}
