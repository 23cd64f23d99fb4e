//! Images of controller and agent, from their .debs on a small Debian that is made as the Pulumi image's is.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

use super::cache::Cache;
use super::{engine, parts, recipe, tools};
use crate::{build, docker, sh};

/// What images are made of, and the files beside the package that each needs.
const IMAGES: [(&str, &[&str]); 2] = [("controller", &["health"]), ("agent", &[])];

/// Reads the flags: the folder with the packages, if one is named; `None` when a flag is not known or lacks its value.
pub(crate) fn parse(args: &[String]) -> Option<Option<PathBuf>> {
    match args {
        [] => Some(None),
        [flag, dir] if flag == "--packages" => Some(Some(dir.into())),
        _ => None,
    }
}

/// Makes both images, named for the version of their packages.
pub(crate) fn run(packages: Option<PathBuf>) -> anyhow::Result<()> {
    docker::ensure()?;
    let packages = packages.unwrap_or_else(|| build::target().join("package/out"));
    let architecture = engine::architecture()?;
    let base = prepare()?;
    for (name, more) in IMAGES {
        let (package, version) = package(&packages, &format!("longshore-{name}"), &architecture)?;
        let cache = Cache::open()?;
        let context = cache.scratch("packaged")?;
        let source = source();
        let copy = |from: &Path, to: &str, mode: u32| -> anyhow::Result<()> {
            let to = context.join(to);
            fs::copy(from, &to).with_context(|| format!("`{}` cannot be copied", from.display()))?;
            Ok(fs::set_permissions(&to, fs::Permissions::from_mode(mode))?)
        };
        copy(&package, "package.deb", 0o644)?;
        copy(&source.join(format!("{name}.Dockerfile")), "Dockerfile", 0o644)?;
        more.iter().try_for_each(|file| copy(&source.join(file), file, 0o755))?;
        let digest = hex(Sha256::digest(fs::read(&package)?).as_slice());
        let reference = format!("longshore-{name}:{version}");
        engine::build_on(&context, &reference, &digest, &["--build-arg", &format!("BASE={base}")])?;
        println!("{reference} is ready");
    }
    Ok(())
}

/// Makes sure that the engine has the base of both, and returns its name.
pub(crate) fn prepare() -> anyhow::Result<String> {
    let packages = recipe::list(&fs::read_to_string(source().join("base-packages.txt"))?);
    let mut options = parts::minimal(&engine::architecture()?, &packages);
    options.push(parts::SUITE.to_owned());
    let digest = hex(Sha256::digest(options.join("\0")).as_slice());
    let reference = format!("longshore-base:{}", digest.chars().take(16).collect::<String>());
    let cache = Cache::open()?;
    if !cache.has("packaged", &digest) {
        tools::mmdebstrap()?;
    }
    let make = |dir: &Path| parts::debian(&options, &packages, &dir.join("base.tar"));
    let base = cache.get("packaged", &digest, false, make)?;
    engine::import(&base.join("base.tar"), &reference)?;
    Ok(reference)
}

fn source() -> PathBuf {
    sh::root().join("packaging/images")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The one package of a name in a folder, and its version.
fn package(folder: &Path, name: &str, architecture: &str) -> anyhow::Result<(PathBuf, String)> {
    let read = fs::read_dir(folder);
    let entries =
        read.with_context(|| format!("`{}` has no packages; `cargo xtask package` makes them", folder.display()))?;
    let (start, end) = (format!("{name}_"), format!("_{architecture}.deb"));
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(version) = file.strip_prefix(&start).and_then(|rest| rest.strip_suffix(&end)) {
            let version = version.rsplit_once('-').map_or(version, |(version, _)| version).to_owned();
            found.push((path, version));
        }
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => bail!("`{}` has no `{name}` for {architecture}; `cargo xtask package` makes it", folder.display()),
        _ => bail!("`{}` has several `{name}`; give a folder with one", folder.display()),
    }
}
