//! [`Offer`] and what it is made of.

use longshore_core::offer::{Network, Offer, OfferStep, PackageRef, Profile, Pull};
use longshore_core::placement::{LowWater, Scarce};
use longshore_core::resources::{Bytes, Cpus, Resources};

use super::{Error, fence, id};
use crate::v1;

/// Bytes of a path (`PATH_MAX`).
const MAX_ROOT: usize = 4_096;

/// Executor profile from its word.
fn profile(text: &str) -> Result<Profile, Error> {
    match text {
        "standard" => Ok(Profile::Standard),
        "locked" => Ok(Profile::Locked),
        other => Err(Error::value("profile", other)),
    }
}

fn network(text: &str) -> Result<Network, Error> {
    match text {
        "longshore" => Ok(Network::Longshore),
        "none" => Ok(Network::None),
        other => Err(Error::value("network", other)),
    }
}

/// When an image is pulled, from its word; an older controller says nothing.
///
/// # Errors
/// [`Error::Value`] when it is none of the known ones.
pub fn pull(text: &str) -> Result<Pull, Error> {
    match text {
        "" | "if-not-present" => Ok(Pull::IfNotPresent),
        "always" => Ok(Pull::Always),
        other => Err(Error::value("pull", other)),
    }
}

impl v1::Hello {
    /// Weakest executor profile the agent permits.
    ///
    /// # Errors
    /// [`Error::Value`] when it is none of the known ones.
    pub fn profile(&self) -> Result<Profile, Error> {
        profile(&self.weakest_profile)
    }
}

impl From<Offer> for v1::Offer {
    fn from(offer: Offer) -> Self {
        Self {
            fence: Some(offer.fence.into()),
            job_id: offer.job.to_string(),
            deployment_id: offer.deployment.to_string(),
            steps: offer.steps.into_iter().map(Into::into).collect(),
            package: offer.package.map(|package| v1::PackageRef { sha256: package.sha256, bytes: package.bytes }),
            project: offer.project,
            environment: offer.environment,
            url: offer.url,
        }
    }
}

impl TryFrom<v1::Offer> for Offer {
    type Error = Error;

    fn try_from(wire: v1::Offer) -> Result<Self, Error> {
        if wire.steps.is_empty() {
            return Err(Error::Missing("steps"));
        }
        Ok(Self {
            fence: fence(wire.fence)?,
            job: id("job_id", &wire.job_id)?,
            deployment: id("deployment_id", &wire.deployment_id)?,
            project: wire.project,
            environment: wire.environment,
            url: wire.url,
            steps: wire.steps.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            package: wire.package.map(TryInto::try_into).transpose()?,
        })
    }
}

impl TryFrom<v1::PackageRef> for PackageRef {
    type Error = Error;

    fn try_from(wire: v1::PackageRef) -> Result<Self, Error> {
        let is_digest =
            wire.sha256.len() == 64 && wire.sha256.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !is_digest {
            return Err(Error::value("package.sha256", &wire.sha256));
        }
        Ok(Self { sha256: wire.sha256, bytes: wire.bytes })
    }
}

impl From<OfferStep> for v1::OfferStep {
    fn from(step: OfferStep) -> Self {
        Self {
            index: step.index,
            name: step.name,
            image: step.image,
            profile: step.profile.as_str().to_owned(),
            network: step.network.as_str().to_owned(),
            mounts: step.mounts,
            pulumi: step.pulumi,
            resources: (!step.resources.is_none()).then(|| step.resources.into()),
            pull: step.pull.as_str().to_owned(),
            image_digest: step.digest.unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::OfferStep> for OfferStep {
    type Error = Error;

    fn try_from(wire: v1::OfferStep) -> Result<Self, Error> {
        Ok(Self {
            index: wire.index,
            name: wire.name,
            profile: profile(&wire.profile)?,
            network: network(&wire.network)?,
            image: wire.image,
            mounts: wire.mounts,
            pulumi: wire.pulumi,
            resources: wire.resources.map(Into::into).unwrap_or_default(),
            pull: pull(&wire.pull)?,
            digest: Some(wire.image_digest).filter(|digest| !digest.is_empty()),
        })
    }
}

impl From<Resources> for v1::Resources {
    fn from(resources: Resources) -> Self {
        Self { cpus_milli: resources.cpus.0, memory_bytes: resources.memory.0, disk_bytes: resources.disk.0 }
    }
}

impl From<v1::Resources> for Resources {
    fn from(wire: v1::Resources) -> Self {
        Self { cpus: Cpus(wire.cpus_milli), memory: Bytes(wire.memory_bytes), disk: Bytes(wire.disk_bytes) }
    }
}

impl From<LowWater> for v1::LowWater {
    fn from(low: LowWater) -> Self {
        let engine_root = low.engine_root.unwrap_or_default();
        Self { what: low.what.as_str().to_owned(), engine_root, left: low.left, low: low.low, again: low.again }
    }
}

impl TryFrom<v1::LowWater> for LowWater {
    type Error = Error;

    fn try_from(wire: v1::LowWater) -> Result<Self, Error> {
        let what = match wire.what.as_str() {
            "disk" => Scarce::Disk,
            "inodes" => Scarce::Inodes,
            other => return Err(Error::value("low.what", other)),
        };
        let engine_root = Some(wire.engine_root).filter(|root| !root.is_empty());
        if let Some(root) = engine_root.as_ref().filter(|root| root.len() > MAX_ROOT) {
            return Err(Error::value("low.engine_root", root));
        }
        Ok(Self { what, engine_root, left: wire.left, low: wire.low, again: wire.again })
    }
}
