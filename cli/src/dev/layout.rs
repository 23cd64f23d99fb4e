//! The folder of `longshore dev`: what lies where in it, and who holds it.
//!
//! One `dev` at a time has a folder: the lock is the system's (`flock`), so it is gone with its process, however that ends.
//! Files that others read appear whole, with mode 0600.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::Error;

/// The file that is locked; it also tells our folders from others.
const LOCK: &str = "dev.lock";

/// A folder with everything in it, held by this process.
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
    _held: Flock<File>,
}

impl Layout {
    /// Creates what is missing and takes the lock.
    pub(super) fn open(folder: &Path) -> Result<Self, Error> {
        let failed = |what: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Folder { what, path, source }
        };
        create(folder).map_err(failed("created", folder))?;
        let root = folder.canonicalize().map_err(failed("opened", folder))?;
        if root.to_str().is_none() {
            return Err(Error::Name(root));
        }
        if !is_ours_or_empty(&root).map_err(failed("listed", &root))? {
            return Err(Error::Foreign(root));
        }
        let held = hold(&root)?;
        std::fs::set_permissions(&root, Permissions::from_mode(0o700)).map_err(failed("closed to others", &root))?;
        for name in ["state", "controller", "agent"] {
            let path = root.join(name);
            create(&path).map_err(failed("created", &path))?;
        }
        let layout = Self { root, _held: held };
        // Images run as users of their own, and all of them may write to the mount. Nobody else on this machine gets
        // that far: the folder above is closed.
        let open = Permissions::from_mode(0o777);
        let state = layout.state_dir();
        std::fs::set_permissions(&state, open).map_err(failed("opened to jobs", &state))?;
        // From an earlier start: whoever waits for it must not take it for this one's.
        layout.forget(&layout.env_file());
        Ok(layout)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn env_file(&self) -> PathBuf {
        self.root.join("dev.env")
    }

    pub(super) fn controller_dir(&self) -> PathBuf {
        self.root.join("controller")
    }

    pub(super) fn agent_dir(&self) -> PathBuf {
        self.root.join("agent")
    }

    pub(super) fn state_dir(&self) -> PathBuf {
        self.root.join("state")
    }

    pub(super) fn controller_config(&self) -> PathBuf {
        self.root.join("controller.toml")
    }

    pub(super) fn agent_config(&self) -> PathBuf {
        self.root.join("agent.toml")
    }

    pub(super) fn admin_token(&self) -> PathBuf {
        self.controller_dir().join("admin.token")
    }

    pub(super) fn identity(&self) -> PathBuf {
        self.agent_dir().join("identity.json")
    }

    pub(super) fn ca_file(&self) -> PathBuf {
        self.agent_dir().join("ca.pem")
    }

    pub(super) fn join_token(&self) -> PathBuf {
        self.agent_dir().join("join.token")
    }

    pub(super) fn pid_file(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.pid"))
    }

    /// Removes a file that may not be there.
    pub(super) fn forget(&self, path: &Path) {
        debug_assert!(path.starts_with(&self.root));
        // If it cannot be removed it cannot be written either, and that is reported.
        let _missing = std::fs::remove_file(path);
    }
}

/// Writes a file so that a reader sees the old one or the whole new one; mode 0600.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Error> {
    let write = || {
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        // Temporary files are made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.persist(path).map_err(|error| error.error)
    };
    write().map(drop).map_err(|source| Error::Folder { what: "written", path: path.to_owned(), source })
}

fn create(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Whether an earlier `dev` had the folder, or it is new: nothing else is to be mixed with our files or closed to others.
fn is_ours_or_empty(root: &Path) -> io::Result<bool> {
    Ok(root.join(LOCK).exists() || std::fs::read_dir(root)?.next().is_none())
}

fn hold(root: &Path) -> Result<Flock<File>, Error> {
    let path = root.join(LOCK);
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = opened.map_err(|source| Error::Folder { what: "opened", path: path.clone(), source })?;
    let mut held = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => {
            let pid = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
            Error::Held { root: root.to_owned(), pid }
        }
        other => Error::Folder { what: "locked", path: path.clone(), source: other.into() },
    })?;
    let said = held.set_len(0).and_then(|()| writeln!(held, "{}", std::process::id()));
    said.map_err(|source| Error::Folder { what: "written", path, source })?;
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_private_and_held_by_one() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("new");
        let layout = Layout::open(&folder).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&layout.agent_dir()), mode(&layout.state_dir())), (0o700, 0o700, 0o777));
        assert!(matches!(Layout::open(&folder), Err(Error::Held { pid: Some(pid), .. }) if pid == std::process::id()));
        drop(layout);
        assert!(Layout::open(&folder).is_ok());
    }

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("precious"), "").unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(Layout::open(folder.path()), Err(Error::Foreign(_))));
        assert_eq!(folder.path().metadata().unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_an_earlier_start_left_is_not_taken_for_ready() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::open(folder.path()).unwrap();
        write(&layout.env_file(), "LONGSHORE_URL=old\n").unwrap();
        assert_eq!(layout.env_file().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        drop(layout);
        assert!(!Layout::open(folder.path()).unwrap().env_file().exists());
    }
}
