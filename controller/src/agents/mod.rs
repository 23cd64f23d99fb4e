//! The agent plane: gRPC requests to calls of the engine and back. Decides nothing.

mod artifact;
mod log;
pub mod rules;
mod serve;
mod service;
mod session;
mod status;
mod wire;

use longshore_core::id::AgentId;

pub use serve::serve;
pub use service::{Service, service};

/// Who calls, by the verified client certificate. The listener puts it into each request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The agent of the certificate; `None`: no certificate was shown.
    pub agent: Option<AgentId>,
    /// Serial number of the certificate in hex; empty without one.
    pub serial: String,
}
