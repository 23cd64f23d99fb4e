//! `longshore pool` against a fake server.

use serde_json::{Value, json};

use crate::fake::{Fake, Reply};

fn pool(settings: &Value, revision: u64) -> Reply {
    let body = json!({ "name": "blue", "settings": settings, "revision": revision, "updated_at": "2026-11-21T10:00:00.000Z",
        "updated_by": "anna", "agents": 3, "connected": 2 });
    Reply::json(200, &body.to_string())
}

#[test]
fn a_file_is_applied_and_what_is_shown_is_such_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pool.toml");
    std::fs::write(&file, "description = \"for the web\"\n").unwrap();
    let settings = json!({ "description": "for the web" });
    let fake = Fake::start([pool(&settings, 4)]);
    let done = fake.run(&["pool", "apply", "blue", "--file", file.to_str().unwrap(), "--if-revision", "3"]);
    assert_eq!(String::from_utf8_lossy(&done.stdout), "pool blue: settings are applied (revision 4)\n", "{done:?}");
    let seen = fake.seen();
    assert!(seen[0].line.starts_with("PUT ") && seen[0].line.contains("/pools/blue?if_revision=3"), "{}", seen[0].line);
    assert_eq!(seen[0].json(), settings);

    let done = Fake::start([pool(&settings, 4)]).run(&["pool", "show", "blue"]);
    assert_eq!(String::from_utf8_lossy(&done.stdout), "description = \"for the web\"\n");
    assert!(String::from_utf8_lossy(&done.stderr).contains("revision 4, set by anna"), "{done:?}");
}

#[test]
fn a_wrong_file_names_the_field_and_the_line_and_is_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pool.toml");
    for (text, said) in [("description = \"x\"\npause = \"y\"\n", "line 2"), ("paused = \"\"\n", "`paused`")] {
        std::fs::write(&file, text).unwrap();
        let fake = Fake::start([]);
        let done = fake.run(&["pool", "apply", "blue", "--file", file.to_str().unwrap()]);
        let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(said) && stderr.contains("nothing was sent"), "{stderr}");
        assert!(fake.seen().is_empty());
    }
}

#[test]
fn pausing_changes_nothing_else_and_only_what_was_seen() {
    let fake = Fake::start([pool(&json!({ "description": "d" }), 7), pool(&json!({}), 8)]);
    let done = fake.run(&["pool", "pause", "blue", "--reason", "hosts are updated"]);
    assert_eq!(
        String::from_utf8_lossy(&done.stdout),
        "pool blue: is paused: no job starts there (revision 8)\n",
        "{done:?}"
    );
    let seen = fake.seen();
    assert!(seen[1].line.contains("if_revision=7"), "{}", seen[1].line);
    assert_eq!(seen[1].json(), json!({ "description": "d", "paused": "hosts are updated" }));

    let fake = Fake::start([pool(&json!({ "description": "d", "paused": "x" }), 8), pool(&json!({}), 9)]);
    fake.run(&["pool", "resume", "blue"]);
    assert_eq!(fake.seen()[1].json(), json!({ "description": "d" }));
    let list = json!([{ "name": "blue", "settings": { "paused": "x" }, "revision": 1, "agents": 3, "connected": 2 }]);
    let done = Fake::start([Reply::json(200, &list.to_string())]).run(&["pool", "list"]);
    assert_eq!(String::from_utf8_lossy(&done.stdout), "POOL  AGENTS  STATE   FOR\nblue  2 of 3  paused  -\n");
}

#[test]
fn what_a_pool_waits_for_and_what_the_scaler_did_is_shown() {
    let mut view = json!({ "pool": "blue", "queued": 3, "waiting": { "lock": 1, "slots": 2 }, "helped": 2, "oldest_wait_seconds": 90,
        "slots": { "total": 4, "busy": 4, "free": 0 }, "agents": { "connected": 2, "draining": 1, "disconnected": 1 },
        "unknown_attempts": 0, "scaler": null, "events": [] });
    let done = Fake::start([Reply::json(200, &view.to_string())]).run(&["pool", "scaling", "blue"]);
    assert_eq!(
        String::from_utf8_lossy(&done.stdout),
        "jobs: 3 queued (1 lock, 2 slots), the oldest for 1m 30s; a further agent would help 2\n\
         slots: 4 of 4 busy, 0 free\n\
         agents: 2 connected, 1 of them draining; 1 disconnected\n\
         scaler: off; `scaling` of the pool's settings turns it on\n"
    );
    view["scaler"] = json!({ "kind": "aws", "group": "workers", "min": 1, "max": 8, "warm": 2, "capacity": 4, "absent": 2,
        "decision": "grow", "message": "to 4 machines", "decided_at": "2026-11-21T10:00:00.000Z",
        "leaving": [{ "agent": "agt_1", "instance": "i-0a", "since": "2026-11-21T10:00:00.000Z", "told": true }] });
    view["events"] =
        json!([{ "at": "2026-11-21T10:00:00.000Z", "action": "grow", "from": 2, "to": 4, "message": "2 jobs" }]);
    let fake = Fake::start([Reply::json(200, &view.to_string())]);
    let done = fake.run(&["pool", "scaling", "blue"]);
    let shown = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(fake.seen()[0].line.contains("/pools/blue/scaling"), "{:?}", fake.seen()[0].line);
    for part in [
        "scaler: aws group `workers` of 1 to 8 machines, 2 slots kept warm; set to 4, 2 of them not connected",
        "decided at 2026-11-21 10:00:00Z: grow: to 4 machines",
        "leaving: agt_1 on `i-0a`: the group ends it",
        "2026-11-21 10:00:00Z  grow  2 -> 4    2 jobs",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    let done = Fake::start([Reply::json(200, &view.to_string())]).run(&["-o", "json", "pool", "scaling", "blue"]);
    assert_eq!(serde_json::from_slice::<Value>(&done.stdout).unwrap(), view);
}
