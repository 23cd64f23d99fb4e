//! The pipes of a command, and what becomes of the bytes in them.

use crate::artifacts::{StateFile, StateSum};
use crate::events::Events;
use crate::outputs::Outputs;
use crate::processes::Ends;
use crate::spool::{Spool, hex};
use longshore_core::init::{Command, MAX_OUTPUTS, Stdout};
use longshore_core::redact::{Patterns, Redactor};
use longshore_core::spool::Stream;
use longshore_core::stack_lock::MAX_REPORT;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{pipe2, read};
use sha2::{Digest as _, Sha256};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use zeroize::Zeroizing;

/// Bytes taken at once. Fits the second-level cache, so that hashing finds them there.
const CHUNK: usize = 256 << 10;
/// What to ask for as a pipe's capacity; the system may give less.
const PIPE: i32 = 1 << 20;
/// Reads of one pipe before the others, the signals and the deadlines are looked at again.
const TURNS: usize = 8;

/// Buffers that all commands of a step share.
#[derive(Debug)]
pub struct Buffers {
    chunk: Vec<u8>,
    masked: Vec<u8>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self { chunk: vec![0; CHUNK], masked: Vec::new() }
    }
}

/// What a command's streams left besides the log.
#[derive(Debug, Default)]
pub struct Captured {
    /// Standard output, if it was to be captured, as far as it is not too long.
    pub stdout: Option<Zeroizing<Vec<u8>>>,
    /// SHA-256 in hex of standard output, if that is what was asked for.
    pub checkpoint: Option<String>,
    /// What became of the state that was to be kept.
    pub state: Option<StateSum>,
    /// The stack's outputs by its events, if they were asked for.
    pub events: Option<Outputs>,
    /// The beginning of standard error, if it says who holds a lock.
    pub report: Vec<u8>,
}

enum Sink {
    Log(Stream, Redactor),
    /// Standard error that is logged, and its beginning kept as it came.
    Report(Redactor, Vec<u8>),
    Events(Events),
    Capture(Zeroizing<Vec<u8>>),
    Digest(Box<Sha256>, Option<Box<StateFile>>),
}

struct Pipe {
    /// `None` at its end.
    descriptor: Option<OwnedFd>,
    sink: Sink,
}

/// The reading ends of a command's pipes.
pub struct Streams {
    pipes: Vec<Pipe>,
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").field("pipes", &self.pipes.len()).finish_non_exhaustive()
    }
}

impl Streams {
    /// Makes the pipes a command needs; returns its ends beside them. Events keep values of properties if `values`; `state`: where a
    /// checkpoint is kept.
    pub fn open(
        command: &Command,
        patterns: &Patterns,
        (values, state): (bool, Option<StateFile>),
    ) -> nix::Result<(Self, Ends)> {
        let mut pipes = Vec::with_capacity(3);
        let mut pipe = |sink| {
            let (reading, writing) = pipe2(OFlag::O_CLOEXEC)?;
            fcntl(&reading, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            // Without the larger buffer it works as well, only slower.
            fcntl(&reading, FcntlArg::F_SETPIPE_SZ(PIPE)).ok();
            pipes.push(Pipe { descriptor: Some(reading), sink });
            Ok::<_, Errno>(writing)
        };
        let stdout = match command.stdout {
            Stdout::Log => Sink::Log(Stream::Stdout, patterns.redactor()),
            Stdout::Checkpoint => Sink::Digest(Box::default(), state.map(Box::new)),
            Stdout::MaskedOutputs | Stdout::RevealedOutputs => {
                // Never grows, so nothing of it stays behind in freed memory.
                Sink::Capture(Zeroizing::new(Vec::with_capacity(MAX_OUTPUTS + 1)))
            }
        };
        let stderr = match command.finds_lock {
            true => Sink::Report(patterns.redactor(), Vec::new()),
            false => Sink::Log(Stream::Stderr, patterns.redactor()),
        };
        let events = || Sink::Events(Events::new(patterns.clone(), command.event_outputs, values));
        let ends = Ends {
            stdout: pipe(stdout)?,
            stderr: pipe(stderr)?,
            events: command.events.then(|| pipe(events())).transpose()?,
        };
        Ok((Self { pipes }, ends))
    }

    /// The pipes that are open: index and descriptor.
    pub fn descriptors(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        self.pipes.iter().enumerate().filter_map(|(index, pipe)| Some((index, pipe.descriptor.as_ref()?.as_fd())))
    }

    /// Reads what is in a pipe now, up to a bound. False if nothing was there.
    pub fn read(&mut self, index: usize, buffers: &mut Buffers, spool: &mut Spool) -> bool {
        let Some(pipe) = self.pipes.get_mut(index) else {
            return false;
        };
        for turn in 0..TURNS {
            let Some(descriptor) = &pipe.descriptor else {
                return turn > 0;
            };
            match read(descriptor, &mut buffers.chunk) {
                Ok(0) => pipe.descriptor = None,
                Ok(length) => {
                    pipe.sink.take(&buffers.chunk[..length], &mut buffers.masked, spool);
                    if spool.is_waiting() {
                        return true;
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return turn > 0,
                Err(_) => pipe.descriptor = None,
            }
        }
        true
    }

    /// Reads once whatever is in any pipe; false if nothing was.
    pub fn read_all(&mut self, buffers: &mut Buffers, spool: &mut Spool) -> bool {
        let mut any = false;
        for index in 0..self.pipes.len() {
            any |= self.read(index, buffers, spool);
        }
        any
    }

    /// Ends all streams: what redactors held back goes out.
    pub fn finish(self, spool: &mut Spool) -> Captured {
        let mut captured = Captured::default();
        for pipe in self.pipes {
            match pipe.sink {
                Sink::Log(stream, redactor) => finish_log(stream, redactor, spool),
                Sink::Report(redactor, report) => {
                    finish_log(Stream::Stderr, redactor, spool);
                    captured.report = report;
                }
                Sink::Events(events) => captured.events = Some(events.finish(spool)),
                Sink::Capture(bytes) => captured.stdout = Some(bytes),
                Sink::Digest(sha, state) => {
                    captured.checkpoint = Some(hex(&sha.finalize()));
                    captured.state = state.map(|state| state.finish());
                }
            }
        }
        captured
    }
}

/// What a redactor held back goes out.
fn finish_log(stream: Stream, mut redactor: Redactor, spool: &mut Spool) {
    let mut rest = Vec::new();
    redactor.finish(&mut rest);
    spool.write(stream, &rest);
}

fn log(stream: Stream, redactor: &mut Redactor, bytes: &[u8], masked: &mut Vec<u8>, spool: &mut Spool) {
    if redactor.is_transparent() {
        return spool.write(stream, bytes);
    }
    masked.clear();
    redactor.push(bytes, masked);
    spool.write(stream, masked);
}

impl Sink {
    fn take(&mut self, bytes: &[u8], masked: &mut Vec<u8>, spool: &mut Spool) {
        match self {
            Self::Log(stream, redactor) => log(*stream, redactor, bytes, masked, spool),
            Self::Report(redactor, report) => {
                log(Stream::Stderr, redactor, bytes, masked, spool);
                let room = MAX_REPORT.saturating_sub(report.len());
                report.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            Self::Events(events) => events.push(bytes, spool),
            Self::Digest(sha, state) => {
                sha.update(bytes);
                if let Some(state) = state {
                    state.push(bytes);
                }
            }
            Self::Capture(captured) => {
                // One byte more than may be kept shows that it was too much.
                let room = (MAX_OUTPUTS + 1).saturating_sub(captured.len());
                captured.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
        }
    }
}
