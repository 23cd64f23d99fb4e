use super::super::{EngineEvent, Kind, Resource, Summary};
use super::*;

/// Resource steps of two previews of the real CLI, one of which changes, replaces and deletes, and one that creates.
const RECORDED: &str = include_str!("../recorded/preview-3.259.0.jsonl");

fn resource(line: &str, secrets: &[&str]) -> Resource {
    let patterns = crate::redact::Patterns::new(secrets).unwrap();
    let mut event = EngineEvent::parse(line.as_bytes(), &mut |text| patterns.mask(text)).unwrap();
    event.add_values(line.as_bytes(), &mut |text| patterns.mask(text));
    assert_eq!(EngineEvent::from_json(&event.to_json().unwrap()).unwrap(), event);
    let Kind::ResourceStart(resource) = event.kind else { panic!("{line}") };
    resource
}

/// As `~ NAME: OLD => NEW`, with `!` where it replaces.
fn lines(resource: &Resource) -> Vec<String> {
    let line = |change: &PropertyChange| {
        let side = |text: &Option<String>| text.clone().unwrap_or_default();
        let mark = if change.kind.replaces() { "!" } else { "" };
        format!("{}{mark} {}: {} => {}", change.kind.word(), change.property, side(&change.old), side(&change.new))
    };
    resource.values.iter().map(line).collect()
}

fn recorded(secrets: &[&str]) -> Vec<(String, Vec<String>)> {
    RECORDED
        .lines()
        .map(|line| {
            let resource = resource(line, secrets);
            let name = resource.urn.rsplit("::").next().unwrap().to_owned();
            (format!("{} {name}", resource.op), lines(&resource))
        })
        .collect()
}

#[test]
fn what_the_real_cli_tells_is_shown_as_it_shows_it() {
    let shown = recorded(&[]);
    let of = |step: &str| {
        let found = shown.iter().find(|(name, _)| name == step).unwrap();
        found.1.iter().map(String::as_str).collect::<Vec<_>>()
    };
    assert_eq!(
        of("update one"),
        [r#"update content: "x" => "longer text""#, "update secretOutput: [secret] => [secret]"]
    );
    let before = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881-s";
    assert_eq!(
        of("replace two"),
        [format!(r#"update content: "{before}" => [unknown]"#), r#"update! name: "two" => "two-renamed""#.to_owned()]
    );
    assert_eq!(of("delete three"), [r#"delete content: "gone" => "#, r#"delete name: "three" => "#]);
    assert_eq!(
        of("create one"),
        [r#"add content:  => "x""#, r#"add name:  => "one""#, "add secretOutput:  => [secret]"]
    );
    assert_eq!(of("create two"), ["add content:  => [unknown]", r#"add name:  => "two""#]);
    assert_eq!(of("create default"), [r#"add yard:  => "/state/yard""#], "its own notes are nobody's affair");
    for step in ["same quay-dev", "create-replacement two", "delete-replaced two", "create quay-dev"] {
        assert_eq!(of(step), Vec::<&str>::new(), "{step}");
    }
}

#[test]
fn what_is_masked_elsewhere_is_masked_here() {
    let shown = format!("{:?}", recorded(&["longer text", "gone", "yard"]));
    assert!(!shown.contains("longer") && !shown.contains("gone") && !shown.contains("yard"), "{shown}");
    assert!(shown.contains("[secret]"), "{shown}");
}

fn step(op: &str, old: &str, new: &str, more: &str) -> String {
    format!(
        r#"{{"resourcePreEvent":{{"metadata":{{"op":"{op}","urn":"u","type":"t","old":{old},"new":{new}{more}}},"planning":true}}}}"#
    )
}

const HIDDEN: &str = r#"{"4dabf18193072939515e22adb298388d":"1b47061264138c4ac30d75fd1eb44270","ciphertext":"AAAA"}"#;

#[test]
fn a_secret_on_one_side_is_one_on_the_other() {
    let old = format!(
        r#"{{"inputs":{{"a":"old","m":{{"k":"old","l":1}}}},"outputs":{{"a":{HIDDEN},"m":{{"k":{HIDDEN},"l":1}}}}}}"#
    );
    let new = r#"{"inputs":{"a":"plain","m":{"k":"plain","l":2}}}"#;
    let more = r#","detailedDiff":{"a":{"diffKind":"update"},"m":{"diffKind":"update","inputDiff":true},"m.k":{"diffKind":"update"}}"#;
    let shown = resource(&step("update", &old, new, more), &[]);
    assert_eq!(
        lines(&shown),
        [
            "update a: [secret] => [secret]",
            r#"update m: {"k": [secret], "l": 1} => {"k": [secret], "l": 2}"#,
            "update m.k: [secret] => [secret]"
        ]
    );
    let output = r#"{"inputs":{"a":{"4dabf18193072939515e22adb298388d":"d0e6a833031e9bbcd3f4e8bde6ca49a4","secret":true,"value":"plain"}}}"#;
    assert_eq!(lines(&resource(&step("create", "null", output, ""), &[])), ["add a:  => [secret]"]);
}

#[test]
fn paths_lead_into_lists_and_odd_names_and_what_is_not_there_is_not_told() {
    let old = r#"{"inputs":{"l":[1,{"p":2}],"m":{"a.b":"x","q\"":true}},"outputs":{}}"#;
    let new = r#"{"inputs":{"l":[1,{"p":3}],"m":{"a.b":"y","q\"":false}}}"#;
    let more = r#","detailedDiff":{"l[1].p":{"diffKind":"update-replace"},"m[\"a.b\"]":{"diffKind":"update"},"m[\"q\\\"\"]":{"diffKind":"update"},"nowhere[7].x":{"diffKind":"add"},"[odd":{"diffKind":"frobnicate"}}"#;
    assert_eq!(
        lines(&resource(&step("update", old, new, more), &[])),
        [
            "other [odd:  => ",
            "update! l[1].p: 2 => 3",
            r#"update m["a.b"]: "x" => "y""#,
            r#"update m["q\""]: true => false"#,
            "add nowhere[7].x:  => "
        ]
    );
}

#[test]
fn without_a_detailed_difference_names_say_what_differs() {
    let old = r#"{"inputs":{"a":1,"gone":"x","key":"k"}}"#;
    let new = r#"{"inputs":{"a":2,"new.name":null,"key":"l"},"hideDiffs":["a"]}"#;
    let more = r#","diffs":["a","gone","new.name","key","__defaults"],"keys":["key"],"detailedDiff":null"#;
    assert_eq!(
        lines(&resource(&step("replace", old, new, more), &[])),
        [
            "update a: [hidden] => [hidden]",
            r#"delete gone: "x" => "#,
            r#"add ["new.name"]:  => null"#,
            r#"update! key: "k" => "l""#
        ]
    );
}

#[test]
fn numbers_and_texts_that_are_secrets_are_masked_before_anything_is_cut() {
    let long = "x".repeat(MAX_VALUE - 4);
    let new = format!(r#"{{"inputs":{{"n":48151623,"t":"{long}hunter2-canary","u":"a\u001b[0m \u202e"}}}}"#);
    let shown = lines(&resource(&step("create", "null", &new, ""), &["48151623", "hunter2-canary"]));
    assert_eq!(shown[0], "add n:  => [secret]");
    assert!(!shown[1].contains("hunter") && shown[1].contains("... [cut: it has "), "{}", shown[1]);
    assert!(shown[1].len() < MAX_VALUE + 100);
    assert!(!shown[2].contains('\u{1b}'), "nothing that a terminal obeys: {}", shown[2]);
}

#[test]
fn values_are_bounded_and_what_is_left_out_is_counted() {
    let many: Vec<String> = (0..100).map(|n| format!(r#""p{n}":"v""#)).collect();
    let shown = resource(&step("create", "null", &format!(r#"{{"inputs":{{{}}}}}"#, many.join(",")), ""), &[]);
    assert_eq!((shown.values.len(), shown.values_left_out), (MAX_DIFFS, 68));
    let long: Vec<String> = (0..30).map(|n| format!(r#""p{n}":"{}""#, "\\u0001".repeat(5_000))).collect();
    let line = step("create", "null", &format!(r#"{{"inputs":{{{}}}}}"#, long.join(",")), "");
    let shown = resource(&line, &[]);
    let size: usize = shown.values.iter().map(PropertyChange::size).sum();
    assert!(size <= MAX_RESOURCE_TEXT && shown.values_left_out > 0);

    let (name, control) = ("n".repeat(3_000), "\\u0001".repeat(3_000));
    let names = vec![format!("\"{control}\""); 60].join(",");
    let worst = line
        .replace("\"urn\":\"u\"", &format!("\"urn\":\"{control}\",\"diffs\":[{names}]"))
        .replace("\"t\"", &format!("\"{name}\""));
    let mut event = EngineEvent::parse(worst.as_bytes(), &mut str::to_owned).unwrap();
    event.add_values(worst.as_bytes(), &mut str::to_owned);
    assert!(event.to_json().unwrap().len() < crate::spool::MAX_PAYLOAD / 2, "it fits a record");

    let mut summary = Summary::default();
    let patterns = crate::redact::Patterns::default();
    for _ in 0..100 {
        let mut event = EngineEvent::parse(line.as_bytes(), &mut |text| patterns.mask(text)).unwrap();
        event.add_values(line.as_bytes(), &mut |text| patterns.mask(text));
        summary.add(&event);
    }
    assert_eq!(summary.planned.len(), 100);
    assert!(serde_json::to_vec(&summary).unwrap().len() < 1 << 20);
    let last = summary.planned.last().unwrap();
    assert_eq!((last.values.len(), last.values_left_out), (0, 30), "the change stays, its values do not");
}

#[test]
fn only_a_preview_that_changes_something_tells_values() {
    let line = step("create", "null", r#"{"inputs":{"a":"x"}}"#, "");
    assert_eq!(resource(&line, &[]).values.len(), 1);
    assert_eq!(resource(&line.replace("true", "false"), &[]).values, []);
    assert_eq!(resource(&line.replace("create", "read"), &[]).values, []);
    let mut event = EngineEvent::parse(line.as_bytes(), &mut str::to_owned).unwrap();
    event.add_values(b"no json", &mut str::to_owned);
    assert!(matches!(event.kind, Kind::ResourceStart(resource) if resource.values.is_empty()));
}
