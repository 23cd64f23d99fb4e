//! How a step ended, as the agent reports it.

use longshore_core::attempt::Cause;
use longshore_core::engine_event::Summary;
use longshore_core::fence::Fence;
use longshore_core::init::ExitRecord;
use longshore_core::time::Timestamp;

use super::{Error, Took, fence, required, took};
use crate::v1;
use crate::v1::complete_request::Outcome;

/// A [`v1::CompleteRequest`] in core's words.
#[derive(Debug, Clone)]
pub struct Completion {
    /// Who speaks.
    pub fence: Fence,
    /// Index of the step.
    pub step: u32,
    /// How it ended.
    pub ending: Ending,
    /// What parts of it took.
    pub took: Vec<Took>,
}

/// How a step ended on the agent.
#[derive(Debug, Clone)]
pub enum Ending {
    /// init left an exit record.
    Exited {
        /// It.
        record: Box<ExitRecord>,
        /// Length of the spool in bytes.
        spool_bytes: u64,
        /// What the engine events said.
        summary: Option<Box<Summary>>,
        /// On the agent's clock.
        started_at: Timestamp,
        /// On the agent's clock.
        ended_at: Timestamp,
        /// The agent carried out a cancel.
        canceled: bool,
    },
    /// No exit record.
    Lost {
        /// What is known.
        reason: String,
        /// Length of the spool in bytes.
        spool_bytes: u64,
        /// The agent carried out a cancel and had to kill the container.
        canceled: bool,
    },
    /// No container ran.
    NotStarted {
        /// Why.
        reason: String,
        /// Whose affair that is.
        cause: Cause,
    },
}

fn micros(field: &'static str, value: u64) -> Result<Timestamp, Error> {
    i64::try_from(value).map(Timestamp::from_micros).map_err(|_| Error::value(field, &value.to_string()))
}

impl TryFrom<v1::CompleteRequest> for Completion {
    type Error = Error;

    fn try_from(wire: v1::CompleteRequest) -> Result<Self, Error> {
        let ending = match required("outcome", wire.outcome)? {
            Outcome::Exited(exited) => Ending::Exited {
                record: serde_json::from_slice(&exited.record)
                    .map_err(|err| Error::value("exited.record", &err.to_string()))?,
                spool_bytes: exited.spool_bytes,
                summary: if exited.event_summary.is_empty() {
                    None
                } else {
                    Some(
                        serde_json::from_slice(&exited.event_summary)
                            .map_err(|err| Error::value("exited.event_summary", &err.to_string()))?,
                    )
                },
                started_at: micros("exited.started_at_us", exited.started_at_us)?,
                ended_at: micros("exited.ended_at_us", exited.ended_at_us)?,
                canceled: exited.canceled,
            },
            Outcome::Lost(lost) => {
                Ending::Lost { reason: lost.reason, spool_bytes: lost.spool_bytes, canceled: lost.canceled }
            }
            Outcome::NotStarted(not) => {
                Ending::NotStarted { reason: not.reason, cause: Cause::said(not.agent_fault, not.leaving) }
            }
        };
        Ok(Self { fence: fence(wire.fence)?, step: wire.step, ending, took: took(wire.took) })
    }
}
