//! One line on stderr that says what goes on now.
//!
//! On a terminal it is redrawn in place. Anywhere else each phase is one plain line, so that a CI log stays short. While a
//! result is written to the same terminal the line is taken away, and it stays away until the result is at the start of a line.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Output, table};

/// The line.
#[derive(Debug)]
pub struct Progress {
    output: Output,
    bar: Option<ProgressBar>,
    /// Phase that a plain line was written for.
    said: Option<String>,
    /// The terminal's cursor stands behind a result whose line is not complete.
    held: bool,
}

/// A part that can be told about bytes from another thread.
#[derive(Debug, Clone)]
pub struct Meter(Option<ProgressBar>);

impl Meter {
    /// So many bytes are done.
    pub fn set(&self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(bytes);
        }
    }

    /// So many bytes are done of what turns out to be this many.
    pub fn set_of(&self, bytes: u64, total: u64) {
        if let Some(bar) = &self.0 {
            bar.set_length(total);
            bar.set_position(bytes);
        }
    }
}

impl Progress {
    /// Nothing is shown before the first phase.
    #[must_use]
    pub const fn new(output: Output) -> Self {
        Self { output, bar: None, said: None, held: false }
    }

    /// A phase of unknown length begins, or says something new. `key` names it: elsewhere than on a terminal a phase is
    /// said once.
    pub fn phase(&mut self, key: &str, message: &str) {
        self.show(key, message, None, "{spinner} {msg} {elapsed}");
    }

    /// A phase that is only worth a line where it is redrawn, since a message said it already.
    pub fn watched_phase(&mut self, key: &str, message: &str) {
        if self.output.is_watched() {
            self.phase(key, message);
        }
    }

    /// A phase of `total` bytes begins; the meter takes how many are done.
    pub fn bytes(&mut self, key: &str, message: &str, total: u64) -> Meter {
        self.show(key, message, Some((0, total)), "{spinner} {msg} [{bar:24}] {bytes}/{total_bytes} {eta}");
        Meter(self.bar.clone())
    }

    /// A phase that is so far along.
    pub fn part(&mut self, key: &str, message: &str, current: u64, total: u64) {
        let template = if total >= 4096 {
            "{spinner} {msg} [{bar:24}] {bytes}/{total_bytes}"
        } else {
            "{spinner} {msg} [{bar:24}] {pos}/{len}"
        };
        self.show(key, message, Some((current, total)), template);
    }

    fn show(&mut self, key: &str, message: &str, done: Option<(u64, u64)>, template: &str) {
        let message = table::one_line(message);
        let new = self.said.as_deref() != Some(key);
        if !self.output.is_watched() {
            if new {
                self.output.message(&message);
                self.said = Some(key.to_owned());
            }
            return;
        }
        if self.held {
            return;
        }
        if new || self.bar.is_none() {
            self.clear();
            let bar = ProgressBar::with_draw_target(done.map(|(_, total)| total), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            self.bar = Some(bar);
            self.said = Some(key.to_owned());
        }
        if let Some(bar) = &self.bar {
            bar.set_message(message);
            if let Some((current, total)) = done {
                bar.set_length(total);
                bar.set_position(current);
            }
        }
    }

    /// Takes the line away; the next phase brings one back.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Writes a message above the line.
    pub fn message(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.output.message(text)),
            None => self.output.message(text),
        }
    }

    /// Runs `write`, which writes to a terminal that the line may be on. `ends_line`: what it writes ends with a newline.
    pub fn suspended<T>(&mut self, ends_line: bool, write: impl FnOnce() -> T) -> T {
        self.held = !ends_line;
        if self.held {
            self.clear();
        }
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
