//! Files that steps leave, from the container to the folder of whoever asks for them, over kills of the agent and of the controller.

use std::path::Path;
use std::process::Command;

use longshore_tests::dev::Dev;
use longshore_tests::docker::TINY;
use longshore_tests::process::{run, wait_for};
use longshore_tests::{sha256, spec};

const CANARY: &str = "Zq7-artifact-canary-4711";

#[test]
fn what_a_step_and_a_failing_step_left_comes_as_it_was() {
    let dev = Dev::start();
    let make = "mkdir -p $LONGSHORE_ARTIFACTS/out; head -c 3000001 /dev/urandom > $LONGSHORE_ARTIFACTS/out/big; \
        printf '\\000\\377' > \"$LONGSHORE_ARTIFACTS/o d d ä\"; echo \"token $KEY\" > $LONGSHORE_ARTIFACTS/dump; \
        cp $LONGSHORE_ARTIFACTS/out/big /state/big; ls -A $LONGSHORE_WORKSPACE";
    dev.apply(&format!(
        "version: 1\nproject: files\nenvironments: [{{name: dev}}]\nvariables:\n  key: {{secret: true}}\nsteps:\n\
         \x20 - name: make\n    image: {TINY}\n    network: none\n    profile: locked\n    mounts: [state]\n    env: {{KEY: '${{{{ secrets.key }}}}'}}\n    run: |\n      {make}\n\
         \x20 - name: fail\n    image: {TINY}\n    network: none\n    run: echo why > $LONGSHORE_ARTIFACTS/report; exit 3\n"
    ));
    dev.set_secret("files", "key", CANARY);
    let id = dev.deploy("files", &[]);
    let shown = dev.end(&id);
    let log = String::from_utf8_lossy(&dev.raw(&id)).into_owned();
    assert_eq!((&shown["state"], log.as_str()), (&"failed".into(), ""), "{shown:#}");
    assert_eq!(shown["steps"][0]["artifacts"], serde_json::json!({"kept": 2, "left_out": 1}), "{shown:#}");
    let list = dev.json(&["artifact", "list", &id]);
    let left = &list["left_out"][0];
    assert_eq!((&left["path"], &left["reason"], &left["step"]), (&"dump".into(), &"secret".into(), &"make".into()));
    let to = dev.dir().join("to");
    let _downloaded = dev.cli(&["artifact", "download", &id, "--to", to.to_str().unwrap()]).ok();
    let read = |path: &str| std::fs::read(to.join(path)).unwrap();
    let big = std::fs::read(dev.state().join("big")).unwrap();
    assert!(big.len() == 3_000_001 && read("make/out/big") == big);
    assert_eq!((read("make/o d d ä"), read("fail/report")), (b"\0\xff".to_vec(), b"why\n".to_vec()));
    assert!(!to.join("make/dump").exists());
    assert_absent_from(&dev.data());
}

#[test]
fn kill_9_of_agent_and_controller_loses_no_file() {
    let dev = Dev::start();
    let script = "echo first > $LONGSHORE_ARTIFACTS/a; echo ready; while [ ! -e /state/go ]; do usleep 20000; done; \
        head -c 9000000 /dev/urandom > $LONGSHORE_ARTIFACTS/big; sha256sum $LONGSHORE_ARTIFACTS/big | cut -c1-64 > /state/sum; exit 5";
    dev.apply(&spec("killed", script, "", ""));
    let id = dev.deploy("killed", &[]);
    dev.await_log(&id, "ready");
    let old = dev.pid("agent");
    dev.kill9("agent");
    dev.kill9("controller");
    std::fs::write(dev.state().join("go"), "").unwrap();
    // Once more when the files may be on their way.
    wait_for("the end of the program", || {
        std::fs::read_to_string(dev.state().join("sum")).ok().filter(|sum| sum.len() > 64)
    });
    wait_for("a new agent", || (dev.pid("agent") != old).then_some(()));
    dev.kill9("agent");
    let shown = dev.end(&id);
    assert_eq!((&shown["state"], &shown["steps"][0]["exit_code"]), (&"failed".into(), &5.into()), "{shown:#}");
    let to = dev.dir().join("to");
    let _downloaded = dev.cli(&["artifact", "download", &id, "--to", to.to_str().unwrap(), "--step", "one"]).ok();
    let sum = std::fs::read_to_string(dev.state().join("sum")).unwrap();
    assert_eq!(sha256(&std::fs::read(to.join("big")).unwrap()), sum.trim());
    assert_eq!(std::fs::read(to.join("a")).unwrap(), b"first\n");
    assert_eq!(dev.json(&["artifact", "list", &id])["left_out"], serde_json::json!([]));
}

/// No file under `dir` holds the canary.
fn assert_absent_from(dir: &Path) {
    let hits = run(Command::new("grep").args(["-rlaF", "--", CANARY]).arg(dir), b"").text();
    assert_eq!(hits, "", "a secret stands on the disk");
}
