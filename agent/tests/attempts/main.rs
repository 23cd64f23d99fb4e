//! The whole agent but the container engine, against a controller that is a fake over real TLS and gRPC, and a fake runtime.
//!
//! Nothing sleeps: each test waits for what it wants to see. The limit on a wait is only there so that a broken agent fails.

#![expect(clippy::unwrap_used, reason = "helpers of tests are outside test functions")]

mod artifacts;
mod controller;
mod doctor;
mod ends;
mod engine;
mod leaving;
mod log_lines;
mod plugins;
mod proxies;
mod reload;
mod restarts;
mod runtime;
mod sessions;
mod starts;
mod status;
mod world;
