//! Every test: unit, property, store, fakes, and end to end.

use std::path::Path;

use crate::{alerts, build, docker, package, pulumi_image, sh};

/// Programs that tests use, and the Debian packages they come from.
const NEEDED: [(&str, &str); 5] = [
    ("/bin/busybox", "busybox-static"),
    ("/usr/bin/mmdebstrap", "mmdebstrap"),
    ("/usr/bin/pip3", "python3-pip"),
    ("/usr/bin/strip", "binutils"),
    ("/usr/bin/xz", "xz-utils"),
];

/// Makes sure of engine, images and binaries, then runs all tests.
pub(crate) fn run() -> anyhow::Result<()> {
    println!("Docker {} answers", docker::ensure()?.version);
    let missing: Vec<&str> =
        NEEDED.into_iter().filter(|(path, _)| !Path::new(path).exists()).map(|(_, of)| of).collect();
    if docker::is_root() && docker::is_debian() && !missing.is_empty() {
        docker::install(&missing)?;
    }
    alerts::run()?;
    package::prepare()?;
    pulumi_image::packaged::prepare()?;
    let image = pulumi_image::run(pulumi_image::Options::default())?;
    println!("{} is ready ({:.0} s)", image.reference, image.seconds);
    // End-to-end tests drive what users run, so they get the release binaries.
    let binaries = build::binaries("release")?;
    let mut tests = sh::command("cargo", &["test", "--locked", "--workspace", "--no-fail-fast"]);
    tests.env("LONGSHORE_BIN_DIR", &binaries);
    sh::show(tests)?;
    go_tests()
}

/// The provider `dock` has tests of its own, in Go.
fn go_tests() -> anyhow::Result<()> {
    let mut go = sh::command("go", &["test", "./..."]);
    // The flags the image was built with, so that what was compiled for it is used again.
    go.env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly -trimpath -buildvcs=false");
    go.current_dir(sh::root().join("packaging/pulumi-image"));
    sh::show(go)
}
