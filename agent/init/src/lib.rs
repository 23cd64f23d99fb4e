//! PID 1 of every job container.
//!
//! `main` gets a hand-over (commands, environment, secrets, two descriptors) and [`run::run`] carries it out:
//! it runs the commands one after the other, writes what they print to the spool, masked and framed, and
//! leaves an exit record. There is one thread and no async runtime.
//!
//! Invariants:
//! - Nothing of a secret is written in clear to any descriptor but the commands' own environment.
//! - No command gets a descriptor of init's: they have 0, 1, 2 and, if asked, 3.
//! - At most one SIGINT is ever forwarded, over all commands.
//! - Nothing waits without a bound but a command's own end, and that is bounded by the deadlines.
//! - All processes of the container are dead before their outputs and artifacts are read and the exit record is written.

pub mod artifacts;
pub mod chown;
pub mod clock;
pub mod control;
pub mod events;
pub mod handover;
pub mod lock;
pub mod output_file;
pub mod outputs;
pub mod plan;
pub mod prepare;
pub mod processes;
pub mod reach;
pub mod run;
pub mod signals;
pub mod spool;
pub mod streams;
