//! Pools over the API.

use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::json;

use crate::harness::Server;

#[tokio::test]
async fn a_pool_is_there_without_being_made_and_is_set_as_a_whole() {
    let server = Server::start().await;
    assert_eq!(server.get("/pools").await.ok(200), json!([]));
    let blank = server.get("/pools/blue").await.ok(200);
    assert_eq!((&blank["settings"], &blank["revision"], &blank["updated_by"]), (&json!({}), &json!(0), &json!(null)));

    let set = async |settings: serde_json::Value, revision: &str| {
        let path = format!("/pools/blue?if_revision={revision}");
        server.call(Method::PUT, &path, settings.to_string()).await
    };
    let settings = json!({ "description": "for the web", "paused": "hosts are updated" });
    set(settings.clone(), "3").await.problem(409, "revision_moved");
    let first = set(settings.clone(), "0").await.ok(200);
    assert_eq!((&first["settings"], &first["revision"]), (&settings, &json!(1)));
    assert_eq!(set(settings.clone(), "0").await.ok(200)["revision"], 1, "the same again changes nothing");
    let moved = set(json!({}), "0").await.problem(409, "revision_moved");
    assert!(moved["detail"].as_str().unwrap().contains("are at revision 1, set by `"), "{moved}");
    assert_eq!(set(json!({}), "1").await.ok(200)["settings"], json!({}), "what is left out has its default");
    assert_eq!(server.get("/pools").await.ok(200)[0]["name"], "blue");

    set(json!({ "pause": "x" }), "2").await.problem(422, "bad_json");
    let bad = set(json!({ "paused": "" }), "2").await.problem(422, "invalid");
    assert!(bad["detail"].as_str().unwrap().contains("`paused`"), "{bad}");
    server.get("/pools/no%20name").await.problem(422, "invalid");
    let audit = server.get("/audit").await.ok(200).to_string();
    assert_eq!(audit.matches("pool.set").count(), 2, "{audit}");
}

#[tokio::test]
async fn what_a_pool_waits_for_is_shown_and_measured() {
    let server = Server::start().await;
    let scaling = json!({ "max": 3, "warm": 0, "target": { "command": { "name": "rack" } } });
    let set = |settings: serde_json::Value| server.call(Method::PUT, "/pools/scaled", settings.to_string());
    let stored = set(json!({ "scaling": scaling })).await.ok(200);
    assert_eq!(
        (&stored["settings"]["scaling"]["max"], &stored["settings"]["scaling"]["idle"]),
        (&json!(3), &json!("2m"))
    );
    let view = server.get("/pools/scaled/scaling").await.ok(200);
    assert_eq!((&view["queued"], &view["waiting"], &view["events"]), (&json!(0), &json!({}), &json!([])));
    assert_eq!((&view["scaler"]["kind"], &view["scaler"]["group"]), (&json!("command"), &json!("rack")));
    assert_eq!(server.get("/pools/red/scaling").await.ok(200)["scaler"], json!(null));
    server.get("/pools/no%20name/scaling").await.problem(422, "invalid");
    let bad = set(json!({ "scaling": { "max": 0, "target": { "command": { "name": "rack" } } } })).await;
    assert!(bad.problem(422, "invalid")["detail"].as_str().unwrap().contains("`scaling.max`"));

    let metrics = async || {
        String::from_utf8(server.send(Request::get("/metrics").body(Body::empty()).unwrap()).await.body).unwrap()
    };
    let text = metrics().await;
    assert!(text.contains("longshore_pool_machines{pool=\"scaled\",bound=\"max\"} 3"), "{text}");
    set(json!({})).await.ok(200);
    let text = metrics().await;
    assert!(text.contains("longshore_pool_machines{pool=\"scaled\",bound=\"max\"} 0"), "what is gone is 0: {text}");
}
