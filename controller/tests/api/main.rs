//! The API through its router, with a real database and data directory, without a socket.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod agent;
mod artifacts;
mod attacks;
mod auth;
mod bounds;
#[path = "../../src/identity/cloud/testing.rs"]
#[expect(dead_code, reason = "the tests of the verifier need more of it")]
mod clouds;
mod codes;
mod deployments;
mod fences;
mod floods;
mod h2;
mod harness;
mod https;
mod log_lines;
mod machines;
mod openapi;
mod packages;
mod people;
mod plane;
mod pools;
mod process;
mod projects;
mod secrets;
mod security;
mod sources;
mod traces;
