//! Tests of the command from outside, in one program: `commands` as a process and `client` as a library, both against a
//! fake server; `dev` with fakes for what it starts; `help` against golden files.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod agents;
mod apply;
mod artifacts;
mod client;
mod commands;
mod dev;
mod fake;
mod git;
mod help;
mod init;
mod people;
mod pools;
mod secrets;
mod upload;
