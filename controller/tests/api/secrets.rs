//! Libraries and keys over the API, and a walk over every route that reads: a secret is in no answer.

use axum::http::Method;
use longshore_controller::api::{Over, RULES};
use serde_json::{Value, json};

use crate::harness::{Server, files};
use crate::sources;

const CANARY: &str = "Zq7/canary+9911\"é";

const SPEC: &str = "version: 1\nproject: shop\nenvironments: [{name: dev}]\nlibraries: [common]\nvariables: {token: {secret: true}, plain: 1}\n\
    steps:\n  - {name: one, image: i, run: x, accounts: [prod], env: {A: '${{ secrets.token }}', B: '${{ secrets.key }}', C: '${{ vars.tier }}'}}\n";

async fn put(server: &Server, path: &str, value: &str, secret: bool) -> crate::harness::Answer {
    server.call(Method::PUT, path, json!({ "value": value, "secret": secret }).to_string()).await
}

/// A server on which the canary is every sort of secret there is, with a release and a deployment that hold it.
async fn server() -> (Server, String) {
    let server = Server::start_with("[sources]\nprotocols = [\"http\"]").await;
    server.post("/libraries", &json!({ "name": "common" })).await.ok(201);
    put(&server, "/libraries/common/variables/key", CANARY, true).await.ok(200);
    put(&server, "/libraries/common/variables/tier", "gold", false).await.ok(200);
    let account = json!({ "type": "aws", "fields": { "access_key_id": "AKIA", "secret_access_key": CANARY } });
    server.call(Method::PUT, "/accounts/prod", account.to_string()).await.ok(200);
    server.apply("shop", SPEC).await.ok(200);
    put(&server, "/projects/shop/variables/token", CANARY, true).await.ok(200);
    server.post("/projects/shop/releases", &json!({ "version": "1.0.0" })).await.ok(201);
    let ask = json!({ "project": "shop", "environment": "dev", "release": "1.0.0", "operation_id": "x" });
    let made = server.post("/deployments", &ask).await.ok(202);
    (server, made["deployment"].as_str().unwrap().to_owned())
}

fn shows(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    let json = serde_json::to_string(CANARY).unwrap();
    [CANARY, json.trim_matches('"'), "Zq7/canary"].iter().any(|form| text.contains(form))
}

#[tokio::test]
async fn no_route_answers_with_a_secret() {
    let (server, deployment) = server().await;
    // It opens the project's repository, too.
    let repository = sources::Repository::new();
    let url = sources::serve(&repository, &sources::basic("git", CANARY));
    let source = format!("source: {{git: '{url}', ref: main, credentials: {{password: token}}}}\n");
    server.apply("shop", &format!("{SPEC}{source}")).await.ok(200);
    server.post("/projects/shop/releases", &json!({ "version": "1.1.0" })).await.ok(201);
    let mut walked = 0;
    for rule in RULES.iter().filter(|rule| rule.method == "GET" && rule.over != Over::Open) {
        let path = rule.path.strip_prefix("/api/v1").unwrap();
        if path.ends_with("/events") {
            continue; // It does not end while the deployment waits; what it sends is the view of the deployment.
        }
        let id = if rule.over == Over::Deployment { deployment.as_str() } else { "x" };
        let names =
            [("{id}", id), ("{name}", "shop"), ("{library}", "common"), ("{pool}", "default"), ("{version}", "1.1.0")];
        for variable in ["token", "key"] {
            let filled = names
                .iter()
                .fold(path.replace("{variable}", variable), |path, (name, value)| path.replace(name, value));
            let filled = if path.ends_with("variables/{variable}/explain") {
                format!("{filled}?environment=dev")
            } else {
                filled
            };
            let answer = server.get(&filled).await;
            assert!(!shows(&answer.body), "{path}: {}", String::from_utf8_lossy(&answer.body));
            assert!(answer.status.is_success() || path.contains("{id}"), "{path}: {answer:?}");
            walked += 1;
        }
    }
    assert!(walked > 40, "{walked}");
    for path in files(server.folder.path()) {
        assert!(!shows(&std::fs::read(&path).unwrap()), "a secret stands in {}", path.display());
    }
}

#[tokio::test]
async fn what_is_refused_does_not_say_the_secret() {
    let (server, _) = server().await;
    for (path, secret) in [
        ("/libraries/common/variables/key", false),
        ("/libraries/common/variables/tier", true),
        ("/libraries/none/variables/key", true),
        ("/libraries/common/variables/1", true),
        ("/projects/shop/variables/plain", true),
        ("/projects/shop/variables/none", true),
    ] {
        let answer = put(&server, path, CANARY, secret).await;
        assert!(answer.status.is_client_error() && !shows(&answer.body), "{path}: {answer:?}");
    }
    for body in [
        json!({ "type": "gcp", "fields": { "credentials": CANARY } }),
        json!({ "type": "pulumi", "fields": { "access_token": CANARY } }),
        json!({ "type": "aws", "fields": { "secret_access_key": CANARY } }),
        json!({ "type": "ssh", "fields": { "key": CANARY } }),
        json!({ "type": "aws", "fields": { "key": [CANARY] } }),
    ] {
        let answer = server.call(Method::PUT, "/accounts/prod", body.to_string()).await;
        assert!(answer.status.is_client_error() && !shows(&answer.body), "{answer:?}");
    }
    assert!(!shows(&server.get("/audit").await.body));
}

#[tokio::test]
async fn a_release_and_an_explanation_name_the_library() {
    let (server, _) = server().await;
    let held = server.get("/projects/shop/releases/1.0.0").await.ok(200);
    let of =
        |name: &str| held["variables"].as_array().unwrap().iter().find(|held| held["name"] == name).unwrap().clone();
    assert_eq!((&of("tier")["library"], &of("tier")["value"]), (&json!("common"), &json!("gold")));
    assert_eq!((&of("key")["library"], &of("key")["value"]), (&json!("common"), &Value::Null));
    assert_eq!(of("token")["library"], Value::Null);
    let explained = server.get("/projects/shop/variables/key/explain?environment=dev").await.ok(200);
    assert_eq!((&explained["from"], &explained["value"]), (&json!("library `common` for everything"), &Value::Null));
    let errors = server.apply("shop", &SPEC.replace("vars.tier", "vars.tire")).await.problem(422, "bad_spec");
    assert_eq!(errors["errors"][0]["line"], 7, "{errors}");
    server.post("/libraries", &json!({ "name": "common" })).await.problem(409, "library_exists");
    assert_eq!(server.get("/libraries").await.ok(200)[0]["name"], "common");
}

#[tokio::test]
async fn the_keys_can_be_rotated_while_everything_is_served() {
    let (server, _) = server().await;
    let before = server.get("/secrets").await.ok(200);
    assert_eq!((&before["keys"][0]["rows"], &before["remaining"]), (&json!(3), &json!(0)), "{before}");
    assert_eq!(before["kek"], "the file `kek` of the data directory");
    let started = server.call(Method::POST, "/secrets/rotate", "").await.ok(202);
    assert_eq!((&started["started"], &started["key"]), (&json!(true), &json!(2)));
    let after = loop {
        let now = server.get("/secrets").await.ok(200);
        if now["remaining"] == 0 {
            break now;
        }
    };
    assert_eq!((&after["keys"][1]["rows"], &after["keys"][1]["current"]), (&json!(3), &json!(true)), "{after}");
}
