//! The programs that the parts are made with.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::{docker, sh};

/// What signs Debian's package lists. Ubuntu has it in a package of its own.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Makes sure that Debian's `mmdebstrap` is there.
pub(super) fn mmdebstrap() -> anyhow::Result<()> {
    let mut missing = Vec::new();
    if !sh::succeeds("sh", &["-c", "command -v mmdebstrap"]) {
        missing.push("mmdebstrap");
    }
    if !Path::new(KEYS).exists() {
        missing.push("debian-archive-keyring");
    }
    let packages = missing.join(" ");
    match (missing.is_empty(), docker::is_debian(), docker::is_root()) {
        (true, ..) => Ok(()),
        (_, true, true) => docker::install(&missing),
        (_, true, false) => {
            bail!(
                "the Debian base is made with mmdebstrap. Install it and run this again:\n  sudo apt-get install {packages} uidmap"
            )
        }
        (_, false, _) => bail!(
            "the Debian base is made with mmdebstrap and needs Debian's keys: {packages} missing, and this system has no apt-get to \
             install them with. Run this on Debian or Ubuntu, or make the image from a registry (packaging/pulumi-image/connected)"
        ),
    }
}

/// Makes sure that Go is there and new enough; `least` is the version in `go.mod`.
pub(super) fn go(least: &str) -> anyhow::Result<()> {
    let how = format!(
        "Go {least} or newer builds the Pulumi CLI. Install it and run this again:\n  https://go.dev/dl/ (unpack it to /usr/local/go and \
         put /usr/local/go/bin into PATH), or a package of your distribution that is new enough"
    );
    // Without this a Go that is too old downloads another one by itself.
    let mut command = Command::new("go");
    command.args(["env", "GOVERSION"]).current_dir("/").env("GOTOOLCHAIN", "local");
    let found = sh::output(command).with_context(|| how.clone())?;
    let found = found.trim().trim_start_matches("go");
    if !new_enough(found, least) {
        bail!("{how}\nGo {found} is what PATH has now");
    }
    Ok(())
}

/// Whether a version, as `1.26.8` or `1.27rc1`, is `least` or newer.
fn new_enough(found: &str, least: &str) -> bool {
    let numbers = |version: &str| -> Vec<u32> {
        let release = version.split(['-', ' ', 'r', 'b']).next().unwrap_or_default();
        release.split('.').map_while(|number| number.parse().ok()).collect()
    };
    let (found, least) = (numbers(found), numbers(least));
    !found.is_empty() && found >= least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_go_are_compared_by_number() {
        for (found, enough) in [
            ("1.25.11", true),
            ("1.25.12", true),
            ("1.26", true),
            ("1.26.8", true),
            ("1.27rc1", true),
            ("1.26.1-custom X:foo", true),
            ("2.0", true),
            ("1.25.9", false),
            ("1.25", false),
            ("1.9.9", false),
            ("1.19.8", false),
            ("", false),
            ("devel", false),
        ] {
            assert_eq!(new_enough(found, "1.25.11"), enough, "{found}");
        }
    }
}
