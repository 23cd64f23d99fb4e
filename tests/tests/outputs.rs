//! Outputs that a script writes, on their way to later steps.

use std::path::Path;
use std::process::Command;

use longshore_tests::dev::Dev;
use longshore_tests::docker::TINY;
use longshore_tests::process::run;
use longshore_tests::{sha256, spec};

const CANARY: &str = "Zq7-output/canary&4711";

/// No file under `dir` holds it.
fn assert_absent_from(dir: &Path) {
    let hits = run(Command::new("grep").args(["-rlaF", "--", CANARY]).arg(dir), b"").text();
    assert_eq!(hits, "", "a secret output stands on the disk");
}

#[test]
fn they_reach_later_steps_and_secret_ones_no_disk() {
    let dev = Dev::start();
    let make = format!(
        "echo url=http://x.test/a >> $LONGSHORE_OUTPUT\n\
         echo '{{\"name\":\"pw\",\"value\":\"{}\",\"secret\":true}}' | sed s/@/Zq7/ >> $LONGSHORE_OUTPUT\n\
         sed -n 's/.*value\":\"\\([^\"]*\\).*/dsn=db:\\/\\/u:\\1@h/p' $LONGSHORE_OUTPUT >> $LONGSHORE_OUTPUT\n",
        CANARY.replace("Zq7", "@")
    );
    let make: String = make.lines().map(|line| format!("      {line}\n")).collect();
    dev.apply(&format!(
        "version: 1\nproject: outs\nenvironments: [{{name: dev}}]\nsteps:\n\
         \x20 - name: make\n    image: {TINY}\n    network: none\n    profile: locked\n    run: |\n{make}\
         \x20 - name: use\n    image: {TINY}\n    network: none\n    mounts: [state]\n    run: |\n\
         \x20     echo got $URL; echo $PW; echo $DSN; printf %s $PW | base64; printf %s $PW | sha256sum | cut -c1-64 > /state/seen\n\
         \x20   env:\n      URL: ${{{{ steps.make.outputs.url }}}}\n      PW: ${{{{ steps.make.outputs.pw }}}}\n      DSN: ${{{{ steps.make.outputs.dsn }}}}\n"
    ));
    let id = dev.deploy("outs", &[]);
    let shown = dev.end(&id);
    let log = String::from_utf8_lossy(&dev.raw(&id)).into_owned();
    assert_eq!(shown["state"], "succeeded", "{shown:#}\n{log}");
    let outputs = &shown["steps"][0]["outputs"];
    assert_eq!(outputs, &serde_json::json!({"url": "http://x.test/a", "pw": "[secret]", "dsn": "[secret]"}));
    assert!(log.starts_with("got http://x.test/a\n[secret]\n[secret]\n[secret]"), "{log}");
    assert_eq!(std::fs::read_to_string(dev.state().join("seen")).unwrap().trim(), sha256(CANARY.as_bytes()));
    assert_absent_from(&dev.data());
}

#[test]
fn a_malformed_line_is_the_reason_of_a_step_that_went_well() {
    let dev = Dev::start();
    let shown = dev.run("bad", &spec("bad", "echo a=1 >> $LONGSHORE_OUTPUT; echo canary >> $LONGSHORE_OUTPUT", "", ""));
    let step = &shown["steps"][0];
    assert_eq!((&step["state"], &step["exit_code"], &step["outputs"]["a"]), (&"failed".into(), &0.into(), &"1".into()));
    let reason = shown["reason"].as_str().unwrap();
    assert!(reason.contains("line 2 of the file `$LONGSHORE_OUTPUT`") && !reason.contains("canary"), "{reason}");
}
