//! The Docker engine, and the small image that tests run.

use std::process::Command;
use std::sync::Once;

use crate::process::{Done, run};

/// An image of Debian's `busybox-static` alone.
pub const TINY: &str = "longshore/tiny:1";

/// Runs `docker` with arguments.
#[must_use]
pub fn docker(args: &[&str]) -> Done {
    run(Command::new("docker").args(args), b"")
}

/// Makes [`TINY`] when it is not there.
///
/// # Panics
/// When no engine answers or Debian's `busybox-static` is not installed: these tests need both.
pub fn tiny_image() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let engine = docker(&["version", "--format", "{{.Server.Version}}"]);
        assert_eq!(engine.code, 0, "these tests need a Docker engine (`cargo xtask docker`): {}", engine.stderr);
        if docker(&["image", "inspect", TINY]).code != 0 {
            import(TINY, &[]);
        }
    });
}

/// Makes an image of busybox with `changes` to its settings (`USER 1234`).
///
/// # Panics
/// When it cannot be made.
pub fn import(reference: &str, changes: &[&str]) {
    let root = tempfile::tempdir().unwrap();
    let bin = root.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let tmp = root.path().join("tmp");
    std::fs::create_dir(&tmp).unwrap();
    std::fs::set_permissions(&tmp, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    std::fs::copy("/bin/busybox", bin.join("busybox")).expect("Debian's busybox-static is installed");
    for applet in run(Command::new("/bin/busybox").arg("--list"), b"")
        .ok()
        .text()
        .split_whitespace()
        .filter(|applet| *applet != "busybox")
    {
        std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
    }
    let tar = run(Command::new("tar").arg("-C").arg(root.path()).args(["-c", "."]), b"").ok();
    let mut command = Command::new("docker");
    command.arg("import");
    for change in changes {
        command.args(["--change", change]);
    }
    let _imported = run(command.args(["-", reference]), &tar.stdout).ok();
}

/// Removes what jobs of these agents left: a test that ends its system early leaves it to nobody.
pub fn remove_leftovers(agents: &[String]) {
    for agent in agents {
        let filter = format!("label=longshore.agent={agent}");
        for id in docker(&["ps", "-aq", "--filter", &filter]).text().split_whitespace() {
            let _removed = docker(&["rm", "-f", "-v", id]);
        }
        for name in docker(&["volume", "ls", "-q", "--filter", &filter]).text().split_whitespace() {
            let _removed = docker(&["volume", "rm", "-f", name]);
        }
    }
}

/// The agent's id in what an agent printed.
#[must_use]
pub fn agent_words(text: &str) -> Option<String> {
    text.split_whitespace().find(|word| word.starts_with("agt_")).map(str::to_owned)
}

/// The agents' ids in what `longshore agents -o json` printed.
#[must_use]
pub fn agent_ids(json: &str) -> Vec<String> {
    json.split('"').filter(|word| word.starts_with("agt_")).map(str::to_owned).collect()
}
