//! Who may call which RPC for what. A new RPC without a line here fails the tests.

/// What a call has to pass before anything is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Nothing but what the request itself proves: a join token, or what a machine is.
    Anyone,
    /// A verified certificate of an agent that was not cut off.
    Enrolled,
    /// As `Enrolled`. What it says later of single attempts is taken for the caller's own current attempts and passed over for others.
    Stream,
    /// As `Enrolled`, and the fence names the caller's own attempt, with the epoch of its job and the database's incarnation.
    OwnAttempt,
}

/// The rule of each RPC.
pub const RULES: &[(&str, Rule)] = &[
    ("Enroll", Rule::Anyone),
    ("Challenge", Rule::Anyone),
    ("RenewCertificate", Rule::Enrolled),
    ("Session", Rule::Stream),
    ("ConfirmStart", Rule::OwnAttempt),
    ("Complete", Rule::OwnAttempt),
    ("ShipLog", Rule::OwnAttempt),
    ("FetchPackage", Rule::OwnAttempt),
    ("ShipArtifact", Rule::OwnAttempt),
    ("Leave", Rule::Enrolled),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::{DescriptorProto, FileDescriptorSet};

    use super::*;

    fn message<'a>(all: &'a FileDescriptorSet, name: &str) -> Option<&'a DescriptorProto> {
        let of = |file: &'a prost_types::FileDescriptorProto| {
            let package = format!(".{}.", file.package());
            let simple = name.strip_prefix(&package)?;
            file.message_type.iter().find(|message| message.name() == simple)
        };
        all.file.iter().find_map(of)
    }

    /// How deep a fence stands in a message: 0 for a field of its own.
    fn fence_depth(all: &FileDescriptorSet, name: &str) -> Option<usize> {
        let fields = &message(all, name)?.field;
        if fields.iter().any(|field| field.type_name().ends_with(".Fence")) {
            return Some(0);
        }
        let below = fields.iter().filter(|field| !field.type_name().is_empty());
        below.filter_map(|field| fence_depth(all, field.type_name())).min().map(|depth| depth + 1)
    }

    #[test]
    fn every_rpc_has_a_rule_that_fits_its_request() {
        let all = FileDescriptorSet::decode(longshore_proto::DESCRIPTORS).unwrap();
        let services: Vec<_> = all.file.iter().flat_map(|file| &file.service).collect();
        let methods: Vec<_> = services.iter().flat_map(|service| &service.method).collect();
        let names: BTreeSet<_> = methods.iter().map(|method| method.name()).collect();
        assert_eq!(
            names,
            RULES.iter().map(|(name, _)| *name).collect(),
            "an RPC without a rule, or a rule without an RPC"
        );
        for method in methods {
            let (_, rule) = RULES.iter().find(|(name, _)| *name == method.name()).unwrap();
            let wanted = match fence_depth(&all, method.input_type()) {
                Some(0) => [Rule::OwnAttempt, Rule::OwnAttempt],
                Some(_) => [Rule::Stream, Rule::Stream],
                None => [Rule::Anyone, Rule::Enrolled],
            };
            assert!(wanted.contains(rule), "{}: {rule:?} does not fit its request", method.name());
        }
        let open: Vec<_> = RULES.iter().filter(|(_, rule)| *rule == Rule::Anyone).collect();
        let open: Vec<_> = open.iter().map(|(name, _)| *name).collect();
        assert_eq!(open, ["Enroll", "Challenge"], "nothing else is open to everyone");
    }
}
