//! The programs that write packages, at pinned versions, installed below `target/` when they are not there.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::stage::Stage;
use crate::sh;

/// Name, version and features of what is installed.
const TOOLS: [(&str, &str, &[&str]); 2] =
    [("cargo-deb", "3.8.0", &["--no-default-features"]), ("cargo-generate-rpm", "0.21.1", &[])];

/// The installed programs.
#[derive(Debug)]
pub(super) struct Tools {
    bin: PathBuf,
}

/// Makes sure that the programs are there.
pub(super) fn ensure(root: &Path) -> anyhow::Result<Tools> {
    for (name, version, features) in TOOLS {
        let done = root.join(format!("{name}-{version}"));
        if done.exists() {
            continue;
        }
        println!("installing {name} {version} into {} from the crates' registry", root.display());
        let mut cargo = sh::command("cargo", &["install", "--quiet", "--locked", "--version", version, name]);
        cargo.args(features).arg("--root").arg(root);
        // Quick to compile, and quick enough: compression is what they do.
        cargo.args(["--config", "profile.release.opt-level=2", "--config", "profile.release.lto=false"]);
        cargo.args(["--config", "profile.release.codegen-units=16", "--config", "profile.release.debug=false"]);
        sh::output(cargo)?;
        std::fs::write(&done, "").with_context(|| format!("`{}` cannot be written", done.display()))?;
    }
    Ok(Tools { bin: root.join("bin") })
}

impl Tools {
    /// Makes the .deb of a crate.
    pub(super) fn deb(&self, stage: &Stage, name: &str, version: Option<&str>, out: &Path) -> anyhow::Result<()> {
        let mut deb = self.command("cargo-deb", "deb", stage);
        deb.args(["--package", name, "--no-build", "--no-strip", "--locked", "--quiet"]);
        // By the system's `xz`: what is built in is a C library or, for gzip, takes a minute a package.
        deb.args(["-Z", "xz", "--compress-system", "--fast"]);
        if let Some(version) = version {
            deb.arg("--deb-version").arg(format!("{version}-1"));
        }
        sh::output({
            deb.arg("--output").arg(out);
            deb
        })?;
        Ok(())
    }

    /// Makes the .rpm of a crate.
    pub(super) fn rpm(&self, stage: &Stage, name: &str, version: Option<&str>, out: &Path) -> anyhow::Result<()> {
        let folder = name.strip_prefix("longshore-").unwrap_or("cli");
        let mut rpm = self.command("cargo-generate-rpm", "generate-rpm", stage);
        rpm.args(["--package", folder, "--payload-compress", "gzip", "--target-dir"]).arg(stage.path());
        rpm.arg("--source-date").arg(stage.epoch());
        if let Some(version) = version {
            rpm.arg("--set-metadata").arg(format!("version = \"{version}\""));
        }
        sh::output({
            rpm.arg("--output").arg(out);
            rpm
        })?;
        Ok(())
    }

    fn command(&self, program: &str, verb: &str, stage: &Stage) -> Command {
        let mut command = sh::command(self.bin.join(program), &[verb]);
        // Both take what is in `target/release` of the target folder in use: here the stage.
        command.env("CARGO_TARGET_DIR", stage.path()).env("SOURCE_DATE_EPOCH", stage.epoch());
        command
    }
}
