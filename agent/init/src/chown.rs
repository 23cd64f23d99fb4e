//! Handing a directory tree to another user. Follows no link and leaves the file system of its root nowhere.

use nix::dir::{Dir, OwningIter};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{Gid, Uid, fchownat};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// What could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not `UID:GID`.
    #[error("`{0}` is no owner, `UID:GID` is needed")]
    Owner(String),
    /// An entry could not be handed over.
    #[error("cannot hand over `{path}`")]
    Entry {
        /// The entry.
        path: PathBuf,
        /// Why.
        #[source]
        source: Errno,
    },
}

/// One directory on the way down.
struct Level {
    entries: OwningIter,
    /// The directory itself; `entries` owns another descriptor of it that it does not show.
    directory: std::os::fd::OwnedFd,
    path: PathBuf,
}

/// Makes `owner` (`UID:GID`, numbers) the owner of everything under `root`, itself included.
pub fn chown(owner: &str, root: &Path) -> Result<(), Error> {
    let (uid, gid) = parse(owner).ok_or_else(|| Error::Owner(owner.to_owned()))?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Entry { path, source }
    };
    let top = open(AT_FDCWD, root).map_err(failed(root))?;
    let device = fstat(&top.directory).map_err(failed(root))?.st_dev;
    fchownat(AT_FDCWD, root, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed(root))?;
    let mut levels = vec![top];
    while let Some(level) = levels.last_mut() {
        let Some(entry) = level.entries.next() else {
            levels.pop();
            continue;
        };
        let name: CString = entry.map_err(failed(&level.path))?.file_name().to_owned();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let path = level.path.join(name.to_string_lossy().as_ref());
        let what = stat(level.directory.as_fd(), &name).map_err(failed(&path))?;
        if what.st_dev != device {
            continue;
        }
        fchownat(&level.directory, name.as_c_str(), Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(failed(&path))?;
        if SFlag::from_bits_truncate(what.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR {
            let mut next = open(level.directory.as_fd(), name.as_c_str()).map_err(failed(&path))?;
            next.path = path;
            levels.push(next);
        }
    }
    Ok(())
}

fn parse(owner: &str) -> Option<(Uid, Gid)> {
    let (uid, gid) = owner.split_once(':')?;
    // -1 would mean "leave it", so the largest number is none.
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number != u32::MAX);
    Some((Uid::from_raw(number(uid)?), Gid::from_raw(number(gid)?)))
}

fn stat(directory: BorrowedFd<'_>, name: &std::ffi::CStr) -> nix::Result<FileStat> {
    fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

fn open<P: ?Sized + nix::NixPath>(at: BorrowedFd<'_>, name: &P) -> nix::Result<Level> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let directory = nix::fcntl::openat(at, name, flags, Mode::empty())?;
    let entries = Dir::from_fd(directory.try_clone().map_err(|_| Errno::EMFILE)?)?.into_iter();
    let path = name.with_nix_path(|path| PathBuf::from(path.to_string_lossy().as_ref()))?;
    Ok(Level { entries, directory, path })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    #[test]
    fn owners_are_two_numbers() {
        assert!(parse("1000:100").is_some());
        for wrong in ["1000", "a:b", ":", "1:2:3", "-1:0", "4294967295:0"] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_tree_is_handed_over_without_following_links() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        let deep = (0..300).fold(tree.clone(), |path, _| path.join("d"));
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("file"), "").unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("file"), "").unwrap();
        symlink(&outside, tree.join("link")).unwrap();
        // Only root may give files away; anyone may hand them to themselves.
        let root = Uid::effective().is_root();
        let (uid, gid) = if root { (1234, 4321) } else { (Uid::effective().as_raw(), Gid::effective().as_raw()) };
        chown(&format!("{uid}:{gid}"), &tree).unwrap();
        for path in [tree.clone(), deep.join("file"), tree.join("link")] {
            let meta = std::fs::symlink_metadata(&path).unwrap();
            assert_eq!((meta.uid(), meta.gid()), (uid, gid), "{}", path.display());
        }
        for path in [outside.clone(), outside.join("file"), dir.path().to_owned()] {
            assert!(!root || std::fs::metadata(path).unwrap().uid() == 0);
        }
        assert!(chown(&format!("{uid}:{gid}"), &tree.join("link")).is_err());
    }
}
