//! What `doctor` finds on a host where everything is there, and where one thing is not.

use std::path::Path;

use longshore_agent::config::{Address, Config, Flags};
use longshore_agent::doctor::{Level, Report, examine};
use longshore_agent::lifecycle::StateDir;
use longshore_agent::tasks::Tasks;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::controller::Controller;
use crate::engine::{self, INFO, VERSION};

struct Host {
    dir: tempfile::TempDir,
    controller: Controller,
    tasks: Tasks,
}

impl Host {
    async fn new() -> Self {
        let host =
            Self { dir: tempfile::tempdir().unwrap(), controller: Controller::start().await, tasks: Tasks::new() };
        std::fs::write(host.dir.path().join("ca.pem"), &host.controller.authority.ca_pem).unwrap();
        host
    }

    fn enroll(&self) {
        let state = StateDir::open(&self.dir.path().join("state")).unwrap();
        self.controller.identity().save(state.path()).unwrap();
    }

    fn engine(&self, info: &'static str, version: &'static str) {
        engine::start(&self.tasks, &self.dir.path().join("docker.sock"), info, version);
    }

    fn config(&self, controller: &Address, more: &str) -> Config {
        let path = self.dir.path().join("agent.toml");
        let at = |name: &str| self.dir.path().join(name);
        let text = format!(
            "controller = \"{controller}\"\nca_file = {:?}\nstate_dir = {:?}\ndocker.socket = {:?}\n{more}",
            at("ca.pem"),
            at("state"),
            at("docker.sock")
        );
        std::fs::write(&path, text).unwrap();
        load(&path)
    }

    async fn examine(&self) -> Report {
        examine(Ok(self.config(&self.controller.address, ""))).await
    }
}

fn load(path: &Path) -> Config {
    Config::load(path, std::iter::empty(), Flags::default()).unwrap()
}

fn level(report: &Report, name: &str) -> Level {
    report.checks.iter().find(|check| check.check == name).unwrap_or_else(|| panic!("no {name}:\n{report}")).result
}

fn found<'a>(report: &'a Report, name: &str) -> &'a str {
    &report.checks.iter().find(|check| check.check == name).unwrap_or_else(|| panic!("no {name}:\n{report}")).found
}

#[tokio::test]
async fn a_host_that_has_everything_is_well() {
    let host = Host::new().await;
    host.enroll();
    host.engine(INFO, VERSION);
    let report = host.examine().await;
    for name in [
        "configuration",
        "state directory",
        "running agent",
        "engine socket",
        "engine version",
        "cgroups",
        "runc",
        "users",
        "other agents",
        "authorities",
        "enrolment",
        "proxy",
        "dns",
        "tcp",
        "tls",
        "controller",
        "clock",
    ] {
        assert_eq!(level(&report, name), Level::Ok, "{name}\n{report}");
    }
    assert!(found(&report, "controller").contains("takes this agent's certificate"), "{report}");
    assert!(found(&report, "running agent").contains("none works"), "{report}");
    let shown = format!("{report}{}", serde_json::to_string(&report).unwrap());
    assert!(!shown.contains("PRIVATE") && !shown.contains("BEGIN"), "{shown}");

    let _running = StateDir::open(&host.dir.path().join("state")).unwrap();
    assert!(found(&host.examine().await, "running agent").contains("an agent works"));
}

#[tokio::test]
async fn the_engines_disk_is_looked_at_where_it_is_another_one_and_seen() {
    for (root, result, words) in [
        ("/nowhere", Level::Warning, "there is no `/nowhere` here"),
        ("/proc", Level::Error, "`/proc` has 0 KiB free"),
        ("", Level::Warning, "does not say where"),
    ] {
        let host = Host::new().await;
        let info = INFO.replace("/nowhere", root);
        host.engine(Box::leak(info.into_boxed_str()), VERSION);
        let report = host.examine().await;
        let said = found(&report, "engine disk");
        assert!(level(&report, "engine disk") == result && said.contains(words), "{report}");
    }
    let host = Host::new().await;
    let info = INFO.replace("/nowhere", host.dir.path().to_str().unwrap());
    host.engine(Box::leak(info.into_boxed_str()), VERSION);
    assert!(found(&host.examine().await, "engine disk").contains("same file system"));
}

#[tokio::test]
async fn an_old_engine_is_an_error_and_its_runc_a_warning() {
    let host = Host::new().await;
    host.engine(
        r#"{"CgroupVersion":"1","MemoryLimit":false,"SecurityOptions":["name=userns"]}"#,
        r#"{"Version":"19.03.1","ApiVersion":"1.40","Components":[{"Name":"runc","Version":"1.0.0-rc10"}]}"#,
    );
    let report = host.examine().await;
    assert_eq!(level(&report, "engine version"), Level::Error, "{report}");
    assert_eq!([level(&report, "runc"), level(&report, "cgroups")], [Level::Warning; 2], "{report}");
    assert!(found(&report, "users").contains("userns-remap"), "{report}");
    // Not enrolled, and the way to the controller is tried all the same.
    assert_eq!([level(&report, "enrolment"), level(&report, "controller")], [Level::Error, Level::Ok], "{report}");
}

#[tokio::test]
async fn an_authority_that_is_another_one_is_said() {
    let host = Host::new().await;
    let other = Controller::start().await;
    let report = examine(Ok(host.config(&other.address, ""))).await;
    assert_eq!([level(&report, "tcp"), level(&report, "tls")], [Level::Ok, Level::Error], "{report}");
    assert!(found(&report, "tls").contains("another authority"), "{report}");
    assert_eq!(level(&report, "clock"), Level::Warning, "{report}");

    // An agent that was enrolled elsewhere: TLS is fine by its own authority, its certificate is not.
    host.enroll();
    std::fs::write(host.dir.path().join("ca.pem"), &other.authority.ca_pem).unwrap();
    let mut identity = host.controller.identity();
    identity.ca_pem.clone_from(&other.authority.ca_pem);
    identity.save(&host.dir.path().join("state")).unwrap();
    let report = examine(Ok(host.config(&other.address, ""))).await;
    assert_eq!([level(&report, "tls"), level(&report, "controller")], [Level::Ok, Level::Error], "{report}");
}

#[tokio::test]
async fn a_port_that_is_closed_or_not_the_controllers_is_told_apart() {
    let host = Host::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
    host.tasks.spawn("no TLS", async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            drop(tcp.read(&mut [0; 64]).await);
            drop(tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
        }
    });
    let report = examine(Ok(host.config(&address, ""))).await;
    assert!(found(&report, "tls").contains("does not speak TLS"), "{report}");

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let address = Address { host: "127.0.0.1".to_owned(), port: closed.port() };
    let report = examine(Ok(host.config(&address, ""))).await;
    assert_eq!([level(&report, "dns"), level(&report, "tcp")], [Level::Ok, Level::Error], "{report}");
    assert!(report.checks.iter().all(|check| check.check != "tls"), "{report}");

    let address = Address { host: "controller.invalid".to_owned(), port: 8441 };
    let report = examine(Ok(host.config(&address, ""))).await;
    assert_eq!(level(&report, "dns"), Level::Error, "{report}");
    assert!(!report.ok);
}
