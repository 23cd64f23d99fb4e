//! The domain of Longshore, free of I/O, clocks and randomness.
//!
//! Everything here is a value or a pure function: time and random bytes come in as arguments.
//! The controller, the agent, PID 1 of a job container and the command line share these types.
//!
//! Without features only what PID 1 (`longshore-init`) needs is compiled: redaction, the spool's
//! frames, engine events, outputs, artifacts, packed texts and the hand-over between agent and init. `domain` adds ids and state machines, `spec`
//! adds `longshore.yaml`.

pub mod artifacts;
pub mod engine_event;
pub mod init;
pub mod outputs;
pub mod pack;
pub mod redact;
pub mod secret;
pub mod spool;
pub mod stack_lock;

#[cfg(feature = "domain")]
pub mod access;
#[cfg(feature = "domain")]
pub mod approval;
#[cfg(feature = "domain")]
pub mod archive;
#[cfg(feature = "domain")]
pub mod attempt;
#[cfg(feature = "domain")]
pub mod circle;
pub mod compat;
#[cfg(feature = "domain")]
pub mod deployment;
#[cfg(feature = "domain")]
pub mod fair;
#[cfg(feature = "domain")]
pub mod fence;
#[cfg(feature = "domain")]
pub mod id;
#[cfg(feature = "domain")]
pub mod job;
#[cfg(feature = "domain")]
pub mod join;
#[cfg(feature = "domain")]
pub mod lease;
#[cfg(feature = "domain")]
pub mod offer;
#[cfg(feature = "domain")]
pub mod placement;
#[cfg(feature = "domain")]
pub mod plugins;
#[cfg(feature = "spec")]
pub mod pool;
#[cfg(feature = "domain")]
pub mod problem;
#[cfg(feature = "spec")]
pub mod process;
#[cfg(feature = "domain")]
pub mod quarantine;
#[cfg(feature = "domain")]
pub mod resources;
#[cfg(feature = "domain")]
pub mod step;
#[cfg(feature = "domain")]
pub mod time;
#[cfg(feature = "domain")]
pub mod trace;

#[cfg(feature = "spec")]
pub mod account;
#[cfg(feature = "spec")]
pub mod channel;
#[cfg(feature = "spec")]
pub mod expression;
#[cfg(feature = "spec")]
pub mod gate;
#[cfg(feature = "spec")]
pub mod operation;
#[cfg(feature = "spec")]
pub mod scaling;
#[cfg(feature = "spec")]
pub mod source;
#[cfg(feature = "spec")]
pub mod spec;
#[cfg(feature = "spec")]
pub mod variables;
#[cfg(feature = "spec")]
pub mod version;
