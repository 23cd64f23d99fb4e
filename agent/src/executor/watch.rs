//! Waking up when a file changes, without polling.
//!
//! Invariant: a change between two looks is never missed: notices are taken away before the file is looked at, so one that
//! comes later wakes again. Where the host has no watches left (`fs.inotify.max_user_instances`) the file is looked
//! at now and then instead.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;

use super::files::file_error;
use super::{Error, StepDir};

/// Looks without a notice, in case the kernel dropped one.
const SAFETY_NET: Duration = Duration::from_secs(5);
/// Looks where there are no notices.
const WITHOUT_NOTICES: Duration = Duration::from_millis(500);

/// Wakes when one file is written to.
#[derive(Debug)]
pub(super) struct FileWatch {
    notices: Option<AsyncFd<OwnedFd>>,
}

impl FileWatch {
    /// Watches a file that is there. Needs a Tokio runtime.
    pub(super) fn new(path: &Path) -> Self {
        let notices = notices(path);
        if let Err(error) = &notices {
            tracing::warn!(path = %path.display(), %error, "no notices of changes, the file is looked at twice a second");
        }
        Self { notices: notices.ok() }
    }

    /// Takes away the notices that are there; to be called before the file is looked at.
    pub(super) fn clear(&mut self) {
        let mut buffer = [0; 4096];
        if let Some(notices) = &self.notices {
            while nix::unistd::read(notices.get_ref(), &mut buffer).is_ok_and(|read| read > 0) {}
        }
    }

    /// Waits for a notice or for the time to look anyway.
    pub(super) async fn wait(&mut self) {
        let Some(notices) = &self.notices else {
            return tokio::time::sleep(WITHOUT_NOTICES).await;
        };
        // After an error the file is looked at, which is what a notice would bring about too.
        if let Ok(Ok(mut guard)) = tokio::time::timeout(SAFETY_NET, notices.readable()).await {
            guard.clear_ready();
        }
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe to call; what the descriptor must uphold (one open file for life) an `OwnedFd` does"
)]
fn notices(path: &Path) -> std::io::Result<AsyncFd<OwnedFd>> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    inotify.add_watch(path, AddWatchFlags::IN_MODIFY)?;
    AsyncFd::new(inotify.into())
}

/// Wakes when a spool has grown. Misses nothing: growth before it was made counts too.
#[derive(Debug)]
pub struct SpoolWatch {
    watch: FileWatch,
    path: PathBuf,
}

impl SpoolWatch {
    /// Watches the spool of a step, which has to be there. Needs a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::File`] when there is no spool.
    pub fn new(dir: &StepDir) -> Result<Self, Error> {
        let path = dir.spool();
        length(&path)?;
        Ok(Self { watch: FileWatch::new(&path), path })
    }

    /// Waits until the spool is longer than `seen` bytes and returns its length. Can be dropped and called again.
    ///
    /// # Errors
    /// [`Error::File`] when the spool is gone.
    pub async fn longer_than(&mut self, seen: u64) -> Result<u64, Error> {
        loop {
            self.watch.clear();
            let length = length(&self.path)?;
            if length > seen {
                return Ok(length);
            }
            self.watch.wait().await;
        }
    }
}

fn length(path: &Path) -> Result<u64, Error> {
    Ok(std::fs::metadata(path).map_err(file_error("look at", path))?.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[tokio::test]
    async fn growth_before_and_after_the_watch_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let step = StepDir::new(dir.path(), 0);
        step.make().unwrap();
        let mut spool = step.open().unwrap().0;
        spool.write_all(b"one").unwrap();
        let mut watch = SpoolWatch::new(&step).unwrap();
        assert_eq!(watch.longer_than(0).await.unwrap(), 3);
        for length in 4..200 {
            let (grown, ()) = tokio::join!(watch.longer_than(length - 1), async { spool.write_all(b"x").unwrap() });
            assert_eq!(grown.unwrap(), length);
        }
    }

    #[tokio::test]
    async fn a_spool_that_is_gone_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(SpoolWatch::new(&StepDir::new(dir.path(), 0)).is_err());
    }
}
