//! Running programs and waiting for what they show.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a program left behind.
#[derive(Debug)]
pub struct Done {
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error as text.
    pub stderr: String,
}

impl Done {
    /// Standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Panics with everything that was printed unless the program ended with 0.
    #[must_use]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.text(), self.stderr);
        self
    }
}

/// Runs a command to its end with `stdin` as its standard input.
#[must_use]
pub fn run(command: &mut Command, stdin: &[u8]) -> Done {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut input = child.stdin.take().unwrap();
    // A program that does not read its input may be gone already.
    let _written = input.write_all(stdin);
    drop(input);
    let done = child.wait_with_output().unwrap();
    Done {
        code: done.status.code().unwrap_or(-1),
        stdout: done.stdout,
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
    }
}

/// Seconds on a clock that only goes forward, for what happens at a time of its own in the world outside.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "a machine is taken away at its time, whatever the product does")]
pub fn seconds() -> f64 {
    static BEGAN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    BEGAN.elapsed().as_secs_f64()
}

/// Asks `probe` until it answers; every probe starts a program, which paces the loop.
///
/// # Panics
/// When there is no answer within two minutes, which is far beyond anything that is waited for.
#[expect(
    clippy::disallowed_methods,
    reason = "an end to waiting, so that a broken product fails the test instead of hanging it"
)]
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < until, "waited for {what}");
    }
}
