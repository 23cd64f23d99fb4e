//! The executor on a real engine: what a step sees, what it cannot reach, and how it ends.
//!
//! These tests need Docker (API 1.41 or newer) on `/var/run/docker.sock` and a static `/bin/busybox`; without them they fail.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what a test cannot prepare is a failure of the test")]

mod artifacts;
mod attacks;
mod bench;
mod distribution;
mod ends;
mod engine;
mod images;
mod isolation;
mod outputs;
mod plugins;
mod prepare;
mod registry;
