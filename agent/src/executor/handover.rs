//! What init is told to do for a step.

use longshore_core::init::Handover;
use longshore_core::offer::{Grant, Offer};

use super::{Error, Image, Step};

/// Puts together what init is told: commands, environment, directory, secrets. Pure.
pub fn handover(step: &Step, offer: &Offer, grant: &Grant, image: &Image) -> Result<Handover, Error> {
    let _ = (step, offer, grant, image);
    todo!()
}
