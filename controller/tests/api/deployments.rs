//! Deployments as far as they go without an agent.

use serde_json::json;

use crate::harness::{Server, spec};

async fn server() -> Server {
    let server = Server::start().await;
    server.apply("shop", &spec("shop")).await.ok(200);
    server
}

#[tokio::test]
async fn a_repeated_request_makes_one_deployment() {
    let server = server().await;
    let ask = json!({"project": "shop", "environment": "dev", "operation_id": "op-1"});
    let first = server.post("/deployments", &ask).await.ok(202);
    assert_eq!(server.post("/deployments", &ask).await.ok(202), first);
    let other = json!({"project": "shop", "environment": "dev", "operation_id": "op-2"});
    assert_ne!(server.post("/deployments", &other).await.ok(202), first);
    let listed = server.get("/deployments?project=shop&limit=10").await.ok(200);
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(listed[1]["id"], first["deployment"], "newest first");
    let shown = server.get(&format!("/deployments/{}", first["deployment"].as_str().unwrap())).await.ok(200);
    assert!(shown["waiting_for"].is_string(), "it says what it waits for: {shown:#}");
    assert_eq!((&shown["project"], &shown["steps"][0]["name"]), (&json!("shop"), &json!("one")));
}

#[tokio::test]
async fn it_is_explained_by_its_own_id_and_by_its_jobs() {
    let server = server().await;
    let ask = json!({"project": "shop", "environment": "dev", "operation_id": "op-1"});
    let id = server.post("/deployments", &ask).await.ok(202)["deployment"].as_str().unwrap().to_owned();
    let own = server.get(&format!("/deployments/{id}/explain")).await.ok(200);
    assert_eq!((&own["id"], &own["rules"][0]["rule"]), (&json!(id), &json!("agent")), "{own:#}");
    let events = server.get(&format!("/deployments/{id}/timeline")).await.ok(200);
    let queued = events.as_array().unwrap().iter().find(|event| event["action"] == "job.queued").unwrap();
    let job = queued["detail"]["job"].as_str().unwrap();
    assert_eq!(server.get(&format!("/deployments/{job}/explain")).await.ok(200), own);
    let none = format!("job_{}", "0".repeat(32));
    server.get(&format!("/deployments/{none}/explain")).await.problem(404, "not_found");
    server.get("/deployments/what/explain").await.problem(404, "not_found");
}

#[tokio::test]
async fn the_last_one_that_waits_is_moved_to_the_top() {
    let server = server().await;
    let ask = |id: &str| json!({"project": "shop", "environment": "dev", "operation_id": id});
    let mut ids = Vec::new();
    for operation in ["op-1", "op-2", "op-3"] {
        let made = server.post("/deployments", &ask(operation)).await.ok(202);
        ids.push(made["deployment"].as_str().unwrap().to_owned());
    }
    let top = server.post(&format!("/deployments/{}/top", ids[2]), &json!(null)).await.ok(200);
    assert_eq!(top["id"], json!(ids[2]));
    server.post(&format!("/deployments/{}/top", ids[0]), &json!(null)).await.problem(409, "begun");
    // When the first one is gone, the third begins, and the second waits for it.
    server.post(&format!("/deployments/{}/cancel", ids[0]), &json!({})).await.ok(202);
    let second = server.get(&format!("/deployments/{}", ids[1])).await.ok(200);
    assert!(second["waiting_for"].as_str().unwrap().contains(&ids[2]), "{second:#}");
    let guide = format!("/deployments/{}/steps/one/guide", ids[2]);
    server.post(&guide, &json!({"choice": "ignore", "comment": "known"})).await.problem(409, "not_asked");
    server.post(&guide, &json!({"choice": "shrug", "comment": "known"})).await.problem(422, "bad_json");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_name() {
    let server = server().await;
    let ask = |project: &str, environment: &str| json!({"project": project, "environment": environment, "operation_id": "op"});
    let problem = server.post("/deployments", &ask("shp", "dev")).await.problem(404, "not_found");
    assert!(problem["detail"].as_str().unwrap().contains("shp"), "{problem}");
    let refused = server.post("/deployments", &ask("shop", "prod")).await;
    assert!(
        refused.status.is_client_error() && refused.json()["detail"].as_str().unwrap().contains("prod"),
        "{refused:?}"
    );
    let mut wrong = ask("shop", "dev");
    wrong["operation_id"] = json!("");
    server.post("/deployments", &wrong).await.problem(422, "invalid");
    wrong["extra"] = json!(1);
    server.post("/deployments", &wrong).await.problem(422, "bad_json");
    let mut missing = ask("shop", "dev");
    missing["package"] = json!("0".repeat(64));
    let refused = server.post("/deployments", &missing).await;
    assert!(refused.status.is_client_error(), "{refused:?}");
    assert_eq!(server.get("/deployments").await.ok(200), json!([]));
}

#[tokio::test]
async fn a_queued_deployment_is_canceled_and_its_stream_ends() {
    let server = server().await;
    let ask = json!({"project": "shop", "environment": "dev", "operation_id": "op"});
    let id = server.post("/deployments", &ask).await.ok(202)["deployment"].as_str().unwrap().to_owned();
    let events = format!("/deployments/{id}/events");
    let (cancel, nothing) = (format!("/deployments/{id}/cancel"), json!({}));
    let (stream, canceled) = tokio::join!(server.get(&events), server.post(&cancel, &nothing));
    assert_eq!(canceled.ok(202)["state"], "canceled");
    let text = String::from_utf8(stream.body).unwrap();
    assert!(text.contains("event: state\n") && text.contains("event: end\ndata: {\"state\":\"canceled\"}"), "{text}");
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    server.post(&cancel, &nothing).await.problem(409, "ended");
    server.post(&format!("/deployments/{id}/resolve"), &json!({"reason": ""})).await.problem(422, "invalid");
    assert_eq!(server.post(&format!("/deployments/{id}/resolve"), &json!({"reason": "looked"})).await.status, 409);
    assert_eq!(server.get(&format!("/deployments/{id}/log?format=raw")).await.body, b"");
    server.get(&format!("/deployments/{id}/log?step=two")).await.problem(404, "not_found");
    server.get(&format!("/deployments/{id}/log?format=xml")).await.problem(400, "bad_query");
    server.get(&format!("/deployments/{id}/events?cursor=one")).await.problem(400, "bad_cursor");
    server.get(&format!("/deployments/{id}/events?cursor=two:5")).await.problem(400, "bad_cursor");
    assert!(!server.get(&format!("/deployments/{id}/timeline")).await.ok(200).as_array().unwrap().is_empty());
}

#[tokio::test]
async fn channels_are_asked_for_filtered_by_and_shown() {
    let server = Server::start().await;
    let channels = "channels:\n  - {name: stable, prerelease: none, default: true}\n  - {name: beta, prerelease: beta}\nvariables:\n  size: {value: 1, channels: {beta: 2}}\n";
    server.apply("shop", &spec("shop").replacen("variables:\n", channels, 1)).await.ok(200);
    let make = async |body: serde_json::Value| server.post("/projects/shop/releases", &body).await;
    assert_eq!(make(json!({ "version": "1.0.0" })).await.ok(201)["channel"], "stable");
    assert_eq!(make(json!({ "version": "2.0.0-beta.1" })).await.ok(201)["channel"], "beta");
    make(json!({ "version": "2.0.0-rc.1" })).await.problem(403, "no_channel");
    make(json!({ "version": "2.0.0", "channel": "beta" })).await.problem(403, "channel_refuses");
    make(json!({ "channel": "bata" })).await.problem(404, "not_found");
    let listed = server.get("/projects/shop/releases?channel=beta").await.ok(200);
    let versions: Vec<_> = listed.as_array().unwrap().iter().map(|row| (&row["version"], &row["channel"])).collect();
    assert_eq!(versions, [(&json!("2.0.0-beta.1"), &json!("beta"))]);
    server.get("/projects/shop/releases?channel=bata").await.problem(404, "not_found");
    let ask =
        |channel: &str| json!({"project": "shop", "environment": "dev", "channel": channel, "operation_id": channel});
    server.post("/deployments", &ask("stable")).await.ok(202);
    server.post("/deployments", &ask("beta")).await.problem(403, "channel_refuses");
    let explain = "/projects/shop/variables/size/explain?environment=dev";
    assert_eq!(server.get(explain).await.ok(200)["value"], "1");
    assert_eq!(server.get(&format!("{explain}&channel=beta")).await.ok(200)["from"], "the spec for channel `beta`");
}
