//! The image in the Docker engine.

use std::path::Path;

use anyhow::{Context as _, bail};

use crate::sh;

/// The label that holds the digest of everything the image was made of.
const LABEL: &str = "longshore.inputs";

/// The engine's architecture, as Debian and Go name it.
pub(super) fn architecture() -> anyhow::Result<String> {
    let found = sh::output(sh::command("docker", &["version", "--format", "{{.Server.Arch}}"]));
    let found = found.context("no Docker engine answers: `cargo xtask docker` says how to get one")?;
    match found.trim() {
        known @ ("amd64" | "arm64") => Ok(known.to_owned()),
        other => bail!("the image can be made for amd64 and arm64, and the Docker engine runs on `{other}`"),
    }
}

/// Whether the image of this name was made of these inputs.
///
/// The name is asked for as well as the label, since images that users derive from ours inherit its labels.
pub(super) fn has(reference: &str, digest: &str) -> anyhow::Result<bool> {
    let label = format!("label={LABEL}={digest}");
    let found = sh::output(sh::command("docker", &["images", "--quiet", "--filter", &label, reference]))?;
    Ok(!found.trim().is_empty())
}

/// Makes the image of a folder that holds all its parts, and removes the one that had its name.
pub(super) fn build(context: &Path, reference: &str, digest: &str) -> anyhow::Result<()> {
    build_on(context, reference, digest, &[])
}

/// The same, with more for `docker build`.
pub(super) fn build_on(context: &Path, reference: &str, digest: &str, more: &[&str]) -> anyhow::Result<()> {
    println!("putting the parts together with `docker build`; nothing is pulled");
    let before = id(reference);
    let label = format!("{LABEL}={digest}");
    let mut args = vec!["build", "--quiet", "--network", "none", "--tag", reference, "--label", &label];
    args.extend(more);
    // Debian's engine comes without BuildKit's command; where it is, its result must be asked for.
    let buildkit = sh::succeeds("docker", &["buildx", "version"]);
    if buildkit {
        args.push("--load");
    }
    let path = context.to_string_lossy();
    args.push(&path);
    let mut command = sh::command("docker", &args);
    command.env("DOCKER_BUILDKIT", if buildkit { "1" } else { "0" });
    sh::output(command)?;
    if let Some(before) = before
        && id(reference).is_some_and(|after| after != before)
    {
        // A container may still need it: then it stays.
        sh::succeeds("docker", &["rmi", &before]);
    }
    Ok(())
}

/// Makes an image of an archive alone, unless it is there.
pub(super) fn import(archive: &Path, reference: &str) -> anyhow::Result<()> {
    if id(reference).is_none() {
        let archive = archive.to_string_lossy();
        sh::output(sh::command("docker", &["import", &archive, reference]))?;
    }
    Ok(())
}

fn id(reference: &str) -> Option<String> {
    let found = sh::output(sh::command("docker", &["images", "--quiet", "--no-trunc", reference])).ok()?;
    found.lines().next().map(str::to_owned)
}
