//! An engine of the test's own, which can be restarted without disturbing anyone.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use longshore_agent::executor::{Class, End, Error, Limits};
use longshore_agent::water::{Disks, Gauge, Marks};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::UnixDatagram;

use crate::bench::{Bench, TINY, plan};

struct Engine {
    dir: tempfile::TempDir,
    process: Option<Child>,
}

impl Engine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        Self { dir, process: None }
    }

    /// Starts it and waits for its own word that it is ready.
    async fn start(&mut self) {
        let notify = self.dir.path().join("notify");
        std::fs::remove_file(&notify).ok();
        let said = UnixDatagram::bind(&notify).unwrap();
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        // In a network of its own: without a bridge, an engine removes `docker0`, which is the host's engine's.
        let mut command = Command::new("unshare");
        command.args(["--net", "dockerd"]);
        command.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs"]);
        command.args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")]);
        command.args(["-H", &format!("unix://{}", path("sock"))]);
        command.env("NOTIFY_SOCKET", &notify);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(command.spawn().expect("this test needs `dockerd` (Debian: docker.io) and root"));
        let ready = async {
            let mut message = [0; 4_096];
            loop {
                let length = said.recv(&mut message).await.unwrap();
                if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                    return;
                }
            }
        };
        let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        tokio::time::timeout(Duration::from_secs(60), ready)
            .await
            .unwrap_or_else(|_| panic!("dockerd does not become ready:\n{}", log()));
    }

    fn signal(&mut self, signal: Signal) {
        let mut process = self.process.take().unwrap();
        kill(Pid::from_raw(i32::try_from(process.id()).unwrap()), signal).unwrap();
        process.wait().unwrap();
        self.end_containerd();
    }

    /// The containerd that a killed engine leaves. Nobody may reap it here, and an engine takes a dead one for alive.
    fn end_containerd(&self) {
        let file = self.dir.path().join("exec/containerd/containerd.pid");
        let pid = std::fs::read_to_string(&file).ok().and_then(|pid| pid.trim().parse().ok());
        if let Some(pid) = pid {
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
            std::fs::remove_file(file).unwrap();
        }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.signal(Signal::SIGTERM);
        }
        self.end_containerd();
        unmount(self.dir.path());
    }
}

fn unmount(below: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for path in
        mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)).filter(|path| Path::new(path).starts_with(below))
    {
        Command::new("umount").args(["-l", path]).status().ok();
    }
}

/// Both ways for an engine to end: in order, where it stops its containers, and by force.
#[tokio::test]
async fn an_engine_restarted_in_the_middle_is_never_a_success() {
    for how in [Signal::SIGTERM, Signal::SIGKILL] {
        let mut engine = Engine::new();
        engine.start().await;
        let bench = Bench::on(&engine.socket(), Limits::default()).await;
        let script = "trap 'exit 0' INT; echo ready; sleep 600 & wait $!; exit 3";
        let (dir, created) = bench.started(&mut bench.attempt(), &plan(TINY, script)).await.unwrap();
        bench.prints(&dir, "ready").await;
        let restart = async {
            engine.signal(how);
            engine.start().await;
        };
        let (end, ()) = tokio::join!(bench.end(&dir, &created.id), restart);
        match end {
            End::Exit(record) => assert!(record.outside_stop, "{how}: {record:?}"),
            End::Gone { detail } => assert!(detail.contains("engine") || detail.contains("killed"), "{how}: {detail}"),
        }
        drop(bench);
    }
}

#[tokio::test]
async fn a_full_disk_of_the_engine_is_seen_and_said_before_anything_is_made() {
    let mut engine = Engine::new();
    let data = engine.dir.path().join("data");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=128m", "tmpfs"]).arg(&data).status().unwrap();
    assert!(mounted.success(), "root may mount a tmpfs");
    engine.start().await;
    let limits = Limits { disk_reserve_bytes: 256 << 20, ..Limits::default() };
    let bench = Bench::on(&engine.socket(), limits).await;
    let error = bench.created(&mut bench.attempt(), &plan(TINY, "true")).await.unwrap_err();
    assert!(matches!(&error, Error::DiskFull { path, .. } if *path == data), "{error}");
    assert_eq!((error.class(), bench.executor.list().await.unwrap().len()), (Class::AgentFault, 0));
    let root = bench.executor.engine().await.unwrap().root;
    let found = Disks::new(bench.dir.path().to_owned(), root).look().unwrap();
    assert_eq!(found.least().0, 128 << 20);
    let low = Gauge::default().judge(Marks { bytes: 256 << 20, inodes: 1 }, &found);
    assert_eq!(low.len(), 1, "{low:?}");
    assert_eq!(low[0].engine_root.as_deref(), data.to_str(), "{low:?}");
}
