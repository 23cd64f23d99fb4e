//! The program as a service manager sees it: arguments, exit codes, messages.

#![expect(clippy::unwrap_used, reason = "helpers of tests are outside test functions")]

use std::path::Path;
use std::process::{Command, Output};

use longshore_agent::lifecycle::StateDir;

fn agent(arguments: &[&str], config: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longshore-agent"));
    let Output { status, stdout, stderr } = command.args(arguments).arg("--config").arg(config).output().unwrap();
    (status.code(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

fn config(dir: &Path, more: &str) -> std::path::PathBuf {
    let path = dir.join("agent.toml");
    let text = format!(
        "controller = \"https://127.0.0.1:1\"\nca_file = \"/none.pem\"\nstate_dir = {:?}\n{more}",
        dir.join("state")
    );
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_bad_configuration_is_64_and_names_field_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let (code, said) = agent(&["check-config"], &config(dir.path(), "slotz = 1\n"));
    assert!(code == Some(64) && said.contains("slotz") && said.contains("line 4"), "{said}");
    let (code, said) = agent(&["run"], &dir.path().join("absent.toml"));
    assert!(code == Some(64) && said.contains("absent.toml"), "{said}");
    assert_eq!(agent(&["fly"], dir.path()).0, Some(64));
    assert!(!dir.path().join("state").exists(), "something was made before the configuration was known to be good");
}

#[test]
fn a_good_configuration_is_checked_without_a_trace() {
    let dir = tempfile::tempdir().unwrap();
    let (code, said) = agent(&["check-config", "--slots", "3"], &config(dir.path(), ""));
    assert!(code == Some(0) && said.contains("3 slots"), "{said}");
    assert!(!dir.path().join("state").exists());
}

#[test]
fn an_agent_that_is_not_enrolled_says_how_to_enroll() {
    let dir = tempfile::tempdir().unwrap();
    let (code, said) = agent(&["run"], &config(dir.path(), ""));
    assert!(code == Some(77) && said.contains("enroll"), "{code:?} {said}");
}

#[test]
fn a_second_agent_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = StateDir::open(&dir.path().join("state")).unwrap();
    let (code, said) = agent(&["run"], &config(dir.path(), ""));
    assert!(code == Some(1) && said.contains("another agent is running"), "{code:?} {said}");
}

#[test]
fn a_token_or_authority_that_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), "");
    let (code, said) = agent(&["enroll", "--token-file", "/no/token"], &config);
    assert!(code == Some(1) && said.contains("/no/token"), "{said}");
    let token = dir.path().join("token");
    std::fs::write(&token, "secret-token\n").unwrap();
    let (code, said) = agent(&["enroll", "--token-file", token.to_str().unwrap()], &config);
    assert!(code == Some(1) && said.contains("/none.pem") && !said.contains("secret-token"), "{said}");
}

#[test]
fn doctor_works_before_anything_is_there_and_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = dir.path().join("proxy-credentials");
    std::fs::write(&secrets, "alice:hunter2").unwrap();
    let more = format!(
        "proxy = \"http://127.0.0.1:1\"\nproxy_credentials_file = {secrets:?}\ndocker.socket = {:?}\n",
        dir.path().join("none.sock")
    );
    let config = config(dir.path(), &more);
    let (code, said) = agent(&["doctor", "-o", "json"], &config);
    assert_eq!(code, Some(1), "{said}");
    assert!(!said.contains("hunter2") && !dir.path().join("state").exists(), "{said}");
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["ok"], false);
    let result = |name: &str| {
        let checks = report["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("no {name}: {said}"));
        assert!(check["result"] == "ok" || check["what_to_do"].is_string(), "{check}");
        check["result"].as_str().unwrap().to_owned()
    };
    for (name, expected) in [
        ("configuration", "ok"),
        ("state directory", "ok"),
        ("engine socket", "error"),
        ("authorities", "error"),
        ("enrolment", "error"),
        ("proxy", "ok"),
        ("clock", "warning"),
    ] {
        assert_eq!(result(name), expected, "{name}: {said}");
    }
    let (code, said) = agent(&["doctor"], &dir.path().join("absent.toml"));
    assert!(code == Some(1) && said.contains("absent.toml") && said.contains("->"), "{said}");
}

#[test]
fn status_tells_whether_an_agent_runs() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), "");
    let (code, said) = agent(&["status"], &config);
    assert!(
        code == Some(1) && said.contains("not enrolled: not running") && said.contains("nothing is left"),
        "{said}"
    );
    assert!(!dir.path().join("state").exists());
    let _running = StateDir::open(&dir.path().join("state")).unwrap();
    let (code, said) = agent(&["status", "-o", "json"], &config);
    let status: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(code == Some(0) && status["running"] == true && status["live"].is_null(), "{said}");
    assert!(status["unknown"][0].as_str().unwrap().contains("starting"), "{said}");
}
