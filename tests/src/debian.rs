//! A Debian with systemd as PID 1 and a Docker engine of its own, in a container: what packages are installed on.
//!
//! The engine is inside because an agent tells the processes of its containers apart by their numbers, which it only sees
//! in its own PID namespace.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Once;

use crate::docker::{TINY, docker, tiny_image};
use crate::process::{Done, run, wait_for};

const IMAGE: &str = "longshore-test/debian-systemd:2";
const SUITE: &str = "bookworm";
const PACKAGES: &str = "systemd,systemd-sysv,dbus,ca-certificates,rpm,docker.io,iptables,cloud-init,curl,shellcheck";
/// The container has no network, so its engine makes none.
const ENGINE: &str =
    r#"mkdir -p "$1/etc/docker" && echo '{"bridge":"none","iptables":false}' > "$1/etc/docker/daemon.json""#;
/// A system is set up by cloud-init only where a test says so.
const NO_CLOUD: &str = r#"touch "$1/etc/cloud/cloud-init.disabled""#;

/// Makes the image when it is not there, from Debian's packages.
#[must_use]
pub fn image() -> &'static str {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if docker(&["image", "inspect", IMAGE]).code == 0 {
            return;
        }
        let mut make = Command::new("mmdebstrap");
        make.args(["--variant=minbase", "--aptopt=Acquire::Retries \"5\"", "--dpkgopt=force-unsafe-io"]);
        make.args(["man", "doc", "locale"].map(|dir| format!("--dpkgopt=path-exclude=/usr/share/{dir}/*")));
        make.arg(format!("--include={PACKAGES}"))
            .args([ENGINE, NO_CLOUD].map(|hook| format!("--customize-hook={hook}")));
        make.args([SUITE, "-"]);
        if let Ok(mirror) = std::env::var("LONGSHORE_DEBIAN_MIRROR") {
            make.arg(format!("deb {mirror} {SUITE} main"));
        }
        let made = make.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut made = made.expect("Debian's mmdebstrap is installed");
        let tar = made.stdout.take().unwrap();
        let imported = Command::new("docker").args(["import", "-", IMAGE]).stdin(tar).output().unwrap();
        let made = made.wait().unwrap();
        assert!(made.success() && imported.status.success(), "no image: mmdebstrap {made}, import {imported:?}");
    });
    IMAGE
}

/// A running system. Dropping it removes it.
#[derive(Debug)]
pub struct Debian {
    name: String,
}

impl Debian {
    /// Boots one, with `packages` at `/packages`.
    #[must_use]
    pub fn boot(name: &str, packages: &Path) -> Self {
        tiny_image();
        let image = image();
        let system = Self { name: format!("longshore-test-{name}-{}", std::process::id()) };
        let volumes = [
            "/sys/fs/cgroup:/sys/fs/cgroup:rw".to_owned(),
            format!("{}:/var/lib/docker", system.name),
            format!("{}:/packages:ro", packages.display()),
        ];
        let mut start = Command::new("docker");
        start.args(["run", "--detach", "--name", &system.name, "--network", "none", "--env", "container=docker"]);
        start.args(["--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN", "--security-opt", "seccomp=unconfined"]);
        start.args(["--security-opt", "apparmor=unconfined", "--cgroupns=host"]);
        // As on a machine; Docker lets every port be taken.
        start.args(["--sysctl", "net.ipv4.ip_unprivileged_port_start=1024"]);
        start.args(["/run", "/run/lock", "/tmp"].map(|dir| format!("--tmpfs={dir}")));
        start.args(volumes.map(|volume| format!("--volume={volume}"))).args([image, "/lib/systemd/systemd"]);
        let _started = run(&mut start, b"").ok();
        wait_for("systemd", || (system.run("systemctl is-system-running --wait").code == 0).then_some(()));
        let tiny = docker(&["save", TINY]).ok();
        wait_for("the engine inside", || (run(&mut system.shell("docker load"), &tiny.stdout).code == 0).then_some(()));
        system
    }

    fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("docker");
        command.args(["exec", "--interactive", &self.name, "sh", "-euc", script]);
        command
    }

    /// Runs a script as root.
    #[must_use]
    pub fn run(&self, script: &str) -> Done {
        run(&mut self.shell(script), b"")
    }

    /// Runs a script that must succeed, and returns what it printed, without blanks around.
    pub fn ok(&self, script: &str) -> String {
        let done = self.run(script);
        assert_eq!(done.code, 0, "{script}\nstdout: {}\nstderr: {}", done.text(), done.stderr);
        done.text().trim().to_owned()
    }

    /// Puts text into a file.
    pub fn write(&self, path: &str, text: &str) {
        let _written = run(&mut self.shell(&format!("cat > {path}")), text.as_bytes()).ok();
    }

    /// A property of a unit.
    #[must_use]
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.ok(&format!("systemctl show --value --property {name} {unit}"))
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.run("journalctl --no-pager --lines 80 --unit 'longshore-*'").text());
        }
        let _removed = docker(&["rm", "--force", "--volumes", &self.name]);
        let _removed = docker(&["volume", "rm", "--force", &self.name]);
    }
}
