//! The controller: projects, deployments, queue, locks, logs, the API and the agents' plane.
//!
//! Only `engine` decides; `api` and `agents` translate requests into calls of it, `store` keeps rows, `logs` and `blobs`
//! keep bytes. `app` builds everything before anything is spawned; every long-lived task is owned by `tasks`.

pub mod agents;
pub mod api;
pub mod app;
pub mod blobs;
pub mod clock;
pub mod config;
pub mod data_dir;
pub mod engine;
pub mod hex;
pub mod identity;
pub mod logs;
pub mod machines;
pub mod manager;
pub mod scaler;
pub mod secrets;
pub mod store;
pub mod tasks;
pub mod telemetry;
pub mod trace;
