//! What a pool's plugins cost a Pulumi step: against the same program in an image that has its provider, in a pool without plugins,
//! turn about. Nothing is fetched in either, so the difference is the overlay.

use std::path::Path;

use anyhow::Context as _;

use super::Bench;
use super::deploy::{in_turn, wall};
use super::figure::Figure;
use crate::sh;

/// The image with the provider, and one without, so that only the pool can bring it.
const BAKED: &str = "longshore/pulumi:3.259.0";
const BARE: &str = "longshore-bench/pulumi-bare:1";
const PLUGINS: &str = "/opt/pulumi/plugins";
const PLUGIN: &str = "resource-dock-v0.1.0";

/// A preview of a program with one resource, whose provider the pool's plugins bring.
pub(super) fn baked(bench: &Bench) -> anyhow::Result<Figure> {
    if !sh::succeeds("docker", &["image", "inspect", BAKED]) {
        anyhow::bail!("this figure needs `{BAKED}`: cargo xtask pulumi-image");
    }
    bare_image()?;
    let folder = std::env::temp_dir().join(format!("longshore-bench-plugins-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let measured = measure(bench, &folder);
    sh::output(bench.dev.command(&["pool", "apply", "default", "--file", &empty(&folder)?]))
        .context("the pool's plugins are left")?;
    std::fs::remove_dir_all(&folder)?;
    sh::succeeds("docker", &["rmi", BARE]);
    measured
}

fn measure(bench: &Bench, folder: &Path) -> anyhow::Result<Figure> {
    let pool = folder.join("pool.toml");
    std::fs::write(&pool, pool_settings()?)?;
    let (pool, none) = (pool.to_string_lossy().into_owned(), empty(folder)?);
    let package = program(folder)?;
    let cached = project(bench, folder, "from-the-pool", BARE)?;
    let baked = project(bench, folder, "from-the-image", BAKED)?;
    let deploy = |settings: &str, project: &str| {
        sh::output(bench.dev.command(&["pool", "apply", "default", "--file", settings]))?;
        let deploy = || bench.dev.command(&["deploy", project, "--env", "dev", "--package", &package, "--wait"]);
        // The first one waits until the agent has what the pool says.
        wall(deploy())?;
        wall(deploy())
    };
    let (ours, reference) = in_turn(bench.runs, || deploy(&pool, &cached), || deploy(&none, &baked))?;
    Ok(Figure {
        name: "baked_plugins",
        ours,
        reference,
        unit: "ms",
        runs: bench.runs,
        against: "the same program in an image with its provider, in a pool without plugins",
    })
}

/// An image that has Pulumi and no provider.
fn bare_image() -> anyhow::Result<()> {
    let made = format!(
        "set -e; id=$(docker create --network none --entrypoint rm {BAKED} -r {PLUGINS}/{PLUGIN}); docker start -a $id; \
         docker commit --change 'ENTRYPOINT []' --change 'CMD [\"pulumi\"]' $id {BARE}; docker rm $id"
    );
    sh::output(sh::command("sh", &["-c", &made])).map(drop)
}

/// The provider out of the image that has it, with the checksum of its files.
fn pool_settings() -> anyhow::Result<String> {
    let sum = format!(
        "cd {PLUGINS}/{PLUGIN} && find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d'\\n' sha256sum | sha256sum"
    );
    let printed = sh::output(sh::command(
        "docker",
        &["run", "--rm", "--network", "none", "--entrypoint", "sh", BAKED, "-c", &sum],
    ))?;
    let sum = printed.split_whitespace().next().context("no checksum was printed")?;
    Ok(format!(
        "[[plugins]]\nname = \"dock\"\nversion = \"0.1.0\"\nchecksum = \"sha256:{sum}\"\nfrom = {{image = \"{BAKED}\", path = \"{PLUGINS}\"}}\n"
    ))
}

fn empty(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join("empty.toml");
    std::fs::write(&path, "")?;
    Ok(path.to_string_lossy().into_owned())
}

/// Writes a program with one resource.
fn program(folder: &Path) -> anyhow::Result<String> {
    let package = folder.join("program");
    std::fs::create_dir_all(package.join("state"))?;
    std::fs::write(package.join("state/.keep"), "")?;
    let text = "name: berth\nruntime: yaml\nresources:\n  one:\n    type: dock:Berth\n    properties: {name: one, content: x}\n\
                config:\n  dock:yard: {value: /longshore/workspace/yard}\n";
    std::fs::write(package.join("Pulumi.yaml"), text)?;
    Ok(package.to_string_lossy().into_owned())
}

/// Applies a project with one preview in an image.
fn project(bench: &Bench, folder: &Path, name: &str, image: &str) -> anyhow::Result<String> {
    let spec = folder.join(format!("{name}.yaml"));
    let text = format!(
        "version: 1\nproject: {name}\nenvironments:\n  - name: dev\nsteps:\n  - name: one\n    image: {image}\n    network: none\n    \
         env: {{PULUMI_CONFIG_PASSPHRASE: bench}}\n    pulumi: {{operation: preview, backend: \"file:///longshore/workspace/state\"}}\n"
    );
    std::fs::write(&spec, text)?;
    sh::output(bench.dev.command(&["apply", "-f", &spec.to_string_lossy()]))?;
    Ok(name.to_owned())
}
