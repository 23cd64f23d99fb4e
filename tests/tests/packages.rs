//! The packages, installed on a Debian whose PID 1 is systemd: what an administrator does with them, from install to purge.

#[path = "packages/cloud.rs"]
mod cloud;
#[path = "packages/images.rs"]
mod images;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use longshore_tests::debian::Debian;
use longshore_tests::dev::{binaries, checkout};
use longshore_tests::docker::TINY;
use longshore_tests::process::{run, wait_for};
use serde_json::Value;
use tempfile::TempDir;

/// Lowest version that is above that of the crates.
const NEXT: &str = "999.0.0";
/// Highest exposure level of both units that `systemd-analyze security` may find, times ten.
const EXPOSURE: u32 = 13;

/// The packages of this checkout in the folder `1`, and those of a later version in `2`.
fn packages() -> &'static Path {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        make(&dir.path().join("1"), &[]);
        make(&dir.path().join("again"), &[]);
        make(&dir.path().join("2"), &["--package-version", NEXT]);
        dir
    });
    made.path()
}

fn make(out: &Path, more: &[&str]) {
    let mut package = Command::new(env!("CARGO"));
    package.args(["run", "--quiet", "--package", "xtask", "--", "package", "--out"]).arg(out).args(more);
    let _made = run(package.current_dir(checkout()).env("LONGSHORE_BIN_DIR", binaries()), b"").ok();
}

/// Starts the controller, enrols the agent as docs/install.md says, and starts it.
fn bring_up(system: &Debian) {
    system.ok("systemctl start longshore-controller");
    system.ok("sed -i 's|^# controller = .*|controller = \"https://127.0.0.1:8441\"|' /etc/longshore/agent.toml");
    // Where the tests run something may answer for every address, that of a cloud's metadata too.
    system.ok("sed -i 's|^# metadata = .*|metadata = \"allowed\"|' /etc/longshore/agent.toml");
    system.ok("mkdir /srv/state");
    system.ok("printf '[[mounts]]\\nname = \"state\"\\nsource = \"/srv/state\"\\ntarget = \"/state\"\\n' >> /etc/longshore/agent.toml");
    let token = longshore(system, "join-token create --ca-file /etc/longshore/ca.pem");
    // The message stands on standard error, the token alone on standard output.
    system.write("/run/join", &token);
    system.ok("chown longshore-agent /run/join && chmod 600 /run/join");
    system.ok("runuser -u longshore-agent -- longshore-agent enroll --config /etc/longshore/agent.toml --token-file /run/join");
    system.ok("systemctl start longshore-agent");
    wait_for("the agent", || longshore(system, "agents").contains("connected").then_some(()));
}

fn longshore(system: &Debian, args: &str) -> String {
    let environment = "export LONGSHORE_URL=http://127.0.0.1:8440 \
        LONGSHORE_TOKEN=$(cat /var/lib/longshore-controller/admin.token)";
    system.ok(&format!("{environment}; longshore {args}"))
}

/// A job that prints numbered lines until it is told to end.
fn begin_job(system: &Debian) -> String {
    let spec = format!(
        "version: 1\nproject: site\nenvironments:\n  - name: dev\nsteps:\n  - name: one\n    image: {TINY}\n    network: none\n    \
         mounts: [state]\n    run: |\n      i=0\n      until [ -e /state/go ]; do echo line $i; i=$((i+1)); sleep 0.05; done\n      \
         echo end $i\n      exit 3\n"
    );
    system.ok("rm -f /srv/state/go");
    system.write("/root/longshore.yaml", &spec);
    let _applied = longshore(system, "apply --yes -f /root/longshore.yaml");
    let accepted: Value = serde_json::from_str(&longshore(system, "deploy site --env dev -o json")).unwrap();
    let id = accepted["deployment"].as_str().unwrap().to_owned();
    wait_for("the job", || longshore(system, &format!("logs {id} --raw")).contains("line 10").then_some(()));
    id
}

/// Lets the job end, and checks that its log is whole and its result its own.
fn end_job(system: &Debian, id: &str) {
    // What is printed now was printed after everything that happened meanwhile.
    let lines = || system_lines(system, id);
    let before = lines();
    wait_for("the job to go on", || (lines() > before).then_some(()));
    system.ok("touch /srv/state/go");
    let shown = wait_for("the end", || {
        let text = system.run(&format!(
            "export LONGSHORE_URL=http://127.0.0.1:8440 LONGSHORE_TOKEN=$(cat /var/lib/longshore-controller/admin.token); \
             longshore deployment show {id} -o json"
        ));
        let shown: Value = serde_json::from_str(&text.text()).ok()?;
        (!["queued", "running"].contains(&shown["state"].as_str()?)).then_some(shown)
    });
    assert_eq!(shown["state"], "failed", "{shown}");
    assert_eq!(shown["steps"][0]["exit_code"], 3, "{shown}");
    assert_eq!(shown["steps"][0]["attempts"].as_array().unwrap().len(), 1, "{shown}");
    let log = longshore(system, &format!("logs {id} --raw"));
    let count = log.lines().count() - 1;
    let expected: String = (0..count).map(|line| format!("line {line}\n")).collect();
    assert_eq!(format!("{log}\n"), format!("{expected}end {count}\n"));
}

fn system_lines(system: &Debian, id: &str) -> usize {
    longshore(system, &format!("logs {id} --raw")).lines().count()
}

/// Runs `change` on the packages while a job runs: both services run anew, and the job does not notice.
fn change_under_a_job(system: &Debian, change: &str) {
    let job = begin_job(system);
    let pids = || ["agent", "controller"].map(|who| system.property(&format!("longshore-{who}"), "MainPID"));
    let container = || system.ok("docker ps --quiet --no-trunc");
    let (before, runs) = (pids(), container());
    system.ok(change);
    wait_for("both services to be new", || {
        let now = pids();
        let fresh = (0..2).all(|which| now[which] != before[which] && now[which] != "0");
        (fresh && system.run("systemctl is-active longshore-agent longshore-controller").code == 0).then_some(())
    });
    wait_for("the agent", || {
        let state = system.run(
            "LONGSHORE_URL=http://127.0.0.1:8440 LONGSHORE_TOKEN=$(cat /var/lib/longshore-controller/admin.token) longshore agents",
        );
        state.text().contains("connected").then_some(())
    });
    assert_eq!(container(), runs, "the job goes on in its container");
    end_job(system, &job);
}

fn versions(system: &Debian) -> Vec<String> {
    let shown =
        system.ok("dpkg-query --show --showformat '${Version}\\n' longshore longshore-agent longshore-controller");
    shown.lines().map(str::to_owned).collect()
}

#[test]
fn packages_are_the_same_each_time_and_their_digests_fit() {
    let sums = |dir: &str| std::fs::read_to_string(packages().join(dir).join("SHA256SUMS")).unwrap();
    assert_eq!(sums("1"), sums("again"));
    assert_eq!(sums("1").lines().count(), 9);
    let _checked =
        run(Command::new("sha256sum").args(["--check", "SHA256SUMS"]).current_dir(packages().join("1")), b"").ok();
}

#[test]
fn debs_are_installed_upgraded_under_a_job_downgraded_removed_and_purged() {
    let system = Debian::boot("deb", packages());
    system.ok("dpkg --install /packages/1/*.deb");
    installed(&system);
    bring_up(&system);
    sandboxed(&system);

    change_under_a_job(&system, "dpkg --install /packages/2/*.deb");
    assert!(versions(&system).iter().all(|version| version == &format!("{NEXT}-1")), "{:?}", versions(&system));
    change_under_a_job(&system, "dpkg --install /packages/1/*.deb");
    assert!(versions(&system).iter().all(|version| !version.starts_with(NEXT)), "{:?}", versions(&system));
    assert!(system.ok("cat /etc/longshore/agent.toml").contains("name = \"state\""), "a changed conffile was replaced");

    stopping_waits_for_the_job(&system);
    removed_and_purged(&system);
}

/// Nothing runs yet, and what there is belongs to whom it should.
fn installed(system: &Debian) {
    assert_eq!(system.run("systemctl is-active longshore-agent longshore-controller").text(), "inactive\ninactive\n");
    assert_eq!(system.ok("stat --format '%U %G %a' /var/lib/longshore-agent"), "longshore-agent longshore-agent 700");
    assert_eq!(
        system.ok("stat --format '%U %G %a' /var/lib/longshore-controller"),
        "longshore-controller longshore-controller 700"
    );
    assert_eq!(system.ok("id --name --groups longshore-agent"), "longshore-agent docker");
    assert_eq!(system.ok("id --name --groups longshore-controller"), "longshore-controller");
    // Not enrolled, not configured: that is said once, and not tried for ever.
    assert_ne!(system.run("systemctl start longshore-agent").code, 0);
    assert_eq!(system.property("longshore-agent", "ExecMainStatus"), "64");
    assert_eq!(system.property("longshore-agent", "NRestarts"), "0");
    system.ok("systemctl reset-failed longshore-agent");
    system.ok("bash -n /usr/share/bash-completion/completions/longshore");
}

/// The limits are in force, the watchdog is fed, and the sandbox is as tight as it was.
fn sandboxed(system: &Debian) {
    for unit in ["longshore-agent", "longshore-controller"] {
        let score = system.run(&format!("systemd-analyze security --no-pager --threshold={EXPOSURE} {unit}"));
        assert_eq!(score.code, 0, "{unit} is more exposed than {EXPOSURE}: {}", score.text());
        for (property, expected) in [
            ("Type", "notify"),
            ("NoNewPrivileges", "yes"),
            ("ProtectSystem", "strict"),
            ("WatchdogUSec", "1min"),
            ("User", unit),
            ("NRestarts", "0"),
        ] {
            assert_eq!(system.property(unit, property), expected, "{unit} {property}");
        }
        for limit in ["MemoryMax", "TasksMax"] {
            assert!(system.property(unit, limit).parse::<u64>().is_ok(), "{unit} has no {limit}");
        }
        let pid = system.property(unit, "MainPID");
        let status = system.ok(&format!("cat /proc/{pid}/status"));
        for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapBnd:\t0000000000000000"] {
            assert!(status.contains(line), "{unit} lacks {line:?}: {status}");
        }
        assert_ne!(system.property(unit, "WatchdogTimestampMonotonic"), "0", "{unit} never told the watchdog");
    }
}

/// SIGTERM takes no more jobs and waits for the one that runs, also for longer than the unit gives it.
fn stopping_waits_for_the_job(system: &Debian) {
    let job = begin_job(system);
    system.ok("mkdir -p /etc/systemd/system/longshore-agent.service.d");
    system.write("/etc/systemd/system/longshore-agent.service.d/stop.conf", "[Service]\nTimeoutStopSec=1\n");
    system.ok("systemctl daemon-reload");
    system.ok("systemctl stop --no-block longshore-agent");
    wait_for("draining", || longshore(system, "agents").contains("drain").then_some(()));
    // A line takes a twentieth of a second, and more.
    let later = system_lines(system, &job) + 60;
    wait_for("the job to go on", || (system_lines(system, &job) > later).then_some(()));
    end_job(system, &job);
    wait_for("the agent's end", || (system.property("longshore-agent", "ActiveState") == "inactive").then_some(()));
    assert_eq!(system.property("longshore-agent", "Result"), "success");
}

/// What goes and what stays.
fn removed_and_purged(system: &Debian) {
    let there = |path: &str| system.run(&format!("test -e {path}")).code == 0;
    system.ok("systemctl enable --now longshore-agent");
    system.ok("dpkg --remove longshore longshore-agent longshore-controller");
    assert_eq!(system.run("systemctl is-active longshore-agent longshore-controller").text(), "inactive\ninactive\n");
    assert!(!there("/usr/lib/systemd/system/longshore-agent.service"));
    assert!(!there("/etc/systemd/system/multi-user.target.wants/longshore-agent.service"));
    for kept in
        ["/etc/longshore/agent.toml", "/etc/longshore/controller.toml", "/var/lib/longshore-agent/identity.json"]
    {
        assert!(there(kept), "`{kept}` went with the remove");
    }

    // A job that did not come to its end is in the way of a purge; without one, the agent's state goes.
    system.ok("mkdir -p /var/lib/longshore-agent/attempts/att_unfinished");
    let said = system.run("dpkg --purge longshore-agent longshore-controller");
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stderr.contains("`/var/lib/longshore-agent` was kept"), "{}", said.stderr);
    assert!(said.stderr.contains("`/var/lib/longshore-controller` was kept"), "{}", said.stderr);
    assert!(there("/var/lib/longshore-agent/identity.json") && there("/var/lib/longshore-controller/controller.db"));
    assert!(!there("/etc/longshore/agent.toml") && !there("/etc/longshore/controller.toml"));
    assert!(there("/etc/longshore/ca.pem"), "what the administrator put there stays");
    system.ok(
        "dpkg --install /packages/1/longshore-agent_*.deb && rm -r /var/lib/longshore-agent/attempts/att_unfinished",
    );
    system.ok("dpkg --purge longshore-agent");
    assert!(!there("/var/lib/longshore-agent"));
}

/// The one package in a folder.
fn rpm(dir: &str, name: &str) -> PathBuf {
    let found = std::fs::read_dir(packages().join(dir)).unwrap().map(|entry| entry.unwrap().path());
    let start = format!("{name}-{}", if dir == "2" { NEXT } else { env!("CARGO_PKG_VERSION") });
    let ours = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(&start) && name.ends_with(".rpm")
    };
    Path::new("/packages").join(dir).join(found.into_iter().find(ours).unwrap().file_name().unwrap())
}

#[test]
fn rpms_make_users_keep_configuration_and_restart_what_ran() {
    let system = Debian::boot("rpm", packages());
    let all = |dir: &str| {
        ["longshore", "longshore-agent", "longshore-controller"]
            .map(|name| rpm(dir, name).display().to_string())
            .join(" ")
    };
    // Debian's rpm knows nothing of what dpkg has installed.
    system.ok(&format!("rpm --force-debian --install --nodeps {}", all("1")));
    let files = system.ok("rpm --query --queryformat '[%{FILENAMES} %{FILEMODES:perms} %{FILEUSERNAME} %{FILEFLAGS:fflags}\\n]' longshore-agent");
    for line in [
        "/usr/bin/longshore-agent -rwxr-xr-x root ",
        "/etc/longshore/agent.toml -rw-r--r-- root cn",
        "/usr/lib/systemd/system/longshore-agent.service -rw-r--r-- root ",
    ] {
        assert!(files.lines().any(|file| file.trim() == line.trim()), "no {line:?} in\n{files}");
    }
    let needs = system.ok("rpm --query --requires longshore-controller");
    assert!(needs.contains("libc.so.6(GLIBC_2.34)(64bit)") && needs.contains("systemd"), "{needs}");
    system.ok("rpm --verify --nodeps longshore longshore-agent longshore-controller");
    assert_eq!(system.ok("id --name --groups longshore-agent"), "longshore-agent docker");
    assert_eq!(system.ok("stat --format '%U %a' /var/lib/longshore-controller"), "longshore-controller 700");

    system.ok("echo '# ours' >> /etc/longshore/agent.toml && systemctl enable --now longshore-controller");
    let before = system.property("longshore-controller", "MainPID");
    system.ok(&format!("rpm --force-debian --upgrade --nodeps {}", all("2")));
    wait_for("a new controller", || {
        let now = system.property("longshore-controller", "MainPID");
        (now != before && now != "0" && system.run("systemctl is-active longshore-controller").code == 0).then_some(())
    });
    assert!(system.ok("cat /etc/longshore/agent.toml").ends_with("# ours"));
    assert_eq!(
        system.run("systemctl is-active longshore-agent").text(),
        "inactive\n",
        "nothing starts that did not run"
    );

    nothing_is_changed_without_room_for_a_copy(&system);
    given_back(&system);
    restarted_when_it_hangs(&system);
    system.ok("rpm --force-debian --erase longshore longshore-agent longshore-controller");
    assert_eq!(system.run("systemctl is-active longshore-controller").text(), "inactive\n");
    system.ok("test ! -e /usr/bin/longshore-controller && test -e /etc/longshore/agent.toml.rpmsave");
    system.ok("test -e /var/lib/longshore-controller/controller.db");
}

/// A database that has to be moved to a newer schema, on a disk that is too small for its copy.
fn nothing_is_changed_without_room_for_a_copy(system: &Debian) {
    system.ok("systemctl stop longshore-controller && mount --types tmpfs --options size=8m,mode=700 tmpfs /mnt");
    system.ok("cp /var/lib/longshore-controller/controller.db /mnt");
    // As the program left it that did not know the last step.
    let older = "import sqlite3; db = sqlite3.connect('/mnt/controller.db'); \
        db.execute('DELETE FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM _sqlx_migrations)'); db.commit()";
    system.ok(&format!("python3 -c \"{older}\""));
    // Room for a lock and little else.
    system.ok("head --bytes 16M /dev/zero > /mnt/full || truncate --size=-200K /mnt/full");
    let before = system.ok("sha256sum /mnt/controller.db");
    let start =
        "LONGSHORE_CONTROLLER__DATA_DIR=/mnt longshore-controller serve --config /etc/longshore/controller.toml 2>&1";
    let refused = system.run(start);
    assert_ne!(refused.code, 0);
    assert!(refused.text().contains("nothing was changed; make room"), "{}", refused.text());
    assert_eq!(system.ok("sha256sum /mnt/controller.db"), before);
    system.ok("test ! -e /mnt/controller.db.before-new && umount /mnt && systemctl start longshore-controller");
}

/// What docs/install.md gives back to a sandboxed service: here a port below 1024, named in the environment file.
fn given_back(system: &Debian) {
    system.ok("mkdir -p /etc/systemd/system/longshore-controller.service.d");
    system.write("/etc/longshore/controller.env", "LONGSHORE_CONTROLLER__API__LISTEN=127.0.0.1:443\n");
    assert_ne!(system.run("systemctl restart longshore-controller").code, 0, "port 443 without the capability");
    let capability = "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n";
    let drop_in = "/etc/systemd/system/longshore-controller.service.d/port.conf";
    system.write(drop_in, &format!("[Service]\n{capability}"));
    system.ok("systemctl daemon-reload && systemctl restart longshore-controller");
    let token = "LONGSHORE_TOKEN=$(cat /var/lib/longshore-controller/admin.token)";
    system.ok(&format!("{token} longshore --url http://127.0.0.1:443 whoami"));
}

/// The watchdog is told again and again, and a controller that does not turn any more is started anew.
fn restarted_when_it_hangs(system: &Debian) {
    system.write(
        "/etc/systemd/system/longshore-controller.service.d/watchdog.conf",
        "[Service]\nWatchdogSec=1\nRestartSec=0\n",
    );
    system.ok("systemctl daemon-reload && systemctl restart longshore-controller");
    let told = || system.property("longshore-controller", "WatchdogTimestampMonotonic");
    let first = told();
    wait_for("the watchdog to be told again", || (told() != first).then_some(()));
    system.ok("systemctl kill --kill-who=main --signal=SIGSTOP longshore-controller");
    wait_for("a new controller", || {
        let again = system.property("longshore-controller", "NRestarts") != "0";
        (again && system.run("systemctl is-active longshore-controller").code == 0).then_some(())
    });
}
