use super::*;

fn read(line: &str, secrets: &[&str]) -> EngineEvent {
    let patterns = crate::redact::Patterns::new(secrets).unwrap();
    let event = EngineEvent::parse(line.as_bytes(), &mut |text| patterns.mask(text)).unwrap();
    assert_eq!(EngineEvent::from_json(&event.to_json().unwrap()).unwrap(), event);
    event
}

const SUMMARY: &str = r#"{"sequence":9,"timestamp":1763726400,"summaryEvent":{"maybeCorrupt":false,"durationSeconds":3,
    "resourceChanges":{"create":3,"same":1,"frobnicate":2,"shuffle":1},"PolicyPacks":{},"isPreview":false,"result":"succeeded"}}"#;

#[test]
fn no_secret_changes_what_is_counted() {
    let secrets = ["create", "3", "e", "succeeded", "plugin-download", "error", "summary"];
    let event = read(SUMMARY, &secrets);
    assert_eq!(event, read(SUMMARY, &[]));
    let mut summary = Summary::default();
    summary.add(&event);
    assert_eq!(summary.changes(), BTreeMap::from([(Op::Create, 3), (Op::Same, 1), (Op::Other, 3)]));
    assert_eq!((summary.result(), summary.maybe_corrupt()), (Some(Outcome::Succeeded), false));
}

#[test]
fn free_text_is_masked_whole() {
    let line = r#"{"sequence":1,"timestamp":5,"diagnosticEvent":{"urn":"urn:pulumi:dev::p::t::hunter2","prefix":"<{%fg 1%}>\u001b[31merror\u001b[0m: hun",
        "message":"ter2 is \"wrong\"\n","color":"raw","severity":"error","streamID":2}}"#;
    let event = read(line, &["hunter2"]);
    let Kind::Diagnostic { severity, urn, message, ephemeral } = &event.kind else { panic!("{event:?}") };
    assert_eq!((*severity, *ephemeral, urn.as_str()), (Severity::Error, false, "urn:pulumi:dev::p::t::[secret]"));
    assert_eq!(message, "<{%fg 1%}>\u{1b}[31merror\u{1b}[0m: [secret] is \"wrong\"\n");
    let mut summary = Summary::default();
    summary.add(&event);
    assert_eq!(summary.errors, ["error: [secret] is \"wrong\""]);
}

#[test]
fn inputs_and_outputs_of_resources_are_not_kept() {
    let line = r#"{"sequence":2,"timestamp":5,"resOutputsEvent":{"metadata":{"op":"update","urn":"u","type":"dock:index:Berth",
        "old":{"inputs":{"password":"plain"}},"new":{"outputs":{"password":"plain"}},"keys":null,"diffs":["size"],
        "detailedDiff":{"size":{"diffKind":"update","inputDiff":true}},"logical":true,"provider":"p"},"planning":true}}"#;
    let event = read(line, &[]);
    assert!(!String::from_utf8(event.to_json().unwrap()).unwrap().contains("plain"));
    let want = Resource {
        op: Op::Update,
        urn: "u".into(),
        type_token: "dock:index:Berth".into(),
        provider: String::new(),
        planning: true,
        diffs: vec!["size".into()],
        values: vec![],
        values_left_out: 0,
    };
    assert_eq!(event.kind, Kind::ResourceEnd(want));
}

#[test]
fn what_is_not_known_is_passed_over() {
    assert_eq!(read(r#"{"sequence":1,"timestamp":2,"newEvent":{"a":[1]},"more":{}}"#, &[]).kind, Kind::Other);
    assert_eq!(read(r#"{"sequence":1,"timestamp":2,"cancelEvent":{}}"#, &[]).kind, Kind::Cancel);
    let error = EngineEvent::parse(b"{\"sequence\": hunter2}", &mut str::to_owned).unwrap_err().to_string();
    assert_eq!(error, "not an engine event: line of 21 bytes, wrong at column 14");
    let newer = br#"{"sequence":1,"at":2,"kind":{"policy":{"enforcement":"new","name":"n","pack":"p","urn":"","message":"","x":1}}}"#;
    assert!(matches!(
        EngineEvent::from_json(newer).unwrap().kind,
        Kind::Policy { enforcement: Enforcement::Other, .. }
    ));
}

#[test]
fn downloads_and_violations_are_counted() {
    let mut summary = Summary::default();
    for (kind, id) in
        [("plugin-download", "a"), ("plugin-download", "a"), ("plugin-install", "a"), ("plugin-download", "b")]
    {
        summary.add(&read(
            &format!(r#"{{"progressEvent":{{"type":"{kind}","id":"{id}","received":1,"total":2,"done":false}}}}"#),
            &[],
        ));
    }
    for level in ["mandatory", "warning", "remediate"] {
        summary.add(&read(&format!(r#"{{"policyEvent":{{"enforcementLevel":"{level}","message":"m"}}}}"#), &[]));
    }
    assert_eq!((summary.plugin_downloads(), summary.mandatory_violations, summary.other_violations), (2, 1, 2));
}

#[test]
fn a_provider_that_was_used_and_not_fetched_is_a_hit() {
    let recorded = include_str!("recorded/preview-3.259.0.jsonl");
    let mut summary = Summary::default();
    recorded.lines().for_each(|line| summary.add(&read(line, &[])));
    // One provider of five resources, and the stack, which has none.
    assert_eq!((summary.plugin_hits(), summary.plugin_downloads()), (1, 0));
    summary.add(&read(r#"{"progressEvent":{"type":"plugin-download","id":"a"}}"#, &[]));
    assert_eq!((summary.plugin_hits(), summary.plugin_downloads()), (0, 1));
}

#[test]
fn errors_are_bounded() {
    let mut summary = Summary::default();
    let long = "€".repeat(3000);
    for _ in 0..50 {
        summary.add(&read(&format!(r#"{{"errorEvent":{{"error":"{long}"}}}}"#), &[]));
    }
    assert_eq!((summary.error_count, summary.errors.len()), (50, MAX_ERRORS));
    assert!(summary.errors[0].len() <= 4099 && summary.errors[0].ends_with("..."));
}

#[test]
fn every_event_fits_a_record() {
    let long = "\\u0001".repeat(100_000);
    let diffs = vec![format!("\"{long}\""); 60].join(",");
    let line = format!(
        r#"{{"resourcePreEvent":{{"metadata":{{"op":"x","urn":"{long}","type":"{long}","diffs":[{diffs}]}}}}}}"#
    );
    assert!(read(&line, &[]).to_json().unwrap().len() < crate::spool::MAX_PAYLOAD / 2);
}

#[test]
fn the_last_account_wins() {
    let mut summary = Summary::default();
    summary.add(&read(r#"{"summaryEvent":{"resourceChanges":{"create":1},"isPreview":true}}"#, &[]));
    assert_eq!((summary.totals.as_ref().unwrap().preview, summary.result()), (true, None));
    summary.add(&read(SUMMARY, &[]));
    assert_eq!((summary.totals.as_ref().unwrap().preview, summary.changes()[&Op::Create]), (false, 3));
    let stored = serde_json::to_string(&summary).unwrap();
    assert_eq!(serde_json::from_str::<Summary>(&stored).unwrap(), summary);
}

#[test]
fn outputs_of_the_stack_come_from_its_event() {
    let line = |kind: &str, planning: bool| {
        format!(
            r#"{{"sequence":8,"resOutputsEvent":{{"metadata":{{"op":"same","type":"{kind}","new":{{"outputs":{{"url":"http://x","n":[1,
            {{"4dabf18193072939515e22adb298388d":"1b47061264138c4ac30d75fd1eb44270","ciphertext":"[secret]"}}],
            "later":"04da6b54-80e4-46f7-96ec-b56ff0331ba9"}}}}}},"planning":{planning}}}}}"#
        )
    };
    let outputs = stack_outputs(line("pulumi:pulumi:Stack", false).as_bytes()).unwrap();
    assert_eq!(serde_json::to_string(&outputs).unwrap(), r#"{"n":[1,"[secret]"],"url":"http://x"}"#);
    assert_eq!(stack_outputs(line("pulumi:pulumi:Stack", true).as_bytes()), None);
    assert_eq!(stack_outputs(line("dock:index:Berth", false).as_bytes()), None);
    assert_eq!(stack_outputs(SUMMARY.as_bytes()), None);
}

#[test]
fn what_a_preview_would_change_is_kept_and_bounded() {
    let line = |op: &str, urn: &str, planning: bool| {
        format!(
            r#"{{"resourcePreEvent":{{"metadata":{{"op":"{op}","urn":"{urn}","type":"t","diffs":["content"]}},"planning":{planning}}}}}"#
        )
    };
    let mut summary = Summary::default();
    for (op, urn, planning) in [("same", "a", true), ("update", "hunter2", true), ("create", "b", false)] {
        summary.add(&read(&line(op, urn, planning), &["hunter2"]));
    }
    let properties = vec!["content".to_owned()];
    assert_eq!(
        summary.planned,
        [Change { urn: "[secret]".to_owned(), op: Op::Update, properties, values: vec![], values_left_out: 0 }]
    );
    for _ in 0..2 * MAX_CHANGES {
        summary.add(&read(&line("create", &"u".repeat(1000), true), &[]));
    }
    assert!(summary.planned.len() < MAX_CHANGES && serde_json::to_vec(&summary).unwrap().len() < 512 << 10);
}

#[test]
fn a_refusal_of_the_plan_is_told_from_other_failures() {
    let mut summary = Summary::default();
    summary.add(&read(r#"{"errorEvent":{"error":"no room at the quay"}}"#, &[]));
    assert!(!summary.violates_plan());
    summary
        .add(&read(r#"{"errorEvent":{"error":"resource urn:x violates plan: properties changed: ~~content"}}"#, &[]));
    assert!(summary.violates_plan());
}
