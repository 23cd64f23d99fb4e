//! The parts of the image that were made before, outside the checkout.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, bail};

/// How many versions of each part are kept: that of this checkout and those of a branch or two.
const KEPT: usize = 3;

/// The cache, which one process at a time works on.
pub(super) struct Cache {
    root: PathBuf,
    /// Released by the system when the process ends, however it does.
    _lock: File,
}

impl Cache {
    /// Where the cache is.
    pub(super) fn folder() -> anyhow::Result<PathBuf> {
        // A relative XDG path is to be ignored, says the specification.
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let caches = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
        let caches = caches.context("neither XDG_CACHE_HOME nor HOME says where the cache is to be")?;
        Ok(caches.join("longshore").join("pulumi-image"))
    }

    /// Opens the cache; waits while another process works on it.
    pub(super) fn open() -> anyhow::Result<Self> {
        Self::open_at(&Self::folder()?)
    }

    fn open_at(root: &Path) -> anyhow::Result<Self> {
        let scratch = root.join("scratch");
        fs::create_dir_all(root).with_context(|| format!("the cache `{}` cannot be made", root.display()))?;
        let lock = File::create(root.join("lock")).context("the cache's lock cannot be made")?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                println!("another process makes the image just now: waiting for it");
                lock.lock().context("the cache cannot be locked")?;
            }
            Err(TryLockError::Error(err)) => return Err(err).context("the cache cannot be locked"),
        }
        // With the lock in our hands, whatever is there was left by a process that was killed.
        if scratch.exists() {
            fs::remove_dir_all(&scratch).with_context(|| format!("`{}` cannot be removed", scratch.display()))?;
        }
        fs::create_dir_all(&scratch).with_context(|| format!("`{}` cannot be made", scratch.display()))?;
        Ok(Self { root: root.to_path_buf(), _lock: lock })
    }

    /// Whether a part was made before.
    pub(super) fn has(&self, kind: &str, digest: &str) -> bool {
        self.part(kind, digest).is_dir()
    }

    /// The folder of a part, which `make` fills if it is not there, or with `force` anyway.
    ///
    /// A part appears whole or not at all: it is made elsewhere, written to the disk, and moved.
    pub(super) fn get(
        &self,
        kind: &str,
        digest: &str,
        force: bool,
        make: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<PathBuf> {
        let (parts, part) = (self.root.join(kind), self.part(kind, digest));
        if self.has(kind, digest) && !force {
            return Ok(part);
        }
        let scratch = self.scratch(kind)?;
        make(&scratch)?;
        sync(&scratch)?;
        fs::create_dir_all(&parts)?;
        if part.exists() {
            fs::remove_dir_all(&part).with_context(|| format!("`{}` cannot be replaced", part.display()))?;
        }
        fs::rename(&scratch, &part).with_context(|| format!("`{}` cannot be made", part.display()))?;
        File::open(&parts)?.sync_all()?;
        forget(&parts, &part)?;
        Ok(part)
    }

    /// An empty folder on the cache's file system that the next run removes.
    pub(super) fn scratch(&self, name: &str) -> anyhow::Result<PathBuf> {
        let scratch = self.root.join("scratch").join(name);
        if scratch.exists() {
            bail!("`{}` is in use", scratch.display());
        }
        fs::create_dir(&scratch).with_context(|| format!("`{}` cannot be made", scratch.display()))?;
        Ok(scratch)
    }

    fn part(&self, kind: &str, digest: &str) -> PathBuf {
        self.root.join(kind).join(digest)
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // What stays is removed by the next run.
        drop(fs::remove_dir_all(self.root.join("scratch")));
    }
}

/// Writes a folder of files to the disk, so that the move cannot reach it before they do.
fn sync(dir: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            sync(&path)?;
        } else {
            File::open(&path)?.sync_all().with_context(|| format!("`{}` cannot be written", path.display()))?;
        }
    }
    File::open(dir)?.sync_all().with_context(|| format!("`{}` cannot be written", dir.display()))
}

/// Removes all but the newest versions of a part, and never `current`.
fn forget(parts: &Path, current: &Path) -> anyhow::Result<()> {
    let mut others: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(parts)? {
        let entry = entry?;
        if entry.path() != current {
            others.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    others.sort();
    for (_, old) in others.iter().rev().skip(KEPT - 1) {
        fs::remove_dir_all(old).with_context(|| format!("`{}` cannot be removed", old.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache of the test's own, removed with it.
    struct Fresh(PathBuf);

    impl Fresh {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("longshore-cache-{}-{name}", std::process::id()));
            drop(fs::remove_dir_all(&root));
            Self(root)
        }

        fn open(&self) -> Cache {
            Cache::open_at(&self.0).unwrap()
        }
    }

    impl Drop for Fresh {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn writes(text: &str) -> impl FnOnce(&Path) -> anyhow::Result<()> {
        let text = text.to_owned();
        move |dir| Ok(fs::write(dir.join("file"), text)?)
    }

    #[test]
    fn a_part_is_made_once() {
        let fresh = Fresh::new("once");
        let first = fresh.open().get("kind", "digest", false, writes("one")).unwrap();
        let second = fresh.open().get("kind", "digest", false, |_| bail!("made twice")).unwrap();
        assert_eq!(first, second);
        assert_eq!(fs::read_to_string(second.join("file")).unwrap(), "one");
    }

    #[test]
    fn force_makes_it_anew() {
        let fresh = Fresh::new("force");
        fresh.open().get("kind", "digest", false, writes("one")).unwrap();
        let part = fresh.open().get("kind", "digest", true, writes("two")).unwrap();
        assert_eq!(fs::read_to_string(part.join("file")).unwrap(), "two");
    }

    #[test]
    fn a_failure_leaves_no_part_and_the_old_one_in_place() {
        let fresh = Fresh::new("failure");
        let fails = |dir: &Path| {
            fs::write(dir.join("file"), "half")?;
            bail!("broke down")
        };
        assert!(fresh.open().get("kind", "digest", false, fails).is_err());
        assert!(!fresh.0.join("kind/digest").exists());
        fresh.open().get("kind", "digest", false, writes("whole")).unwrap();
        assert!(fresh.open().get("kind", "digest", true, fails).is_err());
        assert_eq!(fs::read_to_string(fresh.0.join("kind/digest/file")).unwrap(), "whole");
    }

    #[test]
    fn what_a_killed_process_left_is_removed() {
        let fresh = Fresh::new("killed");
        fs::create_dir_all(fresh.0.join("scratch/kind")).unwrap();
        fs::write(fresh.0.join("scratch/kind/file"), "half").unwrap();
        let part = fresh.open().get("kind", "digest", false, |dir| {
            assert_eq!(fs::read_dir(dir)?.count(), 0);
            Ok(())
        });
        assert_eq!(fs::read_dir(part.unwrap()).unwrap().count(), 0);
        assert!(!fresh.0.join("scratch").exists());
    }

    #[test]
    fn only_a_few_versions_are_kept() {
        let fresh = Fresh::new("few");
        for digest in ["a", "b", "c", "d", "e"] {
            fresh.open().get("kind", digest, false, writes(digest)).unwrap();
        }
        assert_eq!(fs::read_dir(fresh.0.join("kind")).unwrap().count(), KEPT);
        assert!(fresh.0.join("kind/e").exists());
    }
}
