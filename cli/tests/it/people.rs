//! The commands about people against a fake server: what they send, print and end with.

use std::process::Output;

use serde_json::{Value, json};

use crate::fake::{Fake, Reply};

const GRANT: &str = "grn_0193a0c5c4007aaaaaaaaaaaaaaaaaaa";
const TOKEN: &str = "tok_0193a0c5c4007aaaaaaaaaaaaaaaaaaa";

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs one command that makes one call; gives its request line, its body and what it printed.
fn one(args: &[&str], status: u16, answer: &Value) -> (String, Value, String) {
    let fake = Fake::start([Reply::json(status, &answer.to_string())]);
    let done = fake.run(args);
    assert_eq!(done.status.code(), Some(0), "{args:?}: {}", stderr(&done));
    let seen = &fake.seen()[0];
    let body = if seen.body.is_empty() { Value::Null } else { seen.json() };
    (seen.line.replace("/api/v1/", ""), body, stdout(&done))
}

#[test]
fn users_and_teams_are_made_and_changed() {
    let user =
        json!({ "name": "alice", "kind": "person", "created_at": "2026-11-21T10:00:00.000Z", "disabled_at": null });
    let (line, body, printed) = one(&["user", "create", "alice"], 201, &user);
    assert_eq!(
        (line.as_str(), body, printed.as_str()),
        ("POST users", json!({ "name": "alice", "service": false }), "user alice is made\n")
    );
    let (_, body, _) = one(&["user", "create", "ci", "--service"], 201, &user);
    assert_eq!(body["service"], true);
    assert_eq!(one(&["user", "disable", "alice"], 200, &user).0, "POST users/alice/disable");
    let (_, _, printed) = one(&["user", "list"], 200, &json!([user]));
    assert_eq!(printed, "USER   KIND    MADE                  DISABLED\nalice  person  2026-11-21 10:00:00Z  -\n");
    let team = json!({ "name": "ops", "members": ["alice", "bob"], "created_at": "2026-11-21T10:00:00.000Z" });
    let (line, body, printed) = one(&["team", "create", "ops", "--member", "alice", "--member", "bob"], 201, &team);
    assert_eq!(
        (line.as_str(), &body["members"], printed.as_str()),
        ("POST teams", &json!(["alice", "bob"]), "team ops: alice, bob\n")
    );
    assert_eq!(one(&["team", "add", "ops", "bob"], 200, &team).0, "PUT teams/ops/members/bob");
    assert_eq!(one(&["team", "remove", "ops", "bob"], 200, &team).0, "DELETE teams/ops/members/bob");
    assert_eq!(one(&["team", "list", "-o", "json"], 200, &json!([team])).2, format!("{}\n", json!([team])));
}

#[test]
fn a_role_is_given_to_one_of_both_and_taken_back() {
    let role = json!({ "id": GRANT, "user": null, "team": "ops", "role": "approver", "project": "shop", "environment": "live" });
    let args = ["role", "grant", "--team", "ops", "approver", "--project", "shop", "--env", "live"];
    let (line, body, printed) = one(&args, 201, &role);
    let sent = json!({ "user": null, "team": "ops", "role": "approver", "project": "shop", "environment": "live" });
    assert_eq!((line.as_str(), body), ("POST role-grants", sent));
    assert_eq!(printed, "team ops has the role approver in environment live of project shop\n");
    assert_eq!(one(&["role", "revoke", GRANT], 200, &role).0, format!("DELETE role-grants/{GRANT}"));
    let fake = Fake::start([]);
    for args in [
        &["role", "grant", "viewer"][..],
        &["role", "grant", "--user", "a", "--team", "b", "viewer"],
        &["role", "grant", "--user", "a", "root"],
        &["role", "revoke", TOKEN],
        &["token", "revoke", "lst_x"],
        &["token", "create", "--user", "a", "--expires", "soon"],
    ] {
        assert_eq!(fake.run(args).status.code(), Some(2), "{args:?}");
    }
    assert!(fake.seen().is_empty());
}

#[test]
fn a_token_is_printed_alone_and_as_json() {
    let answer = json!({ "id": TOKEN, "token": "lst_x", "user": "alice", "limit": null, "expires_at": "2026-11-21T10:00:00.000Z" });
    let args = ["token", "create", "--user", "alice", "--expires", "1h"];
    let (line, body, printed) = one(&args, 201, &answer);
    let sent = json!({ "user": "alice", "expires_in": "1h", "role": null, "project": null, "environment": null });
    assert_eq!((line.as_str(), body, printed.as_str()), ("POST tokens", sent, "lst_x\n"));
    let (_, _, printed) = one(&["token", "create", "--user", "alice", "-o", "json"], 201, &answer);
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap()["token"], "lst_x");
    let fake = Fake::start([Reply::With { status: 204, header: "x: y", body: "" }]);
    let done = fake.run(&["token", "revoke", TOKEN]);
    assert_eq!((done.status.code(), stdout(&done)), (Some(0), format!("{TOKEN} counts no more\n")));
}

#[test]
fn the_audit_is_read_page_by_page_and_printed_line_by_line() {
    let event = |action: &str, outcome: &str| json!({ "at": "2026-11-21T10:00:00.000Z", "actor": "vic", "action": action, "object": "project/shop", "outcome": outcome, "detail": {} });
    let pages = || {
        [
            Reply::json(200, &json!({ "events": [event("a", "done")], "next": "5.1" }).to_string()),
            Reply::json(200, &json!({ "events": [event("b", "refused")], "next": null }).to_string()),
        ]
    };
    let fake = Fake::start(pages());
    let done = fake.run(&["audit", "--since", "1h", "-o", "json"]);
    let lines: Vec<Value> = stdout(&done).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, [event("a", "done"), event("b", "refused")]);
    assert_eq!(fake.lines(), ["GET audit?since=1h", "GET audit?since=1h&after=5.1"]);
    let shown = stdout(&Fake::start(pages()).run(&["audit"]));
    assert!(shown.contains("2026-11-21 10:00:00Z  vic    b       project/shop  refused  -"), "{shown}");
}

#[test]
fn a_refusal_ends_with_5_and_says_what_is_missing() {
    for args in
        [&["user", "create", "eve"][..], &["audit"], &["role", "grant", "--user", "vic", "admin"], &["team", "list"]]
    {
        let fake = Fake::start([Reply::problem(
            403,
            "forbidden",
            "user `vic` may not administer the server; nothing was changed",
            "ask an administrator of the server for the role `admin`",
        )]);
        let done = fake.run(args);
        assert_eq!(done.status.code(), Some(5), "{args:?}");
        assert_eq!(
            stderr(&done),
            "error: user `vic` may not administer the server; nothing was changed\n     next: ask an administrator of the server for the role `admin`\n"
        );
        assert_eq!(stdout(&done), "");
    }
}

#[test]
fn whoami_says_what_one_may_do() {
    let role = |role: &str, project: Option<&str>| json!({ "role": role, "project": project, "environment": null });
    let who = json!({ "user": "dan", "teams": ["ops"], "roles": [role("deployer", Some("shop"))], "limit": role("admin", Some("shop")) });
    let (line, _, printed) = one(&["whoami"], 200, &who);
    assert_eq!(line, "GET whoami");
    assert_eq!(
        printed,
        "user dan\nteams ops\nrole deployer in project shop\nthe token is limited to admin in project shop\n"
    );
}
