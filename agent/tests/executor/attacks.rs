//! What a hostile job tries against the host, the agent, other jobs and those after it. `docs/security.md` lists each with its number.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use bollard::query_parameters::ListContainersOptionsBuilder;
use longshore_agent::executor::{Limits, Wanted};
use longshore_core::init::control::Deadlines;
use longshore_core::offer::{Network, Profile};

use crate::bench::{Bench, TINY, TINY_1234, add, grant, package, plan};

/// Metadata services by address.
const SERVICES: [&str; 3] = ["169.254.169.254", "169.254.170.2", "168.63.129.16"];

/// Rules of the firewall that are gone again whatever happens. As the documentation writes them, for these addresses alone.
struct Blocked;

impl Blocked {
    fn new() -> Self {
        let blocked = Self;
        for address in SERVICES {
            Self::iptables("-I", address);
        }
        blocked
    }

    fn iptables(what: &str, address: &str) {
        let rule = [what, "DOCKER-USER", "-d", address, "-m", "comment", "--comment", "longshore-test", "-j", "REJECT"];
        let done = Command::new("iptables").args(["-w", "30"]).args(rule).status();
        assert!(
            done.is_ok_and(|done| done.success()),
            "this test needs root and `iptables`, which the engine needs too"
        );
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        for address in SERVICES {
            Self::iptables("-D", address);
        }
    }
}

/// Runs a script on the network of the jobs, as root of the container.
async fn on_network(bench: &Bench, script: &str) -> String {
    let mut one = plan(TINY, script);
    one.network = Network::Longshore;
    bench.run(&one).await.text()
}

#[tokio::test]
async fn no_way_of_writing_a_metadata_address_gets_through_the_rule() {
    let bench = Bench::new().await;
    let _blocked = Blocked::new();
    let reached = bench.executor.metadata_in_reach().await.unwrap();
    assert!(reached.iter().all(SocketAddr::is_ipv6), "the probe sees the rule: {reached:?}");
    // Names that point there, numbers instead of four parts, a put as for IMDSv2, another way out.
    let script = "echo 169.254.169.254 rebind.example >> /etc/hosts; \
        for host in 169.254.169.254 2852039166 0xa9fea9fe 0251.0376.0251.0376 169.254.43518 rebind.example \
            169.254.170.2 168.63.129.16 fd00:ec2::254 ::ffff:169.254.169.254; do \
            for ask in 'GET /latest/meta-data/' 'PUT /latest/api/token'; do \
                printf \"$ask HTTP/1.1\\r\\n\\r\\n\" | nc -w 2 $host 80 2>/dev/null | grep . && echo GOT $host; \
            done; \
        done; \
        ip route add 169.254.169.254 dev eth0 2>/dev/null && echo GOT route; \
        ip addr add 169.254.169.1/16 dev eth0 2>/dev/null && echo GOT address; \
        echo tried";
    let text = on_network(&bench, script).await;
    assert!(text.ends_with("tried\n") && !text.contains("GOT"), "{text}");
}

#[tokio::test]
async fn a_job_reaches_neither_the_engine_nor_the_host_nor_another_job() {
    let bench = Bench::new().await;
    let mut attempt = bench.attempt();
    let mut other = plan(
        TINY,
        "ip -4 addr show eth0; (while true; do echo SECRET | nc -l -p 7777; done) & echo listens; sleep 600",
    );
    other.network = Network::Longshore;
    let (dir, container) = bench.started(&mut attempt, &other).await.unwrap();
    bench.prints(&dir, "listens").await;
    let inspect = bench.docker().inspect_container(&container.id, None).await.unwrap();
    let networks = inspect.network_settings.unwrap().networks.unwrap();
    let ip = networks.values().find_map(|network| network.ip_address.clone().filter(|ip| !ip.is_empty())).unwrap();
    // What the controller's API and the agent's own services are bound to when they are not to be reached.
    let local = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = local.local_addr().unwrap().port();
    let script = format!(
        "for path in /var/run/docker.sock /run/docker.sock /run/containerd/containerd.sock /.longshore/init.sock; do \
            [ -e $path ] && echo GOT $path; done; \
        gateway=$(ip route | sed -n 's/^default via \\([0-9.]*\\).*/\\1/p'); [ -n \"$gateway\" ] && echo gateway; \
        for place in \"$gateway 2375\" \"$gateway 2376\" \"$gateway {port}\" \"127.0.0.1 {port}\" \"{ip} 7777\"; do \
            nc -w 2 $place </dev/null 2>/dev/null | grep . && echo GOT $place; nc -w 2 $place -e true 2>/dev/null && echo GOT $place; done; \
        ls /proc | grep -c '^[0-9]'; ps | grep -c dockerd; echo tried"
    );
    let text = on_network(&bench, &script).await;
    assert!(text.contains("gateway\n") && text.ends_with("tried\n") && !text.contains("GOT"), "{text}");
    local.set_nonblocking(true).unwrap();
    assert!(local.accept().is_err(), "nobody came");
    bench.executor.remove(&container.id).await.unwrap();
}

#[tokio::test]
async fn what_stands_in_names_images_and_variables_is_never_an_option() {
    let bench = Bench::new().await;
    for image in ["--privileged", "-v /:/host tiny", "tiny\n--pid=host", "tiny --network host", "../containers/x"] {
        assert!(bench.executor.prepare_image(&Wanted::from(image), |_| ()).await.is_err(), "{image}");
    }
    let odd = "a=b\n--privileged=true\nLD_AUDIT=/x";
    let mut one =
        plan(TINY, "printf '%s|' \"$ODD\" \"$LD_PRELOAD\" \"$DOCKER_HOST\"; cat /proc/1/environ 2>&1 | grep -c evil");
    one.env = vec![
        ("ODD", odd.to_owned()),
        ("LD_PRELOAD", "/longshore/work/evil.so".to_owned()),
        ("DOCKER_HOST", "tcp://evil:2375".to_owned()),
    ];
    let mut attempt = bench.attempt();
    let (dir, created) = bench.started(&mut attempt, &one).await.unwrap();
    let inspect = bench.docker().inspect_container(&created.id, None).await.unwrap();
    let host = inspect.host_config.unwrap();
    assert_eq!((host.privileged, host.pid_mode.as_deref()), (Some(false), Some("")));
    let environment = inspect.config.unwrap().env.unwrap_or_default();
    assert!(!environment.iter().any(|line| line.contains("evil") || line.contains("LD_")), "{environment:?}");
    let outcome = bench.ended(&dir, &created.id).await;
    // They are the job's own affair: init is static, was started before them, and hands them to the job alone.
    assert_eq!(outcome.text(), format!("{odd}|/longshore/work/evil.so|tcp://evil:2375|0\n"));
}

#[tokio::test]
async fn a_job_that_takes_everything_takes_it_from_itself() {
    let limits = Limits { pids: 64, memory_bytes: Some(64 << 20), cpus: Some(0.5), ..Limits::default() };
    let bench = Bench::on(Path::new("/var/run/docker.sock"), limits).await;
    let victim =
        plan(TINY, "n=0; while [ ! -e /state/over ]; do n=$((n+1)); echo beat $n; usleep 20000; done; echo whole");
    let mut victim = victim;
    victim.mounts = vec!["state".to_owned()];
    let mut first = bench.attempt();
    let (dir, created) = bench.started(&mut first, &victim).await.unwrap();
    bench.prints(&dir, "beat 1\n").await;
    // Processes without end, signals to everybody, a core, and every name in a directory of a tmpfs.
    let hostile = [
        ("bomb() { bomb | bomb & }; bomb; sleep 1; kill -9 -1; echo not reached", None),
        ("kill -9 -1; kill -TERM 1; kill -9 1; echo still here", Some(0)),
        (
            "ulimit -c unlimited 2>/dev/null; sh -c 'kill -SEGV $$'; find / -xdev -name 'core*' -size +0 2>/dev/null | grep -v /sys | grep . && echo CORE; true",
            Some(0),
        ),
        (
            "cd /run/longshore; i=0; while mkdir $i 2>/dev/null && [ $i -lt 3000 ]; do i=$((i+1)); done; dd if=/dev/zero of=/run/longshore/fill bs=1M count=64 2>/dev/null; wc -c < /run/longshore/fill | grep -c 67108864",
            None,
        ),
    ];
    for (script, code) in hostile {
        let outcome = bench.run(&plan(TINY, script)).await;
        assert!(code.is_none_or(|code| outcome.record.code == Some(code)), "{script}: {:?}", outcome.record);
        assert!(!outcome.text().contains("CORE"), "{script}: {}", outcome.text());
    }
    std::fs::write(bench.shared().join("over"), "").unwrap();
    let outcome = bench.ended(&dir, &created.id).await;
    let text = outcome.text();
    let beats: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("beat ")?.parse::<usize>().ok()).collect();
    assert!(beats.iter().copied().eq(1..=beats.len()), "none is missing");
    assert!(text.ends_with("whole\n") && outcome.record.code == Some(0));
}

#[tokio::test]
async fn nothing_that_a_job_leaves_running_outlives_it() {
    let bench = Bench::new().await;
    let mut attempt = bench.attempt();
    // A time that no other process on this host sleeps for.
    let mark = format!("9{}", std::process::id());
    let script = format!(
        "(setsid sleep {mark} </dev/null >/dev/null 2>&1 &); (trap '' TERM INT HUP; while true; do sleep {mark}; done) & echo left"
    );
    let outcome = bench.run_in(&mut attempt, &plan(TINY, &script)).await.unwrap();
    assert_eq!((outcome.text().as_str(), outcome.record.code), ("left\n", Some(0)));
    let running = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let left = running.filter(|line| String::from_utf8_lossy(line).split('\0').any(|part| part == mark)).count();
    assert_eq!(left, 0, "the kernel killed what was in its namespace");
    let label = format!("longshore.attempt={}", attempt.offer.fence.attempt);
    let filter = std::collections::HashMap::from([("label", vec![label.as_str()])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filter).build();
    assert_eq!(bench.docker().list_containers(Some(options)).await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_link_in_the_workspace_leads_nobody_out_of_it() {
    let bench = Bench::new().await;
    let mut attempt = bench.attempt();
    let kept = bench.shared().join("kept");
    std::fs::write(&kept, "kept").unwrap();
    let mut first = plan(
        TINY,
        "ln -s /state out; ln -s / root; ln -s /etc/passwd passwd; ln /etc/passwd hard 2>/dev/null; mkdir -p d; ln -s ../../../../state d/up; echo planted",
    );
    first.mounts = vec!["state".to_owned()];
    assert_eq!(bench.run_in(&mut attempt, &first).await.unwrap().text(), "planted\n");
    // The workspace is handed over to another user by a helper that is root: it walks over the links.
    let mut second = plan(
        TINY_1234,
        "id -u; stat -c %u out root passwd d/up | sort -u; ls -ln /state | grep -c ' 1234 '; (echo x >> /state/kept) 2>/dev/null || echo refused",
    );
    (second.index, second.profile) = (1, Profile::Locked);
    second.mounts = vec!["state".to_owned()];
    let outcome = bench.run_in(&mut attempt, &second).await.unwrap();
    assert_eq!(outcome.text(), "1234\n1234\n0\nrefused\n");
    assert_eq!(std::fs::metadata(&kept).unwrap().uid(), nix::unistd::getuid().as_raw());
    bench.executor.remove_volume(attempt.offer.fence.attempt).await.unwrap();
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "kept", "what is cleared away are the links");
}

#[tokio::test]
async fn nothing_is_unpacked_into_a_container_that_runs() {
    let bench = Bench::new().await;
    let mut attempt = bench.attempt();
    let mut one = plan(TINY_1234, "echo up; cat /state/go; ls /longshore/workspace");
    one.mounts = vec!["state".to_owned()];
    let fifo = bench.shared().join("go");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU | nix::sys::stat::Mode::S_IRWXO).unwrap();
    let (step, image, created) = bench.created(&mut attempt, &one).await.unwrap();
    let orders = longshore_agent::executor::handover(&step, &attempt.offer, &grant(&one), &image).unwrap();
    bench.executor.start(&step, &created, &orders, Deadlines::default()).await.unwrap();
    let dir = bench.executor.step_dir(step.fence.attempt, 0);
    bench.prints(&dir, "up").await;
    // As if nobody had ever written down that it was filled.
    std::fs::remove_file(bench.executor.attempt_dir(step.fence.attempt).join("owner")).unwrap();
    let package = package(bench.dir.path(), |tar| add(tar, "late", b"late", 0o644));
    let refused = bench.executor.prepare_workspace(&step, &created, Some(&package)).await.unwrap_err().to_string();
    assert!(refused.contains("was started before"), "{refused}");
    std::fs::write(fifo, "").unwrap();
    assert_eq!(bench.ended(&dir, &created.id).await.text(), "up\n");
}

#[test]
fn nothing_is_run_in_a_container_beside_init() {
    fn sources(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() { sources(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() > 50);
    let calls = ["put_container_archive", "create_exec", "start_exec", "attach_container", "CopyToContainer"];
    for path in found {
        let text = std::fs::read_to_string(&path).unwrap();
        for call in calls {
            assert!(!text.contains(call), "{} uses `{call}`", path.display());
        }
        // The one that fills a workspace looks first whether the container has been started.
        let fills = text.matches("upload_to_container").count();
        assert_eq!(fills, usize::from(path.ends_with("executor/workspace.rs")), "{}", path.display());
    }
}
