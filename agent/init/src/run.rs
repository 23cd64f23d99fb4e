//! Carrying out a hand-over, from the first command to the exit record.

use crate::artifacts::{self, Folder, StateFile, StateSum};
use crate::clock;
use crate::control::Control;
use crate::lock;
use crate::output_file::OutputFile;
use crate::outputs::{self, Outputs, Sources};
use crate::plan;
use crate::prepare::prepare;
use crate::processes::{Ended, Processes};
use crate::signals::{Meaning, Signals};
use crate::spool::Spool;
use crate::streams::{Buffers, Captured, Streams};
use longshore_core::artifacts::Reason;
use longshore_core::init::control::Deadlines;
use longshore_core::init::{Command, ExitRecord, Handover, MAX_OUTPUTS, Stdout};
use longshore_core::outputs::Written;
use longshore_core::redact::Patterns;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use zeroize::Zeroize as _;

/// How often the deadlines are read, in microseconds.
const LOOK: u64 = 1_000_000;
/// How long to wait for what is left of a command after it was killed, in microseconds.
const BURIAL: u64 = 10_000_000;
/// Poll times in milliseconds: while a command runs, while the spool has no space, while the killed are buried.
const IDLE: u16 = 1000;
/// Poll time in milliseconds while the spool has no space.
const FULL: u16 = 50;
/// Poll time in milliseconds while the killed are buried.
const BURY: u16 = 20;

/// Runs everything and leaves the exit record, in the spool and in the control file. Returns it too.
pub fn run(mut handover: Handover, spool: OwnedFd, control: OwnedFd, signals: Signals) -> ExitRecord {
    let mut record = ExitRecord::default();
    let patterns = Patterns::new(&handover.secrets);
    handover.secrets.zeroize();
    let mut run = Run {
        signals,
        processes: Processes::default(),
        spool: Spool::new(spool),
        control: Control::new(control),
        buffers: Buffers::default(),
        stop: Stop::default(),
        at_end: Stop::default(),
        deadlines: Deadlines::default(),
        looked: None,
    };
    let patterns = match patterns {
        Ok(patterns) => {
            let error = run.all(&handover, &patterns, &mut record).err();
            if error.is_none() {
                run.stop = run.at_end;
            }
            record.error = error.map(|text| patterns.mask(&text));
            patterns
        }
        // Better nothing is run than something unmasked printed.
        Err(error) => {
            record.error = Some(error.to_string());
            Patterns::default()
        }
    };
    drop(patterns);
    handover.env.iter_mut().for_each(|(_, value)| value.zeroize());
    handover.outputs_key.zeroize();
    handover.plan.iter_mut().for_each(|plan| plan.content.zeroize());
    run.leave(&mut record);
    record
}

/// Why and how the step is to stop.
#[derive(Debug, Default, Clone, Copy)]
struct Stop {
    asked: bool,
    forwarded: bool,
    outside: bool,
    deadline: bool,
    killed: bool,
}

/// What is taken from the commands beside their log.
#[derive(Debug, Default)]
struct Taken {
    sources: Sources,
    /// The state that a command printed to be kept.
    state: Option<StateSum>,
}

struct Run {
    signals: Signals,
    processes: Processes,
    spool: Spool,
    control: Control,
    buffers: Buffers,
    stop: Stop,
    /// As it was when the last command ended by itself: what comes while its remains are cleared away changed nothing.
    at_end: Stop,
    deadlines: Deadlines,
    /// When the deadlines were read last.
    looked: Option<u64>,
}

impl Run {
    /// Runs the commands and takes their outputs. An error is a sentence for the exit record, not masked yet.
    fn all(&mut self, handover: &Handover, patterns: &Patterns, record: &mut ExitRecord) -> Result<(), String> {
        for what in &handover.prepare {
            prepare(what).map_err(|error| full(&error))?;
        }
        let file = handover.output_file.as_ref().map(|path| OutputFile::make(Path::new(path))).transpose();
        let file = file.map_err(|error| full(&error))?;
        let planned = handover.plan.as_ref().map(plan::lay).transpose()?;
        let folder = handover.artifacts.as_ref().map(|collect| Folder::make(collect).ok());
        let mut taken = Taken::default();
        let ran = self.commands(handover, patterns, folder.as_ref().and_then(Option::as_ref), &mut taken, record);
        // Nobody is left who could write to it, nor to the folder.
        let mut wrong = file.and_then(|file| take(&file, &mut taken.sources).err());
        if let Some(folder) = folder {
            leave_files(folder, &taken, patterns, record);
        }
        ran?;
        let Some(key) = &handover.outputs_key else {
            return Ok(());
        };
        let unlocked = taken.sources.unlocked.filter(|_| record.code == Some(0));
        let said = |did: bool| Written { name: "unlocked".to_owned(), value: did.into(), secret: false };
        taken.sources.file.extend(unlocked.map(said));
        if let Err(error) = outputs::keep(&taken.sources, patterns, key, record) {
            wrong = Some(full(&error));
        }
        let made = handover.plan.as_ref().filter(|plan| plan.content.is_none() && record.code == Some(0));
        if let (Some(plan), Some(file)) = (made, planned)
            && let Err(error) = plan::take(plan, &file, key, record)
        {
            wrong = Some(error);
        }
        // A tool that failed may have been stopped in the middle of a line; why it failed is what counts.
        wrong.filter(|_| record.code == Some(0)).map_or(Ok(()), Err)
    }

    /// Runs the commands one after the other, up to the first that fails.
    fn commands(
        &mut self,
        handover: &Handover,
        patterns: &Patterns,
        folder: Option<&Folder<'_>>,
        taken: &mut Taken,
        record: &mut ExitRecord,
    ) -> Result<(), String> {
        let sources = &mut taken.sources;
        for (index, command) in handover.commands.iter().enumerate() {
            if command.only_with_secret_outputs && !sources.masked.as_ref().is_some_and(Outputs::any_hidden) {
                continue;
            }
            record.command = index;
            (record.code, record.signal) = (None, None);
            let state = folder.filter(|_| command.keeps_state).and_then(|folder| folder.state(patterns));
            let captured = self.command(command, handover, patterns, state)?;
            match self.processes.ended() {
                Some(Ended::Code(code)) => record.code = Some(code),
                Some(Ended::Signal(signal)) => record.signal = Some(signal),
                None => return Err(format!("`{}` could not be killed", program(command))),
            }
            if command.finds_lock
                && let Some(held) = lock::judge(&captured.report, &handover.over)?
            {
                sources.unlocked = Some(held);
                if held {
                    continue;
                }
                record.code = Some(0);
                break;
            }
            sources.masked = captured.events.filter(|_| command.event_outputs).or_else(|| sources.masked.take());
            if record.code != Some(0) {
                break;
            }
            let parse = |text: &[u8]| Outputs::parse(program(command), text).map_err(|error| error.to_string());
            match (command.stdout, captured.stdout) {
                (Stdout::MaskedOutputs, Some(text)) if handover.outputs_key.is_some() => {
                    sources.masked = Some(parse(&text)?);
                }
                (Stdout::RevealedOutputs, Some(text)) if handover.outputs_key.is_some() => {
                    sources.revealed = Some(parse(&text)?);
                }
                (Stdout::Checkpoint, _) => {
                    record.checkpoint.clone_from(&captured.checkpoint);
                    if command.keeps_state && folder.is_some() {
                        taken.state = captured.state.or(Some(Err(Reason::Unreadable)));
                    }
                    plan::check(handover.plan.as_ref(), captured.checkpoint.as_deref().unwrap_or_default())?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Runs one command to its end, and to the end of everything it started.
    fn command(
        &mut self,
        command: &Command,
        handover: &Handover,
        patterns: &Patterns,
        state: Option<StateFile>,
    ) -> Result<Captured, String> {
        self.attend(true);
        if self.stop.asked {
            return Err(format!("stopped before `{}` was started", program(command)));
        }
        // People are shown what they agree to; nobody asks what any other run changes.
        let values = handover.plan.as_ref().is_some_and(|plan| plan.content.is_none());
        let (mut streams, ends) = Streams::open(command, patterns, (values, state))
            .map_err(|error| format!("cannot make pipes: {}", error.desc()))?;
        self.processes.start(command, &handover.env, &handover.cwd, &ends)?;
        // Only the command has them now, so that the pipes end when it does.
        drop(ends);
        while self.processes.running() {
            self.turn(&mut streams, IDLE);
        }
        self.at_end = self.stop;
        self.bury(&mut streams);
        Ok(streams.finish(&mut self.spool))
    }

    /// Kills what the command has left and reads what is still in its pipes. Bounded: a process that cannot be killed
    /// (it waits in the kernel), or a pipe held open outside of the container, does not hold up the step for ever.
    fn bury(&mut self, streams: &mut Streams) {
        let until = clock::boot_micros() + BURIAL;
        loop {
            self.processes.kill_all();
            let alone = self.processes.reap();
            if !self.spool.is_waiting() {
                let quiet = !streams.read_all(&mut self.buffers, &mut self.spool);
                if (alone && quiet) || clock::boot_micros() > until {
                    return;
                }
                if alone {
                    continue;
                }
            }
            self.turn(streams, BURY);
        }
    }

    /// Waits for something to happen, at most so many milliseconds, and deals with it.
    fn turn(&mut self, streams: &mut Streams, wait: u16) {
        let full = self.spool.is_waiting();
        let mut watched = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let mut indices = Vec::with_capacity(3);
        if !full {
            for (index, descriptor) in streams.descriptors() {
                indices.push(index);
                watched.push(PollFd::new(descriptor, PollFlags::POLLIN));
            }
        }
        let wait = if full { FULL } else { self.until_deadline().min(wait) };
        // An error is no event; the next turn comes in any case.
        poll(&mut watched, PollTimeout::from(wait)).ok();
        let mut happened = watched.iter().map(|watch| watch.any().unwrap_or(false));
        let signal = happened.next().unwrap_or(false);
        indices.retain(|_| happened.next().unwrap_or(false));
        drop(happened);
        drop(watched);
        self.attend(signal);
        if full {
            self.spool.retry();
        }
        for index in indices {
            streams.read(index, &mut self.buffers, &mut self.spool);
        }
    }

    /// Milliseconds to the nearest deadline that has not passed, rounded up.
    fn until_deadline(&self) -> u16 {
        let now = clock::boot_micros();
        let Deadlines { soft, hard } = self.deadlines;
        let next = [soft, hard].into_iter().filter(|deadline| *deadline > now).min();
        next.map_or(u16::MAX, |deadline| u16::try_from((deadline - now).div_ceil(1000)).unwrap_or(u16::MAX))
    }

    /// Looks at signals, children and deadlines.
    fn attend(&mut self, signal: bool) {
        if signal {
            while let Some(meaning) = self.signals.next() {
                match meaning {
                    Meaning::Interrupt => self.stop.asked = true,
                    Meaning::OutsideStop => {
                        self.stop.outside = true;
                        self.stop.asked = true;
                    }
                    Meaning::Child => {}
                }
            }
            self.processes.reap();
        }
        let now = clock::boot_micros();
        if signal || self.looked.is_none_or(|looked| now >= looked + LOOK) {
            self.looked = Some(now);
            self.deadlines = self.control.deadlines().unwrap_or(self.deadlines);
        }
        let passed = |deadline: u64| deadline != 0 && now >= deadline;
        if passed(self.deadlines.soft) || passed(self.deadlines.hard) {
            self.stop.deadline = true;
            self.stop.asked = true;
        }
        if self.stop.asked && !self.stop.forwarded && self.processes.interrupt() {
            self.stop.forwarded = true;
        }
        if passed(self.deadlines.hard) && self.processes.running() {
            self.stop.killed = true;
            self.processes.kill_all();
        }
    }

    /// Writes the exit record, after waiting for space for the log's end like any time before.
    fn leave(mut self, record: &mut ExitRecord) {
        while self.spool.is_waiting() {
            poll(&mut [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)], PollTimeout::from(FULL)).ok();
            self.attend(true);
            self.spool.retry();
        }
        let sum = self.spool.close();
        (record.bytes, record.sha256, record.dropped) = (sum.bytes, sum.sha256, sum.dropped);
        // A stop that came when the command had ended by itself reached nobody and changed nothing.
        let reached = self.stop.forwarded || self.stop.killed || record.error.is_some();
        record.outside_stop = reached && self.stop.outside;
        record.interrupted = reached && self.stop.asked;
        record.deadline = reached && self.stop.deadline;
        record.killed = self.stop.killed;
        let spooled = serde_json::to_vec(record).is_ok_and(|json| self.spool.leave(&json));
        self.control.leave(record, spooled);
    }
}

fn program(command: &Command) -> &str {
    command.argv.first().map_or("", String::as_str)
}

/// Takes what the file holds; its good lines also when there is a bad one, which is the error.
fn take(file: &OutputFile, sources: &mut Sources) -> Result<(), String> {
    let text = file.read(MAX_OUTPUTS).map_err(|error| error.to_string())?;
    let read = longshore_core::outputs::read(&text);
    sources.file = read.written;
    read.malformed.map_or(Ok(()), |malformed| Err(malformed.to_string()))
}

/// Says in the record what the step left in its folder; `None`: the folder could not be made.
fn leave_files(folder: Option<Folder<'_>>, taken: &Taken, patterns: &Patterns, record: &mut ExitRecord) {
    match (folder, taken.sources.secrets()) {
        (Some(folder), Ok(own)) => folder.collect(taken.state.as_ref(), &[patterns, &own], record),
        _ => record.left_out = vec![artifacts::unreadable()],
    }
}

/// An error with its cause.
fn full(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
