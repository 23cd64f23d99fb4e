//! Building the binaries that users run.

use std::path::PathBuf;

use crate::sh;

/// The binaries a user installs.
pub(crate) const BINARIES: [&str; 3] = ["longshore", "longshore-controller", "longshore-agent"];

/// Builds the three binaries in a profile and returns the folder they are in; with `LONGSHORE_BIN_DIR` set, takes those of that folder.
pub(crate) fn binaries(profile: &str) -> anyhow::Result<PathBuf> {
    if let Some(dir) = std::env::var_os("LONGSHORE_BIN_DIR") {
        println!("taking the binaries of `{}`", dir.display());
        return Ok(PathBuf::from(dir));
    }
    let mut args = vec!["build", "--locked", "--profile", profile];
    args.extend(BINARIES.iter().flat_map(|package| ["--package", package]));
    sh::show(sh::command("cargo", &args))?;
    Ok(target().join(profile))
}

/// The target folder in use.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| sh::root().join("target"), PathBuf::from)
}
