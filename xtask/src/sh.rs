//! Running other programs, with errors that say what was run.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, bail};

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// A command in the root of the checkout.
pub(crate) fn command(program: impl AsRef<OsStr>, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    command
}

/// Says what is run, runs it with our own output, and fails when it fails.
pub(crate) fn show(mut command: Command) -> anyhow::Result<()> {
    println!("$ {}", line(&command));
    let status = command.status().with_context(|| format!("`{}` cannot be started", line(&command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", line(&command));
    }
    Ok(())
}

/// Runs quietly and returns what came out; fails with standard error's end when it fails.
pub(crate) fn output(mut command: Command) -> anyhow::Result<String> {
    let done = captured(&mut command)?;
    if !done.status.success() {
        let text = String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout);
        let tail: Vec<&str> = text.lines().rev().take(30).collect::<Vec<_>>().into_iter().rev().collect();
        bail!("`{}` ended with {}\n{}", line(&command), done.status, tail.join("\n"));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Whether a program ends well; what it prints is dropped.
pub(crate) fn succeeds(program: &str, args: &[&str]) -> bool {
    command(program, args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn captured(command: &mut Command) -> anyhow::Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| format!("`{}` cannot be started", line(command)))
}

/// A command as a person would type it.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
