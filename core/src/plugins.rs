//! The plugins that a pool's agents have ready before they take jobs: what they are, where they come from, and the digest of the set.
//!
//! Invariants: what a plugin is stands in its checksum, and where it comes from does not count: two sets with the same digest are
//! the same files, whatever way they came. Names are parts of paths, so nothing in them leads out of a directory.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Most plugins of one pool.
pub const MAX_PLUGINS: usize = 100;
/// Longest name or version.
const MAX_WORD: usize = 100;
/// Longest place where a plugin comes from.
const MAX_PLACE: usize = 1000;
/// What a checksum begins with.
const SHA256: &str = "sha256:";

/// Kind of a plugin, as Pulumi names it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A provider.
    #[default]
    Resource,
    /// A language host.
    Language,
    /// A policy runtime.
    Analyzer,
    /// A tool.
    Tool,
    /// A converter of programs.
    Converter,
}

impl Kind {
    /// The word in files, in names of directories and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resource => "resource",
            Self::Language => "language",
            Self::Analyzer => "analyzer",
            Self::Tool => "tool",
            Self::Converter => "converter",
        }
    }
}

/// Where a plugin comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Origin {
    /// Out of an image that the agent can pull.
    Image {
        /// The image.
        image: String,
        /// Directory in it that holds plugins as Pulumi lays them out: `/root/.pulumi/plugins`.
        path: String,
    },
    /// Out of a directory of the agent's host, where the plugin lies as Pulumi lays it out or as its archive.
    Folder {
        /// Absolute path.
        folder: String,
    },
    /// Origin a web server that has the archives under the names that Pulumi publishes them by.
    Mirror {
        /// `https://...`; `http://` is possible, since the checksum says what is taken.
        mirror: String,
    },
}

/// One plugin of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plugin {
    /// What it is to Pulumi.
    #[serde(default)]
    pub kind: Kind,
    /// Its name, such as `random`.
    pub name: String,
    /// Its version, without `v`.
    pub version: String,
    /// `sha256:` and 64 hex digits: of the archive from a mirror, of the files of a directory (`docs/plugins.md`).
    pub checksum: String,
    /// Where it comes from.
    pub from: Origin,
}

impl Plugin {
    /// The directory that Pulumi looks for it in.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("{}-{}-v{}", self.kind.as_str(), self.name, self.version)
    }

    /// Its program.
    #[must_use]
    pub fn program(&self) -> String {
        format!("pulumi-{}-{}", self.kind.as_str(), self.name)
    }

    /// The hex digits of its checksum.
    #[must_use]
    pub fn sha256(&self) -> &str {
        self.checksum.strip_prefix(SHA256).unwrap_or(&self.checksum)
    }

    /// Whether everything in it is of its form.
    ///
    /// # Errors
    /// The field, and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let word = |text: &str, also: &str| {
            text.len() <= MAX_WORD
                && text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || also.contains(c))
        };
        if !word(&self.name, "-_") {
            return Err((
                "name",
                format!("`{}` is no name of a plugin: lowercase letters, digits, `-` and `_`", self.name),
            ));
        }
        if !word(&self.version, "-+.") || !self.version.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(("version", format!("`{}` is no version like `4.16.7`, without `v`", self.version)));
        }
        let hex = |text: &str| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !self.checksum.strip_prefix(SHA256).is_some_and(hex) {
            return Err(("checksum", format!("`{}` is not `sha256:` and 64 hex digits", self.checksum)));
        }
        self.from.check().map_err(|message| ("from", message))
    }
}

impl Origin {
    fn check(&self) -> Result<(), String> {
        let path = |path: &str| {
            let proper = path.starts_with('/') && path.len() <= MAX_PLACE && !path.split('/').any(|part| part == "..");
            if proper { Ok(()) } else { Err(format!("`{path}` is no absolute path")) }
        };
        match self {
            Self::Image { image, path: inside } => {
                #[cfg(feature = "spec")]
                crate::spec::check_image(image).map_err(|why| format!("image `{image}`: {why}"))?;
                if image.is_empty() { Err("an image has a name".to_owned()) } else { path(inside) }
            }
            Self::Folder { folder } => path(folder),
            Self::Mirror { mirror } => {
                let rest = mirror.strip_prefix("https://").or_else(|| mirror.strip_prefix("http://"));
                let host = rest.and_then(|rest| rest.split('/').next()).unwrap_or_default();
                let proper = !host.is_empty()
                    && mirror.len() <= MAX_PLACE
                    && !mirror.contains(|c: char| c.is_whitespace() || c.is_control() || "?#".contains(c));
                if host.contains('@') {
                    // Settings of a pool are shown to whoever may read it.
                    return Err("a password may not stand in a mirror's address".to_owned());
                }
                if proper { Ok(()) } else { Err(format!("`{mirror}` is not of the form https://HOST/PATH")) }
            }
        }
    }

    /// For people.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Image { image, path } => format!("`{path}` of image `{image}`"),
            Self::Folder { folder } => format!("folder `{folder}`"),
            Self::Mirror { mirror } => format!("mirror `{mirror}`"),
        }
    }
}

/// Checks a pool's plugins: each by itself, and that no two would lie in the same directory.
///
/// # Errors
/// The field, such as `plugins[2].checksum`, and what is wrong with it.
pub fn check(plugins: &[Plugin]) -> Result<(), (String, String)> {
    if plugins.len() > MAX_PLUGINS {
        return Err(("plugins".to_owned(), format!("there are {}, at most {MAX_PLUGINS} are possible", plugins.len())));
    }
    let mut seen = BTreeSet::new();
    for (at, plugin) in plugins.iter().enumerate() {
        plugin.check().map_err(|(field, message)| (format!("plugins[{at}].{field}"), message))?;
        if !seen.insert(plugin.directory()) {
            return Err((format!("plugins[{at}]"), format!("`{}` stands there twice", plugin.directory())));
        }
    }
    Ok(())
}

/// The digest of a set: of what its plugins are, in no order. Empty for no plugins.
#[must_use]
pub fn digest(plugins: &[Plugin]) -> String {
    if plugins.is_empty() {
        return String::new();
    }
    let lines: BTreeSet<String> =
        plugins.iter().map(|plugin| format!("{} {}\n", plugin.directory(), plugin.sha256())).collect();
    let mut hash = Sha256::new();
    lines.iter().for_each(|line| hash.update(line));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How far an agent is with its pool's plugins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Digest of the set that it speaks of; empty: of none.
    pub digest: String,
    /// Every plugin of it is there and verified.
    pub ready: bool,
    /// How far it is or why it is not ready, for people.
    pub message: String,
}

/// Why an agent that says this takes no jobs of a pool that wants a set; `None`: it may. `told` is nothing for an agent that does not
/// know of plugins.
#[must_use]
pub fn objection(wanted: &str, told: Option<&Readiness>) -> Option<String> {
    if wanted.is_empty() {
        return None;
    }
    match told {
        None => Some("its version does not know of the pool's plugins: upgrade it".to_owned()),
        Some(told) if told.digest != wanted => Some("has not begun with the pool's plugins yet".to_owned()),
        Some(told) if told.ready => None,
        Some(told) => Some(format!("has not all plugins of the pool: {}", told.message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin() -> Plugin {
        Plugin {
            kind: Kind::Resource,
            name: "random".to_owned(),
            version: "4.16.7".to_owned(),
            checksum: format!("sha256:{}", "a".repeat(64)),
            from: Origin::Folder { folder: "/srv/plugins".to_owned() },
        }
    }

    #[test]
    fn a_plugin_is_read_as_it_is_written() {
        for (from, wanted) in [
            (r#"{"image": "a:1", "path": "/p"}"#, Origin::Image { image: "a:1".to_owned(), path: "/p".to_owned() }),
            (r#"{"folder": "/p"}"#, Origin::Folder { folder: "/p".to_owned() }),
            (r#"{"mirror": "https://a/b"}"#, Origin::Mirror { mirror: "https://a/b".to_owned() }),
        ] {
            let checksum = "a".repeat(64);
            let text = format!(
                r#"{{"kind": "resource", "name": "random", "version": "4.16.7", "checksum": "sha256:{checksum}", "from": {from}}}"#
            );
            let read: Plugin = serde_json::from_str(&text).unwrap();
            assert_eq!(read, Plugin { from: wanted, ..plugin() });
            assert_eq!(check(std::slice::from_ref(&read)), Ok(()));
            assert_eq!(serde_json::from_str::<Plugin>(&serde_json::to_string(&read).unwrap()).unwrap(), read);
        }
        assert!(serde_json::from_str::<Origin>(r#"{"folder": "/p", "mirror": "https://a"}"#).is_err());
        assert_eq!(
            (plugin().directory().as_str(), plugin().program().as_str()),
            ("resource-random-v4.16.7", "pulumi-resource-random")
        );
    }

    #[test]
    fn what_would_lead_out_of_a_directory_is_refused() {
        type Break = fn(&mut Plugin);
        let cases: [(&str, Break); 11] = [
            ("plugins[0].name", |p| p.name = "../x".to_owned()),
            ("plugins[0].name", |p| p.name = String::new()),
            ("plugins[0].name", |p| p.name = "a/b".to_owned()),
            ("plugins[0].version", |p| p.version = "v1.0.0".to_owned()),
            ("plugins[0].version", |p| p.version = "1/0".to_owned()),
            ("plugins[0].checksum", |p| p.checksum = "a".repeat(64)),
            ("plugins[0].checksum", |p| p.checksum = format!("sha256:{}", "A".repeat(64))),
            ("plugins[0].from", |p| p.from = Origin::Folder { folder: "plugins".to_owned() }),
            ("plugins[0].from", |p| p.from = Origin::Folder { folder: "/srv/../etc".to_owned() }),
            ("plugins[0].from", |p| p.from = Origin::Mirror { mirror: "ftp://a".to_owned() }),
            ("plugins[0].from", |p| p.from = Origin::Mirror { mirror: "https://u:hunter2@a/b".to_owned() }),
        ];
        for (field, break_it) in cases {
            let mut broken = plugin();
            break_it(&mut broken);
            let (found, message) = check(&[broken]).unwrap_err();
            assert_eq!(found, field, "{message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
        assert_eq!(check(&[plugin(), plugin()]).unwrap_err().0, "plugins[1]");
        assert!(check(&vec![plugin(); MAX_PLUGINS + 1]).is_err());
    }

    #[test]
    fn the_digest_is_of_what_and_not_of_where_or_in_which_order() {
        let other = Plugin { name: "aws".to_owned(), ..plugin() };
        let moved = Plugin { from: Origin::Mirror { mirror: "https://a".to_owned() }, ..plugin() };
        assert_eq!(digest(&[plugin(), other.clone()]), digest(&[other, moved.clone()]));
        assert_eq!(digest(&[plugin()]), digest(&[moved]));
        let changed = Plugin { checksum: format!("sha256:{}", "b".repeat(64)), ..plugin() };
        assert_ne!(digest(&[plugin()]), digest(&[changed]));
        assert_eq!(digest(&[]), "");
    }

    #[test]
    fn an_agent_may_have_jobs_once_it_has_the_pool_s_own_set() {
        let told = |digest: &str, ready| Readiness { digest: digest.to_owned(), ready, message: "1 of 2".to_owned() };
        assert_eq!(objection("", None), None);
        assert_eq!(objection("d", Some(&told("d", true))), None);
        assert!(objection("d", None).unwrap().contains("upgrade"));
        assert!(objection("d", Some(&told("e", true))).unwrap().contains("not begun"));
        assert!(objection("d", Some(&told("d", false))).unwrap().contains("1 of 2"));
    }
}
