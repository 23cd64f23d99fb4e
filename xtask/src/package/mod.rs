//! Packages for Debian and its kin (.deb) and for Fedora and its kin (.rpm), from the metadata in the crates' manifests.
//!
//! Invariant: what comes out depends on the checkout, the compiler and nothing else: no clock, no path of this machine and no
//! order of a directory. `--twice` builds everything a second time, elsewhere and from nothing, and compares.

mod sbom;
mod stage;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

use crate::{build, sh};
use stage::Stage;

/// The file with the digests of all others.
const SUMS: &str = "SHA256SUMS";

/// What is asked for.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Where the packages go; `target/package` when nothing is said.
    out: Option<PathBuf>,
    /// Version of the packages, where it is not that of the crates.
    version: Option<String>,
    /// Profile the binaries are built in.
    profile: Option<String>,
    /// Build twice and compare.
    twice: bool,
}

impl Options {
    /// Reads the flags; `None` when one is not known or lacks its value.
    pub(crate) fn parse(args: &[String]) -> Option<Self> {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--out" => options.out = Some(args.next()?.into()),
                "--package-version" => options.version = Some(args.next()?.clone()),
                "--profile" => options.profile = Some(args.next()?.clone()),
                "--twice" => options.twice = true,
                _ => return None,
            }
        }
        Some(options)
    }
}

/// Makes every package, their bills of materials and the list of digests.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let folder = build::target().join("package");
    let out = match &options.out {
        Some(out) => std::path::absolute(out)?,
        None => folder.join("out"),
    };
    let tools = tools::ensure(&folder.join("tools"))?;
    let epoch = epoch()?;
    let make = |name: &str, out: &Path| -> anyhow::Result<()> {
        let binaries = match std::env::var_os("LONGSHORE_BIN_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => stage::build(&folder.join(name), options.profile.as_deref().unwrap_or("release"), &epoch)?,
        };
        // The name of the stage is always the same: tools may write it into what they make.
        let stage = Stage::make(&folder.join("stage"), &binaries, &epoch)?;
        fresh(out)?;
        for name in build::BINARIES {
            tools.deb(&stage, name, options.version.as_deref(), out)?;
            tools.rpm(&stage, name, options.version.as_deref(), out)?;
            fs::copy(stage.sbom(name), out.join(format!("{name}.cdx.json"))).context("an SBOM cannot be copied")?;
        }
        fs::write(out.join(SUMS), sums(out)?).context("the list of digests cannot be written")
    };
    make("build", &out)?;
    if options.twice {
        let again = folder.join("again");
        make("build-again", &again)?;
        compare(&out, &again)?;
        println!("built twice, and every file came out the same");
    }
    print!("{}", fs::read_to_string(out.join(SUMS))?);
    println!("in {}", out.display());
    Ok(())
}

/// Installs what writes packages, for whoever wants it to be there before time counts.
pub(crate) fn prepare() -> anyhow::Result<()> {
    tools::ensure(&build::target().join("package/tools")).map(drop)
}

/// The one time that appears in packages: that of the last commit, or `SOURCE_DATE_EPOCH`.
fn epoch() -> anyhow::Result<String> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(epoch) => Ok(epoch),
        Err(_) => {
            let text = sh::output(sh::command("git", &["log", "-1", "--format=%ct"]))
                .context("the time of the last commit is not known; outside of a checkout set SOURCE_DATE_EPOCH")?;
            Ok(text.trim().to_owned())
        }
    }
}

/// An empty folder: what an earlier run made is removed, and nothing else.
fn fresh(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("`{}` cannot be made", dir.display()))?;
    for file in files(dir)? {
        let ours = file == SUMS || [".deb", ".rpm", ".cdx.json"].iter().any(|end| file.ends_with(end));
        if !ours {
            bail!("`{}` holds `{file}`, which is no package; nothing was written, give another folder", dir.display());
        }
        fs::remove_file(dir.join(file))?;
    }
    Ok(())
}

/// Names in a folder, sorted.
fn files(dir: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("`{}` cannot be read", dir.display()))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// As `sha256sum` writes and checks it.
fn sums(dir: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    for name in files(dir)?.iter().filter(|name| *name != SUMS) {
        let digest = Sha256::digest(fs::read(dir.join(name))?);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        text.push_str(&format!("{hex}  {name}\n"));
    }
    Ok(text)
}

/// Fails when two runs made different files.
fn compare(one: &Path, other: &Path) -> anyhow::Result<()> {
    let (one, other) = (sums(one)?, sums(other)?);
    if one != other {
        bail!("not reproducible; the first time:\n{one}the second time:\n{other}");
    }
    Ok(())
}
