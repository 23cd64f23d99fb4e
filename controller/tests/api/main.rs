//! The API through its router, with a real database and data directory, without a socket.

mod agent;
mod auth;
mod deployments;
mod harness;
mod openapi;
mod packages;
mod plane;
mod process;
mod projects;
