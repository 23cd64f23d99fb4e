//! What a step asks for is what its container gets, and what no agent has is said.

use longshore_tests::dev::Dev;
use longshore_tests::docker::docker;
use longshore_tests::spec;

#[test]
fn a_request_becomes_the_limits_of_the_container_and_an_impossible_one_is_explained() {
    let dev = Dev::start();
    let wait = "while [ ! -e /state/go ]; do usleep 20000; done";
    dev.apply(&spec("asks", wait, "resources: {cpus: 0.5, memory: 64MiB}", ""));
    let id = dev.deploy("asks", &[]);
    let container = dev.container(&id);
    let limits = docker(&["inspect", "-f", "{{.HostConfig.NanoCpus}} {{.HostConfig.Memory}}", &container]).ok();
    assert_eq!(limits.text().trim(), "500000000 67108864");
    let agents = dev.json(&["agents"]);
    assert_eq!(agents[0]["reserved"], serde_json::json!({ "cpus": "0.5", "memory": "64MiB" }), "{agents}");

    dev.apply(&spec("large", "true", "", "resources: {memory: 512TiB}\n"));
    let large = dev.deploy("large", &[]);
    let explained = dev.json(&["explain", &large]);
    let rules = explained["rules"].as_array().unwrap();
    assert!(rules.iter().any(|rule| rule["rule"] == "possible" && rule["ok"] == false), "{explained}");
    let why = explained["agents"][0]["rejected_by"].as_array().unwrap();
    assert!(why.iter().any(|one| one["predicate"] == "memory"), "{explained}");

    std::fs::write(dev.state().join("go"), "").unwrap();
    assert_eq!(dev.end(&id)["state"], "succeeded");
}
