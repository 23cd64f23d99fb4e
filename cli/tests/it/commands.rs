//! The commands as a process, against a fake server: what they send, print and end with.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Output, Stdio};

use crate::fake::{Fake, Reply, Seen, command, stream};
use serde_json::{Value, json};

const DEP: &str = "dep_0193a0c5c4007aaaaaaaaaaaaaaaaaaa";
const SPEC: &str = "version: 1\nproject: shop\nenvironments:\n  - name: dev\nsteps:\n  - name: one\n    image: longshore/tiny:1\n    run: echo hello\n";

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn deployment(state: &str) -> String {
    json!({"id": DEP, "project": "shop", "environment": "dev", "state": state, "reason": null, "waiting_for": null, "created_at": "2026-11-21T10:00:00.000Z", "ended_at": null,
        "steps": [{"name": "one", "state": state, "exit_code": null, "attempts": []}]})
    .to_string()
}

fn log(text: &str) -> String {
    json!({"step": "one", "attempt": "att_1", "stream": "stdout", "at": "2026-11-21T10:00:00.000Z", "text": text})
        .to_string()
}

fn no_project() -> Reply {
    Reply::problem(404, "not_found", "there is no project `shop`", "make it")
}

fn accepted() -> Reply {
    Reply::json(202, &json!({ "deployment": DEP }).to_string())
}

#[test]
fn a_deployment_that_is_asked_for_twice_is_one() {
    let fake = Fake::start([Reply::Close, Reply::With { status: 503, header: "retry-after: 0", body: "" }, accepted()]);
    let done = fake.run(&["deploy", "shop", "--env", "dev", "-o", "json"]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_eq!(serde_json::from_str::<Value>(&stdout(&done)).unwrap(), json!({ "deployment": DEP }));
    let bodies: Vec<Value> = fake.seen().iter().map(Seen::json).collect();
    assert_eq!(bodies.len(), 3);
    assert!(
        bodies.iter().all(|body| body == &bodies[0] && body["operation_id"].as_str().is_some_and(|id| id.len() == 36)),
        "{bodies:?}"
    );
    assert_eq!(fake.seen()[0].header("authorization"), Some("Bearer t0ken"));
}

#[test]
fn what_may_not_be_repeated_is_not() {
    let fake = Fake::start([Reply::Close, Reply::json(200, "{}")]);
    let done = fake.run(&["deployment", "resolve", DEP, "--reason", "the host is gone"]);
    assert_eq!(done.status.code(), Some(6), "{}", stderr(&done));
    assert_eq!(fake.lines(), [format!("POST deployments/{DEP}/resolve")]);
}

#[test]
fn the_log_has_no_hole_and_no_duplicate_when_the_server_restarts() {
    let (one, two, three) = (log("first "), log("line\n"), log("third\n"));
    let running = deployment("running");
    let before = stream(&[("state", "", &running), ("log", "one:6", &one), ("log", "one:11", &two)]);
    // The second answer begins with what was sent before, as after a restart that lost a little.
    let after = Reply::events(&[("log", "one:11", &two), ("log", "one:17", &three), ("end", "", "{}")]);
    let stumble = Reply::problem(500, "internal", "the controller failed", "try again");
    let fake = Fake::start([
        accepted(),
        Reply::Cut(before),
        Reply::Close,
        stumble,
        after,
        Reply::json(200, &deployment("succeeded")),
    ]);
    let done = fake.run(&["deploy", "shop", "--env", "dev", "--wait"]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_eq!(stdout(&done), "first line\nthird\n");
    assert!(stderr(&done).contains("the server is back"), "{}", stderr(&done));
    let cursors: Vec<_> = fake.seen().iter().map(|seen| seen.header("last-event-id").map(str::to_owned)).collect();
    let behind = || Some("one:11".to_owned());
    assert_eq!(cursors, [None, None, behind(), behind(), behind(), None]);
}

#[test]
fn the_exit_code_says_how_it_ended() {
    for (state, code) in [("succeeded", 0), ("failed", 1), ("canceled", 3), ("lost", 4), ("unknown", 4)] {
        let piece = log("x\n");
        let fake = Fake::start([
            accepted(),
            Reply::events(&[("log", "one:2", &piece), ("end", "", "{}")]),
            Reply::json(200, &deployment(state)),
        ]);
        let done = fake.run(&["deploy", "shop", "--env", "dev", "--wait", "-o", "json"]);
        assert_eq!(done.status.code(), Some(code), "{state}");
        assert_eq!(
            serde_json::from_str::<Value>(&stdout(&done)).unwrap()["state"],
            state,
            "stdout has the object and nothing else"
        );
        assert!(stderr(&done).contains("x\n"), "the log goes to stderr");
    }
}

#[test]
fn an_outcome_that_stays_unknown_is_not_waited_for_for_ever() {
    let unknown = deployment("unknown");
    let fake = Fake::start([accepted(), Reply::Hold(stream(&[("state", "", &unknown)])), Reply::json(200, &unknown)]);
    let done = fake.run(&["deploy", "shop", "--env", "dev", "--wait", "--unknown-after", "1ms"]);
    assert_eq!(done.status.code(), Some(4), "{}", stderr(&done));
    assert!(stderr(&done).contains(&format!("longshore deployment resolve {DEP}")), "{}", stderr(&done));
}

#[test]
fn a_package_is_pushed_once_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("main.tf"), "x").unwrap();
    let path = folder.path().to_str().unwrap();
    let missing = Reply::With { status: 404, header: "x: y", body: "" };
    let fake = Fake::start([missing, Reply::json(201, "{}"), Reply::json(200, ""), Reply::json(200, "[]")]);
    let done = fake.run(&["package", "push", path, "-o", "json"]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let pushed: Value = serde_json::from_str(&stdout(&done)).unwrap();
    let sha256 = pushed["sha256"].as_str().unwrap();
    assert_eq!((sha256.len(), pushed["entries"].as_u64()), (64, Some(1)));
    assert_eq!(pushed["bytes"].as_u64(), Some(fake.seen()[1].body.len() as u64));
    let again = fake.run(&["package", "push", path]);
    assert_eq!(stdout(&again), format!("{sha256}\n"));
    assert!(stderr(&again).contains("is on the server already"), "{}", stderr(&again));
    let listed = fake.run(&["package", "list", "--limit", "5"]);
    assert_eq!((listed.status.code(), stdout(&listed).as_str()), (Some(0), ""));
    let (head, put) = (format!("HEAD packages/{sha256}"), format!("PUT packages/{sha256}"));
    assert_eq!(fake.lines(), [head.as_str(), put.as_str(), head.as_str(), "GET packages?limit=5"]);
}

#[test]
fn a_hostile_archive_is_refused_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("up.tar");
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..12].copy_from_slice(b"../../escape");
    header.set_size(0);
    header.set_cksum();
    archive.append(&header, std::io::empty()).unwrap();
    std::fs::write(&path, archive.into_inner().unwrap()).unwrap();
    let fake = Fake::start([]);
    for args in [&["deploy", "shop", "--env", "dev", "--package"][..], &["package", "push"]] {
        let done = fake.run(&[args, &[path.to_str().unwrap()]].concat());
        assert_eq!(done.status.code(), Some(2), "{}", stderr(&done));
        assert!(stderr(&done).contains("`../../escape`"), "{}", stderr(&done));
    }
    assert_eq!(fake.lines(), Vec::<String>::new());
}

#[test]
fn refusals_are_told_with_their_reason_and_advice() {
    for (status, code) in [(400, 2), (401, 5), (403, 5), (404, 5), (409, 5), (422, 5), (500, 1)] {
        let fake =
            Fake::start([Reply::problem(status, "some_code", "environment `dev` is frozen", "wait until Monday")]);
        let done = fake.run(&["deploy", "shop", "--env", "dev"]);
        assert_eq!(done.status.code(), Some(code), "{status}");
        assert_eq!(
            stderr(&done),
            "error: environment `dev` is frozen\nunchanged: nothing was deployed\n     next: wait until Monday\n"
        );
        assert_eq!(stdout(&done), "");
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let fake = Fake::start([Reply::With { status: 302, header: "location: http://elsewhere.example/", body: "" }]);
    let done = fake.run(&["agents"]);
    assert_eq!(done.status.code(), Some(6));
    assert!(stderr(&done).contains("http://elsewhere.example/"), "{}", stderr(&done));
}

#[test]
fn a_bad_spec_is_refused_here_and_nothing_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.yaml");
    std::fs::write(&path, SPEC.replace("run:", "runn:")).unwrap();
    let fake = Fake::start([]);
    let path = path.to_str().unwrap();
    for args in [&["apply", "-f", path][..], &["validate", path], &["validate", path, "-o", "json"]] {
        let done = fake.run(args);
        assert_eq!(done.status.code(), Some(2), "{args:?}");
        let said = stdout(&done) + &stderr(&done);
        assert!(said.contains("runn"), "{said}");
    }
    let done = fake.run(&["validate", path, "-o", "json"]);
    let verdict: Value = serde_json::from_str(&stdout(&done)).unwrap();
    assert_eq!((verdict["ok"].as_bool(), verdict["errors"][0]["line"].is_number()), (Some(false), true), "{verdict}");
    assert!(fake.seen().is_empty());
}

#[test]
fn a_good_spec_is_sent_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("longshore.yaml");
    std::fs::write(&path, SPEC).unwrap();
    let fake = Fake::start([no_project(), Reply::json(200, r#"{"project":"shop","revision":3,"changed":true}"#)]);
    let done = fake.run(&["apply", "-f", path.to_str().unwrap(), "-o", "json"]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_eq!(
        serde_json::from_str::<Value>(&stdout(&done)).unwrap(),
        json!({"project": "shop", "revision": 3, "changed": true})
    );
    let seen = &fake.seen()[1];
    assert_eq!(
        (seen.line.as_str(), seen.header("content-type"), seen.body.as_slice()),
        ("PUT /api/v1/projects/shop", Some("application/yaml"), SPEC.as_bytes())
    );

    let fake = Fake::start([no_project(), Reply::problem(422, "bad_spec", "pool `x` does not exist", "create it")]);
    assert_eq!(
        fake.run(&["apply", "-f", path.to_str().unwrap()]).status.code(),
        Some(2),
        "what the server finds bad is a bad spec too"
    );
}

#[test]
fn a_value_is_sent_byte_for_byte() {
    for (typed, more, sent, warned) in [
        ("a b", &[][..], "a b", false),
        ("é\n", &[], "é\n", true),
        ("é\r\n", &["--trim"], "é", false),
        ("", &["--env", "dev"], "", false),
    ] {
        let fake = Fake::start([Reply::json(200, r#"{"name":"token","secret":true}"#)]);
        let mut args = vec!["variable", "set", "shop", "token", "--secret", "-o", "json"];
        args.extend(more);
        let mut child =
            fake.command(&args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        assert_eq!(stdout(&done), "{\"name\":\"token\",\"secret\":true}\n");
        assert_eq!(stderr(&done).contains("--trim"), warned, "{typed:?}");
        let body = fake.seen()[0].json();
        assert_eq!((body["value"].as_str(), body["secret"].as_bool()), (Some(sent), Some(true)));
        assert_eq!(body.get("environment").is_some(), more.contains(&"--env"));
    }
}

#[test]
fn a_folder_is_uploaded_once_and_named_by_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("main.sh"), "echo hello\n").unwrap();
    let args = ["deploy", "shop", "--env", "dev", "--package", folder.path().to_str().unwrap(), "-o", "json"];
    let missing = || Reply::json(404, "");
    let fake = Fake::start([missing(), Reply::Close, missing(), Reply::json(201, "{}"), accepted()]);
    let done = fake.run(&args);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let (seen, lines) = (fake.seen(), fake.lines());
    let digest = seen[4].json()["package"].as_str().unwrap().to_owned();
    assert_eq!(
        lines,
        [
            format!("HEAD packages/{digest}"),
            format!("PUT packages/{digest}"),
            format!("HEAD packages/{digest}"),
            format!("PUT packages/{digest}"),
            "POST deployments".to_owned()
        ]
    );
    assert_eq!(seen[1].body, seen[3].body, "a second try starts at the first byte, of which nothing was kept");
    let names: Vec<_> = tar::Archive::new(zstd::Decoder::new(&seen[3].body[..]).unwrap())
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().into_owned())
        .collect();
    assert_eq!(names, [std::path::Path::new("main.sh")]);

    let fake = Fake::start([Reply::json(200, ""), accepted()]);
    assert_eq!(fake.run(&args).status.code(), Some(0));
    assert_eq!(fake.lines(), [format!("HEAD packages/{digest}"), "POST deployments".to_owned()]);
}

#[test]
fn nothing_is_sent_for_a_folder_that_is_not_there() {
    let fake = Fake::start([]);
    let done = fake.run(&["deploy", "shop", "--env", "dev", "--package", "no-such-folder"]);
    assert_eq!(done.status.code(), Some(2));
    assert!(
        stderr(&done).contains("no-such-folder") && stderr(&done).contains("nothing was deployed"),
        "{}",
        stderr(&done)
    );
    assert!(fake.seen().is_empty());
}

#[test]
fn a_raw_log_is_exact_also_when_the_connection_broke() {
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let fake =
        Fake::start([Reply::Cut(bytes[..70_001].to_vec()), Reply::Cut(bytes[..10].to_vec()), Reply::bytes(&bytes)]);
    let done = fake.run(&["logs", DEP, "--raw", "--step", "one"]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert!(done.stdout == bytes, "{} bytes", done.stdout.len());
    assert_eq!(fake.lines()[0], format!("GET deployments/{DEP}/log?format=raw&step=one"));
}

#[test]
fn a_followed_raw_log_is_exact() {
    let exact = json!({"step": "one", "text": "a\u{fffd}", "bytes": "Yf8A"}).to_string();
    let fake = Fake::start([Reply::events(&[("log", "one:3", &exact), ("end", "", "{}")])]);
    let done = fake.run(&["logs", DEP, "--raw", "-f"]);
    assert_eq!((done.status.code(), &done.stdout[..]), (Some(0), &b"a\xff\0"[..]), "{}", stderr(&done));
}

#[test]
fn a_log_for_scripts_is_one_object_a_line() {
    let text = format!("{}\n{}\n", log("a"), log("b\n"));
    let fake = Fake::start([Reply::bytes(text.as_bytes())]);
    let done = fake.run(&["logs", DEP, "-o", "json"]);
    let steps: Vec<Value> = stdout(&done).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(steps.iter().map(|line| line["text"].as_str().unwrap()).collect::<Vec<_>>(), ["a", "b\n"]);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let fake = Fake::start([Reply::bytes(&vec![b'x'; 10 << 20])]);
    let mut child =
        fake.command(&["logs", DEP, "--raw"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let done = child.wait_with_output().unwrap();
    assert_eq!((done.status.code(), stderr(&done).as_str()), (Some(0), ""));
}

#[test]
fn an_interrupt_leaves_the_deployment_and_says_so() {
    let running = deployment("running");
    let fake = Fake::start([accepted(), Reply::Hold(stream(&[("state", "", &running)]))]);
    let mut child = fake
        .command(&["deploy", "shop", "--env", "dev", "--wait"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.by_ref().any(|line| line == "running"));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()),
        nix::sys::signal::Signal::SIGINT,
    )
    .unwrap();
    let rest: Vec<_> = said.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(
        rest.iter().any(|line| line.contains("goes on"))
            && rest.iter().any(|line| line.contains(&format!("longshore cancel {DEP}"))),
        "{rest:?}"
    );
}

#[test]
fn wrong_usage_is_2() {
    for args in [
        &["deploy"][..],
        &["nonsense"],
        &["logs", "dep_x"],
        &["agents"],
        &["logs", DEP, "--raw", "-o", "json"],
        &["agents", "--url", "ftp://x"],
    ] {
        let done = command(args).output().unwrap();
        assert_eq!(done.status.code(), Some(2), "{args:?}: {}", stderr(&done));
        assert!(!done.stderr.is_empty(), "{args:?}");
    }
    assert_eq!(command(&["--version"]).output().unwrap().status.code(), Some(0));
}

#[test]
fn output_that_is_no_terminal_has_no_colours() {
    let fake = Fake::start([Reply::json(200, &deployment("failed"))]);
    let done = fake.run(&["deployment", "show", DEP]);
    assert!(!done.stdout.contains(&0x1b) && stdout(&done).contains("failed"), "{}", stdout(&done));
}

#[test]
fn a_channel_is_asked_for_and_shown() {
    let release = |version: &str, channel: &str| {
        json!({"id": "rel_1", "project": "shop", "version": version, "channel": channel, "revision": 1, "steps": [], "variables": [],
            "images": {}, "package": null, "blocked": null, "created_at": "2026-11-21T10:00:00.000Z", "created_by": "anna"})
    };
    let (beta, stable) = (release("2.0.0-rc.1", "beta"), release("1.0.0", "stable"));
    let fake = Fake::start([Reply::json(201, &beta.to_string())]);
    let done = fake.run(&["release", "create", "shop", "--version", "2.0.0-rc.1", "--channel", "beta", "-o", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&stdout(&done)).unwrap()["channel"], "beta", "{}", stderr(&done));
    assert_eq!(fake.seen()[0].json()["channel"], "beta");
    let fake = Fake::start([Reply::json(200, &json!([beta]).to_string())]);
    let done = fake.run(&["release", "list", "shop", "--channel", "beta"]);
    assert!(stdout(&done).contains("2.0.0-rc.1") && stdout(&done).contains("beta"), "{}", stdout(&done));
    assert!(fake.lines()[0].contains("channel=beta"), "{:?}", fake.lines());
    let fake = Fake::start([Reply::json(200, &beta.to_string())]);
    let done = fake.run(&["release", "show", "shop", "2.0.0-rc.1"]);
    assert!(stdout(&done).contains("channel   beta"), "{}", stdout(&done));
    let both = || Fake::start([Reply::json(200, &stable.to_string()), Reply::json(200, &beta.to_string())]);
    let done = both().run(&["release", "diff", "shop", "1.0.0", "2.0.0-rc.1"]);
    assert_eq!(stdout(&done), "- channel   stable\n+ channel   beta\n");
    let done = both().run(&["release", "diff", "shop", "1.0.0", "2.0.0-rc.1", "-o", "json"]);
    let shown: Value = serde_json::from_str(&stdout(&done)).unwrap();
    assert_eq!(shown["channel"], json!({"from": "stable", "to": "beta"}));
    let fake = Fake::start([accepted()]);
    let done = fake.run(&["deploy", "shop", "--env", "dev", "--channel", "beta"]);
    assert_eq!(fake.seen()[0].json()["channel"], "beta", "{}", stderr(&done));
    let explained = json!({"name": "size", "value": "2", "from": "the spec for channel `beta`", "beaten": []});
    let fake = Fake::start([Reply::json(200, &explained.to_string())]);
    let done = fake.run(&["variable", "explain", "shop", "size", "--env", "dev", "--channel", "beta"]);
    assert_eq!(stdout(&done), "size = 2 from the spec for channel `beta`\n", "{}", stderr(&done));
    assert!(fake.lines()[0].contains("channel=beta"), "{:?}", fake.lines());
    let done =
        command(&["deploy", "shop", "--env", "dev", "--release", "1.0.0", "--channel", "beta"]).output().unwrap();
    assert_eq!(done.status.code(), Some(2), "a release has its channel");
}
