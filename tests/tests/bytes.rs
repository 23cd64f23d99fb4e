//! Logs are bytes: what a job writes is what is stored, whatever it is, and the agent stays small.

use longshore_tests::dev::Dev;
use longshore_tests::{sha256, spec};

/// Checks that the stored log is the file the job wrote beside it.
fn same_as_file(dev: &Dev, shown: &serde_json::Value, file: &str) {
    let want = std::fs::read(dev.state().join(file)).unwrap();
    let got = dev.raw(shown["id"].as_str().unwrap());
    assert_eq!((got.len(), sha256(&got)), (want.len(), sha256(&want)));
    let log = &shown["steps"][0]["log"];
    assert_eq!(
        (&log["bytes"], &log["sha256"], &log["truncated"]),
        (&want.len().into(), &sha256(&want).into(), &false.into())
    );
}

#[test]
fn nul_invalid_utf8_and_a_line_of_200_mb_arrive_as_they_are() {
    let dev = Dev::start();
    let script = "{ printf 'a\\000b\\377\\376\\n\\r\\033[31m'; head -c 209715200 /dev/zero | tr '\\000' 'x'; printf '\\nend without newline'; } | tee /state/bytes";
    let shown = dev.run("line", &spec("line", script, "", ""));
    assert_eq!(shown["state"], "succeeded", "{shown:#}");
    same_as_file(&dev, &shown, "bytes");
}

#[test]
fn a_gigabyte_arrives_and_the_agent_stays_under_64_mib() {
    let dev = Dev::start();
    let shown =
        dev.run("giga", &spec("giga", "head -c 1073741824 /dev/urandom | tee /state/bytes", "timeout: 10m", ""));
    assert_eq!(shown["state"], "succeeded", "{shown:#}");
    same_as_file(&dev, &shown, "bytes");
    let status = std::fs::read_to_string(format!("/proc/{}/status", dev.pid("agent"))).unwrap();
    let peak: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    assert!(peak < 64 * 1024, "the agent grew to {peak} KiB");
}

#[test]
fn stdout_and_stderr_are_told_apart_and_stay_in_order() {
    let dev = Dev::start();
    let shown = dev
        .run("streams", &spec("streams", "echo one; usleep 100000; echo two >&2; usleep 100000; echo three", "", ""));
    let id = shown["id"].as_str().unwrap();
    assert_eq!(dev.raw(id), b"one\ntwo\nthree\n");
    let lines: Vec<serde_json::Value> = dev
        .cli(&["logs", id, "-o", "json"])
        .ok()
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let seen: Vec<_> = lines
        .iter()
        .map(|line| (line["stream"].as_str().unwrap(), line["text"].as_str().unwrap().trim_end()))
        .collect();
    assert_eq!(seen, [("stdout", "one"), ("stderr", "two"), ("stdout", "three")]);
    assert!(lines.iter().all(|line| line["step"] == "one"
        && line["attempt"].as_str().unwrap().starts_with("att_")
        && line["at"].is_string()));
}

#[test]
fn following_shows_everything_once_through_a_restart_of_the_controller() {
    let dev = Dev::start();
    dev.apply(&spec("follow", "i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo line $i; usleep 40000; done", "", ""));
    let id = dev.deploy("follow", &[]);
    let follower = dev.command(&["logs", &id, "--raw", "-f"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    dev.await_log(&id, "line 10\n");
    dev.kill9("controller");
    let seen = follower.wait_with_output().unwrap();
    let want: String = (1..=60).map(|n| format!("line {n}\n")).collect();
    assert_eq!(String::from_utf8_lossy(&seen.stdout), want);
    assert!(seen.status.success());
}
