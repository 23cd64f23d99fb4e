//! The program itself: what it says, how it ends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn controller() -> Command {
    Command::new(env!("CARGO_BIN_EXE_longshore-controller"))
}

fn write(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("controller.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn config(folder: &Path) -> PathBuf {
    let data = folder.join("data");
    write(
        folder,
        &format!("data_dir = {data:?}\n[api]\nlisten = \"127.0.0.1:0\"\n[agents]\nlisten = \"127.0.0.1:0\"\n"),
    )
}

fn run(command: &str, config: &Path) -> Output {
    controller().arg(command).arg("--config").arg(config).output().unwrap()
}

/// A controller that serves, and its API's address.
struct Serving {
    child: Child,
    address: String,
}

fn serve(config: &Path) -> Serving {
    let mut child = controller().arg("serve").arg("--config").arg(config).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap());
    let mut seen = String::new();
    let mut lines = lines.lines();
    let address = loop {
        let line = lines.next().unwrap_or_else(|| panic!("it ended: {seen}")).unwrap();
        if let Some((_, rest)) = line.split_once("serving api=") {
            break rest.split(' ').next().unwrap().to_owned();
        }
        seen.push_str(&line);
    };
    // Read on, so that it never waits for us.
    std::thread::spawn(move || lines.for_each(drop));
    Serving { child, address }
}

impl Serving {
    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn end(mut self, signal: Signal) -> Option<i32> {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
        self.child.wait().unwrap().code()
    }
}

#[test]
fn a_bad_configuration_is_exit_code_64_and_names_line_and_field() {
    let folder = tempfile::tempdir().unwrap();
    let bad = write(folder.path(), "data_dir = \"/d\"\n[api]\nlisen = \"127.0.0.1:1\"\n");
    for command in ["serve", "check-config"] {
        let done = run(command, &bad);
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(64), "{said}");
        assert!(said.contains("controller.toml") && said.contains("line 3") && said.contains("lisen"), "{said}");
    }
    let done = run("serve", &folder.path().join("missing.toml"));
    assert_eq!(done.status.code(), Some(64));
    assert_eq!(controller().arg("sevre").output().unwrap().status.code(), Some(64));
    let good = config(folder.path());
    assert_eq!(run("check-config", &good).status.code(), Some(0));
    assert!(!folder.path().join("data").exists(), "a check makes nothing");
}

#[test]
fn it_serves_refuses_a_second_one_and_stops_when_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let first = serve(&config);
    assert!(first.get("/readyz").contains("{\"ready\":true,\"problems\":[]}"));
    let data = folder.path().join("data");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for private in ["kek", "ca.key", "admin.token"] {
        assert_eq!(mode(&data.join(private)), 0o600, "{private}");
    }
    let second = run("serve", &config);
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(said.contains("another controller"), "{said}");
    assert!(first.get("/readyz").starts_with("HTTP/1.1 200"), "the first one goes on");
    let token = std::fs::read(data.join("admin.token")).unwrap();
    assert_eq!(first.end(Signal::SIGTERM), Some(0));

    let again = serve(&config);
    assert_eq!(std::fs::read(data.join("admin.token")).unwrap(), token, "made once");
    assert_eq!(again.end(Signal::SIGINT), Some(0));
}

#[test]
fn keys_that_do_not_belong_to_the_data_stop_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let first = serve(&config);
    assert_eq!(first.end(Signal::SIGKILL), None);
    let kek = folder.path().join("data/kek");
    let good = std::fs::read(&kek).unwrap();
    std::fs::write(&kek, format!("{}\n", "0".repeat(64))).unwrap();
    let said = String::from_utf8(run("serve", &config).stderr).unwrap();
    assert!(said.contains("kek") && said.contains("restore"), "{said}");
    std::fs::write(&kek, good).unwrap();
    assert_eq!(serve(&config).end(Signal::SIGTERM), Some(0));
}

#[test]
fn a_taken_port_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (data, address) = (folder.path().join("data"), taken.local_addr().unwrap());
    let config = write(
        folder.path(),
        &format!("data_dir = {data:?}\n[api]\nlisten = \"{address}\"\n[agents]\nlisten = \"127.0.0.1:0\"\n"),
    );
    let done = run("serve", &config);
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(said.contains(&address.to_string()) && said.contains("api.listen"), "{said}");
}
