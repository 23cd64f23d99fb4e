//! The folder that packages are filled from: binaries without symbols, completions, bills of materials.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::sbom;
use crate::{build, sh};

/// Newest version of the C library that a binary may ask for, as the packages' dependencies say it.
const GLIBC: u32 = 34;
/// Shells that get completions.
const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// What packages are filled from.
#[derive(Debug)]
pub(super) struct Stage {
    path: PathBuf,
    epoch: String,
}

/// Builds the binaries into a target folder of its own, without a path of this machine in them.
pub(super) fn build(target: &Path, profile: &str, epoch: &str) -> anyhow::Result<PathBuf> {
    if target.exists() {
        fs::remove_dir_all(target).with_context(|| format!("`{}` cannot be removed", target.display()))?;
    }
    let mut cargo = sh::command("cargo", &["build", "--locked", "--profile", profile]);
    cargo.args(build::BINARIES.iter().flat_map(|package| ["--package", package]));
    let root = sh::root().canonicalize().context("the checkout cannot be found")?;
    // The last that fits counts.
    let away = [(root.as_path(), "/longshore"), (&cargo_home()?, "/cargo"), (target, "/target")];
    let rust: Vec<String> =
        away.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect();
    let c: Vec<String> = away.iter().map(|(from, to)| format!("-ffile-prefix-map={}={to}", from.display())).collect();
    cargo.env("CARGO_ENCODED_RUSTFLAGS", rust.join("\x1f")).env("CFLAGS", c.join(" "));
    cargo.env("CARGO_TARGET_DIR", target).env("CARGO_INCREMENTAL", "0").env("SOURCE_DATE_EPOCH", epoch);
    sh::show(cargo)?;
    Ok(target.join(if profile == "dev" { "debug" } else { profile }))
}

/// Where cargo keeps the sources of dependencies.
fn cargo_home() -> anyhow::Result<PathBuf> {
    let home = |name: &str| std::env::var_os(name).map(PathBuf::from);
    home("CARGO_HOME").or_else(|| Some(home("HOME")?.join(".cargo"))).context("neither CARGO_HOME nor HOME is set")
}

impl Stage {
    /// Fills the folder anew.
    pub(super) fn make(path: &Path, binaries: &Path, epoch: &str) -> anyhow::Result<Self> {
        if path.exists() {
            fs::remove_dir_all(path).with_context(|| format!("`{}` cannot be removed", path.display()))?;
        }
        let stage = Self { path: path.to_owned(), epoch: epoch.to_owned() };
        for folder in ["completions", "sbom"] {
            fs::create_dir_all(stage.release().join(folder))?;
        }
        for name in build::BINARIES {
            stage.binary(&binaries.join(name), name)?;
        }
        for shell in SHELLS {
            let script = sh::output(sh::command(stage.release().join("longshore"), &["completions", shell]))?;
            fs::write(stage.release().join(format!("completions/longshore.{shell}")), script)?;
        }
        let crates = sbom::Crates::load()?;
        for name in build::BINARIES {
            fs::write(stage.sbom(name), crates.bill(name, epoch)?)?;
        }
        Ok(stage)
    }

    /// The folder, as a target folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The time of everything, in seconds since 1970.
    pub(super) fn epoch(&self) -> &str {
        &self.epoch
    }

    /// The bill of materials of a binary.
    pub(super) fn sbom(&self, name: &str) -> PathBuf {
        self.release().join(format!("sbom/{name}.cdx.json"))
    }

    fn release(&self) -> PathBuf {
        self.path.join("release")
    }

    fn binary(&self, from: &Path, name: &str) -> anyhow::Result<()> {
        let to = self.release().join(name);
        fs::copy(from, &to).with_context(|| format!("`{}` cannot be copied", from.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
        let mut strip = sh::command("strip", &["--strip-all"]);
        strip.arg(&to);
        sh::output(strip)?;
        let needs = newest_glibc(&fs::read(&to)?);
        if needs > GLIBC {
            bail!(
                "`{name}` needs glibc 2.{needs}, and the packages say 2.{GLIBC}: build on an older distribution, such as Debian 12"
            );
        }
        Ok(())
    }
}

/// The newest `GLIBC_2.N` that a binary names.
fn newest_glibc(binary: &[u8]) -> u32 {
    let mark = b"GLIBC_2.";
    let number = |at: usize| {
        let digits = binary[at + mark.len()..].iter().take_while(|byte| byte.is_ascii_digit()).take(3);
        digits.fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
    };
    let found = binary.windows(mark.len()).enumerate().filter(|(_, window)| window == mark);
    found.map(|(at, _)| number(at)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::newest_glibc;

    #[test]
    fn the_newest_version_counts_as_a_number() {
        assert_eq!(newest_glibc(b"\0GLIBC_2.9\0GLIBC_2.34\0GLIBC_2.4\0"), 34);
        assert_eq!(newest_glibc(b"GLIBC_2."), 0);
    }
}
