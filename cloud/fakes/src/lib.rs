//! Fakes of what clouds answer, written from their documents, for tests. No cloud has said any of it.
//!
//! Each fake is a server on a port of its own, for one machine: its metadata and, at the same address, the API that it may call.
//! What is asked of it is written down, and a test can wait for it.

mod aws;
mod azure;
mod gcp;
mod groups;
mod server;

pub use aws::{Aws, AwsMachine};
pub use azure::{Azure, AzureEvent, AzureMachine};
pub use gcp::{Gcp, GcpMachine};
pub use groups::{Group, Groups, Kind as GroupKind};
pub use server::{Answer, Asked, Fake};
