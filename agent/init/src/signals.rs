//! Signals as a descriptor to poll.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, BorrowedFd};

/// What a signal means to init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The agent wants the step to end.
    Interrupt,
    /// Someone else stops the container.
    OutsideStop,
    /// A process has ended.
    Child,
}

/// The signals init lives by, blocked and read one by one.
#[derive(Debug)]
pub struct Signals {
    descriptor: SignalFd,
    only_from_outside: bool,
}

impl Signals {
    /// Blocks the signals, so that from now on none is lost and none interrupts a system call.
    ///
    /// As PID 1 only signals from outside the container count: the job must not be able to stop itself in
    /// the agent's or the engine's name. Children get an empty mask again from the standard library.
    pub fn block() -> nix::Result<Self> {
        let mut read = SigSet::empty();
        // The engine stops a container with TERM unless the image names another; these are the usual others.
        for signal in
            [Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGPWR, Signal::SIGCHLD]
        {
            read.add(signal);
        }
        let mut blocked = read;
        // A file size limit shall fail a write and not kill init.
        blocked.add(Signal::SIGXFSZ);
        blocked.thread_block()?;
        let descriptor = SignalFd::with_flags(&read, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { descriptor, only_from_outside: nix::unistd::getpid().as_raw() == 1 })
    }

    /// The next signal that waits, if any.
    pub fn next(&self) -> Option<Meaning> {
        loop {
            let signal = self.descriptor.read_signal().ok()??;
            let number = i32::try_from(signal.ssi_signo).unwrap_or(0);
            match Signal::try_from(number) {
                Ok(Signal::SIGCHLD) => return Some(Meaning::Child),
                // Senders of another PID namespace, which the job cannot be, show as process 0.
                _ if self.only_from_outside && signal.ssi_pid != 0 => {}
                Ok(Signal::SIGINT) => return Some(Meaning::Interrupt),
                Ok(_) => return Some(Meaning::OutsideStop),
                Err(_) => {}
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
