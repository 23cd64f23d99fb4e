//! `longshore-init`: PID 1 of a job container, or a short run in a container of its own: `init chown UID:GID PATH` hands a
//! workspace over, `init reach ADDRESS:PORT...` tells by its exit code which places can be reached.

use longshore_core::init::{NOT_STARTED, SOCKET};
use longshore_init::signals::Signals;
use longshore_init::{chown, handover, reach, run};
use std::error::Error;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|text| text.to_string_lossy().into_owned()).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["reach", ref places @ ..] => match reach::reach(places) {
            Ok(code) => return ExitCode::from(code),
            Err(error) => Err(error.into()),
        },
        [] => job(Path::new(SOCKET)),
        ["run", socket] => job(Path::new(socket)),
        ["chown", owner, path] => chown::chown(owner, Path::new(path)).map_err(Into::into),
        _ => Err("usage: init [run SOCKET | chown UID:GID PATH | reach ADDRESS:PORT...]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = format!("longshore-init: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                text.push_str(&format!(": {error}"));
                cause = error.source();
            }
            // Nobody may be reading; there is nowhere else to say it.
            writeln!(std::io::stderr(), "{text}").ok();
            ExitCode::from(NOT_STARTED)
        }
    }
}

/// The life of PID 1. Undumpable comes first: from then on no process of the container can read this one's memory,
/// environment or descriptors, or open them anew.
fn job(socket: &Path) -> Result<(), Box<dyn Error>> {
    nix::sys::prctl::set_dumpable(false)?;
    close_inherited();
    let signals = Signals::block()?;
    // For orphans to come to this process also where it is not PID 1.
    nix::sys::prctl::set_child_subreaper(true)?;
    let received = handover::receive(socket)?;
    run::run(received.handover, received.spool, received.control, signals);
    Ok(())
}

/// Closes descriptors that whoever started this process has left open.
fn close_inherited() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let open: Vec<i32> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // One of them was the directory's own.
        nix::unistd::close(descriptor).ok();
    }
}
