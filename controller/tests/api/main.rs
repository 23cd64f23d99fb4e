//! The API through its router, with a real database and data directory, without a socket.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod agent;
mod artifacts;
mod auth;
mod codes;
mod deployments;
mod fences;
mod harness;
mod https;
mod openapi;
mod packages;
mod people;
mod plane;
mod pools;
mod process;
mod projects;
mod secrets;
mod sources;
