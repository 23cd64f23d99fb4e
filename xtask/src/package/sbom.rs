//! Bills of materials in the form of CycloneDX 1.5, from `cargo metadata` and `Cargo.lock`.
//!
//! A bill lists what a binary was made of: what is linked into it (`required`), and what only ran while it was built
//! (`excluded`). Tests' dependencies are in neither.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::sh;

/// Every crate that the lock file names, and who uses whom.
pub(super) struct Crates {
    packages: BTreeMap<String, Value>,
    uses: BTreeMap<String, Vec<Use>>,
    checksums: BTreeMap<(String, String), String>,
}

struct Use {
    id: String,
    linked: bool,
}

impl Crates {
    /// Asks cargo, for the platform of this machine.
    pub(super) fn load() -> anyhow::Result<Self> {
        let rustc = sh::output(sh::command("rustc", &["-vV"]))?;
        let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
        let args = ["metadata", "--format-version=1", "--locked", "--filter-platform", host];
        let metadata: Value = serde_json::from_str(&sh::output(sh::command("cargo", &args))?)?;
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let id = |value: &Value| value["id"].as_str().unwrap_or_default().to_owned();
        let packages = list(&metadata["packages"]).into_iter().map(|package| (id(&package), package)).collect();
        let uses = list(&metadata["resolve"]["nodes"]).iter().map(|node| (id(node), uses_of(node))).collect();
        let lock = std::fs::read_to_string(sh::root().join("Cargo.lock")).context("`Cargo.lock` cannot be read")?;
        Ok(Self { packages, uses, checksums: checksums(&lock) })
    }

    /// The bill of one binary.
    pub(super) fn bill(&self, name: &str, epoch: &str) -> anyhow::Result<String> {
        let root = self.id(name)?;
        let mut roots = vec![root.clone()];
        // The agent carries another program inside: what that was made of is in the agent too.
        if name == "longshore-agent" {
            roots.push(self.id("longshore-init")?);
        }
        let linked = self.reached(&roots, true);
        let all = self.reached(&roots, false);
        let others = || all.iter().filter(|id| **id != root);
        let components: Vec<Value> = others().map(|id| self.component(id, linked.contains(id))).collect();
        let mut dependencies: Vec<Value> = Vec::new();
        for id in &all {
            let mut on: Vec<String> =
                self.used(id).filter(|used| all.contains(&used.id)).map(|used| self.purl(&used.id)).collect();
            if *id == root {
                on.extend(roots.iter().skip(1).map(|id| self.purl(id)));
            }
            on.sort();
            on.dedup();
            dependencies.push(json!({"ref": self.purl(id), "dependsOn": on}));
        }
        let bill = json!({
            "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": {
                "timestamp": timestamp(epoch)?,
                "component": self.component(&root, true),
            },
            "components": components,
            "dependencies": dependencies,
        });
        Ok(serde_json::to_string_pretty(&bill)? + "\n")
    }

    /// The crate of this workspace with a name.
    fn id(&self, name: &str) -> anyhow::Result<String> {
        let ours = |package: &Value| package["name"] == name && package["source"].is_null();
        let found = self.packages.iter().find(|(_, package)| ours(package));
        Ok(found.with_context(|| format!("there is no crate `{name}`"))?.0.clone())
    }

    fn used(&self, id: &str) -> impl Iterator<Item = &Use> {
        self.uses.get(id).into_iter().flatten()
    }

    /// Everything that is reached from some crates, themselves among it.
    fn reached(&self, roots: &[String], linked_only: bool) -> BTreeSet<String> {
        let (mut seen, mut open) = (BTreeSet::new(), roots.to_vec());
        while let Some(id) = open.pop() {
            if seen.insert(id.clone()) {
                open.extend(self.used(&id).filter(|used| used.linked || !linked_only).map(|used| used.id.clone()));
            }
        }
        seen
    }

    fn text(&self, id: &str, field: &str) -> String {
        self.packages.get(id).and_then(|package| package[field].as_str()).unwrap_or_default().to_owned()
    }

    fn purl(&self, id: &str) -> String {
        format!("pkg:cargo/{}@{}", self.text(id, "name"), self.text(id, "version").replace('+', "%2B"))
    }

    fn component(&self, id: &str, linked: bool) -> Value {
        let (name, version) = (self.text(id, "name"), self.text(id, "version"));
        let ours = self.text(id, "source").is_empty();
        let mut component = json!({
            "type": if ours && !["longshore-core", "longshore-proto"].contains(&name.as_str()) { "application" } else { "library" },
            "bom-ref": self.purl(id),
            "name": name,
            "version": version,
            "purl": self.purl(id),
            "scope": if linked { "required" } else { "excluded" },
        });
        let license = self.text(id, "license");
        if !license.is_empty() {
            // Old manifests write a slash where SPDX says OR.
            component["licenses"] = json!([{"expression": license.replace('/', " OR ")}]);
        }
        if let Some(checksum) = self.checksums.get(&(name, version)) {
            component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
        }
        component
    }
}

/// Whom a crate uses, tests left out.
fn uses_of(node: &Value) -> Vec<Use> {
    let of = |dep: &Value| {
        let kinds: Vec<&Value> = dep["dep_kinds"].as_array()?.iter().map(|kind| &kind["kind"]).collect();
        let wanted = kinds.iter().any(|kind| kind.is_null() || *kind == "build");
        wanted.then(|| Use {
            id: dep["pkg"].as_str().unwrap_or_default().to_owned(),
            linked: kinds.iter().any(|kind| kind.is_null()),
        })
    };
    node["deps"].as_array().into_iter().flatten().filter_map(of).collect()
}

/// Digests of the registry's archives, as `Cargo.lock` has them.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let mut sums = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let field = |name: &str| {
            let value = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
            value.map(|value| value.trim_matches('"').to_owned())
        };
        if let (Some(name), Some(version), Some(sum)) = (field("name"), field("version"), field("checksum")) {
            sums.insert((name, version), sum);
        }
    }
    sums
}

/// Seconds since 1970 as RFC 3339.
fn timestamp(epoch: &str) -> anyhow::Result<String> {
    let text = sh::output(sh::command("date", &["--utc", &format!("--date=@{epoch}"), "+%Y-%m-%dT%H:%M:%SZ"]))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_of_name_and_version() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"00ff\"\n\n[[package]]\nname = \"ours\"\nversion = \"2.0.0\"\n";
        let expected = BTreeMap::from([(("a".to_owned(), "1.0.0".to_owned()), "00ff".to_owned())]);
        assert_eq!(checksums(lock), expected);
    }

    #[test]
    fn a_bill_holds_what_is_linked_and_what_only_builds_but_no_test() {
        let crates = Crates::load().unwrap();
        let bill: Value = serde_json::from_str(&crates.bill("longshore-agent", "0").unwrap()).unwrap();
        let scope = |name: &str| {
            let found = bill["components"].as_array().unwrap().iter().find(|component| component["name"] == name);
            found.map(|component| component["scope"].as_str().unwrap().to_owned())
        };
        assert_eq!(bill["metadata"]["timestamp"], "1970-01-01T00:00:00Z");
        assert_eq!(scope("tokio").as_deref(), Some("required"));
        assert_eq!(scope("longshore-init").as_deref(), Some("required"));
        assert_eq!(scope("protox").as_deref(), Some("excluded"));
        assert_eq!(scope("proptest"), None);
        let tokio = bill["components"].as_array().unwrap().iter().find(|one| one["name"] == "tokio").unwrap();
        assert_eq!(tokio["hashes"][0]["content"].as_str().unwrap().len(), 64);
    }
}
