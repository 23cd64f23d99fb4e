//! The plan of a Pulumi step: what is to be run is laid before the commands, what was made is taken after them.
//!
//! Invariant: it is in clear in memory and on the container's tmpfs alone.

use crate::output_file::{Error, OutputFile};
use crate::outputs;
use longshore_core::init::{ExitRecord, MAX_PACKED_PLAN, MAX_PLAN, MAX_SETTINGS, PLAN, PlanFile};
use longshore_core::pack;
use std::path::Path;
use zeroize::Zeroizing;

/// Puts the plan that is to be run, or makes the file for the one that is to be made.
pub fn lay(plan: &PlanFile) -> Result<OutputFile, String> {
    let file = OutputFile::make(Path::new(&plan.path)).map_err(|_| "cannot make the file for the plan".to_owned())?;
    if let Some((settings, text)) = plan.content.as_ref().and_then(|content| content.split_once('\0')) {
        let mut written = std::fs::write(&plan.path, text);
        if !settings.is_empty() {
            written = written.and_then(|()| std::fs::write(&plan.settings, settings));
        }
        written.map_err(|_| "cannot write the plan; nothing was run".to_owned())?;
    }
    Ok(file)
}

/// Puts the plan that was made, and the stack's settings, into the exit record, encrypted.
pub fn take(plan: &PlanFile, file: &OutputFile, key: &str, record: &mut ExitRecord) -> Result<(), String> {
    let settings = OutputFile::at(Path::new(&plan.settings)).and_then(|file| file.read(MAX_SETTINGS));
    let settings = settings.map_err(|_| format!("`{}` cannot be kept with the plan", plan.settings))?;
    let text = file.read(MAX_PLAN).map_err(|error| match error {
        Error::TooLong => {
            format!(
                "the plan has more than the {MAX_PLAN} bytes that can be kept; nothing was changed: split the program"
            )
        }
        _ => "the plan cannot be read".to_owned(),
    })?;
    if text.is_empty() {
        return Err("pulumi left no plan".to_owned());
    }
    let both = Zeroizing::new([settings.as_slice(), &[0], text.as_slice()].concat());
    let length = both.len();
    let packed = pack::pack(both, MAX_PACKED_PLAN).map_err(|error| {
        format!(
            "the plan has {length} bytes, and {error}: more than the {MAX_PACKED_PLAN} that can be kept; nothing was changed: \
             split the program"
        )
    })?;
    let sealed = outputs::cipher(key).and_then(|cipher| outputs::seal(&cipher, PLAN, &packed));
    record.plan = Some(sealed.map_err(|error| error.to_string())?);
    Ok(())
}

/// Says what happened when the state is not the one that the plan started from.
pub fn check(plan: Option<&PlanFile>, found: &str) -> Result<(), String> {
    match plan.and_then(|plan| plan.checkpoint.as_deref()) {
        Some(expected) if expected != found => {
            Err("the stack's state has moved since its plan was made; nothing was changed; deploy again for a new plan"
                .to_owned())
        }
        _ => Ok(()),
    }
}
