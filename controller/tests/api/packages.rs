//! Packages, good and bad.

use axum::body::Body;
use axum::http::Method;

use crate::harness::{Server, files, package, sha256};

#[tokio::test]
async fn a_package_is_uploaded_once() {
    let server = Server::start().await;
    let bytes = package("Pulumi.yaml", b"name: x\nruntime: yaml\n");
    let path = format!("/packages/{}", sha256(&bytes));
    assert_eq!(server.call(Method::HEAD, &path, "").await.status, 404);
    let stored = server.call(Method::PUT, &path, bytes.clone()).await.ok(201);
    assert_eq!(
        (stored["sha256"].as_str().unwrap(), stored["bytes"].as_u64().unwrap()),
        (sha256(&bytes).as_str(), bytes.len() as u64)
    );
    assert_eq!(server.call(Method::HEAD, &path, "").await.status, 200);
    server.call(Method::PUT, &path, bytes).await.ok(200);
}

#[tokio::test]
async fn what_is_wrong_leaves_nothing() {
    let server = Server::start_with("max_package_bytes = 5000").await;
    let before = files(&server.folder.path().join("data/packages")).len();
    let good = package("a", b"x");
    let put = async |sha: &str, body: Body| server.call(Method::PUT, &format!("/packages/{sha}"), body).await;
    put(&"0".repeat(64), good.clone().into()).await.problem(422, "digest_mismatch");
    put("nonsense", good.clone().into()).await.problem(422, "invalid");
    put("..%2f..%2fetc", good.into()).await.problem(422, "invalid");
    let hostile = package("../../etc/cron.d/x", b"x");
    let problem = put(&sha256(&hostile), hostile.into()).await.problem(422, "bad_package");
    assert!(problem["detail"].as_str().unwrap().contains("../../etc/cron.d/x"), "{problem}");
    let large = vec![7; 6_000];
    put(&sha256(&large), large.into()).await.problem(413, "too_large");
    assert_eq!(files(&server.folder.path().join("data/packages")).len(), before);
}
