//! `longshore validate`: a spec, checked without a server.

use serde_json::json;

use super::Context;
use super::spec_file::{SpecFile, mistakes};
use crate::args::Validate;
use crate::exit::Exit;
use crate::failure::Failure;

pub(super) fn run(context: &Context, args: &Validate) -> Result<Exit, Failure> {
    let output = context.output;
    let file = SpecFile::read(&args.file)?;
    let checked = file.check();
    let errors = checked.as_ref().err().map_or(&[][..], Vec::as_slice);
    if output.is_json() {
        output.json(&json!({ "ok": errors.is_empty(), "errors": errors }))?;
    } else if let Ok(project) = &checked {
        let count = |number: usize, thing: &str| format!("{number} {thing}{}", if number == 1 { "" } else { "s" });
        let (steps, environments) =
            (count(project.steps.len(), "step"), count(project.environments.len(), "environment"));
        let channels = match project.channels.len() {
            0 => String::new(),
            channels => format!(", {}", count(channels, "channel")),
        };
        output
            .text(&format!("{}: project `{}` is fine ({steps}, {environments}{channels})", file.name, project.name))?;
    } else {
        output.text(&file.explain(errors, output.paint()))?;
    }
    if errors.is_empty() {
        return Ok(Exit::Done);
    }
    if !output.is_json() {
        output.message(&format!("{} in `{}`", mistakes(errors.len()), file.name));
    }
    Ok(Exit::Usage)
}
