//! A panic of a whole process, with its log as JSON.

use std::process::Command;

use longshore_logging::Format;
use serde_json::Value;

const CHILD: &str = "LONGSHORE_TEST_PANICS";

#[test]
fn a_panic_is_a_line_with_the_ids_of_what_it_happened_in() {
    if std::env::var_os(CHILD).is_some() {
        longshore_logging::init("warn".parse().unwrap(), Format::Json).unwrap();
        tracing::error_span!("attempt", attempt = "att_1").in_scope(|| panic!("nothing was expected of {}", 7));
    }
    let own = std::env::current_exe().unwrap();
    let name = "a_panic_is_a_line_with_the_ids_of_what_it_happened_in";
    let mut child = Command::new(own);
    child.args(["--exact", name, "--nocapture"]).env(CHILD, "1").env_remove("RUST_BACKTRACE");
    let output = child.output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let [line] = lines.as_slice() else { panic!("{text}") };
    assert_eq!((&line["level"], &line["message"]), (&Value::from("ERROR"), &Value::from("the program panicked")));
    assert_eq!((&line["panic"], &line["attempt"]), (&Value::from("nothing was expected of 7"), &Value::from("att_1")));
    assert!(line["place"].as_str().unwrap().contains("panics.rs:"), "{line}");
}
