//! Bad input and bad luck: a clear error that names the cause, a code that is not zero, nothing half done.

use longshore_tests::dev::{Dev, binaries, checkout};
use longshore_tests::docker::docker;
use longshore_tests::process::run;
use longshore_tests::spec;
use serde_json::Value;
use std::process::Command;

#[test]
fn a_bad_spec_names_line_and_field_and_changes_nothing() {
    let dev = Dev::start();
    let path = dev.dir().join("bad.yaml");
    let text = spec("bad", "true", "tiemout: 5m\nenv: {A: \"${{ vars.nope }}\"}", "");
    std::fs::write(&path, &text).unwrap();
    let line_of = |needle: &str| text.lines().position(|line| line.contains(needle)).unwrap() + 1;
    let path = path.to_str().unwrap();
    let done = dev.cli(&["validate", path, "-o", "json"]);
    assert_eq!(done.code, 2);
    let errors: Value = serde_json::from_str(&done.text()).unwrap();
    let found = |word: &str| {
        errors["errors"].as_array().unwrap().iter().find(|e| e.to_string().contains(word)).cloned().unwrap_or_default()
    };
    assert_eq!(found("tiemout")["line"], line_of("tiemout"), "{errors:#}");
    assert!(found("tiemout")["message"].as_str().unwrap().contains("timeout"), "a suggestion: {errors:#}");
    assert_eq!(found("nope")["line"], line_of("nope"), "{errors:#}");
    assert_eq!(dev.cli(&["apply", "-f", path]).code, 2);
    assert_eq!(dev.cli(&["deploy", "bad", "--env", "dev"]).code, 5, "nothing was applied");
}

#[test]
fn a_missing_image_is_a_clear_failure() {
    let dev = Dev::start();
    let shown = dev.run(
        "noimage",
        &spec("noimage", "true", "", "").replace(longshore_tests::docker::TINY, "127.0.0.1:9/not/there:1"),
    );
    assert_eq!(shown["state"], "failed", "{shown:#}");
    assert!(shown["reason"].as_str().unwrap().contains("127.0.0.1:9/not/there:1"), "{shown:#}");
    let done = dev.cli(&["deploy", "noimage", "--env", "dev", "--wait"]);
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!((done.stderr + &String::from_utf8_lossy(&done.stdout)).contains("127.0.0.1:9/not/there:1"));
}

#[test]
fn a_command_that_is_not_there_says_so() {
    let dev = Dev::start();
    let text = spec("nocmd", "x", "", "").replace("    run: |\n      x", "    run: [no-such-tool, --flag]");
    let shown = dev.run("nocmd", &text);
    assert_eq!(shown["state"], "failed", "{shown:#}");
    assert!(shown["reason"].as_str().unwrap().contains("no-such-tool"), "{shown:#}");
}

#[test]
fn a_wrong_token_and_a_dead_server_have_their_own_exit_codes() {
    let dev = Dev::start();
    let refused = run(dev.command(&["agents"]).env("LONGSHORE_TOKEN", "lst_wrong"), b"");
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    assert!(refused.stderr.to_lowercase().contains("token"), "{}", refused.stderr);
    let gone = run(dev.command(&["agents"]).env("LONGSHORE_URL", "http://127.0.0.1:9"), b"");
    assert_eq!(gone.code, 6, "{}", gone.stderr);
    assert!(gone.stderr.contains("127.0.0.1:9"), "{}", gone.stderr);
    assert_eq!(dev.cli(&["deploy"]).code, 2);
    assert_eq!(dev.cli(&["deployment", "show", "dep_nonsense"]).code, 2, "not an id at all");
    let other = format!("dep_{}", "0".repeat(32));
    assert_eq!(dev.cli(&["deployment", "show", &other]).code, 5, "an id of nothing");
}

#[test]
fn a_mount_the_pool_does_not_have_keeps_the_job_waiting_with_its_name() {
    let dev = Dev::start();
    dev.apply(&spec("mount", "true", "", "").replace("mounts: [state]", "mounts: [elsewhere]"));
    let id = dev.deploy("mount", &[]);
    let shown = dev.wait(&id, "waiting", |shown| shown["waiting_for"].is_string());
    assert!(shown["waiting_for"].as_str().unwrap().contains("elsewhere"), "{shown:#}");
}

#[test]
fn a_second_controller_on_the_same_data_refuses_to_start() {
    let dev = Dev::start();
    let config = dev.data().join("controller.toml");
    let refused =
        run(Command::new(binaries().join("longshore-controller")).args(["serve", "--config"]).arg(&config), b"");
    assert_ne!(refused.code, 0);
    assert!((refused.stderr.clone() + &refused.text()).contains("another"), "{}", refused.stderr);
    let refused = run(Command::new(binaries().join("longshore")).args(["dev", "--data"]).arg(dev.data()), b"");
    assert_ne!(refused.code, 0);
    assert_eq!(dev.cli(&["agents"]).code, 0, "the first one goes on");
}

#[test]
fn a_used_join_token_is_refused() {
    let dev = Dev::start();
    let made: Value = serde_json::from_str(&dev.cli(&["join-token", "create", "-o", "json"]).ok().text()).unwrap();
    let token = dev.dir().join("token");
    let config = std::fs::read_to_string(dev.data().join("agent.toml")).unwrap();
    let enroll = |name: &str| {
        std::fs::write(&token, made["token"].as_str().unwrap()).unwrap();
        let own = dev.dir().join(format!("{name}.toml"));
        let state_dir = |line: &str| line.trim_start().starts_with("state_dir");
        let moved = format!("state_dir = {:?}", dev.dir().join(name));
        let lines: Vec<&str> = config.lines().map(|line| if state_dir(line) { moved.as_str() } else { line }).collect();
        std::fs::write(&own, lines.join("\n")).unwrap();
        let mut command = Command::new(binaries().join("longshore-agent"));
        run(command.arg("enroll").arg("--config").arg(&own).arg("--token-file").arg(&token), b"")
    };
    let _first = enroll("one").ok();
    let second = enroll("two");
    assert_ne!(second.code, 0);
    assert!(second.stderr.contains("token"), "{}", second.stderr);
    assert!(
        !dev.dir().join("two/identity/key.pem").exists() && !second.stderr.contains(made["token"].as_str().unwrap())
    );
}

#[test]
fn bad_configuration_names_the_field() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.toml");
    std::fs::write(&path, "no_such_field = 1\n").unwrap();
    for binary in ["longshore-controller", "longshore-agent"] {
        let done = run(Command::new(binaries().join(binary)).args(["check-config", "--config"]).arg(&path), b"");
        assert_eq!(done.code, 64, "{binary}: {}", done.stderr);
        assert!(done.stderr.contains("no_such_field"), "{binary}: {}", done.stderr);
    }
}

#[test]
fn a_full_disk_on_the_agent_is_said_before_anything_is_started() {
    let small = tempfile::tempdir().unwrap();
    let options = Some("size=24m,mode=0755");
    nix::mount::mount(Some("tmpfs"), small.path(), Some("tmpfs"), nix::mount::MsFlags::empty(), options)
        .expect("root may mount a tmpfs");
    let path = small.path().to_path_buf();
    let checked = std::panic::catch_unwind(|| {
        let dev = Dev::start_with(small, &[]);
        dev.apply(&spec("full", "touch /state/started", "", ""));
        let id = dev.deploy("full", &[]);
        let said = |shown: &Value| shown["waiting_for"].as_str().is_some_and(|words| words.contains("its disk has"));
        let shown = dev.wait(&id, "told of the disk", said);
        assert_eq!(shown["state"], "queued", "a job waits for an agent with room: {shown:#}");
        assert!(dev.cli(&["explain", &id]).ok().text().contains("disk"), "{shown:#}");
        let _canceled = dev.cli(&["cancel", &id]).ok();
        assert_eq!(dev.end(&id)["state"], "canceled");
        assert!(!dev.state().join("started").exists());
        assert!(dev.cli(&["locks", "-o", "json"]).ok().text().contains("[]"), "the stack is free");
    });
    let _unmounted = nix::mount::umount2(&path, nix::mount::MntFlags::MNT_DETACH);
    checked.unwrap();
}

#[test]
fn nothing_is_left_behind() {
    let dev = Dev::start();
    let shown = dev.run("left", &spec("left", "echo hi", "", ""));
    let attempt = shown["steps"][0]["attempts"][0]["id"].as_str().unwrap().to_owned();
    longshore_tests::process::wait_for("the container and the volume to go", || {
        let containers = docker(&["ps", "-aq", "--filter", &format!("label=longshore.attempt={attempt}")]).ok().text();
        let volumes =
            docker(&["volume", "ls", "-q", "--filter", &format!("label=longshore.attempt={attempt}")]).ok().text();
        (containers.is_empty() && volumes.is_empty()).then_some(())
    });
    let attempts = dev.data().join("agent/attempts");
    longshore_tests::process::wait_for("the attempt's folder to go", || {
        (dev.cli(&["agents"]).code == 0 && std::fs::read_dir(&attempts).map_or(0, Iterator::count) == 0).then_some(())
    });
    let status = run(
        Command::new("git")
            .args(["status", "--porcelain", "--ignored", "--", "."])
            .current_dir(checkout().join("examples")),
        b"",
    );
    assert_eq!(status.text(), "", "the user's folder is never changed");
}
