//! Reads from a `Pulumi.yaml` what a spec for it needs.
//!
//! It belongs to another tool, so everything that is not asked for is passed over, and nothing in it is a mistake.

use super::tree::{Node, Value};
use super::{SpecError, yaml};

/// What a `Pulumi.yaml` says. Each may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PulumiFile {
    /// Name of the program's project.
    pub name: Option<String>,
    /// Language, such as `nodejs` or `yaml`.
    pub runtime: Option<String>,
    /// URL of the backend.
    pub backend: Option<String>,
}

/// Reads the text of a `Pulumi.yaml`.
///
/// # Errors
/// When it is no YAML.
pub fn read_pulumi_file(text: &str) -> Result<PulumiFile, SpecError> {
    let Some(root) = yaml::document(text)? else { return Ok(PulumiFile::default()) };
    let runtime = get(&root, "runtime");
    Ok(PulumiFile {
        name: get(&root, "name").and_then(scalar),
        runtime: runtime.and_then(|runtime| scalar(runtime).or_else(|| get(runtime, "name").and_then(scalar))),
        backend: get(&root, "backend").and_then(|backend| get(backend, "url")).and_then(scalar),
    })
}

fn get<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    match &node.value {
        Value::Map(entries) => entries.iter().find(|entry| entry.key == name).map(|entry| &entry.node),
        _ => None,
    }
}

fn scalar(node: &Node) -> Option<String> {
    match &node.value {
        Value::Scalar(scalar) if !scalar.text.is_empty() => Some(scalar.text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_found_and_the_rest_is_passed_over() {
        let text = "name: shop\nruntime:\n  name: nodejs\n  options: {packagemanager: npm}\nbackend: {url: 's3://b'}\nresources:\n  a: {type: x, y: ['${b}']}\n";
        let some = |text: &str| Some(text.to_owned());
        let all = PulumiFile { name: some("shop"), runtime: some("nodejs"), backend: some("s3://b") };
        assert_eq!(read_pulumi_file(text), Ok(all));
        assert_eq!(read_pulumi_file("runtime: yaml").unwrap().runtime, some("yaml"));
        for nothing in ["", "# only this", "- a", "name:", "name: [a]\nbackend: x\nruntime: {}"] {
            assert_eq!(read_pulumi_file(nothing), Ok(PulumiFile::default()), "{nothing:?}");
        }
        assert_eq!(read_pulumi_file("a: 'b").unwrap_err().line, 1);
    }
}
