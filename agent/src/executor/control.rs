//! What is done to a container that is there: signals, removal, finding it again.

use std::collections::{BTreeSet, HashMap};

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum, Volume};
use bollard::query_parameters::{
    KillContainerOptionsBuilder, ListContainersOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveVolumeOptions,
};
use longshore_core::id::{AttemptId, JobId};

use super::engine::{is_missing, status};
use super::{Error, Executor, settings};

/// Label of what belongs to an attempt.
const ATTEMPT: &str = "longshore.attempt";

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
    ///
    /// # Errors
    /// When the engine does not answer or refuses.
    pub async fn interrupt(&self, container: &str) -> Result<Signalled, Error> {
        self.signal(container, "SIGINT").await
    }

    /// Kills the container.
    ///
    /// # Errors
    /// When the engine does not answer or refuses.
    pub async fn kill(&self, container: &str) -> Result<Signalled, Error> {
        self.signal(container, "SIGKILL").await
    }

    async fn signal(&self, container: &str, signal: &str) -> Result<Signalled, Error> {
        let options = KillContainerOptionsBuilder::new().signal(signal).build();
        match self.inner.docker.kill_container(container, Some(options)).await {
            Ok(()) => Ok(Signalled::Sent),
            // 409: it is there and does not run.
            Err(error) if matches!(status(&error), Some(404 | 409)) => Ok(Signalled::NotRunning),
            Err(error) => Err(self.failed(format!("send {signal} to container `{container}`"), error)),
        }
    }

    /// Removes the container, running or not, with its anonymous volumes. One that is gone already is fine.
    ///
    /// # Errors
    /// When the engine does not answer or refuses.
    pub async fn remove(&self, container: &str) -> Result<(), Error> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.inner.docker.remove_container(container, Some(options)).await {
            Ok(()) => Ok(()),
            // 409: its removal goes on already.
            Err(error) if matches!(status(&error), Some(404 | 409)) => Ok(()),
            Err(error) => Err(self.failed(format!("remove container `{container}`"), error)),
        }
    }

    /// Removes the attempt's volume. Its containers have to be removed before. One that is gone already is fine.
    ///
    /// # Errors
    /// When the engine does not answer or refuses, such as while a container has the volume.
    pub async fn remove_volume(&self, attempt: AttemptId) -> Result<(), Error> {
        self.remove_named_volume(&settings::volume(attempt)).await?;
        // Those of its steps' plugins.
        for volume in self.volumes().await? {
            if volume.labels.get(ATTEMPT).is_some_and(|label| *label == attempt.to_string()) {
                self.remove_named_volume(&volume.name).await?;
            }
        }
        Ok(())
    }

    /// Removes a volume. One that is gone already is fine.
    pub(super) async fn remove_named_volume(&self, name: &str) -> Result<(), Error> {
        match self.inner.docker.remove_volume(name, None::<RemoveVolumeOptions>).await {
            Ok(()) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(self.failed(format!("remove volume `{name}`"), error)),
        }
    }

    /// Every container of this agent, by label, ended or not.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn list(&self) -> Result<Vec<Found>, Error> {
        let options = ListContainersOptionsBuilder::new().all(true).filters(&self.own()).build();
        let found = self.inner.docker.list_containers(Some(options)).await;
        let found = found.map_err(|error| self.failed("list its containers", error))?;
        Ok(found.into_iter().filter_map(read).collect())
    }

    /// Every attempt of this agent that has a volume, by label.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn list_volumes(&self) -> Result<Vec<AttemptId>, Error> {
        let found = self.volumes().await?;
        let attempts: BTreeSet<AttemptId> =
            found.iter().filter_map(|volume| volume.labels.get(ATTEMPT)?.parse().ok()).collect();
        Ok(attempts.into_iter().collect())
    }

    async fn volumes(&self) -> Result<Vec<Volume>, Error> {
        let options = ListVolumesOptionsBuilder::new().filters(&self.own()).build();
        let found = self.inner.docker.list_volumes(Some(options)).await;
        Ok(found.map_err(|error| self.failed("list its volumes", error))?.volumes.unwrap_or_default())
    }

    fn own(&self) -> HashMap<&'static str, Vec<String>> {
        HashMap::from([("label", vec![format!("longshore.agent={}", self.inner.config.agent)])])
    }
}

/// A container whose labels are not whole is not ours, whatever it says.
fn read(summary: ContainerSummary) -> Option<Found> {
    use ContainerSummaryStateEnum::{CREATED, PAUSED, RESTARTING, RUNNING};
    let labels = summary.labels?;
    let label = |name: &str| labels.get(name).map(String::as_str);
    Some(Found {
        id: summary.id?,
        attempt: label("longshore.attempt")?.parse().ok()?,
        job: label("longshore.job")?.parse().ok()?,
        epoch: label("longshore.epoch")?.parse().ok()?,
        step: label("longshore.step")?.parse().ok()?,
        state: match summary.state? {
            CREATED => FoundState::Created,
            RUNNING | PAUSED | RESTARTING => FoundState::Running,
            _ => FoundState::Ended,
        },
        helper: label(settings::HELPER_LABEL).is_some(),
    })
}
