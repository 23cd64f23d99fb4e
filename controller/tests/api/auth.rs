//! Who is let in.

use axum::body::Body;
use axum::http::{Method, Request, header};

use crate::harness::Server;

/// What may be asked without a token. Each line here is a decision.
const GOLDEN: [&str; 5] =
    ["GET /healthz", "GET /readyz", "GET /metrics", "GET /openapi.json", "GET /api/v1/openapi.json"];

/// Every route there is, by the document that is made from the routes.
fn routes() -> Vec<(Method, String)> {
    let document = serde_json::to_value(longshore_controller::api::openapi()).unwrap();
    let mut routes = vec![(Method::GET, "/openapi.json".to_owned()), (Method::GET, "/api/v1/openapi.json".to_owned())];
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            let path = path.replace("{id}", "dep_0").replace("{sha256}", &"0".repeat(64)).replace(['{', '}'], "");
            routes.push((method.to_uppercase().parse().unwrap(), path));
        }
    }
    routes
}

#[tokio::test]
async fn every_route_asks_for_a_token_but_the_golden_ones() {
    let server = Server::start().await;
    let mut open = Vec::new();
    for (method, path) in routes() {
        for authorization in [
            None,
            Some("Bearer lst_wrong".to_owned()),
            Some(format!("Bearer lst_{}", "A".repeat(43))),
            Some(format!("Basic {}", server.token)),
        ] {
            let mut request = Request::builder().method(method.clone()).uri(&path);
            if let Some(value) = authorization {
                request = request.header(header::AUTHORIZATION, value);
            }
            let answer = server.send(request.body(Body::empty()).unwrap()).await;
            if answer.status == 401 {
                assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer");
            } else {
                open.push(format!("{method} {path}"));
            }
        }
    }
    open.dedup();
    open.sort();
    let mut golden = GOLDEN.map(str::to_owned);
    golden.sort();
    assert_eq!(open, golden);
}

#[tokio::test]
async fn a_refusal_is_a_problem_document() {
    let mut server = Server::start().await;
    server.get("/nothing/here").await.problem(404, "no_such_path");
    server.call(Method::DELETE, "/agents", "").await.problem(405, "no_such_method");
    server.get("/deployments/job_1").await.problem(404, "not_found");
    server.get("/deployments?limt=1").await.problem(400, "bad_query");
    let good = std::mem::replace(&mut server.token, "lst_x".to_owned());
    let problem = server.get("/agents").await.problem(401, "unauthorized");
    assert!(problem["hint"].as_str().unwrap().contains("LONGSHORE_TOKEN"));
    server.token = good;
    assert_eq!(server.get("/agents").await.ok(200), serde_json::json!([]));
}

#[tokio::test]
async fn health_is_told_to_anybody() {
    let server = Server::start().await;
    let open = async |path: &str| server.send(Request::get(path).body(Body::empty()).unwrap()).await;
    assert_eq!(open("/healthz").await.body, b"ok\n");
    assert_eq!(open("/readyz").await.ok(200), serde_json::json!({"ready": true, "problems": []}));
    open("/readyz").await.ok(200);
    let metrics = String::from_utf8(open("/metrics").await.body).unwrap();
    let manual = include_str!("../../../docs/metrics.md");
    for name in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(manual.contains(&format!("`{name}`")), "{name} is not in docs/metrics.md");
    }
    for name in [
        "longshore_queue_depth 0",
        "longshore_agents_connected 0",
        "longshore_http_requests_total{",
        "longshore_deployments{state=\"succeeded\"} 0",
        "longshore_commit_duration_seconds_bucket",
    ] {
        assert!(metrics.contains(name), "{name}\n{metrics}");
    }
}
