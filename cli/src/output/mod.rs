//! Where results and messages go: results to stdout, messages to stderr.
//!
//! A reader that went away (`longshore logs ID | head`) is no error: the command ends quietly.

pub mod paint;
pub mod progress;
pub mod table;
pub mod time;

use std::io::{self, IsTerminal as _, Write as _};

use serde_json::Value;

use crate::args::{Format, Global};
use crate::exit::Exit;
use crate::failure::Failure;
use paint::Paint;

/// The two streams of this process and how to write to them.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    format: Format,
    stdout: Paint,
    stderr: Paint,
    stdout_terminal: bool,
    stderr_terminal: bool,
}

impl Output {
    /// For this process: colours only on a terminal, and not when `--no-color` or NO_COLOR says so.
    #[must_use]
    pub fn new(global: &Global) -> Self {
        let unwanted = global.no_color
            || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let (stdout_terminal, stderr_terminal) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Self {
            format: global.output,
            stdout: Paint::new(stdout_terminal && !unwanted),
            stderr: Paint::new(stderr_terminal && !unwanted),
            stdout_terminal,
            stderr_terminal,
        }
    }

    /// Whether the result is JSON.
    #[must_use]
    pub fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Colours of stdout.
    #[must_use]
    pub const fn paint(self) -> Paint {
        self.stdout
    }

    /// Colours of stderr.
    #[must_use]
    pub const fn paint_messages(self) -> Paint {
        self.stderr
    }

    /// Whether people look at stderr while it is written.
    #[must_use]
    pub const fn is_watched(self) -> bool {
        self.stderr_terminal
    }

    /// Whether stdout and stderr are both terminals, most likely the same one.
    #[must_use]
    pub const fn shares_terminal(self) -> bool {
        self.stdout_terminal && self.stderr_terminal
    }

    /// Writes bytes of a result.
    ///
    /// # Errors
    /// [`Failure::reader_gone`], or why stdout cannot be written.
    pub fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        written(stdout.write_all(bytes).and_then(|()| stdout.flush()))
    }

    /// Writes a result for people; a newline is added.
    ///
    /// # Errors
    /// As [`Output::bytes`].
    pub fn text(self, text: &str) -> Result<(), Failure> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// Writes a result for scripts: one line of JSON.
    ///
    /// # Errors
    /// As [`Output::bytes`].
    pub fn json(self, value: &Value) -> Result<(), Failure> {
        self.text(&value.to_string())
    }

    /// Writes a message; that stderr is closed is no reason to stop.
    pub fn message(self, text: &str) {
        let _nobody_reads = writeln!(io::stderr().lock(), "{text}");
    }

    /// Writes bytes beside the result, as they are.
    ///
    /// # Errors
    /// As [`Output::bytes`].
    pub fn message_bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        written(io::stderr().lock().write_all(bytes))
    }

    /// Shows why a command failed.
    pub fn failure(self, failure: &Failure) {
        if !failure.is_silent() {
            let text = failure.to_string();
            let body = text.strip_prefix("error:").unwrap_or(&text);
            self.message(&format!("{}{body}", self.stderr.error("error:")));
        }
    }
}

fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::reader_gone()),
        Err(error) => Err(Failure::new(Exit::Failed, format!("cannot write the result to standard output: {error}"))),
    }
}
