//! Running a program that takes minutes, and showing that it gets on.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::now;

/// How many lines of a program that failed are shown.
const TAIL: usize = 30;

/// Runs a program and returns its standard output.
///
/// Every line of standard error goes to `describe`, which returns what is to be shown from then on, if that changes.
pub(super) fn run(
    mut command: Command,
    what: &str,
    mut describe: impl FnMut(&str) -> Option<String>,
) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{name}` cannot be started"))?;
    let (mut stdout, stderr) =
        (child.stdout.take().context("no standard output")?, child.stderr.take().context("no standard error")?);
    let output = thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).map(|_| bytes)
    });
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        // The receiver is gone only when nobody wants the lines.
        BufReader::new(stderr).split(b'\n').map_while(Result::ok).try_for_each(|line| sender.send(line))
    });

    let mut status = Status::new(what);
    let mut tail = VecDeque::new();
    loop {
        match lines.recv_timeout(Duration::from_secs(1)) {
            Ok(line) => {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if let Some(text) = describe(&line) {
                    status.text = text;
                }
                tail.push_back(line);
                if tail.len() > TAIL {
                    tail.pop_front();
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        status.show();
    }
    let ended = child.wait().with_context(|| format!("`{name}` was lost"))?;
    status.end();
    if !ended.success() {
        bail!("{what}: `{name}` ended with {ended}\n{}", Vec::from(tail).join("\n"));
    }
    let output = output.join().map_err(|_| anyhow::anyhow!("the output of `{name}` was lost"))??;
    Ok(String::from_utf8_lossy(&output).into_owned())
}

/// A line that says what is going on: redrawn on a terminal, else repeated now and then.
struct Status<'a> {
    what: &'a str,
    text: String,
    began: Instant,
    shown: Instant,
    terminal: bool,
}

impl<'a> Status<'a> {
    fn new(what: &'a str) -> Self {
        let began = now();
        Self { what, text: String::new(), began, shown: began, terminal: std::io::stderr().is_terminal() }
    }

    fn show(&mut self) {
        let every = if self.terminal { Duration::from_millis(200) } else { Duration::from_secs(10) };
        if self.shown.elapsed() < every {
            return;
        }
        self.shown = now();
        let line = self.line();
        if self.terminal {
            // One line only, whatever the terminal's width: a wrapped one could not be redrawn.
            let line: String = line.chars().take(79).collect();
            eprint!("\r\x1b[2K{line}");
            drop(std::io::stderr().flush());
        } else {
            eprintln!("{line}");
        }
    }

    fn end(&self) {
        if self.terminal {
            eprint!("\r\x1b[2K");
        }
        println!("  {}: {} s", self.what, self.began.elapsed().as_secs());
    }

    fn line(&self) -> String {
        let comma = if self.text.is_empty() { "" } else { ", " };
        format!("  {}: {} s{comma}{}", self.what, self.began.elapsed().as_secs(), self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_comes_back_and_lines_are_described() {
        let mut lines = Vec::new();
        let output = run(shell("echo out; echo one >&2; echo two >&2"), "test", |line| {
            lines.push(line.to_owned());
            None
        });
        assert_eq!(output.unwrap(), "out\n");
        assert_eq!(lines, ["one", "two"]);
    }

    #[test]
    fn a_failure_shows_the_end_of_what_was_said() {
        let err = run(shell("seq 100 >&2; exit 3"), "counting", |_| None).unwrap_err().to_string();
        assert!(err.starts_with("counting: `sh` ended with exit status: 3\n71\n"), "{err}");
        assert!(err.ends_with("\n100"), "{err}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let err = run(Command::new("longshore-no-such-program"), "test", |_| None).unwrap_err();
        assert!(err.to_string().contains("`longshore-no-such-program` cannot be started"), "{err}");
    }
}
