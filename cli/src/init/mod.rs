//! `longshore init`: a first `longshore.yaml`, for the program that is found.
//!
//! Invariants: a file that is there stays as it is unless `--force` says otherwise; what is written passes `longshore validate`;
//! a file appears whole or not at all; no server is asked and no program is run.

mod find;
mod render;

use std::io::Write as _;
use std::path::Path;

use longshore_core::spec;
use serde_json::json;

use crate::args::Init;
use crate::commands::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use find::Found;

/// Name of the file that is written.
const FILE: &str = "longshore.yaml";

/// Runs the command.
///
/// # Errors
/// When there is a file already, the program cannot be read, or the file cannot be written.
pub fn run(context: &Context, args: &Init) -> Result<Exit, Failure> {
    let path = args.dir.join(FILE);
    let shown = path.display().to_string();
    if let Some(image) = &args.image
        && let Err(error) = spec::check_image(image)
    {
        return Err(Failure::usage(format!("`--image`: {error}")).untouched("no file was written"));
    }
    if !args.force && path.symlink_metadata().is_ok() {
        return Err(there_already(&shown));
    }
    let found = find::find(&args.dir)?;
    let text = render::render(&found, args.image.as_deref());
    if let Err(errors) = spec::parse(&text) {
        let first = errors.first().map(ToString::to_string).unwrap_or_default();
        return Err(Failure::new(
            Exit::Failed,
            format!("this is a mistake of Longshore: the spec it made is bad: {first}"),
        )
        .untouched("no file was written")
        .next("write the file by hand; README.md has an example"));
    }
    write(&path, &text, args.force)?;
    say(context, &found, &shown, &args.dir)
}

fn there_already(shown: &str) -> Failure {
    Failure::usage(format!("there is a `{shown}` already"))
        .untouched("it is as it was")
        .next("`longshore validate` checks it; `longshore init --force` replaces it")
}

/// Writes the whole file or nothing; without `force` only where there is none, also when one appeared just now.
fn write(path: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let shown = path.display().to_string();
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Failed, format!("`{shown}` cannot be written: {error}"))
            .untouched("no file was written")
            .next("check that the folder is there and that you may write to it")
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
    let mut file = builder.tempfile_in(folder).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    let kept = if force { file.persist(path) } else { file.persist_noclobber(path) };
    match kept {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Err(there_already(&shown)),
        Err(error) => Err(failed(error.error)),
    }
}

fn say(context: &Context, found: &Found, shown: &str, dir: &Path) -> Result<Exit, Failure> {
    let output = context.output;
    let environments: Vec<&str> = found.environments.iter().map(|one| one.name.as_str()).collect();
    if output.is_json() {
        let kind = if found.program.is_some() { "pulumi" } else { "run" };
        output.json(&json!({ "file": shown, "project": found.project, "environments": environments, "kind": kind }))?;
        return Ok(Exit::Done);
    }
    let what = match &found.program {
        Some(program) => format!("the Pulumi program in `{}`", program.dir.as_deref().unwrap_or(".")),
        None => "an example that runs a command".to_owned(),
    };
    output.text(&format!("{shown}: project {} with {what}, for {}", found.project, environments.join(", ")))?;
    let (project, environment) = (&found.project, environments.first().copied().unwrap_or("dev"));
    let mut next = format!(
        "next: read it and change what is marked, then\n  longshore validate {shown}\n  longshore apply -f {shown}\n"
    );
    for secret in render::secrets(found) {
        next.push_str(&format!("  printf 'VALUE' | longshore variable set {project} {secret} --secret\n"));
    }
    next.push_str(&format!("  longshore deploy {project} --env {environment} --package {} --wait", dir.display()));
    output.message(&next);
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests;
