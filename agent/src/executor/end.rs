//! How a step's container ended.

use longshore_core::init::ExitRecord;

use super::{Executor, StepDir};

/// How a step's container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// By init's own account. The container may still be on its way out; nothing of the job runs any more.
    Exit(Box<ExitRecord>),
    /// It does not run (any more) and there is no exit record: the step is lost.
    Gone {
        /// What is known, for people.
        detail: String,
    },
}

impl Executor {
    /// Waits until the container has ended, across restarts of the engine and of this agent.
    ///
    /// `boundary` is a record boundary of the spool from which on it has no holes (0 when nothing was given back).
    pub async fn wait_end(&self, dir: &StepDir, container: &str, boundary: u64) -> End {
        let _ = (dir, container, boundary);
        todo!()
    }
}
