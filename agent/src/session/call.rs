//! The unary calls and the package stream, in core's words.

use std::time::Duration;

use longshore_core::attempt::Cause;
use longshore_core::engine_event::Summary;
use longshore_core::fence::Fence;
use longshore_core::init::ExitRecord;
use longshore_core::offer::Grant;
use longshore_core::time::Timestamp;
use longshore_core::trace::Took;
use longshore_proto::{FENCED, v1};
use tonic::{Code, Status};

use super::dial::{self, Plane};
use super::log::{LogAcks, LogSender};
use super::tls::Dialer;
use super::wire;

/// A decision that takes longer is asked for again.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Why a call gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The attempt is not this agent's any more.
    #[error("fenced by the controller: {0}")]
    Fenced(String),
    /// The controller was not reached, or failed; trying again may help.
    #[error("the controller does not answer: {0}")]
    Unreached(String),
    /// The controller refuses the call as it stands.
    #[error("the controller refuses the call: {0}")]
    Refused(String),
    /// The answer makes no sense.
    #[error("the controller's answer cannot be used")]
    Answer(#[from] longshore_proto::convert::Error),
}

impl Error {
    /// Whether the controller says that the attempt is not this agent's.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Fenced(_))
    }

    pub(super) fn unreached(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Unreached(chain(error))
    }

    pub(super) fn from_status(status: &Status) -> Self {
        let message = status.message();
        match status.code() {
            Code::FailedPrecondition if message.starts_with(FENCED) => Self::Fenced(message.to_owned()),
            // The attempt is of another agent or of no one: it cannot be ours either.
            Code::NotFound | Code::PermissionDenied => Self::Fenced(format!("{:?}: {message}", status.code())),
            Code::InvalidArgument
            | Code::Unimplemented
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::OutOfRange => Self::Refused(format!("{:?}: {message}", status.code())),
            _ => Self::Unreached(
                std::error::Error::source(status)
                    .map_or_else(|| message.to_owned(), |source| format!("{message}: {}", chain(source))),
            ),
        }
    }
}

/// An error with its causes, each said once.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = inner.source();
    }
    text
}

/// Asks for the right to start one step's container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The attempt.
    pub fence: Fence,
    /// Index of the step.
    pub step: u32,
    /// The container, created and not started.
    pub container: String,
    /// In memory only; the same for every try.
    pub nonce: String,
    /// Digest of the image.
    pub image_digest: String,
    /// What making it ready took.
    pub took: Vec<Took>,
}

/// The answer to [`Start`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The right, and what it needs. Holds secrets.
    Granted(Box<Grant>),
    /// Granted before, to a nonce that is lost.
    AlreadyStarted(String),
    /// The deployment was canceled.
    Canceled(String),
    /// The controller has recorded the step as failed.
    Failed(String),
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The attempt.
    pub fence: Fence,
    /// Index of the step.
    pub step: u32,
    /// How it ended.
    pub ending: Ending,
    /// What parts of it took.
    pub took: Vec<Took>,
}

/// How a step ended on this agent.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// init left an exit record.
    Exited {
        /// It.
        record: Box<ExitRecord>,
        /// Length of the spool, all of it durable on the controller.
        spool_bytes: u64,
        /// What the engine events said; `None`: there were none.
        summary: Option<Box<Summary>>,
        /// By the agent's clock.
        started_at: Timestamp,
        /// By the agent's clock.
        ended_at: Timestamp,
        /// The agent carried out a cancel.
        canceled: bool,
    },
    /// No exit record.
    Lost {
        /// What is known.
        reason: String,
        /// Length of the spool, all of it durable on the controller.
        spool_bytes: u64,
        /// The agent carried out a cancel.
        canceled: bool,
    },
    /// No container ran.
    NotStarted {
        /// What failed, what was left untouched, what to do next.
        reason: String,
        /// Whose affair that is.
        cause: Cause,
    },
}

/// The way to the controller's decisions. Clones share two connections, which come back by themselves.
#[derive(Debug, Clone)]
pub struct Client {
    decisions: Plane,
    bulk: Plane,
}

impl Client {
    /// Connects when first used.
    #[must_use]
    pub fn new(dialer: &Dialer) -> Self {
        Self { decisions: dial::lazy(dialer), bulk: dial::lazy(dialer) }
    }

    pub(super) fn bulk(&self) -> Plane {
        self.bulk.clone()
    }

    /// Asks for the right to start a step; safe to repeat with the same nonce.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn confirm_start(&self, start: &Start) -> Result<Verdict, Error> {
        let request = wire::confirm(start);
        let answer = within(self.decisions.clone().confirm_start(request)).await?;
        Ok(wire::verdict(answer)?)
    }

    /// Reports how a step ended and says which step is next; safe to repeat.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn complete(&self, report: &Report) -> Result<Option<u32>, Error> {
        let request = wire::complete(report);
        Ok(within(self.decisions.clone().complete(request)).await?.next_step)
    }

    /// Trades a certificate request for a certificate chain and the authorities to trust.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn renew(&self, csr_pem: &str) -> Result<(String, String), Error> {
        let request = v1::RenewCertificateRequest { csr_pem: csr_pem.to_owned() };
        let answer = within(self.decisions.clone().renew_certificate(request)).await?;
        Ok((answer.certificate_pem, answer.ca_pem))
    }

    /// Takes leave: nothing is left here, and the process is about to end.
    ///
    /// # Errors
    /// [`Error`]; a controller that does not know this needs no leave.
    pub async fn leave(&self, reason: &str) -> Result<(), Error> {
        let request = v1::LeaveRequest { reason: reason.to_owned() };
        within(self.decisions.clone().leave(request)).await.map(drop)
    }

    /// Opens the stream of a package's bytes.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn fetch_package(&self, fence: Fence, sha256: &str) -> Result<PackageStream, Error> {
        let request = v1::FetchPackageRequest { fence: Some(fence.into()), sha256: sha256.to_owned() };
        Ok(PackageStream(within(self.bulk.clone().fetch_package(request)).await?))
    }

    /// Opens the log stream of a step. The first thing that comes down is the durable offset.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn ship_log(&self, fence: Fence, step: u32) -> Result<(LogSender, LogAcks), Error> {
        let (sender, requests) = super::log::up(fence, step);
        let down = within(self.bulk.clone().ship_log(requests)).await?;
        Ok((sender, LogAcks::new(down)))
    }
}

async fn within<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Error> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(Error::from_status(&status)),
        Err(_) => Err(Error::Unreached(format!("no answer within {} s", CALL_TIMEOUT.as_secs()))),
    }
}

/// A package on its way down.
#[derive(Debug)]
pub struct PackageStream(tonic::Streaming<v1::FetchPackageResponse>);

impl PackageStream {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        match tokio::time::timeout(CALL_TIMEOUT, self.0.message()).await {
            Ok(Ok(message)) => Ok(message.map(|message| message.data)),
            Ok(Err(status)) => Err(Error::from_status(&status)),
            Err(_) => Err(Error::Unreached("the package stopped coming".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_controllers_word_fences() {
        let fenced = |status: Status| Error::from_status(&status).is_fenced();
        assert!(fenced(Status::failed_precondition("FENCED: epoch 2 is current")));
        assert!(fenced(Status::not_found("no such attempt")));
        assert!(!fenced(Status::failed_precondition("the log is not complete")));
        assert!(!fenced(Status::unavailable("FENCED")));
        assert!(matches!(Error::from_status(&Status::internal("x")), Error::Unreached(_)));
        assert!(matches!(Error::from_status(&Status::invalid_argument("x")), Error::Refused(_)));
    }
}
