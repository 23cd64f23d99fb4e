//! Refusals of the engine as gRPC statuses.
//!
//! What agents go by: `FAILED_PRECONDITION` that starts with `FENCED`, and `PERMISSION_DENIED`: the attempt is not theirs;
//! `UNAUTHENTICATED`: they have to be enrolled again; `INVALID_ARGUMENT`: the request makes no sense; all else: try again.

use longshore_proto::{FENCED, convert};
use tonic::{Code, Status};

use crate::engine::{self, plane};
use crate::{identity, store};

/// An error with all its causes.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |e| e.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The status of a refusal.
pub(super) fn status(error: plane::Error) -> Status {
    let message = error.to_string();
    match error {
        plane::Error::Unknown | plane::Error::JoinToken => Status::new(Code::Unauthenticated, message),
        plane::Error::Foreign => Status::new(Code::PermissionDenied, message),
        plane::Error::Fenced(why) => Status::new(Code::FailedPrecondition, format!("{FENCED}: {why}")),
        plane::Error::Version(_) => Status::new(Code::FailedPrecondition, message),
        plane::Error::NotDue => Status::new(Code::Unavailable, message),
        plane::Error::NotDurable { .. } => Status::new(Code::Aborted, message),
        plane::Error::Identity(identity::Error::Csr(_)) | plane::Error::Invalid(_) => {
            Status::new(Code::InvalidArgument, message)
        }
        plane::Error::Engine(engine::Error::Store(store::Error::Full)) => Status::new(Code::ResourceExhausted, message),
        other => failed(&other),
    }
}

/// A failure of ours: the cause stays in our log.
pub(super) fn failed(error: &(dyn std::error::Error + 'static)) -> Status {
    tracing::error!(error = %chain(error), "an agent's call failed");
    Status::new(Code::Unavailable, "the controller failed; its log says why")
}

/// A message that cannot be taken for what it should be.
pub(super) fn invalid(error: &convert::Error) -> Status {
    Status::new(Code::InvalidArgument, chain(error))
}
