//! The commands about keys and libraries against a fake server: what they send and print.

use serde_json::{Value, json};

use crate::fake::{Fake, Reply};

/// Runs one command that makes one call; gives its request line, its body and what it printed.
fn one(args: &[&str], answer: &Value) -> (String, String, String, String) {
    let fake = Fake::start([Reply::json(200, &answer.to_string())]);
    let done = fake.run(args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(done.status.code(), Some(0), "{args:?}: {}", text(&done.stderr));
    let seen = &fake.seen()[0];
    let body = if seen.body.is_empty() { Value::Null } else { seen.json() };
    (seen.line.replace("/api/v1/", ""), body.to_string(), text(&done.stdout), text(&done.stderr))
}

#[test]
fn keys_are_shown_and_rotated() {
    let key = |key: u32, rows: u32, current: bool| json!({ "key": key, "rows": rows, "current": current, "created_at": "2026-11-21T10:00:00.000Z" });
    let answer = json!({ "kek": "the file `k`", "keys": [key(1, 3, false), key(2, 5, true)], "remaining": 3 });
    let (line, _, printed, said) = one(&["secrets", "status"], &answer);
    assert_eq!(line, "GET secrets");
    assert!(
        printed.contains("seals") && said.contains("the file `k`") && said.contains("3 secrets"),
        "{printed}{said}"
    );
    let (line, _, printed, _) = one(&["secrets", "rotate"], &json!({ "started": true, "key": 2, "remaining": 8 }));
    assert_eq!(line, "POST secrets/rotate");
    assert!(printed.contains("key 2 seals from now on; 8 secrets"), "{printed}");
    let (_, _, printed, _) = one(&["secrets", "rotate"], &json!({ "started": false, "key": 2, "remaining": 8 }));
    assert!(printed.contains("under way already"), "{printed}");
}

#[test]
fn libraries_are_made_filled_and_shown() {
    let library = json!({ "name": "common", "variables": [
        { "name": "key", "environment": "live", "secret": true, "value": null, "updated_at": "2026-11-21T10:00:00.000Z" },
        { "name": "region", "environment": null, "secret": false, "value": "eu", "updated_at": "2026-11-21T10:00:00.000Z" },
    ], "created_at": "2026-11-21T10:00:00.000Z", "created_by": "anna" });
    let (line, body, printed, _) = one(&["library", "create", "common"], &library);
    assert_eq!((line.as_str(), body.as_str()), ("POST libraries", r#"{"name":"common"}"#));
    assert_eq!(printed, "library common is made\n");
    let set = ["library", "set", "common", "key", "--secret", "--env", "live"];
    let (line, body, printed, _) = one(&set, &json!({ "name": "key", "secret": true }));
    assert_eq!(line, "PUT libraries/common/variables/key");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&body["secret"], &body["environment"]), (&json!(true), &json!("live")));
    assert_eq!(printed, "library common: secret variable key is set for environment live\n");
    let (line, _, printed, _) = one(&["library", "show", "common"], &library);
    assert_eq!(line, "GET libraries/common");
    assert!(printed.contains("[secret]") && printed.contains("eu"), "{printed}");
    let (line, _, printed, _) = one(&["library", "list"], &json!([library]));
    assert_eq!(line, "GET libraries");
    assert!(printed.contains("common") && printed.contains("anna"), "{printed}");
}
