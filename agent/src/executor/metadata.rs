//! Whether job containers reach the cloud's metadata service, which would give any job the rights of this host.
//!
//! A container on the network of the jobs tries, as a job would. Its image is init and nothing else, imported from this
//! program, so that no registry is needed; container and image are gone afterwards.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bollard::query_parameters::{CreateImageOptionsBuilder, RemoveImageOptions};
use futures_util::StreamExt as _;
use longshore_core::init::{PROGRAM, reach};

use super::engine::is_missing;
use super::{Error, Executor, initbin, settings};

/// The metadata services of clouds: of AWS, Azure, Google and others; over IPv6; of ECS tasks; Azure's agent.
const SERVICES: [SocketAddr; 4] = [
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80),
    SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)), 80),
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)), 80),
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)), 80),
];
/// The probe itself takes two seconds at most.
const WITHIN: Duration = Duration::from_secs(30);
/// Name of the image, with the agent's id as its tag.
const IMAGE: &str = "longshore-probe";
/// As `IMAGE`, of the probe that only has to run.
const WELL: &str = "longshore-probe-well";
/// A place in the container itself where nobody listens: init tries at least one.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

impl Executor {
    /// The metadata services that a job's container reaches.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub async fn metadata_in_reach(&self) -> Result<Vec<SocketAddr>, Error> {
        self.in_reach(&SERVICES).await
    }

    /// Which of some places a job's container reaches by TCP.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub async fn in_reach(&self, places: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
        let (name, code) = self.run_probe(IMAGE, places).await?;
        let detail = || format!("its exit code was {code}");
        let reached = reach::read(code, places.len())
            .ok_or_else(|| Error::Engine { what: format!("run `{name}`"), detail: detail() })?;
        Ok(places.iter().zip(reached).filter(|(_, reached)| *reached).map(|(place, _)| *place).collect())
    }

    /// Whether a container can be run: disk, image store, network of the jobs, start and end.
    ///
    /// # Errors
    /// What keeps it from being run.
    pub async fn well(&self) -> Result<(), Error> {
        self.check_free(&self.current().limits)?;
        // A name of its own: the look at the metadata services may be under way.
        let (name, code) = self.run_probe(WELL, &[NOWHERE]).await?;
        if code == 0 {
            return Ok(());
        }
        Err(Error::Engine { what: format!("run `{name}`"), detail: format!("its exit code was {code}") })
    }

    /// Runs a probe; answers its name and its exit code. Nothing of it is left.
    async fn run_probe(&self, kind: &str, places: &[SocketAddr]) -> Result<(String, i64), Error> {
        let agent = self.inner.config.agent;
        let (name, image) = (format!("{kind}-{agent}"), format!("{kind}:{agent}"));
        // One probe at a time: they share an image.
        let _probing = self.inner.probing.lock().await;
        // Left by a try that was killed.
        self.remove(&name).await?;
        self.import_probe(&image).await?;
        let probed = self.probe(&name, &image, places).await;
        let removed = self.remove(&name).await;
        self.remove_probe(&image).await;
        let code = probed?;
        removed?;
        Ok((name, code))
    }

    /// Starts a container with a mount, which does nothing and ends; so the engine has mounted it.
    pub(super) async fn probe_mount(&self, name: &str, mount: bollard::models::Mount) -> Result<(), Error> {
        let image = format!("{IMAGE}:{}", self.inner.config.agent);
        let _probing = self.inner.probing.lock().await;
        self.import_probe(&image).await?;
        let tried = async {
            let mut body = settings::probe_container(&self.current(), self.inner.host, &image, "none", &[]);
            let host = body.host_config.get_or_insert_default();
            host.mounts = Some(vec![mount]);
            let id = self.create_container(name, body, &image).await?;
            let what = format!("run `{name}`");
            match tokio::time::timeout(WITHIN, self.run_helper(&id)).await {
                // How it ended says nothing of the mount.
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(self.failed(what, error)),
                Err(_) => Err(Error::Engine { what, detail: format!("it did not end within {} s", WITHIN.as_secs()) }),
            }
        }
        .await;
        let removed = self.remove(name).await;
        self.remove_probe(&image).await;
        tried.and(removed)
    }

    async fn remove_probe(&self, image: &str) {
        match self.inner.docker.remove_image(image, None::<RemoveImageOptions>, None).await {
            Ok(_) => {}
            Err(error) if is_missing(&error) => {}
            Err(error) => tracing::warn!(%error, image, "the probe's image was left behind"),
        }
    }

    async fn probe(&self, name: &str, image: &str, places: &[SocketAddr]) -> Result<i64, Error> {
        let id = match self.create_probe(name, image, places).await {
            Err(Error::Engine { detail, .. }) if detail.contains("network") => {
                // Someone has removed it since it was last used.
                self.forget_network().await;
                self.create_probe(name, image, places).await
            }
            other => other,
        }?;
        let run = tokio::time::timeout(WITHIN, self.run_helper(&id)).await;
        let what = format!("run `{name}`");
        match run {
            Ok(Ok(code)) => Ok(code),
            Ok(Err(error)) => Err(self.failed(what, error)),
            Err(_) => Err(Error::Engine { what, detail: format!("it did not end within {} s", WITHIN.as_secs()) }),
        }
    }

    async fn create_probe(&self, name: &str, image: &str, places: &[SocketAddr]) -> Result<String, Error> {
        let network = self.ensure_network().await?;
        let places: Vec<String> = places.iter().map(ToString::to_string).collect();
        let body = settings::probe_container(&self.current(), self.inner.host, image, &network, &places);
        self.create_container(name, body, image).await
    }

    /// Makes an image of init alone.
    async fn import_probe(&self, image: &str) -> Result<(), Error> {
        let failed = |detail: String| Error::Engine { what: format!("import image `{image}`"), detail };
        let tar = initbin::tar(PROGRAM).map_err(|error| failed(error.to_string()))?;
        let (repository, tag) = image.split_once(':').unwrap_or((image, "latest"));
        let options = CreateImageOptionsBuilder::new().from_src("-").repo(repository).tag(tag).build();
        let body = bollard::body_full(tar.into());
        let mut import = std::pin::pin!(self.inner.docker.create_image(Some(options), Some(body), None));
        while let Some(progress) = import.next().await {
            progress.map_err(|error| self.failed(format!("import image `{image}`"), error))?;
        }
        Ok(())
    }
}

/// Labels of the probe: not those of a step, so nobody takes it for one.
pub(super) fn labels(agent: &str) -> HashMap<String, String> {
    [(settings::HELPER_LABEL, "probe"), ("longshore.probe-of", agent)]
        .map(|(label, value)| (label.to_owned(), value.to_owned()))
        .into()
}

/// What to do about services that are reached.
#[must_use]
pub fn remedy(reached: &[SocketAddr]) -> String {
    let rules: Vec<String> = reached
        .iter()
        .map(|place| {
            let program = if place.is_ipv4() { "iptables" } else { "ip6tables" };
            format!("`{program} -I DOCKER-USER -d {} -j REJECT`", place.ip())
        })
        .collect();
    format!(
        "block it for containers with {}, in a way that survives a restart of this host, or permit it with `metadata = \"allowed\"`",
        rules.join(" and ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_names_each_address() {
        let text = remedy(&SERVICES[..2]);
        assert!(text.contains("`iptables -I DOCKER-USER -d 169.254.169.254 -j REJECT`"), "{text}");
        assert!(text.contains("`ip6tables -I DOCKER-USER -d fd00:ec2::254 -j REJECT`"), "{text}");
        assert!(SERVICES.len() <= reach::MOST);
    }
}
