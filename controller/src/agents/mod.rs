//! The agent plane: gRPC requests to calls of the engine and back. Decides nothing.

mod artifact;
mod flow;
mod gate;
mod log;
mod pace;
pub mod rules;
mod serve;
mod service;
mod session;
mod status;
mod wire;

use std::sync::Arc;

use longshore_core::id::AgentId;
use tokio::sync::Semaphore;

pub use gate::Gate;
pub use serve::serve;
pub use service::{Service, service};

/// Who calls, by the verified client certificate. The listener puts it into each request's extensions.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The agent of the certificate; `None`: no certificate was shown.
    pub agent: Option<AgentId>,
    /// Serial number of the certificate in hex; empty without one.
    pub serial: String,
    /// Calls that the connection of a caller without a certificate may have open.
    pub strange_calls: Arc<Semaphore>,
}
