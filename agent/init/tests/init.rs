//! init as an ordinary process with the test as its agent: everything but being PID 1.

mod artifacts;
mod harness;

use harness::{Init, handover, opened, planning, run, sh, with_file};
use longshore_core::engine_event::{EngineEvent, Kind, Op};
use longshore_core::init::control::Deadlines;
use longshore_core::init::{Command, Handover, Prepare, Stdout};
use longshore_core::pack;
use nix::sys::signal::Signal;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn bytes_arrive_as_they_were_written() {
    let script = r"printf 'a\000b\377\376'; printf 'err\n' >&2; printf '%s' $ADDED; head -c 3000000 /dev/zero; exit 3";
    let left = run(handover(vec![sh(script)], &[]));
    let mut want = b"a\0b\xff\xfebytheagent".to_vec();
    want.resize(want.len() + 3_000_000, 0);
    assert!(left.stdout == want);
    assert_eq!((left.stderr, left.record.code, left.record.signal), (b"err\n".to_vec(), Some(3), None));
}

#[test]
fn secrets_are_masked_on_both_streams_and_over_writes() {
    let script =
        "printf 'x hun'; /bin/printf 'ter2 y '; printf hunter2 | od -An -tx1 | tr -d ' \\n'; echo \"at $PASS hun\" >&2";
    let mut handover = handover(vec![sh(script)], &["hunter2"]);
    handover.env.push(("PASS".into(), "hunter2".into()));
    let left = run(handover);
    assert_eq!((text(&left.stdout), text(&left.stderr)), ("x [secret] y [secret]".into(), "at [secret] hun\n".into()));
    assert!(!text(&left.disk).contains("hunter2"));
}

#[test]
fn one_interrupt_is_forwarded_and_no_more() {
    // The reader says itself that it is ready: before it ignores the interrupt, one would end it too.
    let reader = r#"(trap '' INT; echo ready > "$DIR/up"; exec cat "$DIR/down")"#;
    let script = format!(r#"trap 'echo int; echo int > "$DIR/up"' INT; {reader} & wait $!; wait $!; exit 7"#);
    let script = script.as_str();
    let init = Init::start(handover(vec![sh(script), sh("echo never")], &[]));
    assert_eq!(init.hear(), "ready");
    init.signal(Signal::SIGINT);
    assert_eq!(init.hear(), "int");
    init.signal(Signal::SIGINT);
    init.signal(Signal::SIGINT);
    init.say("go on\n");
    let left = init.end();
    assert_eq!(text(&left.stdout), "int\ngo on\n");
    assert_eq!((left.record.code, left.record.interrupted, left.record.outside_stop), (Some(7), true, false));
}

#[test]
fn a_cancelled_command_that_succeeds_is_the_last() {
    let script = r#"trap 'echo int; exit 0' INT; cat "$DIR/down" & echo ready > "$DIR/up"; wait $!"#;
    let init = Init::start(handover(vec![sh(script), sh("echo never")], &[]));
    init.hear();
    init.signal(Signal::SIGINT);
    let left = init.end();
    assert_eq!(text(&left.stdout), "int\n");
    assert_eq!(left.record.error.as_deref(), Some("stopped before `sh` was started"));
    assert_eq!((left.record.code, left.record.command, left.record.interrupted), (None, 1, true));
}

#[test]
fn a_stop_from_outside_is_told_apart() {
    let script = r#"trap 'exit 0' INT; cat "$DIR/down" & echo ready > "$DIR/up"; wait $!; exit 1"#;
    let init = Init::start(handover(vec![sh(script)], &[]));
    init.hear();
    init.signal(Signal::SIGTERM);
    let record = init.end().record;
    assert_eq!((record.code, record.outside_stop, record.interrupted), (Some(0), true, true));
}

#[test]
fn deadlines_are_obeyed_without_an_agent() {
    let soft = r#"trap 'exit 4' INT; cat "$DIR/down" & echo ready > "$DIR/up"; wait $!"#;
    let init = Init::start(handover(vec![sh(soft)], &[]));
    init.hear();
    init.deadlines(Deadlines { soft: 1, hard: 0 });
    let record = init.end().record;
    assert_eq!((record.code, record.deadline, record.killed), (Some(4), true, false));

    let hard = r#"trap '' INT; echo ready > "$DIR/up"; cat "$DIR/down""#;
    let init = Init::start(handover(vec![sh(hard)], &[]));
    init.hear();
    init.deadlines(Deadlines { soft: 1, hard: 2 });
    let record = init.end().record;
    assert_eq!((record.code, record.signal, record.deadline, record.killed), (None, Some(9), true, true));
}

#[test]
fn commands_run_in_order_up_to_the_first_that_fails() {
    let left = run(handover(vec![sh("echo one"), sh("echo two; kill -9 $$"), sh("echo three")], &[]));
    assert_eq!((text(&left.stdout), left.record.code), ("one\ntwo\n".into(), None));
    assert_eq!((left.record.signal, left.record.command), (Some(9), 1));
}

#[test]
fn what_cannot_start_says_why() {
    let missing = Command { argv: vec!["no-hunter2-program".into()], ..sh("") };
    let left = run(handover(vec![missing], &["hunter2"]));
    let want = "cannot start `no-[secret]-program`: no such program in the image (or no interpreter for it)";
    assert_eq!((left.record.error.as_deref(), left.record.code, left.record.bytes), (Some(want), None, 0));

    let denied = Command { argv: vec!["/etc/passwd".into()], ..sh("") };
    let left = run(handover(vec![denied], &[]));
    assert_eq!(left.record.error.as_deref(), Some("cannot start `/etc/passwd`: permission denied"));

    let mut nowhere = handover(vec![sh("echo never")], &[]);
    nowhere.cwd = "/no/where".into();
    let want = "cannot start `sh`: working directory `/no/where`: no such file or directory";
    assert_eq!(run(nowhere).record.error.as_deref(), Some(want));
}

#[test]
fn the_program_is_found_in_the_path_of_the_job() {
    let init_path = std::env::temp_dir();
    let dir = tempfile::tempdir_in(init_path).unwrap();
    std::os::unix::fs::symlink("/bin/echo", dir.path().join("only-here")).unwrap();
    let mut handover = handover(vec![Command { argv: vec!["only-here".into(), "hi".into()], ..sh("") }], &[]);
    handover.env.push(("PATH".into(), dir.path().to_string_lossy().into_owned()));
    assert_eq!(text(&run(handover).stdout), "hi\n");
}

#[test]
fn nothing_survives_the_command() {
    // A daemon in a session of its own that ignores what it can, and holds the pipes.
    let daemon = r#"setsid sh -c 'trap "" HUP INT TERM; echo $$ > "$DIR/pid"; echo up > "$DIR/up"; sleep 1000; :' &"#;
    let init = Init::start(handover(vec![sh(&format!("{daemon} cat \"$DIR/down\"; exit 5"))], &[]));
    init.hear();
    let pid = std::fs::read_to_string(init.path().join("pid")).unwrap();
    init.say("bye");
    let left = init.end();
    assert_eq!((left.record.code, text(&left.stdout)), (Some(5), "bye".into()));
    assert!(!std::path::Path::new("/proc").join(pid.trim()).exists());
}

#[test]
fn commands_get_their_own_descriptors_and_a_clean_signal_mask() {
    let script = "for n in 3 4 5 6 7 8 9 10 11 12; do [ -e /proc/self/fd/$n ] && echo leaked $n; done; grep SigBlk /proc/self/status; cat";
    let with_events = Command { events: true, ..sh(script) };
    let left = run(handover(vec![sh(script), with_events], &[]));
    assert_eq!(text(&left.stdout), "SigBlk:\t0000000000000000\nleaked 3\nSigBlk:\t0000000000000000\n");
}

#[test]
fn events_become_typed_records_that_secrets_cannot_change() {
    let script = r#"echo '{"sequence":1,"timestamp":2,"summaryEvent":{"resourceChanges":{"create":3},"result":"succeeded"}}' >&3
        echo '{"sequence":2,"timestamp":2,"diagnosticEvent":{"severity":"debug","message":"noise"}}' >&3
        echo 'broken' >&3; printf '{"sequence":3,"timestamp":2,"stdoutEvent":{"message":"create hunter2"}}' >&3"#;
    let left = run(handover(vec![Command { events: true, ..sh(script) }], &["create", "3", "hunter2"]));
    let kinds: Vec<Kind> = left.events.iter().map(|json| EngineEvent::from_json(json).unwrap().kind).collect();
    let [Kind::Summary(totals), Kind::Unreadable { bytes: 6 }, Kind::Output { message }] = &kinds[..] else {
        panic!("{kinds:?}")
    };
    assert_eq!((totals.changes[&Op::Create], message.as_str()), (3, "[secret] [secret]"));
}

#[test]
fn a_lock_is_removed_only_when_all_who_hold_it_are_over() {
    let held = |who: &str| {
        format!(
            "echo 'error: the stack is currently locked by 1 lock(s). Either wait' >&2; \
             echo '  f: created by root@{who} (pid 1) at 2026-11-28T10:00:00Z' >&2; exit 255"
        )
    };
    let unlock = |probe: &str| {
        let probe = Command { finds_lock: true, ..sh(probe) };
        let orders = handover(vec![probe, sh("echo canceled")], &[]);
        run(Handover { over: vec!["att-1".into(), "att-2".into()], ..orders })
    };
    let left = unlock(&held("att-2"));
    assert_eq!((left.record.code, text(&left.stdout)), (Some(0), "canceled\n".into()));
    assert_eq!(left.record.outputs["unlocked"], true);
    assert!(text(&left.stderr).contains("currently locked"), "what was found stands in the log");

    let left = unlock(&held("laptop"));
    assert!(left.record.error.unwrap().contains("`root@laptop`"));
    assert_eq!((text(&left.stdout), left.record.outputs.len()), (String::new(), 0), "nothing was run after it");

    let free =
        format!("echo \"error: no resource named '{}' found\" >&2; exit 255", longshore_core::stack_lock::NOBODY);
    let left = unlock(&free);
    assert_eq!((left.record.code, left.record.error, text(&left.stdout)), (Some(0), None, String::new()));
    assert_eq!(left.record.outputs["unlocked"], false);

    let left = unlock("echo 'error: no stack named dev' >&2; exit 255");
    assert_eq!((left.record.code, left.record.outputs.len()), (Some(255), 0), "another failure is one");
}

#[test]
fn outputs_reach_the_disk_plain_or_encrypted_as_they_are() {
    let masked = Command { stdout: Stdout::MaskedOutputs, ..sh(r#"echo '{"url":"http://x","password":"[secret]"}'"#) };
    let revealed = Command {
        stdout: Stdout::RevealedOutputs,
        only_with_secret_outputs: true,
        ..sh(r#"echo '{"url":"http://x","password":"canary-4711"}'"#)
    };
    let left = run(handover(vec![sh("echo log"), masked, revealed.clone()], &[]));
    assert_eq!((text(&left.stdout), &left.record.outputs["url"]), ("log\n".into(), &"http://x".into()));
    assert_eq!(left.record.secret_outputs.keys().collect::<Vec<_>>(), ["password"]);
    assert!(!text(&left.disk).contains("canary"));

    let event =
        r#"echo '{"resOutputsEvent":{"metadata":{"type":"pulumi:pulumi:Stack","new":{"outputs":{"n":1}}}}}' >&3"#;
    let by_event = Command { events: true, event_outputs: true, ..sh(event) };
    let left = run(handover(vec![by_event, revealed], &[]));
    assert_eq!((left.record.command, &left.record.outputs["n"], left.record.secret_outputs.len()), (0, &1.into(), 0));

    let garbled = Command { stdout: Stdout::MaskedOutputs, ..sh("echo canary") };
    let error = run(handover(vec![garbled], &[])).record.error.unwrap();
    assert_eq!(error, "outputs printed by `sh` are no JSON object (line 1, column 1)");
}

#[test]
fn preparation_comes_first_and_its_failure_ends_the_step() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("a/home").to_string_lossy().into_owned();
    let mut good = handover(vec![sh("pwd")], &[]);
    (good.prepare, good.cwd) = (vec![Prepare::Directory { path: home.clone() }], home.clone());
    assert_eq!(text(&run(good).stdout), format!("{home}\n"));
    let mut bad = handover(vec![sh("echo never")], &[]);
    bad.prepare = vec![Prepare::Directory { path: "/proc/no".into() }];
    let record = run(bad).record;
    assert_eq!((record.bytes, record.code), (0, None));
    assert!(record.error.unwrap().starts_with("cannot prepare `/proc/no`: "));
}

#[test]
fn without_an_agent_nothing_runs() {
    let ended =
        std::process::Command::new(env!("CARGO_BIN_EXE_longshore-init")).args(["run", "/no/socket"]).output().unwrap();
    assert_eq!(ended.status.code(), Some(125));
    assert!(text(&ended.stderr).starts_with("longshore-init: cannot connect to the agent at `/no/socket`: "));
}

/// SHA-256 of `state`.
const STATE: &str = "4ba69735ca53765ed6a709edb56c6ea236b7193a3b29a6b390c346f0f4340e4e";

#[test]
fn a_plan_leaves_encrypted_with_the_state_it_started_from() {
    let (handover, _dir) = planning("state", None, None);
    let left = run(handover);
    assert_eq!((left.record.code, left.record.error), (Some(0), None));
    assert_eq!(left.record.checkpoint.as_deref(), Some(STATE));
    assert!(left.record.plan.is_some() && left.stdout.is_empty(), "the state is in no log");
    assert!(!text(&left.disk).contains("hunter2"));
}

#[test]
fn a_plan_of_several_mebibytes_leaves_packed_and_a_short_one_as_ever() {
    let long = "yes '{\"goal\": \"update\", \"urn\": \"urn:pulumi:dev::quay\"}' | head -c 5000000 > $PLAN";
    for (script, length, packed) in [("printf plan > $PLAN", 5, false), (long, 5_000_001, true)] {
        let (mut handover, _dir) = planning("state", None, None);
        handover.env.push(("PLAN".into(), handover.plan.as_ref().unwrap().path.clone()));
        handover.commands[1] = sh(script);
        let key = handover.outputs_key.clone().unwrap();
        let left = run(handover);
        assert_eq!((left.record.code, left.record.error), (Some(0), None));
        let opened = opened(&key, &left.record.plan.unwrap());
        assert_eq!(opened.first() == Some(&0xff), packed, "an older controller reads what fits");
        let whole = pack::unpack(opened, 8 << 20).unwrap();
        assert_eq!((whole.len(), whole[0]), (length, 0), "no settings, and the plan behind them");
    }
}

#[test]
fn a_plan_runs_only_on_the_state_it_started_from() {
    let (handover, _dir) = planning("state", Some("salt, \0the plan"), Some(STATE));
    let left = run(handover);
    assert_eq!((text(&left.stdout), left.record.code, left.record.plan), ("salt, the plan".into(), Some(0), None));
    let (handover, _dir) = planning("another", Some("salt, \0the plan"), Some(STATE));
    let left = run(handover);
    assert_eq!((left.stdout.len(), left.record.command), (0, 0), "nothing was run");
    let error = left.record.error.unwrap();
    assert!(error.starts_with("the stack's state has moved since its plan was made; nothing was changed"), "{error}");
    assert!(left.record.checkpoint.is_some_and(|found| found != STATE));
}

#[test]
fn no_plan_and_one_that_is_too_long_fail() {
    for (script, says) in [
        ("true", "pulumi left no plan"),
        ("head -c 8388609 /dev/zero > $PLAN", "more than the 8388608 bytes that can be kept"),
        ("head -c 800000 /dev/urandom > $PLAN", "more than the 716800 that can be kept"),
    ] {
        let (mut handover, _dir) = planning("state", None, None);
        handover.env.push(("PLAN".into(), handover.plan.as_ref().unwrap().path.clone()));
        handover.commands[1] = sh(script);
        let error = run(handover).record.error.unwrap();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn outputs_are_read_from_the_file_once_everything_has_ended() {
    // The daemon outlives the tool; what it has written by then counts, and it writes nothing after that.
    let script = r#"echo url=http://x >> $LONGSHORE_OUTPUT
        printf '%s\n' '{"name":"pw","value":"canary\n4711","secret":true}' >> $LONGSHORE_OUTPUT
        echo "dsn=db://$PASS@h" >> $LONGSHORE_OUTPUT
        setsid sh -c 'for n in $(seq 1000); do echo late=1 >> $LONGSHORE_OUTPUT; done; sleep 1000' & exit 0"#;
    let last = sh("echo url=http://y >> $LONGSHORE_OUTPUT");
    let (mut handover, dir) = with_file(vec![sh(script), last], &["hunter2"]);
    handover.env.push(("PASS".into(), "hunter2".into()));
    let left = run(handover);
    assert_eq!((left.record.error.as_deref(), left.record.code, left.record.bytes), (None, Some(0), 0));
    assert_eq!(left.record.outputs["url"], "http://y");
    assert_eq!(left.record.secret_outputs.keys().collect::<Vec<_>>(), ["dsn", "pw"]);
    assert!(!text(&left.disk).contains("canary") && !text(&left.disk).contains("hunter2"));
    let late = std::fs::read_to_string(dir.path().join("output")).unwrap().contains("late=1");
    assert_eq!(left.record.outputs.contains_key("late"), late);
}

#[test]
fn a_bad_line_fails_a_step_that_succeeded_and_no_other() {
    let script = "printf 'a=1\nhunter2 canary\n' >> $LONGSHORE_OUTPUT; exit ";
    let left = run(with_file(vec![sh(&format!("{script} 0"))], &[]).0);
    let want = "line 2 of the file `$LONGSHORE_OUTPUT` is neither `NAME=VALUE` nor a JSON object";
    assert_eq!((left.record.error.as_deref(), &left.record.outputs["a"]), (Some(want), &"1".into()));
    assert!(!text(&left.disk).contains("canary"));
    let record = run(with_file(vec![sh(&format!("{script} 3"))], &[]).0).record;
    assert_eq!((record.error, record.code, &record.outputs["a"]), (None, Some(3), &"1".into()));
    let record = run(with_file(vec![sh("echo a=1 >> $LONGSHORE_OUTPUT; kill -9 $$")], &[]).0).record;
    assert_eq!((record.error, record.signal, &record.outputs["a"]), (None, Some(9), &"1".into()));
}

#[test]
fn a_file_that_was_replaced_is_neither_followed_nor_waited_for() {
    let replaced = "the file `$LONGSHORE_OUTPUT` was replaced by something that is no regular file";
    let long = "the file `$LONGSHORE_OUTPUT` has more than the 262144 bytes that can be kept";
    for (script, want) in [
        ("ln -sf /proc/self/environ $LONGSHORE_OUTPUT", replaced),
        ("rm $LONGSHORE_OUTPUT; mkfifo $LONGSHORE_OUTPUT", replaced),
        ("rm $LONGSHORE_OUTPUT; mkdir $LONGSHORE_OUTPUT", replaced),
        ("truncate -s 1T $LONGSHORE_OUTPUT", long),
    ] {
        let record = run(with_file(vec![sh(script)], &[]).0).record;
        assert_eq!((record.error.as_deref(), record.outputs.len()), (Some(want), 0), "{script}");
    }
    let record = run(with_file(vec![sh("rm $LONGSHORE_OUTPUT")], &[]).0).record;
    assert_eq!((record.error, record.code), (None, Some(0)));
}

#[test]
fn the_file_adds_to_the_outputs_of_a_stack() {
    let event = r#"echo '{"resOutputsEvent":{"metadata":{"type":"pulumi:pulumi:Stack","new":{"outputs":{"n":1,"m":2}}}}}' >&3
        echo n=3 >> $LONGSHORE_OUTPUT"#;
    let by_event = Command { events: true, event_outputs: true, ..sh(event) };
    let record = run(with_file(vec![by_event], &[]).0).record;
    assert_eq!((&record.outputs["n"], &record.outputs["m"], record.error), (&"3".into(), &2.into(), None));
}
