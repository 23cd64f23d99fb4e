//! A secret reaches the running container and nothing else.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_tests::dev::Dev;
use longshore_tests::docker::docker;
use longshore_tests::process::run;
use longshore_tests::{sha256, spec};

const SECRET_TOP: &str = "variables:\n  token: {secret: true}\n";
const SECRET_ENV: &str = "env: {TOKEN: \"${{ secrets.token }}\"}";

/// Everything a canary may look like in a log or a file.
fn forms(canary: &str) -> Vec<String> {
    let url: String = canary
        .bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect();
    let hex: String = canary.bytes().map(|b| format!("{b:02x}")).collect();
    let json = serde_json::to_string(canary).unwrap();
    vec![canary.to_owned(), STANDARD.encode(canary), url, hex, json.trim_matches('"').to_owned()]
}

/// No file under `dir` holds any of the forms.
fn assert_absent_from(dir: &Path, forms: &[String]) {
    for form in forms {
        let hits = run(Command::new("grep").args(["-rlaF", "--", form]).arg(dir), b"").text();
        assert_eq!(hits, "", "a form of the secret stands on the disk");
    }
}

#[test]
fn it_is_masked_in_every_form_and_stands_nowhere() {
    let dev = Dev::start();
    let canary = format!("Zq7 canary/{}\"&'x", &sha256(dev.dir().to_str().unwrap().as_bytes())[..18]);
    let script = r#"
printf %s "$TOKEN" | sha256sum | cut -c1-64 > /state/seen
echo "raw $TOKEN"
echo "err $TOKEN" >&2
printf %s "$TOKEN" | base64
printf 'a%s' "$TOKEN" | base64
printf 'ab%s' "$TOKEN" | base64
printf %s "$TOKEN" | od -An -v -tx1 | tr -d ' \n'; echo
printf '{"t":"%s"}\n' "$(printf %s "$TOKEN" | sed 's/"/\\"/g')"
t=$TOKEN; while [ -n "$t" ]; do printf %s "${t%"${t#?}"}"; t=${t#?}; usleep 2000; done; echo
echo done; while [ ! -e /state/go ]; do usleep 20000; done"#;
    dev.apply(&spec("secret", script, SECRET_ENV, SECRET_TOP));
    dev.set_secret("secret", "token", &canary);
    let id = dev.deploy("secret", &[]);
    let container = dev.container(&id);
    dev.await_log(&id, "done");
    let forms = forms(&canary);

    let inspect = docker(&["inspect", &container]).ok().text();
    let processes = run(Command::new("ps").args(["axww", "-o", "args"]), b"").ok().text();
    let environ: String = ["agent", "controller"]
        .iter()
        .map(|who| {
            String::from_utf8_lossy(&std::fs::read(format!("/proc/{}/environ", dev.pid(who))).unwrap()).into_owned()
        })
        .collect();
    for form in &forms {
        assert!(!inspect.contains(form), "in `docker inspect`");
        assert!(!processes.contains(form), "in the process list");
        assert!(!environ.contains(form), "in the environment of agent or controller");
    }
    assert_absent_from(dev.dir(), &forms);

    std::fs::write(dev.state().join("go"), "").unwrap();
    let shown = dev.end(&id);
    assert_eq!(shown["state"], "succeeded", "{shown:#}");
    assert_eq!(
        std::fs::read_to_string(dev.state().join("seen")).unwrap().trim(),
        sha256(canary.as_bytes()),
        "the job got another value"
    );
    let log = String::from_utf8_lossy(&dev.raw(&id)).into_owned();
    for form in &forms {
        assert!(!log.contains(form), "in the log");
    }
    assert!(log.contains("raw [secret]") && log.contains("err [secret]"), "{log}");
    assert!(!shown.to_string().contains(&canary));
    assert_absent_from(dev.dir(), &forms);
}

#[test]
fn every_line_of_a_secret_of_several_lines_is_masked() {
    let dev = Dev::start();
    dev.apply(&spec("lines", "echo \"$TOKEN\" | sed 's/^/> /'; echo \"$TOKEN\" | base64", SECRET_ENV, SECRET_TOP));
    let key = "-----BEGIN KEY-----\nMHcCAQEEIJ4canaryone7hbK\nqL9tcanarytwoQ2mVtR4xAw\n-----END KEY-----\n";
    dev.set_secret("lines", "token", key);
    let id = dev.deploy("lines", &[]);
    assert_eq!(dev.end(&id)["state"], "succeeded");
    let log = String::from_utf8_lossy(&dev.raw(&id)).into_owned();
    assert!(!log.contains("canaryone") && !log.contains("canarytwo") && log.contains("[secret]"), "{log}");
    for line in STANDARD.encode(key).as_bytes().chunks(76) {
        assert!(!log.contains(std::str::from_utf8(line).unwrap()), "{log}");
    }
}

#[test]
fn a_secret_without_a_value_is_refused_and_says_what_to_type() {
    let dev = Dev::start();
    dev.apply(&spec("unset", "true", SECRET_ENV, SECRET_TOP));
    let refused = dev.cli(&["deploy", "unset", "--env", "dev"]);
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    assert!(refused.stderr.contains("token") && refused.stderr.contains("variable set"), "{}", refused.stderr);
}

#[test]
fn the_job_as_root_cannot_reach_pid_1_nor_its_log() {
    let dev = Dev::start();
    let script = r#"
id -u
for f in environ mem maps root/etc cwd/etc; do if cat /proc/1/$f >/dev/null 2>&1; then echo "open $f"; fi; done
for n in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do if cat /proc/1/fd/$n >/dev/null 2>&1 </dev/null; then echo "open fd $n"; fi; done
for n in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do if readlink /proc/1/fd/$n >/dev/null 2>&1; then echo "open link $n"; fi; done
for n in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do if echo forged 2>/dev/null > /proc/1/fd/$n; then echo "wrote $n"; fi; done
ls -la /.longshore; touch /.longshore/x 2>/dev/null && echo "mount is writable"
echo over"#;
    dev.apply(&spec("reach", script, SECRET_ENV, SECRET_TOP));
    dev.set_secret("reach", "token", "some-secret-value");
    let id = dev.deploy("reach", &[]);
    let shown = dev.end(&id);
    let log = String::from_utf8_lossy(&dev.raw(&id)).into_owned();
    assert_eq!(shown["state"], "succeeded", "{shown:#}\n{log}");
    assert!(log.starts_with("0\n"), "it is root: {log}");
    for bad in ["open ", "wrote ", "writable", "forged"] {
        assert!(!log.contains(bad), "{log}");
    }
    assert!(log.contains("over"), "{log}");
}
