//! The Docker engine itself goes away in the middle of a job: lost, never success.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use longshore_tests::dev::Dev;
use longshore_tests::docker::TINY;
use longshore_tests::process::{run, wait_for};
use longshore_tests::spec;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// An engine of this test's own, so that the one that others use is left alone.
struct Engine {
    dir: tempfile::TempDir,
    child: Child,
}

impl Engine {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let child = Self::spawn(dir.path());
        let engine = Self { dir, child };
        engine.await_ready();
        engine
    }

    fn spawn(dir: &Path) -> Child {
        let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        let log = std::fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
        // In a network of its own: without a bridge, an engine removes `docker0`, which is the host's engine's.
        let mut command = Command::new("unshare");
        command.args(["--net", "dockerd"]);
        command.args([
            "--data-root",
            &at("data"),
            "--exec-root",
            &at("exec"),
            "--pidfile",
            &at("pid"),
            "-H",
            &format!("unix://{}", at("sock")),
        ]);
        command.args(["--bridge=none", "--iptables=false", "--storage-driver=vfs"]);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().expect("dockerd starts")
    }

    fn host(&self) -> String {
        format!("unix://{}", self.dir.path().join("sock").display())
    }

    fn docker(&self, args: &[&str], stdin: &[u8]) -> longshore_tests::process::Done {
        run(Command::new("docker").args(["-H", &self.host()]).args(args), stdin)
    }

    fn await_ready(&self) {
        wait_for("the engine", || (self.docker(&["version"], b"").code == 0).then_some(()));
    }

    fn signal(&mut self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
        let _status = self.child.wait().unwrap();
        // The containerd it leaves has no parent here to reap it, and the next engine would take the dead one for alive.
        let file = self.dir.path().join("exec/containerd/containerd.pid");
        if let Some(pid) = std::fs::read_to_string(&file).ok().and_then(|pid| pid.trim().parse().ok()) {
            let _killed = kill(Pid::from_raw(pid), Signal::SIGKILL);
            std::fs::remove_file(file).unwrap();
        }
    }

    fn restart(&mut self, signal: Signal) {
        self.signal(signal);
        self.child = Self::spawn(self.dir.path());
        self.await_ready();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for id in self.docker(&["ps", "-aq"], b"").text().split_whitespace() {
            let _removed = self.docker(&["rm", "-f", id], b"");
        }
        self.signal(Signal::SIGTERM);
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let ours = |path: &&str| Path::new(path).starts_with(self.dir.path());
        for path in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)).filter(ours) {
            let _unmounted = run(Command::new("umount").args(["-l", path]), b"");
        }
    }
}

#[test]
fn an_engine_that_restarts_in_the_middle_of_a_job_means_lost() {
    longshore_tests::docker::tiny_image();
    let mut engine = Engine::start();
    let saved = run(Command::new("docker").args(["save", TINY]), b"").ok();
    let _loaded = engine.docker(&["load"], &saved.stdout).ok();
    let dev = Dev::start_with(tempfile::tempdir().unwrap(), &[("DOCKER_HOST", &engine.host())]);
    dev.apply(&spec("engine", "trap 'exit 0' INT TERM; echo begun; while :; do usleep 50000; done", "", ""));
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let id = dev.deploy("engine", &[]);
        let _container = dev.container(&id);
        dev.await_log(&id, "begun");
        engine.restart(signal);
        let shown = dev.end(&id);
        assert_eq!(shown["state"], "lost", "{signal}: {shown:#}");
        assert_eq!(dev.raw(&id), b"begun\n", "{signal}: the log is kept");
    }
    let after = dev.run("after", &spec("after", "echo again", "", ""));
    assert_eq!(after["state"], "succeeded", "the agent works on with the engine that came back: {after:#}");
}
