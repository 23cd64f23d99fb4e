//! What is done to a container that is there: signals, removal, finding it again.

use longshore_core::id::{AttemptId, JobId};

use super::{Error, Executor};

/// Whether a signal reached a running container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signalled {
    /// It was sent.
    Sent,
    /// The container does not run (any more).
    NotRunning,
}

/// A container of this agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The engine's id of it.
    pub id: String,
    /// Its attempt, by label.
    pub attempt: AttemptId,
    /// Its job, by label.
    pub job: JobId,
    /// Epoch of the attempt, by label.
    pub epoch: u64,
    /// Index of the step, by label.
    pub step: u32,
    /// What it is doing.
    pub state: FoundState,
    /// It only prepared the workspace and never runs anything of a step: remove it.
    pub helper: bool,
}

/// What a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundState {
    /// Created and never started.
    Created,
    /// Running (or paused).
    Running,
    /// Not running any more.
    Ended,
}

impl Executor {
    /// Hands one SIGINT to the container; init passes on exactly the first that it gets.
    pub async fn interrupt(&self, container: &str) -> Result<Signalled, Error> {
        let _ = container;
        todo!()
    }

    /// Kills the container.
    pub async fn kill(&self, container: &str) -> Result<Signalled, Error> {
        let _ = container;
        todo!()
    }

    /// Removes the container, running or not, with its anonymous volumes. One that is gone already is fine.
    pub async fn remove(&self, container: &str) -> Result<(), Error> {
        let _ = container;
        todo!()
    }

    /// Removes the job's volume. Its containers have to be removed before. One that is gone already is fine.
    pub async fn remove_job(&self, job: JobId) -> Result<(), Error> {
        let _ = job;
        todo!()
    }

    /// Every container of this agent, by label, ended or not.
    pub async fn list(&self) -> Result<Vec<Found>, Error> {
        todo!()
    }

    /// Every job of this agent that has a volume, by label.
    pub async fn list_jobs(&self) -> Result<Vec<JobId>, Error> {
        todo!()
    }
}
