//! `longshore dev` with fakes for the two programs it starts: shell scripts as processes, and a fake server for the
//! controller's API. What the real ones do together is tested end to end elsewhere.

use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use crate::fake::{Fake, Reply};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Says that it runs, then sleeps: the test serves in its place.
const CONTROLLER: &str = "#!/bin/sh\necho \"up with $*\" >&2\nexec sleep 600\n";
/// Enrols by writing an identity; `run` says so and sleeps.
const AGENT: &str = "#!/bin/sh\nhere=$(dirname \"$0\")\nif [ \"$1\" = enroll ]; then\n  for last in \"$@\"; do :; done\n  cp \"$last\" \"$here/seen-token\"\n  echo '{}' > \"$here/data/agent/identity.json\"\n  exit 0\nfi\n\
    [ -f \"$here/data/agent/broken\" ] && { rm \"$here/data/agent/broken\"; exit 77; }\necho \"up, token in environment: $LONGSHORE_TOKEN\" >&2\nexec sleep 600\n";

/// A folder with the real command and the two fakes beside it.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // A copy is open for writing for a while, and a process that another test starts then keeps it so: "text file busy".
        let (binary, own) = (env!("CARGO_BIN_EXE_longshore"), folder.path().join("longshore"));
        if fs::hard_link(binary, &own).is_err() {
            fs::copy(binary, &own).unwrap();
        }
        for (name, text) in [("longshore-controller", CONTROLLER), ("longshore-agent", AGENT)] {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    fn data(&self, name: &str) -> PathBuf {
        self.path("data").join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.path("longshore"));
        command.arg("dev").arg("--data").arg(self.path("data"));
        command
            .env("LONGSHORE_TOKEN", "of-the-user")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn pid(&self, name: &str) -> i32 {
        fs::read_to_string(self.data(&format!("{name}.pid"))).unwrap().trim().parse().unwrap()
    }

    /// Starts it and serves the controller's API as soon as the fake controller runs.
    fn start(&self) -> Dev {
        let mut child = self.command().spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let mut dev =
            Dev { child, stdout: BufReader::new(stdout).lines(), stderr: BufReader::new(stderr).lines(), api: None };
        dev.hears("[controller] up");
        fs::write(self.data("controller/admin.token"), "admin-token\n").unwrap();
        dev.api = Some(serve(port(&self.data("controller.toml")), self.path("seen-token")));
        dev
    }
}

fn port(config: &Path) -> u16 {
    let table: toml::Table = fs::read_to_string(config).unwrap().parse().unwrap();
    table["api"]["listen"].as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap()
}

/// An agent is connected once it has joined.
fn serve(port: u16, joined: PathBuf) -> Fake {
    Fake::on(TcpListener::bind(("127.0.0.1", port)).unwrap(), move |line| {
        Some(match line {
            "GET /readyz" => Reply::json(200, "{}"),
            "POST /api/v1/join-tokens" => {
                Reply::json(201, r#"{"token":"join-token","ca_pem":"ca","expires_at":"2026-11-21T10:00:00.000Z"}"#)
            }
            "GET /api/v1/agents" if !joined.exists() => Reply::json(200, "[]"),
            "GET /api/v1/agents" => Reply::json(200, r#"[{"id":"agt_1","state":"connected"}]"#),
            _ => Reply::json(404, "{}"),
        })
    })
}

struct Dev {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Lines<BufReader<ChildStderr>>,
    api: Option<Fake>,
}

impl Dev {
    /// Reads messages up to one that contains the text.
    fn hears(&mut self, text: &str) -> String {
        let mut before = String::new();
        for line in self.stderr.by_ref().map(Result::unwrap) {
            if line.contains(text) {
                return line;
            }
            before.push_str(&line);
            before.push('\n');
        }
        panic!("`{text}` was not said, but:\n{before}");
    }

    fn is_ready(&mut self) {
        assert!(
            self.stdout
                .by_ref()
                .map(Result::unwrap)
                .any(|line| line.starts_with("Longshore is ready at http://127.0.0.1:"))
        );
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    fn ends(mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        // Its messages are read to the end, so that it never waits for us.
        self.stderr.by_ref().for_each(drop);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Only when a test failed half-way.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal(Signal::SIGTERM);
        }
    }
}

#[test]
fn it_comes_up_restarts_what_dies_and_ends() {
    let site = Site::new();
    let mut dev = site.start();
    assert!(dev.hears("[agent] up").ends_with("token in environment: "), "the user's token goes to no child");
    dev.is_ready();

    let env_file = site.data("dev.env");
    let url = dev.api.as_ref().unwrap().url.clone();
    assert_eq!(fs::read_to_string(&env_file).unwrap(), format!("LONGSHORE_URL={url}\nLONGSHORE_TOKEN=admin-token\n"));
    assert_eq!(env_file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(site.path("seen-token")).unwrap(), "join-token");
    assert!(!site.data("agent/join.token").exists(), "the join token is gone");
    assert_eq!(fs::read_to_string(site.data("agent/ca.pem")).unwrap(), "ca");

    let second = site.command().output().unwrap();
    assert_eq!(second.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another `longshore dev`"));
    assert!(env_file.exists(), "a refused start changes nothing");

    let old = site.pid("agent");
    kill(Pid::from_raw(old), Signal::SIGKILL).unwrap();
    assert!(dev.hears("[dev] the agent ended").contains("signal 9"));
    dev.hears("[agent] up");
    let children = [site.pid("agent"), site.pid("controller")];
    assert_ne!(children[0], old);

    assert_eq!(dev.ends(), Some(0));
    for pid in children {
        assert!(kill(Pid::from_raw(pid), None).is_err(), "process {pid} is left");
    }
    for gone in ["dev.env", "agent.pid", "controller.pid"] {
        assert!(!site.data(gone).exists(), "{gone}");
    }
}

#[test]
fn a_second_start_carries_on() {
    let site = Site::new();
    let mut dev = site.start();
    dev.is_ready();
    let first = dev.api.as_ref().unwrap().url.clone();
    // The fake's listener lives on in this process: to the second start it is something else that listens.
    assert_eq!(dev.ends(), Some(0));
    fs::remove_file(site.path("seen-token")).unwrap();
    fs::write(site.data("agent/broken"), "").unwrap();

    let mut dev = site.start();
    assert_ne!(dev.api.as_ref().unwrap().url, first, "a port that is taken is not taken again");
    assert!(dev.hears("the agent ended").contains("exit code 77"));
    dev.hears("it joins again");
    dev.hears("[agent] up");
    assert_eq!(fs::read_to_string(site.path("seen-token")).unwrap(), "join-token");
    assert_eq!(dev.ends(), Some(0));
}

#[test]
fn a_missing_companion_is_named() {
    let site = Site::new();
    fs::remove_file(site.path("longshore-agent")).unwrap();
    let done = site.command().env("PATH", "/nowhere").output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stderr).contains("`longshore-agent`"));
    assert!(!site.path("data").exists(), "nothing was made");
}

#[test]
fn a_controller_that_cannot_start_ends_it() {
    let site = Site::new();
    fs::write(site.path("longshore-controller"), "#!/bin/sh\necho 'no such field' >&2\nexit 2\n").unwrap();
    let done = site.command().output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("[controller] no such field") && said.contains("died 5 times"), "{said}");
}
