//! The description that is committed is the one of what is served.

use std::path::Path;

#[test]
fn the_committed_document_is_the_served_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let made = format!("{}\n", longshore_controller::api::openapi().to_pretty_json().unwrap());
    if std::env::var_os("LONGSHORE_BLESS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == made,
        "docs/openapi.json is not what the routes say: run this test with LONGSHORE_BLESS=1 and look at the difference"
    );
}

#[test]
fn the_document_is_openapi_3_1_and_says_who_may() {
    let document = serde_json::to_value(longshore_controller::api::openapi()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert_eq!(operation["security"].is_array(), path.starts_with("/api/v1/"), "{method} {path}");
            assert!(operation["summary"].is_string(), "{method} {path} says nothing of itself");
        }
    }
}
