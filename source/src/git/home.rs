//! The private folder that all of it happens in, gone at the end.
//!
//! Invariant: it is removed also when git was killed a moment ago and has not died yet, which may still make a file meanwhile.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Error;

/// How often the folder is tried to be removed.
const TRIES: u32 = 200;
/// Between two tries: a process that was killed is gone sooner than not.
const PAUSE: Duration = Duration::from_millis(2);

/// A temporary folder. What even so cannot be removed is left to whoever sweeps the folder around it.
#[derive(Debug)]
pub(super) struct Home(PathBuf);

impl Home {
    pub(super) fn new(folder: &Path) -> Result<Self, Error> {
        // git is started in it, where a path that is not absolute means another place.
        let made = std::path::absolute(folder).and_then(|all| tempfile::Builder::new().prefix("git-").tempdir_in(all));
        let made =
            made.map_err(|source| Error::Folder { what: "make a folder in", path: folder.to_owned(), source })?;
        Ok(Self(made.keep()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for _ in 0..TRIES {
            match std::fs::remove_dir_all(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => std::thread::sleep(PAUSE),
                _ => return,
            }
        }
    }
}
