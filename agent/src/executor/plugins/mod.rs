//! The plugins of the agent's pool: fetched once, verified, and under every Pulumi step as the lower layer of an overlay of its own.
//!
//! `plugins/content/<checksum>-<directory>` in the state directory holds one plugin each, `plugins/sets/<digest>/plugins` the plugins of one
//! set as second names of those files. The engine mounts the set as the lower layer of a volume whose upper layer is the step's
//! alone, so a step may lock, add to and overwrite what it finds, and nobody else sees any of it; the agent needs no rights for that.
//!
//! Invariants: a name in `content` or `sets` appears with everything in it, verified; what is in them is never written to again; what
//! does not have its checksum is not used, and the agent says so.

mod fetch;
mod tree;

use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bollard::models::{Mount as EngineMount, MountType, MountVolumeOptions, VolumeCreateRequest};
use longshore_core::init::PLUGINS;
use longshore_core::plugins::{self as core, Plugin};

pub(super) use self::tree::Hashing;
use super::{Error, Executor, Step, settings};
use crate::{durable, tasks};

/// The folder in the state directory.
const FOLDER: &str = "plugins";
/// Directory of a set that is mounted at [`PLUGINS`]'s parent; its own mode lets every user of a step add to it.
const LAYER: &str = "plugins";
/// The tree that a verified plugin has, beside it.
const TREE: &str = "tree";
/// The plugin itself.
const FILES: &str = "files";

/// A set that is there and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Set {
    digest: String,
    lower: PathBuf,
}

/// Why the plugins of a pool are not ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotReady(pub String);

impl Executor {
    /// Makes a pool's plugins ready for the steps that are created from now on; none: steps get none.
    ///
    /// `report` is told how far it is.
    ///
    /// # Errors
    /// [`NotReady`] names the plugin and what is wrong. Steps that are created then get none.
    pub async fn warm_plugins(
        &self,
        plugins: &[Plugin],
        report: impl Fn(String) + Send + Sync,
    ) -> Result<(), NotReady> {
        if self.has_plugins(plugins) {
            return Ok(());
        }
        self.set_plugins(None);
        let root = self.inner.config.state_dir.join(FOLDER);
        if plugins.is_empty() {
            self.prune(&root, plugins).await;
            return Ok(());
        }
        check_path(&root)?;
        for (at, plugin) in plugins.iter().enumerate() {
            let name = plugin.directory();
            report(format!("{at} of {} plugins are there, now {name}", plugins.len()));
            let content = content(&root, plugin);
            if !is_whole(&content).await {
                self.fetch_plugin(&root, plugin)
                    .await
                    .map_err(|why| NotReady(format!("plugin {name} from {}: {why}", plugin.from.place())))?;
            }
        }
        report("the plugins are there; their overlay is tried".to_owned());
        let (list, from) = (plugins.to_vec(), root.clone());
        let built = tasks::blocking(move || build(&from, &list)).await;
        let lower = built
            .map_err(|error| NotReady(format!("the plugins cannot be laid out in `{}`: {error}", root.display())))?;
        self.try_overlay(&lower).await?;
        self.set_plugins(Some(Set { digest: core::digest(plugins), lower }));
        self.prune(&root, plugins).await;
        Ok(())
    }

    fn has_plugins(&self, plugins: &[Plugin]) -> bool {
        let digest = core::digest(plugins);
        self.plugins().map(|set| set.digest).unwrap_or_default() == digest && !digest.is_empty()
    }

    pub(super) fn plugins(&self) -> Option<Set> {
        self.inner.plugins.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn set_plugins(&self, set: Option<Set>) {
        *self.inner.plugins.write().unwrap_or_else(std::sync::PoisonError::into_inner) = set;
    }

    /// Brings one plugin into `content`, verified.
    async fn fetch_plugin(&self, root: &Path, plugin: &Plugin) -> Result<(), String> {
        let unfinished = root.join("unfinished");
        let (to, fresh) = (unfinished.join(FILES), unfinished.clone());
        let cleared = tasks::blocking(move || {
            tree::remove(&fresh)?;
            durable::make_dir(&fresh)?;
            durable::make_dir(&fresh.join(FILES))
        });
        cleared.await.map_err(|error| format!("`{}` cannot be made: {error}", unfinished.display()))?;
        let found = self.fetch(plugin, &to).await?;
        if found.checksum != plugin.sha256() {
            return Err(format!(
                "has the checksum sha256:{} and the pool says {}, so it is not used; if it is the right one, write that checksum",
                found.checksum, plugin.checksum
            ));
        }
        let content = content(root, plugin);
        let placed = tasks::blocking(move || {
            tree::settle(&unfinished.join(FILES))?;
            durable::write(&unfinished.join(TREE), tree::digest(&unfinished.join(FILES))?.as_bytes())?;
            if let Some(parent) = content.parent() {
                durable::make_dir(parent)?;
            }
            // One that was there was not whole.
            tree::remove(&content)?;
            std::fs::rename(&unfinished, &content)?;
            durable::sync_dir(content.parent().unwrap_or(&content))
        });
        placed.await.map_err(|error| format!("cannot be kept: {error}"))
    }

    /// What a step's container has to mount, with the volumes made for it. Repeating it is safe.
    pub(super) async fn plugins_mount(&self, step: &Step) -> Result<Option<EngineMount>, Error> {
        let Some(set) = self.plugins().filter(|_| step.offer.pulumi) else { return Ok(None) };
        let mut labels = settings::labels(&self.inner.config, step);
        labels.remove("longshore.step");
        let name = settings::name(step.fence.attempt, step.offer.index);
        let volume = self.overlay(&format!("{name}-plugins"), &set.lower, &labels).await?;
        Ok(Some(mount(volume)))
    }

    /// Makes three volumes of the engine: an upper and a work directory, and the overlay of both over a set. So all of it belongs to the
    /// engine, and no rights are needed to remove what a step as root leaves in it.
    async fn overlay(&self, name: &str, lower: &Path, labels: &HashMap<String, String>) -> Result<String, Error> {
        let make = async |name: String, options: Option<HashMap<String, String>>| {
            let request = VolumeCreateRequest {
                name: Some(name.clone()),
                driver: Some("local".to_owned()),
                driver_opts: options,
                labels: Some(labels.clone()),
                ..VolumeCreateRequest::default()
            };
            let made = self.inner.docker.create_volume(request).await;
            made.map(|volume| volume.mountpoint).map_err(|error| self.failed(format!("create volume `{name}`"), error))
        };
        let (upper, work) = tokio::try_join!(make(format!("{name}-upper"), None), make(format!("{name}-work"), None))?;
        let options = format!("lowerdir={},upperdir={upper},workdir={work}", lower.display());
        let options = [("type", "overlay".to_owned()), ("device", "overlay".to_owned()), ("o", options)];
        let options = options.map(|(name, value)| (name.to_owned(), value)).into();
        make(name.to_owned(), Some(options)).await?;
        Ok(name.to_owned())
    }

    /// Whether the engine mounts such an overlay at all: found out before a job fails for it.
    async fn try_overlay(&self, lower: &Path) -> Result<(), NotReady> {
        let agent = self.inner.config.agent;
        let name = format!("longshore-plugins-{agent}");
        let labels = super::metadata::labels(&agent.to_string());
        let tried = async {
            self.remove(&name).await?;
            let volume = self.overlay(&name, lower, &labels).await?;
            self.probe_mount(&name, mount(volume)).await
        }
        .await;
        let mut left = self.remove(&name).await.err();
        for volume in [name.clone(), format!("{name}-upper"), format!("{name}-work")] {
            left = self.remove_named_volume(&volume).await.err().or(left);
        }
        if let Some(error) = left {
            tracing::warn!(error = error.full(), "the overlay's probe was left behind");
        }
        tried.map_err(|error| {
            NotReady(format!(
                "the container engine does not mount an overlay over `{}` ({}); its own directory and the agent's have to be on file \
                 systems that can be layers of one, such as ext4, or xfs with ftype=1",
                lower.display(),
                error.full()
            ))
        })
    }

    /// Removes sets and plugins that are of no use any more. While any attempt has volumes, a set may be mounted, and all stay.
    async fn prune(&self, root: &Path, plugins: &[Plugin]) {
        if !self.list_volumes().await.is_ok_and(|volumes| volumes.is_empty()) {
            return;
        }
        let contents: BTreeSet<PathBuf> = plugins.iter().map(|plugin| content(root, plugin)).collect();
        let (set, root) = (self.plugins().map(|set| set.lower), root.to_owned());
        let pruned = tasks::blocking(move || {
            for folder in ["sets", "content"] {
                let Ok(entries) = std::fs::read_dir(root.join(folder)) else { continue };
                for path in entries.flatten().map(|entry| entry.path()) {
                    if set.as_ref() != Some(&path) && !contents.contains(&path) {
                        tree::remove(&path)?;
                    }
                }
            }
            Ok(())
        });
        if let Err(error) = pruned.await {
            tracing::warn!(%error, "plugins that are not used any more are left on this host");
        }
    }
}

fn mount(volume: String) -> EngineMount {
    EngineMount {
        typ: Some(MountType::VOLUME),
        source: Some(volume),
        target: Path::new(PLUGINS).parent().map(|path| path.to_string_lossy().into_owned()),
        volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() }),
        ..EngineMount::default()
    }
}

/// Where a plugin is kept.
fn content(root: &Path, plugin: &Plugin) -> PathBuf {
    root.join("content").join(format!("{}-{}", plugin.sha256(), plugin.directory()))
}

/// Whether a plugin is here as it was when it was verified: read anew, since disks and people change files.
async fn is_whole(content: &Path) -> bool {
    let content = content.to_owned();
    let whole = tasks::blocking(move || {
        let was = std::fs::read_to_string(content.join(TREE))?;
        Ok(tree::digest(&content.join(FILES))? == was)
    });
    whole.await.unwrap_or(false)
}

/// What stands in an overlay's options may not have their separators.
fn check_path(path: &Path) -> Result<(), NotReady> {
    let text = path.to_string_lossy();
    if text.contains([',', ':', '\\', '"']) {
        return Err(NotReady(format!(
            "`{text}` cannot be a layer of an overlay, because of a `,`, `:`, `\\` or `\"` in it; give the agent another `state_dir`"
        )));
    }
    Ok(())
}

/// Lays a set out and says where. One that is whole stays as it is: it may be the lower layer of what runs. One that is not stays too, for
/// the same reason, and another is made beside it.
fn build(root: &Path, plugins: &[Plugin]) -> std::io::Result<PathBuf> {
    let (sets, digest) = (root.join("sets"), core::digest(plugins));
    let names = std::iter::once(digest.clone()).chain((1..).map(|number| format!("{digest}-{number}")));
    let mut places = names.map(|name| sets.join(name));
    let set = loop {
        // The numbers do not end.
        let Some(set) = places.next() else { return Err(std::io::Error::other("no name is left")) };
        if !set.exists() {
            break set;
        }
        if is_set(root, &set, plugins) {
            return Ok(set);
        }
    };
    let unfinished = root.join("set");
    tree::remove(&unfinished)?;
    durable::make_dir(&unfinished)?;
    let layer = unfinished.join(LAYER);
    std::fs::create_dir(&layer)?;
    for plugin in plugins {
        tree::link(&content(root, plugin).join(FILES), &layer.join(plugin.directory()))?;
    }
    // The merged directories have the modes of these: every user may read the first and add to the second.
    std::fs::set_permissions(&unfinished, std::fs::Permissions::from_mode(0o755))?;
    std::fs::set_permissions(&layer, std::fs::Permissions::from_mode(0o777))?;
    durable::make_dir(&sets)?;
    std::fs::rename(unfinished, &set)?;
    Ok(set)
}

/// Whether every plugin of a set is in it as it was verified.
fn is_set(root: &Path, set: &Path, plugins: &[Plugin]) -> bool {
    plugins.iter().all(|plugin| {
        let was = std::fs::read_to_string(content(root, plugin).join(TREE));
        let is = tree::digest(&set.join(LAYER).join(plugin.directory()));
        matches!((was, is), (Ok(was), Ok(is)) if was == is)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_laid_out_as_pulumi_looks_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let checksum = format!("sha256:{}", "a".repeat(64));
        let from = core::Origin::Folder { folder: "/f".to_owned() };
        let plugin = Plugin { kind: core::Kind::Resource, name: "x".into(), version: "1.0.0".into(), checksum, from };
        let files = content(dir.path(), &plugin).join(FILES);
        std::fs::create_dir_all(files.join("sub")).unwrap();
        std::fs::write(files.join("pulumi-resource-x"), "x").unwrap();
        std::fs::write(files.join("sub/more"), "y").unwrap();
        std::fs::write(files.with_file_name(TREE), tree::digest(&files).unwrap()).unwrap();
        let set = build(dir.path(), std::slice::from_ref(&plugin)).unwrap();
        assert_eq!(build(dir.path(), std::slice::from_ref(&plugin)).unwrap(), set);
        let there = set.join("plugins/resource-x-v1.0.0");
        assert_eq!(std::fs::read_to_string(there.join("pulumi-resource-x")).unwrap(), "x");
        assert_eq!(std::fs::read_to_string(there.join("sub/more")).unwrap(), "y");
        let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(set.clone()), mode(set.join("plugins")), mode(there.clone())), (0o755, 0o777, 0o755));
        // One that was damaged is left to what runs over it, and is not used again.
        std::fs::remove_file(there.join("pulumi-resource-x")).unwrap();
        let other = build(dir.path(), std::slice::from_ref(&plugin)).unwrap();
        assert!(other != set && other.join("plugins/resource-x-v1.0.0/pulumi-resource-x").exists() && there.exists());
        assert!(check_path(Path::new("/a,b")).is_err() && check_path(&set).is_ok());
    }
}
