//! The wire does not change under agents that are out there: nothing is removed or renumbered.

use std::fmt::Write as _;

use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorSet};

fn describe(prefix: &str, message: &DescriptorProto, out: &mut String) {
    let name = format!("{prefix}.{}", message.name());
    for field in &message.field {
        writeln!(out, "{name}.{} = {} type {} label {}", field.name(), field.number(), field.r#type, field.label).unwrap();
    }
    for nested in &message.nested_type {
        describe(&name, nested, out);
    }
}

trait Numbers {
    fn describe(&self) -> String;
}

impl Numbers for FileDescriptorSet {
    fn describe(&self) -> String {
        let mut out = String::new();
        for file in &self.file {
            for message in &file.message_type {
                describe(file.package(), message, &mut out);
            }
            for service in &file.service {
                for method in &service.method {
                    writeln!(out, "rpc {}({}) {}", method.name(), method.input_type(), method.output_type()).unwrap();
                }
            }
        }
        out
    }
}

/// `LONGSHORE_BLESS=1` adds what is new; a line that went away fails even then.
#[test]
fn nothing_is_removed_or_renumbered() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/descriptors.txt");
    let mut now = FileDescriptorSet::decode(longshore_proto::DESCRIPTORS).unwrap().describe();
    now = now.replace("type Some(", "type (").replace("label Some(", "label (");
    let known = std::fs::read_to_string(path).unwrap_or_default();
    let gone: Vec<_> = known.lines().filter(|line| !now.lines().any(|new| new == *line)).collect();
    assert!(gone.is_empty(), "removed or changed on the wire: {gone:#?}");
    if std::env::var_os("LONGSHORE_BLESS").is_some() {
        std::fs::write(path, &now).unwrap();
    } else {
        assert_eq!(known, now, "new fields: run this test with LONGSHORE_BLESS=1 and commit descriptors.txt");
    }
}
