//! How the agent begins and ends as a service: its directory, signals, the service manager.

mod notify;
pub mod scalein;
mod signals;
mod state_dir;

pub use notify::Manager;
pub use signals::{watch_hangups, watch_signals};
pub use state_dir::{Error as StateDirError, StateDir, is_running};

/// Asks the kernel to end this process with SIGTERM when its parent has ended, for agents that a foreground command starts.
///
/// # Errors
/// When the kernel refuses, or when the parent has ended already.
pub fn die_with_parent() -> std::io::Result<()> {
    let parent = nix::unistd::getppid();
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM)?;
    if nix::unistd::getppid() == parent {
        Ok(())
    } else {
        Err(std::io::Error::other("the parent process has ended already"))
    }
}

/// Sends the log to standard error, where a service manager collects it. `LONGSHORE_LOG` filters it, `info` without.
///
/// # Errors
/// When something has taken the process's log before.
pub fn init_log(format: longshore_logging::Format) -> Result<(), tracing_subscriber::util::TryInitError> {
    let set = std::env::var("LONGSHORE_LOG").ok().and_then(|text| text.parse().ok());
    longshore_logging::init(set.unwrap_or_default(), format)
}
