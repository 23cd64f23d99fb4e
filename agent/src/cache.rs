//! What is kept on disk to be used again: packages, by their digest.
//!
//! `packages/<sha256>` in the state directory is a second name of a file that an attempt fetched; an attempt that needs the same
//! gives it a third. So a name appears with its whole content, and what is evicted stays with whoever uses it. Invariants: what
//! is handed out was read and has its digest, whatever happened to the disk; what is kept stays within the budget, but for the
//! package kept last; without a cache everything works as well, so nothing here is an error.

use std::collections::HashMap;
use std::fs::{File, FileTimes};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::tasks::blocking;
use crate::{clock, durable};

/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// Packages on disk. Clones share them.
#[derive(Debug, Clone)]
pub struct Packages(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    budget: u64,
    /// Fetches that go on.
    flights: std::sync::Mutex<HashMap<String, Weak<Mutex<()>>>>,
}

impl Packages {
    /// Opens the folder in the state directory and brings it within the budget in bytes; 0: nothing is kept.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(state_dir: &Path, budget: u64) -> io::Result<Self> {
        let root = state_dir.join("packages");
        durable::make_dir(&root)?;
        let inner = Inner { root, budget, flights: std::sync::Mutex::default() };
        inner.evict(None);
        Ok(Self(Arc::new(inner)))
    }

    /// Waits for whoever fetches the same package now. Held while one looks for it here, fetches and keeps it.
    pub async fn flight(&self, sha256: &str) -> OwnedMutexGuard<()> {
        let flight = {
            let mut flights = self.0.flights.lock().unwrap_or_else(PoisonError::into_inner);
            flights.retain(|_, flight| flight.strong_count() > 0);
            let known = flights.get(sha256).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let new = Arc::new(Mutex::new(()));
                flights.insert(sha256.to_owned(), Arc::downgrade(&new));
                new
            })
        };
        flight.lock_owned().await
    }

    /// Puts the package at `to`, whole and verified, if it is here. `to` is free afterwards if it is not.
    pub async fn take(&self, sha256: &str, to: &Path) -> bool {
        let (inner, name, to) = (Arc::clone(&self.0), sha256.to_owned(), to.to_owned());
        let taken = blocking(move || inner.take(&name, &to)).await;
        taken.unwrap_or_else(|error| {
            tracing::warn!(sha256, %error, "the package is fetched, although it may be on this disk");
            false
        })
    }

    /// Keeps a package that was verified just now; older ones make room for it.
    pub async fn keep(&self, sha256: &str, from: &Path) {
        let (inner, name, from) = (Arc::clone(&self.0), sha256.to_owned(), from.to_owned());
        if let Err(error) = blocking(move || inner.keep(&name, &from)).await {
            tracing::warn!(sha256, %error, "the package is not kept for the next job");
        }
    }

    /// Gives everything up, as when the disk is full; true if that freed something.
    pub async fn clear(&self) -> bool {
        let inner = Arc::clone(&self.0);
        blocking(move || Ok(inner.shrink(0, None))).await.unwrap_or(false)
    }
}

impl Inner {
    /// Where a package is kept; `None` for what is no digest and so no file name.
    fn path(&self, sha256: &str) -> Option<PathBuf> {
        let digest = sha256.len() == 64 && sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        digest.then(|| self.root.join(sha256))
    }

    fn take(&self, sha256: &str, to: &Path) -> io::Result<bool> {
        // Also because a second name of a kept file must not be written to.
        match std::fs::remove_file(to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let Some(kept) = self.path(sha256) else { return Ok(false) };
        match std::fs::hard_link(&kept, to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            done => done?,
        }
        // A file that cannot be read is as good as a damaged one.
        if digest(to).is_ok_and(|found| found == sha256) {
            used(&kept);
            return Ok(true);
        }
        tracing::warn!(sha256, "the package on this disk is damaged and goes");
        std::fs::remove_file(to)?;
        std::fs::remove_file(&kept)?;
        Ok(false)
    }

    fn keep(&self, sha256: &str, from: &Path) -> io::Result<()> {
        let Some(kept) = self.path(sha256) else { return Ok(()) };
        if std::fs::metadata(from)?.len() > self.budget {
            return Ok(());
        }
        match std::fs::hard_link(from, &kept) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        used(&kept);
        self.evict(Some(sha256));
        Ok(())
    }

    fn evict(&self, but: Option<&str>) {
        self.shrink(self.budget, but);
    }

    /// Removes those that were not used for longest, down to so many bytes; true if any was removed.
    fn shrink(&self, most: u64, but: Option<&str>) -> bool {
        let entries = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        let mut kept: Vec<(SystemTime, u64, PathBuf)> = entries
            .filter_map(|entry| {
                let metadata = entry.metadata().ok()?;
                Some((metadata.modified().ok()?, metadata.len(), entry.path()))
            })
            .collect();
        kept.sort();
        let mut total: u64 = kept.iter().map(|(_, bytes, _)| bytes).sum();
        let mut any = false;
        for (_, bytes, path) in kept {
            if total <= most {
                break;
            }
            if but.is_some_and(|but| path.ends_with(but)) {
                continue;
            }
            match std::fs::remove_file(&path) {
                Ok(()) => (total, any) = (total.saturating_sub(bytes), true),
                Err(error) => tracing::warn!(path = %path.display(), %error, "a kept package cannot be removed"),
            }
        }
        any
    }
}

/// Marks a package as used now. Without it eviction is less clever and nothing else.
fn used(path: &Path) {
    let now = u64::try_from(clock::now().as_micros()).unwrap_or(0);
    let times = FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_micros(now));
    if let Err(error) = File::options().write(true).open(path).and_then(|file| file.set_times(times)) {
        tracing::debug!(path = %path.display(), %error, "the use of a package is not noted");
    }
}

fn digest(path: &Path) -> io::Result<String> {
    let (mut file, mut hash, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => hash.update(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World {
        dir: tempfile::TempDir,
        packages: Packages,
    }

    impl World {
        fn new(budget: u64) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let packages = Packages::open(dir.path(), budget).unwrap();
            Self { dir, packages }
        }

        fn to(&self) -> PathBuf {
            self.dir.path().join("to")
        }

        async fn keep(&self, content: &[u8]) -> String {
            let from = self.dir.path().join("from");
            std::fs::remove_file(&from).ok();
            std::fs::write(&from, content).unwrap();
            let sha256 = digest(&from).unwrap();
            self.packages.keep(&sha256, &from).await;
            sha256
        }

        /// As if it was used so many seconds after 1970.
        fn age(&self, sha256: &str, seconds: u64) {
            let times = FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(seconds));
            let path = self.packages.0.path(sha256).unwrap();
            File::options().write(true).open(path).unwrap().set_times(times).unwrap();
        }

        fn kept(&self) -> usize {
            std::fs::read_dir(self.dir.path().join("packages")).unwrap().count()
        }
    }

    #[tokio::test]
    async fn what_was_kept_is_taken_again_also_after_a_restart() {
        let world = World::new(100);
        let one = world.keep(b"one").await;
        assert!(world.packages.take(&one, &world.to()).await);
        assert_eq!(std::fs::read(world.to()).unwrap(), b"one");
        let later = Packages::open(world.dir.path(), 100).unwrap();
        assert!(later.take(&one, &world.to()).await && later.clear().await && !later.clear().await);
        assert_eq!(std::fs::read(world.to()).unwrap(), b"one", "whoever has it keeps it");
        assert!(!later.take(&one, &world.to()).await);
        assert!(!world.to().exists());
        for name in ["../agent.lock", "", &"A".repeat(64)] {
            assert!(!later.take(name, &world.to()).await, "{name}");
            later.keep(name, world.dir.path()).await;
        }
    }

    #[tokio::test]
    async fn a_damaged_package_goes_instead_of_being_used() {
        let world = World::new(100);
        let one = world.keep(b"one").await;
        std::fs::write(world.packages.0.path(&one).unwrap(), b"two").unwrap();
        assert!(!world.packages.take(&one, &world.to()).await);
        assert!(!world.to().exists() && world.kept() == 0);
    }

    #[tokio::test]
    async fn the_longest_unused_makes_room() {
        let world = World::new(10);
        let (one, two) = (world.keep(b"1111").await, world.keep(b"2222").await);
        world.age(&one, 2);
        world.age(&two, 1);
        let three = world.keep(b"3333").await;
        assert!(world.packages.take(&one, &world.to()).await && world.packages.take(&three, &world.to()).await);
        assert!(!world.packages.take(&two, &world.to()).await);
        let large = world.keep(b"more than ten").await;
        assert!(!world.packages.take(&large, &world.to()).await && world.kept() == 2);
        world.age(&one, 2);
        Packages::open(world.dir.path(), 5).unwrap();
        assert!(!world.packages.take(&one, &world.to()).await && world.packages.take(&three, &world.to()).await);
        Packages::open(world.dir.path(), 0).unwrap();
        assert_eq!(world.kept(), 0);
    }

    #[tokio::test]
    async fn one_fetches_and_the_others_wait() {
        let world = World::new(10);
        let first = world.packages.flight("a").await;
        let other = world.packages.flight("b").await;
        let waiting = world.packages.flight("a");
        tokio::pin!(waiting);
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop((first, other));
        waiting.await;
    }
}
