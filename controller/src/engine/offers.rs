//! What an agent is offered: the steps of a job, rendered as far as that may be known before a start.

use longshore_core::offer::{Network, OfferStep, Profile};
use longshore_core::spec::{self, Project, Step};
use longshore_core::step::slot;

use super::context::Values;
use super::create::rendered;
use super::{Error, Result};
use crate::store::rows::DeploymentRow;

/// The steps of a job with every try that they may have. A try needs no offer of its own then, and none is granted twice.
pub(super) fn offer_steps(spec: &Project, row: &DeploymentRow, indices: &[usize]) -> Result<Vec<OfferStep>> {
    let mut offered = Vec::new();
    for at in indices {
        let missing = || Error::Internal(format!("step {at} of `{}` is missing", row.deployment.id));
        let step = spec.steps.get(*at).ok_or_else(missing)?;
        let index = u32::try_from(*at).map_err(|_| missing())?;
        let once = offer_step(spec, step, index, row)?;
        let retries = step.retries.map_or(0, |retries| retries.max);
        offered.extend((0..=retries).map(|tries| OfferStep { index: slot(index, tries), ..once.clone() }));
    }
    Ok(offered)
}

fn offer_step(spec: &Project, step: &Step, index: u32, row: &DeploymentRow) -> Result<OfferStep> {
    let image = image(step, row)?;
    Ok(OfferStep {
        index,
        name: step.name.clone(),
        image,
        profile: match step.profile {
            spec::Profile::Standard => Profile::Standard,
            spec::Profile::Locked => Profile::Locked,
        },
        network: match step.network {
            spec::Network::Longshore => Network::Longshore,
            spec::Network::None => Network::None,
        },
        mounts: step.mounts.clone(),
        pulumi: step.pulumi_stack_template().is_some(),
        resources: spec.resources_of(step),
        pull: step.pull,
        digest: None,
    })
}

/// The image of a container step, by the name that the spec gives it.
pub(super) fn image(step: &Step, row: &DeploymentRow) -> Result<String> {
    let values = Values::plain(row, Some(&step.name));
    let template = step.image.as_ref().ok_or_else(|| Error::Internal(format!("step `{}` has no image", step.name)))?;
    rendered(step, "image", template, &values, spec::check_image)
}
