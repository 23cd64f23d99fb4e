//! The wire does not change under agents that are out there: nothing is removed or renumbered.

use std::fmt::Write as _;

use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorSet};

#[expect(clippy::unwrap_used, reason = "a helper of a test")]
fn describe(prefix: &str, message: &DescriptorProto, out: &mut String) {
    let name = format!("{prefix}.{}", message.name());
    for field in &message.field {
        writeln!(out, "{name}.{} = {} {:?} {:?}", field.name(), field.number(), field.r#type(), field.label()).unwrap();
    }
    for nested in &message.nested_type {
        describe(&name, nested, out);
    }
}

#[expect(clippy::unwrap_used, reason = "a helper of a test")]
fn describe_all(files: &FileDescriptorSet) -> String {
    let mut out = String::new();
    for file in &files.file {
        for message in &file.message_type {
            describe(file.package(), message, &mut out);
        }
        for method in file.service.iter().flat_map(|service| &service.method) {
            writeln!(out, "rpc {}({}) {}", method.name(), method.input_type(), method.output_type()).unwrap();
        }
    }
    out
}

/// `LONGSHORE_BLESS=1` adds what is new; a line that went away fails even then.
#[test]
fn nothing_is_removed_or_renumbered() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/descriptors.txt");
    let now = describe_all(&FileDescriptorSet::decode(longshore_proto::DESCRIPTORS).unwrap());
    let known = std::fs::read_to_string(path).unwrap_or_default();
    let gone: Vec<_> = known.lines().filter(|line| !now.lines().any(|new| new == *line)).collect();
    assert!(gone.is_empty(), "removed or changed on the wire: {gone:#?}");
    if std::env::var_os("LONGSHORE_BLESS").is_some() {
        std::fs::write(path, &now).unwrap();
    } else {
        assert_eq!(known, now, "new fields: run this test with LONGSHORE_BLESS=1 and commit descriptors.txt");
    }
}
