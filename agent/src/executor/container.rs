//! Creating a step's container, which is not started by this.

use bollard::errors::Error as Bollard;
use bollard::models::{ContainerCreateBody, ContainerStateStatusEnum, VolumeCreateRequest};
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveVolumeOptions};
use longshore_core::offer::Network;

use super::engine::{is_missing, status};
use super::files::file_error;
use super::{Class, Created, Error, Executor, Image, Step, initbin, settings};

impl Executor {
    /// Makes the job's volume, the step's directory and its container, which is not started.
    ///
    /// A container of that name from the same attempt that was never started is taken over. Repeating it is safe
    /// as long as the step was not started.
    ///
    /// # Errors
    /// Those of [`Error`] that say "nothing was started".
    pub async fn create(&self, step: &Step, image: &Image) -> Result<Created, Error> {
        let (inner, config) = (&self.inner, self.current());
        // What the step asks for is checked before anything is made.
        settings::step_container(&config, inner.host, step, image, &config.state_dir, None)?;
        self.check_free(&config.limits)?;
        let dir = self.step_dir(step.fence.attempt, step.offer.index);
        dir.make()?;
        initbin::link(&inner.init, &dir)?;
        self.make_volume(step).await?;
        let id = match self.create_on_network(step, image).await {
            Err(error) if network_is_gone(&error) => {
                self.forget_network().await;
                self.create_on_network(step, image).await
            }
            other => other,
        }?;
        let owner = self.owner_of(image, &id).await?;
        Ok(Created { id, owner })
    }

    async fn create_on_network(&self, step: &Step, image: &Image) -> Result<String, Error> {
        let inner = &self.inner;
        let network = match step.offer.network {
            Network::Longshore => Some(self.ensure_network().await?),
            Network::None => None,
        };
        let mnt = self.step_dir(step.fence.attempt, step.offer.index).mnt();
        let mut body = settings::step_container(&self.current(), inner.host, step, image, &mnt, network.as_deref())?;
        if let Some(mount) = self.plugins_mount(step).await? {
            body.host_config.get_or_insert_default().mounts.get_or_insert_default().push(mount);
        }
        self.create_container(&settings::name(step.fence.attempt, step.offer.index), body, &image.reference).await
    }

    /// Creates a container or takes over one that is there, was never started and has the same labels.
    pub(super) async fn create_container(
        &self,
        name: &str,
        body: ContainerCreateBody,
        image: &str,
    ) -> Result<String, Error> {
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        let labels = body.labels.clone().unwrap_or_default();
        match self.inner.docker.create_container(Some(options), body).await {
            Ok(created) => Ok(created.id),
            Err(error) if status(&error) == Some(409) => self.adopt(name, &labels, error).await,
            Err(error) if is_missing(&error) && error.to_string().to_lowercase().contains("no such image") => {
                Err(Error::Image {
                    image: image.to_owned(),
                    cause: "was removed from the agent's host just now".to_owned(),
                    class: Class::AgentFault,
                })
            }
            Err(error) => Err(self.failed(format!("create container `{name}`"), error)),
        }
    }

    async fn adopt(
        &self,
        name: &str,
        labels: &std::collections::HashMap<String, String>,
        conflict: Bollard,
    ) -> Result<String, Error> {
        let taken = |cause: &str| Error::NameTaken { name: name.to_owned(), cause: cause.to_owned() };
        let Ok(found) = self.inner.docker.inspect_container(name, None).await else {
            return Err(self.failed(format!("create container `{name}`"), conflict));
        };
        let theirs = found.config.and_then(|config| config.labels).unwrap_or_default();
        if labels.iter().any(|(label, value)| theirs.get(label) != Some(value)) {
            return Err(taken("belongs to something else"));
        }
        if found.state.and_then(|state| state.status) != Some(ContainerStateStatusEnum::CREATED) {
            return Err(taken("was started before"));
        }
        found.id.ok_or_else(|| taken("has no id"))
    }

    /// Makes the attempt's volume, once. One without the marker is from a try that was broken off, and goes.
    async fn make_volume(&self, step: &Step) -> Result<(), Error> {
        let marker = self.attempt_dir(step.fence.attempt).join("volume");
        if marker.exists() {
            return Ok(());
        }
        let name = settings::volume(step.fence.attempt);
        match self.inner.docker.remove_volume(&name, None::<RemoveVolumeOptions>).await {
            Ok(()) => {}
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(self.failed(format!("remove volume `{name}` of an earlier try"), error)),
        }
        let mut labels = settings::labels(&self.inner.config, step);
        labels.remove("longshore.step");
        let request =
            VolumeCreateRequest { name: Some(name.clone()), labels: Some(labels), ..VolumeCreateRequest::default() };
        let made = self.inner.docker.create_volume(request).await;
        made.map_err(|error| self.failed(format!("create volume `{name}`"), error))?;
        std::fs::write(&marker, name).map_err(file_error("write", &marker))
    }
}

/// Whether the network that was known before is not there (any more).
fn network_is_gone(error: &Error) -> bool {
    matches!(error, Error::Engine { detail, .. } if detail.contains("network") && detail.contains("not found"))
}
