//! Signed calls to AWS' query APIs.

mod autoscaling;
mod ec2;
mod group;
mod query;
mod sts;

use longshore_core::secret::Secret;
use longshore_core::time::Timestamp;

pub use autoscaling::{AutoScaling, Hook, Member};
pub use ec2::{Ec2, Instance};
pub use group::{Group, Groups};
pub use query::{QueryApi, Xml};
pub use sts::{SignedRequest, caller_identity};

/// Who signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Its public half.
    pub access_key_id: String,
    /// What signs.
    pub secret_access_key: Secret,
    /// Of credentials that end.
    pub session_token: Option<Secret>,
    /// When they end.
    pub until: Option<Timestamp>,
}
