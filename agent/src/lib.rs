//! The Longshore agent: claims jobs, runs every step in a container, ships log and result.
//!
//! The binary is a thin shell around this library, so that tests can build a whole agent against a fake
//! controller and a fake container runtime.
//!
//! Invariants: only [`tasks`] spawns, only [`clock`] reads clocks and draws random bytes; tonic and the wire types stay in
//! [`session`]; the agent decides nothing, it obeys and reports; what it promised is on disk before it says so.

pub mod app;
pub mod arguments;
pub mod attest;
pub mod cache;
pub mod clock;
pub mod config;
pub mod doctor;
pub mod durable;
pub mod executor;
pub mod host;
pub mod identity;
pub mod ledger;
pub mod lifecycle;
pub mod registry;
pub mod retry;
pub mod session;
pub mod shipper;
pub mod status;
pub mod supervisor;
pub mod tasks;
pub mod water;
