//! `longshore join-rule`, `agent` and `agents --all` against a fake server.

use serde_json::{Value, json};

use crate::fake::{Fake, Reply};

const AGENT: &str = "agt_019ac2d5e1f07a3b8c4d5e6f70819203";

fn rule(conditions: &Value) -> Reply {
    let body = json!({ "id": "jru_1", "pool": "gpu", "labels": { "zone": "a" }, "conditions": conditions, "state": "valid",
        "created_at": "2026-11-21T10:00:00.000Z", "created_by": "anna", "ca_pem": "PEM" });
    Reply::json(201, &body.to_string())
}

#[test]
fn a_rule_is_asked_for_as_it_is_typed() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let aws = json!({ "cloud": "aws", "account": "111122223333", "region": "eu-central-1", "role": "worker" });
    let fake = Fake::start([rule(&aws)]);
    let mut typed = vec!["join-rule", "create", "--pool", "gpu", "--label", "zone=a", "--aws-account", "111122223333"];
    typed.extend(["--aws-region", "eu-central-1", "--aws-role", "worker", "--ca-file", ca.to_str().unwrap()]);
    let done = fake.run(&typed);
    assert_eq!(String::from_utf8_lossy(&done.stdout), "jru_1\n", "{done:?}");
    assert!(String::from_utf8_lossy(&done.stderr).contains("aws-account=111122223333"), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stderr).contains("enroll --aws"), "{done:?}");
    assert_eq!(fake.seen()[0].json(), json!({ "pool": "gpu", "labels": { "zone": "a" }, "conditions": aws }));
    assert_eq!(std::fs::read_to_string(ca).unwrap(), "PEM");

    for (typed, conditions) in [
        (
            &["--gcp-project", "p-1", "--gcp-zone", "z-1-a", "--gcp-service-account", "a@b"][..],
            json!({ "cloud": "gcp", "project": "p-1", "zone": "z-1-a", "service_account": "a@b" }),
        ),
        (&["--azure-subscription", "S"], json!({ "cloud": "azure", "subscription": "S" })),
    ] {
        let fake = Fake::start([rule(&conditions)]);
        let done = fake.run(&[&["join-rule", "create", "-o", "json"], typed].concat());
        assert_eq!(done.status.code(), Some(0), "{done:?}");
        assert_eq!(fake.seen()[0].json()["conditions"], conditions);
    }
}

#[test]
fn one_cloud_is_named_with_its_account() {
    for typed in [
        &["--aws-region", "eu-central-1"][..],
        &["--aws-account", "111122223333", "--gcp-project", "p"],
        &["--gcp-project", "p", "--aws-role", "worker"],
        &[],
    ] {
        let fake = Fake::start([]);
        let done = fake.run(&[&["join-rule", "create"], typed].concat());
        assert_eq!(done.status.code(), Some(2), "{typed:?}: {done:?}");
        assert!(fake.seen().is_empty());
    }
}

#[test]
fn rules_are_listed_and_taken_back() {
    let list = json!([{ "id": "jru_1", "pool": "gpu", "labels": {}, "conditions": { "cloud": "gcp", "project": "p", "service_account": "a@b" },
        "state": "revoked", "created_at": "2026-11-21T10:00:00.000Z", "created_by": "anna" }]);
    let done = Fake::start([Reply::json(200, &list.to_string())]).run(&["join-rule", "list"]);
    let shown = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(shown.contains("gcp-project=p gcp-service-account=a@b") && shown.contains("revoked"), "{shown}");
    let fake = Fake::start([Reply::With { status: 204, header: "x: y", body: "" }]);
    let done = fake.run(&["join-rule", "delete", "jru_1"]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(fake.seen()[0].line.starts_with("DELETE ") && fake.seen()[0].line.contains("/join-rules/jru_1"));
}

#[test]
fn what_has_no_answer_is_done_and_an_agent_that_is_gone_is_shown_on_demand() {
    for (verb, said) in [("revoke", "is cut off"), ("readmit", "may join again")] {
        let fake = Fake::start([Reply::With { status: 204, header: "x: y", body: "" }]);
        let done = fake.run(&["agent", verb, AGENT]);
        assert!(String::from_utf8_lossy(&done.stdout).contains(said), "{done:?}");
        assert!(fake.seen()[0].line.contains(&format!("/agents/{AGENT}/{verb}")));
    }
    let fake = Fake::start([Reply::With { status: 204, header: "x: y", body: "" }]);
    let done = fake.run(&["join-token", "revoke", "tok_1"]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let agent = |more: Value| {
        let mut agent = json!({ "id": "agt_1", "hostname": "w", "pool": "p", "state": "gone", "busy": 0, "slots": 0,
            "seen_at": null, "version": "1" });
        agent.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Reply::json(200, &json!([agent]).to_string())
    };
    let fake = Fake::start([agent(json!({ "gone": "left" }))]);
    let shown = fake.run(&["agents", "--all"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("gone (left)"), "{shown:?}");
    assert!(fake.seen()[0].line.contains("/agents?all=true"), "{}", fake.seen()[0].line);
    let fake = Fake::start([agent(json!({ "state": "connected", "cloned": true }))]);
    let shown = fake.run(&["agents"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("connected, copied"), "{shown:?}");
    assert!(!fake.seen()[0].line.contains("all="), "{}", fake.seen()[0].line);
}
