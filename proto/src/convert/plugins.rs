//! The plugins of a pool, and how far an agent is with them.

use longshore_core::plugins::{self as core, Kind, Origin, Plugin, Readiness};

use super::{Error, required};
use crate::v1;
use v1::plugin::From as Wire;

/// The set of a pool.
#[must_use]
pub fn plugin_set(plugins: &[Plugin]) -> v1::PluginSet {
    v1::PluginSet { digest: core::digest(plugins), plugins: plugins.iter().map(plugin).collect() }
}

/// The plugins of a set; each is what it should be, and the digest is theirs.
///
/// # Errors
/// [`Error`] naming the field.
pub fn plugins(wire: v1::PluginSet) -> Result<Vec<Plugin>, Error> {
    let plugins: Vec<Plugin> = wire.plugins.into_iter().map(read).collect::<Result<_, _>>()?;
    if let Err((field, _)) = core::check(&plugins) {
        return Err(Error::value("plugins", &field));
    }
    if core::digest(&plugins) != wire.digest {
        return Err(Error::value("plugins.digest", &wire.digest));
    }
    Ok(plugins)
}

fn plugin(plugin: &Plugin) -> v1::Plugin {
    let from = match plugin.from.clone() {
        Origin::Image { image, path } => Wire::Image(v1::PluginImage { image, path }),
        Origin::Folder { folder } => Wire::Folder(folder),
        Origin::Mirror { mirror } => Wire::Mirror(mirror),
    };
    v1::Plugin {
        kind: plugin.kind.as_str().to_owned(),
        name: plugin.name.clone(),
        version: plugin.version.clone(),
        checksum: plugin.checksum.clone(),
        from: Some(from),
    }
}

fn read(wire: v1::Plugin) -> Result<Plugin, Error> {
    let kinds = [Kind::Resource, Kind::Language, Kind::Analyzer, Kind::Tool, Kind::Converter];
    let kind = kinds.into_iter().find(|kind| kind.as_str() == wire.kind);
    let from = match required("plugins.from", wire.from)? {
        Wire::Image(v1::PluginImage { image, path }) => Origin::Image { image, path },
        Wire::Folder(folder) => Origin::Folder { folder },
        Wire::Mirror(mirror) => Origin::Mirror { mirror },
    };
    Ok(Plugin {
        kind: kind.ok_or_else(|| Error::value("plugins.kind", &wire.kind))?,
        name: wire.name,
        version: wire.version,
        checksum: wire.checksum,
        from,
    })
}

impl From<Readiness> for v1::PluginsState {
    fn from(state: Readiness) -> Self {
        Self { digest: state.digest, ready: state.ready, message: state.message }
    }
}

/// How far an agent is.
#[must_use]
pub fn state(wire: v1::PluginsState) -> Readiness {
    Readiness { digest: wire.digest, ready: wire.ready, message: wire.message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_comes_over_whole_or_not_at_all() {
        let from = [
            Origin::Image { image: "a:1".to_owned(), path: "/p".to_owned() },
            Origin::Folder { folder: "/f".to_owned() },
            Origin::Mirror { mirror: "https://m".to_owned() },
        ];
        let set: Vec<Plugin> = (0..)
            .zip(from)
            .map(|(at, from)| Plugin {
                kind: Kind::Resource,
                name: format!("p{at}"),
                version: "1.0.0".to_owned(),
                checksum: format!("sha256:{}", "a".repeat(64)),
                from,
            })
            .collect();
        assert_eq!(plugins(plugin_set(&set)), Ok(set.clone()));
        assert_eq!(plugins(plugin_set(&[])), Ok(vec![]));
        let mut other = plugin_set(&set);
        other.digest = "0".repeat(64);
        assert!(plugins(other).is_err());
        let mut outside = plugin_set(&set);
        outside.plugins[0].name = "../x".to_owned();
        assert!(plugins(outside).is_err());
    }
}
