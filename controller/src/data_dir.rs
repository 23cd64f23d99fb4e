//! The controller's directory: made 0700, locked, and home of its small private files.
//!
//! Invariants: at most one controller has the directory open (an exclusive `flock` held for its lifetime); files
//! written here are 0600 and appear whole or not at all.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// Longest private file that is read back; they are keys and certificates.
const MAX_PRIVATE: u64 = 1 << 20;

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation on it failed.
    #[error("cannot {what} `{}`", path.display())]
    Io {
        /// For example "create".
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something else has its name.
    #[error("`{}` is not a directory: give `data_dir` the path of a directory, or one that does not exist yet", .0.display())]
    NotADirectory(PathBuf),
    /// Another controller runs on it.
    #[error("another controller{} runs on `{}`: stop it first, or give this one its own `data_dir`", pid.map_or_else(String::new, |pid| format!(" (process {pid})")), path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Its process, when it could be read.
        pid: Option<i32>,
    },
    /// A private file can be read by others.
    #[error("`{}` has mode {mode:04o}: others can read it. Change what was exposed if it may have been read, then `chmod 600` it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// The open and locked directory.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Held until drop; the system frees it if the process dies.
    _lock: Flock<File>,
}

impl DataDir {
    /// Creates (0700) or opens the directory and locks it. One with wider modes is tightened, with a warning.
    ///
    /// # Errors
    /// When it cannot be made, is not a directory, or another controller runs on it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        create(path)?;
        let lock = lock(path)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a private file; `None` when it is not there.
    ///
    /// # Errors
    /// When it cannot be read or others can read it.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { what: "open", path, source }),
        };
        let mode = file.metadata().map_err(io_error("read", &path))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(Error::Exposed { path, mode });
        }
        let mut bytes = Vec::new();
        file.take(MAX_PRIVATE).read_to_end(&mut bytes).map_err(io_error("read", &path))?;
        Ok(Some(bytes))
    }

    /// Writes a private file (0600), whole and durable or not at all. One of that name is replaced.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path.join(name);
        let temporary = self.path.join(format!("{name}.new"));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&temporary).map_err(io_error("create", &temporary))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io_error("write", &temporary))?;
        std::fs::rename(&temporary, &path).map_err(io_error("rename", &temporary))?;
        sync_dir(&self.path)
    }
}

/// Makes a directory's entries durable.
///
/// # Errors
/// When the system refuses it.
pub fn sync_dir(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(io_error("sync", path))
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { what, path, source }
}

fn create(path: &Path) -> Result<(), Error> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_dir() => return Err(Error::NotADirectory(path.to_owned())),
        Ok(found) => {
            let mode = found.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                tracing::warn!(path = %path.display(), mode = %format_args!("{mode:04o}"), "the data directory was open to others; its mode is 0700 now");
                std::fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(io_error("tighten", path))?;
            }
            return Ok(());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(Error::Io { what: "look at", path: path.to_owned(), source }),
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error("create", path))
}

fn lock(dir: &Path) -> Result<Flock<File>, Error> {
    let path = dir.join("lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).map_err(io_error("open", &path))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            let id = format!("{}\n", std::process::id());
            lock.set_len(0).and_then(|()| lock.write_all(id.as_bytes())).map_err(io_error("write", &path))?;
            Ok(lock)
        }
        Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
            let mut text = String::new();
            let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
            let pid = read.ok().and_then(|_| text.trim().parse().ok());
            Err(Error::InUse { path: dir.to_owned(), pid })
        }
        Err((_, errno)) => Err(Error::Io { what: "lock", path, source: errno.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_private_and_taken_once() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/data");
        let open = DataDir::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let second = DataDir::open(&path).unwrap_err().to_string();
        assert!(second.contains("another controller") && second.contains(&std::process::id().to_string()), "{second}");
        drop(open);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn wide_modes_are_tightened() {
        let root = tempfile::tempdir().unwrap();
        std::fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
        DataDir::open(root.path()).unwrap();
        assert_eq!(std::fs::metadata(root.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn private_files_are_whole_and_not_for_others() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path()).unwrap();
        assert_eq!(dir.read("key").unwrap(), None);
        dir.write("key", b"one").unwrap();
        dir.write("key", b"two").unwrap();
        assert_eq!(dir.read("key").unwrap().unwrap(), b"two");
        std::fs::set_permissions(root.path().join("key"), Permissions::from_mode(0o640)).unwrap();
        assert!(dir.read("key").unwrap_err().to_string().contains("0640"));
    }
}
