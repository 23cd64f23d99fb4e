//! The directory with everything the agent keeps: private, and of one process at a time.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Locked by whoever works in the directory.
const LOCK: &str = "agent.lock";

/// Why a directory is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another agent works in it.
    #[error("another agent is running on the state directory `{}`; stop it first, or give this one a directory of its own", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It cannot be made or opened.
    #[error("cannot use the state directory `{}`", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A look at the lock ([`is_running`]) holds it for an instant, so a refusal is believed only after some tries.
const TRIES: u32 = 5;
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// The directory, locked for as long as this lives; the kernel unlocks it when the process ends, however it does.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl StateDir {
    /// Makes the directory where it is missing, takes it away from other users and locks it.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source: io::Error| Error::Io { path: path.to_owned(), source };
        crate::durable::make_dir(path).map_err(failed)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(failed)?;
        let mut file =
            File::options().create(true).truncate(false).write(true).open(path.join(LOCK)).map_err(failed)?;
        for _ in 0..TRIES {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Self { path: path.to_owned(), _lock: lock }),
                Err((back, Errno::EWOULDBLOCK)) => file = back,
                Err((_, errno)) => return Err(failed(errno.into())),
            }
            std::thread::sleep(BETWEEN_TRIES);
        }
        Err(Error::InUse { path: path.to_owned() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether an agent works on the directory. Nothing is made or changed.
///
/// # Errors
/// When this process may not look.
pub fn is_running(path: &Path) -> io::Result<bool> {
    let file = match File::open(path.join(LOCK)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(lock) => lock.unlock().map(|_| false).map_err(|(_, errno)| errno.into()),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, errno)) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_private_and_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let first = StateDir::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(matches!(StateDir::open(&path), Err(Error::InUse { .. })));
        assert!(is_running(&path).unwrap());
        drop(first);
        assert!(!is_running(&path).unwrap() && !is_running(&dir.path().join("absent")).unwrap());
        assert!(StateDir::open(&path).is_ok());
    }
}
