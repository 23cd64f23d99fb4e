//! `longshore agents` and `longshore agent release` against a fake server.

use serde_json::json;

use crate::fake::{Fake, Reply};

const ID: &str = "agt_0193a0c5c4007aaaaaaaaaaaaaaaaaaa";

#[test]
fn a_quarantined_agent_is_shown_with_its_reason_and_released() {
    let list = json!([{ "id": "agt_2", "hostname": "worker", "pool": "default", "state": "quarantined", "busy": 0, "slots": 2,
        "quarantined": "is quarantined since 2026-11-21T10:00:00.000Z after 3 failures of its own, the last: no space", "low": [] }]);
    let done = Fake::start([Reply::json(200, &list.to_string())]).run(&["agents"]);
    let (stdout, stderr) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(stdout.contains("quarantined"), "{stdout}");
    assert!(stderr.contains("the last: no space; `longshore agent release agt_2` ends it"), "{stderr}");

    let fake = Fake::start([Reply::json(204, "")]);
    let done = fake.run(&["agent", "release", ID]);
    assert_eq!(String::from_utf8_lossy(&done.stdout), format!("agent {ID} gets jobs again\n"), "{done:?}");
    assert!(fake.seen()[0].line.starts_with(&format!("POST /api/v1/agents/{ID}/release")), "{}", fake.seen()[0].line);
}

#[test]
fn an_answer_without_a_body_is_an_answer() {
    let done = Fake::start([Reply::json(204, "")]).run(&["join-token", "revoke", "tok_1"]);
    assert_eq!(String::from_utf8_lossy(&done.stdout), "join token tok_1 lets nobody in any more\n", "{done:?}");
}
