//! Projects and their variables.

use axum::http::Method;
use serde_json::json;

use crate::harness::{Server, files, spec};

#[tokio::test]
async fn a_project_is_made_kept_and_changed() {
    let server = Server::start().await;
    let first = server.apply("shop", &spec("shop")).await.ok(200);
    assert_eq!(first, json!({"project": "shop", "revision": 1, "changed": true}));
    let same = format!("# a comment\n{}", spec("shop"));
    assert_eq!(server.apply("shop", &same).await.ok(200), json!({"project": "shop", "revision": 1, "changed": false}));
    let changed = spec("shop").replace("hello", "goodbye");
    assert_eq!(
        server.apply("shop", &changed).await.ok(200),
        json!({"project": "shop", "revision": 2, "changed": true})
    );
    let shown = server.get("/projects/shop").await.ok(200);
    assert_eq!((&shown["revision"], &shown["environments"]), (&json!(2), &json!(["dev"])));
    assert_eq!(server.get("/projects").await.ok(200).as_array().unwrap().len(), 1);
    server.get("/projects/other").await.problem(404, "not_found");
}

#[tokio::test]
async fn a_project_that_moved_is_not_overwritten() {
    let server = Server::start().await;
    server.get("/projects/shop/spec").await.problem(404, "not_found");
    let apply = async |text: &str, revision: &str| {
        server.call(Method::PUT, &format!("/projects/shop?if_revision={revision}"), text.to_owned()).await
    };
    let (first, second) = (spec("shop"), spec("shop").replace("hello", "goodbye"));
    apply(&first, "1").await.problem(409, "revision_moved");
    assert_eq!(apply(&first, "0").await.ok(200)["revision"], 1);
    assert_eq!(apply(&second, "1").await.ok(200)["revision"], 2);
    // The answer was lost: the same request again finds what it wanted.
    assert_eq!(apply(&second, "1").await.ok(200), json!({"project": "shop", "revision": 2, "changed": false}));
    let problem = apply(&first, "1").await.problem(409, "revision_moved");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("is at revision 2, made by `admin` at 20") && problem["hint"].is_string(), "{problem}");
    apply(&first, "x").await.problem(400, "bad_query");
    server.call(Method::PUT, "/projects/shop?revision=1", first.clone()).await.problem(400, "bad_query");
    let shown = server.get("/projects/shop/spec").await.ok(200);
    assert_eq!((&shown["revision"], &shown["created_by"]), (&json!(2), &json!("admin")));
    let parsed: longshore_core::spec::Project = serde_json::from_value(shown["spec"].clone()).unwrap();
    assert_eq!(parsed.digest_input(), longshore_core::spec::parse(&second).unwrap().digest_input());
}

#[tokio::test]
async fn a_bad_spec_changes_nothing_and_names_every_mistake() {
    let server = Server::start().await;
    let bad = "version: 1\nproject: shop\nenvironments:\n  - name: dev\nsteps:\n  - name: one\n    image: x\n    run: echo\n    tiemout: 5m\n    profil: locked\n";
    let problem = server.apply("shop", bad).await.problem(422, "bad_spec");
    let errors = problem["errors"].as_array().unwrap();
    assert_eq!(errors.iter().map(|e| e["line"].as_u64().unwrap()).collect::<Vec<_>>(), [9, 10], "{errors:#?}");
    assert!(errors[0]["field"].as_str().unwrap().contains("tiemout"), "{errors:#?}");
    server.apply("shop", &spec("other")).await.problem(422, "other_project");
    server.apply("shop", "\u{0}").await.problem(422, "bad_spec");
    assert_eq!(server.get("/projects").await.ok(200), json!([]));
}

#[tokio::test]
async fn a_secret_is_stored_sealed_and_never_shown() {
    let server = Server::start().await;
    server.apply("shop", &spec("shop")).await.ok(200);
    let canary = "Zq7-canary/0123456789abcdef";
    let set = async |body: serde_json::Value| {
        server.call(Method::PUT, "/projects/shop/variables/token", body.to_string()).await
    };
    assert_eq!(set(json!({"value": canary, "secret": true})).await.ok(200), json!({"name": "token", "secret": true}));
    let shown = server.get("/projects/shop/variables").await;
    assert!(!String::from_utf8(shown.body.clone()).unwrap().contains(canary));
    assert_eq!(shown.ok(200)[0]["value"], json!(null));
    for path in files(server.folder.path()) {
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(canary.len()).any(|w| w == canary.as_bytes()), "a secret stands in {}", path.display());
    }
    let problem = set(json!({"value": canary, "secert": true})).await.problem(422, "bad_json");
    assert!(problem["detail"].as_str().unwrap().contains("secert") && !problem.to_string().contains(canary));
    set(json!({"secret": true})).await.problem(422, "bad_json");
}
