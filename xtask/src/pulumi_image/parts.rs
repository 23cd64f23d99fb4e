//! How each part is made.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::recipe::Recipe;
use super::watch;

/// The Debian release of the base.
pub(super) const SUITE: &str = "bookworm";

/// Flags of the linker for `dock`: no symbol table and no debugger's data, which halves a Go binary.
pub(super) const DOCK_FLAGS: &str = "-s -w";

/// Parts that are in the cache.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) base: PathBuf,
    pub(super) cli: PathBuf,
    pub(super) dock: PathBuf,
}

/// What `mmdebstrap` is told, without where packages come from: mirrors all hold the same.
pub(super) fn base_options(recipe: &Recipe) -> Vec<String> {
    let mut options = minimal(&recipe.architecture, &recipe.packages);
    // The same user as in the vendor's image for other users than root.
    options
        .push(r#"--customize-hook=chroot "$1" useradd --create-home --shell /bin/bash --uid 1000 pulumi"#.to_owned());
    options.push(SUITE.to_owned());
    options
}

/// The same for any image; the suite comes after it.
pub(super) fn minimal(architecture: &str, packages: &[String]) -> Vec<String> {
    let mut options = vec![
        "--variant=minbase".to_owned(),
        "--format=tar".to_owned(),
        format!("--architectures={architecture}"),
        format!("--include={}", packages.join(",")),
    ];
    for unwanted in ["man", "locale", "doc"] {
        options.push(format!("--dpkgopt=path-exclude=/usr/share/{unwanted}/*"));
    }
    // Whoever passes an image on passes on its licences too.
    options.push("--dpkgopt=path-include=/usr/share/doc/*/copyright".to_owned());
    options
}

/// Flags of the linker for the CLI and its language host, which learn their versions from it.
pub(super) fn cli_flags(recipe: &Recipe) -> String {
    format!(
        "-s -w -X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v{} -X github.com/pulumi/pulumi-yaml/pkg/version.Version=v{}",
        recipe.cli, recipe.yaml
    )
}

/// Makes `base.tar`, a small Debian.
pub(super) fn base(recipe: &Recipe, dir: &Path) -> anyhow::Result<()> {
    debian(&base_options(recipe), &recipe.packages, &dir.join("base.tar"))
}

/// Makes an archive of a small Debian.
pub(super) fn debian(options: &[String], packages: &[String], to: &Path) -> anyhow::Result<()> {
    let mirror = |name: &str| std::env::var(name).ok().filter(|mirror| !mirror.is_empty());
    let main = mirror("LONGSHORE_DEBIAN_MIRROR");
    println!(
        "downloading Debian {SUITE} (minimal, with {}) from {}: about 75 MB",
        packages.join(", "),
        main.as_deref().unwrap_or("Debian's own mirrors")
    );
    let mut command = Command::new("mmdebstrap");
    command.args(options).arg(to);
    // Without a mirror mmdebstrap takes Debian's own, with updates and security.
    if let Some(main) = main {
        command.args([format!("deb {main} {SUITE} main"), format!("deb {main} {SUITE}-updates main")]);
        command.args(
            mirror("LONGSHORE_DEBIAN_SECURITY_MIRROR").map(|security| format!("deb {security} {SUITE}-security main")),
        );
    }
    let step = |line: &str| line.strip_prefix("I: ").map(|step| step.trim_end_matches("...").to_owned());
    watch::run(command, "Debian base", step).map(drop)
}

/// Makes `pulumi` and `pulumi-language-yaml`.
pub(super) fn cli(recipe: &Recipe, dir: &Path) -> anyhow::Result<()> {
    println!(
        "building the Pulumi CLI {} and its YAML language host {} from their Go modules; the first time that downloads the modules into \
         Go's own module cache (`go env GOMODCACHE`, 2 GB) and fills its build cache (`go env GOCACHE`, 2 GB)",
        recipe.cli, recipe.yaml
    );
    let flags = cli_flags(recipe);
    build(recipe, "Pulumi CLI", &flags, "tool", dir)?;
    ["pulumi", "pulumi-language-yaml"].iter().try_for_each(|name| executable(&dir.join(name)))
}

/// Makes `pulumi-resource-dock`.
pub(super) fn dock(recipe: &Recipe, dir: &Path) -> anyhow::Result<()> {
    println!("building the provider dock {} from the checkout", recipe.dock);
    let output = dir.join("pulumi-resource-dock");
    build(recipe, "provider dock", DOCK_FLAGS, "./dock", &output)?;
    executable(&output)
}

/// Puts the parts where the Dockerfile expects them.
pub(super) fn context(recipe: &Recipe, made: &Made, dir: &Path) -> anyhow::Result<()> {
    let bin = dir.join("bin");
    let plugin = dir.join("plugins").join(format!("resource-dock-v{}", recipe.dock));
    for folder in [&bin, &plugin] {
        fs::create_dir_all(folder).with_context(|| format!("`{}` cannot be made", folder.display()))?;
    }
    // The image must not inherit the umask of whoever makes it.
    for folder in [&bin, &dir.join("plugins"), &plugin] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    let link = |from: PathBuf, to: PathBuf| {
        fs::hard_link(&from, to).with_context(|| format!("`{}` cannot be linked", from.display()))
    };
    link(made.base.join("base.tar"), dir.join("base.tar"))?;
    for name in ["pulumi", "pulumi-language-yaml"] {
        link(made.cli.join(name), bin.join(name))?;
    }
    link(made.dock.join("pulumi-resource-dock"), plugin.join("pulumi-resource-dock"))?;
    fs::copy(recipe.source.join("Dockerfile"), dir.join("Dockerfile")).context("the Dockerfile cannot be copied")?;
    Ok(())
}

/// Builds packages of the module in `packaging/pulumi-image`, with what they need downloaded first.
fn build(recipe: &Recipe, what: &str, flags: &str, packages: &str, output: &Path) -> anyhow::Result<()> {
    let mut modules = 0;
    let listed = watch::run(go(recipe, &["list", "-deps", packages]), &format!("{what}, modules"), |line| {
        modules += usize::from(line.starts_with("go: downloading "));
        (modules > 0).then(|| format!("{modules} downloaded"))
    })?;
    let all = listed.lines().count();
    let mut compiled = 0;
    let mut command = go(recipe, &["build", "-v", "-ldflags", flags, "-o"]);
    command.arg(output).arg(packages);
    watch::run(command, &format!("{what}, build"), |line| {
        compiled += usize::from(!line.starts_with("go: "));
        Some(format!("{compiled} of at most {all} packages compiled"))
    })
    .map(drop)
}

/// `go` in the module's folder, free of what its user's settings would change in the result.
fn go(recipe: &Recipe, args: &[&str]) -> Command {
    let mut command = Command::new("go");
    command.args(args).current_dir(&recipe.source);
    // Without cgo the binaries need no library of the base, and find the user's name by USER where /etc/passwd has none.
    command.env("CGO_ENABLED", "0").env("GOOS", "linux").env("GOARCH", &recipe.architecture);
    command.env("GOFLAGS", "-mod=readonly -trimpath -buildvcs=false").env("GOWORK", "off").env("GOTOOLCHAIN", "local");
    command
}

/// Lets every user of the image run a file.
fn executable(path: &Path) -> anyhow::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("`{}` was not built", path.display()))
}
