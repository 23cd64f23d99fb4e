//! The file that a step's commands write outputs to.
//!
//! It lies in a directory that the step may write to, so whatever is there at the end is of the step's making. Invariants: only a
//! regular file in that very directory is read, no link is followed, opening never waits, and no more is read than may be kept.

use longshore_core::init::MAX_OUTPUTS;
use longshore_core::outputs::VARIABLE;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat};
use nix::unistd::{UnlinkatFlags, read, unlinkat};
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// All processes of the container may add to it, whoever they run as; only the step's own user may read it.
const MODE: Mode = Mode::from_bits_truncate(0o622);

/// Why there are no outputs. Quotes nothing of the file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be made; nothing was run.
    #[error("cannot make the file for outputs `{path}`: {}", reason.desc())]
    Make {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: Errno,
    },
    /// It cannot be read any more.
    #[error("the file `${VARIABLE}` cannot be read: {}", .0.desc())]
    Unreadable(Errno),
    /// A link, a pipe, a directory stands in its place.
    #[error("the file `${VARIABLE}` was replaced by something that is no regular file")]
    Replaced,
    /// More than may be kept, which for outputs is [`MAX_OUTPUTS`].
    #[error("the file `${VARIABLE}` has more than the {MAX_OUTPUTS} bytes that can be kept")]
    TooLong,
}

/// The file of one step.
#[derive(Debug)]
pub struct OutputFile {
    /// Held open, so that a directory put in its place is not taken for it.
    directory: OwnedFd,
    name: OsString,
}

impl OutputFile {
    /// A file that may be there.
    pub fn at(path: &Path) -> Result<Self, Error> {
        let failed = |reason| Error::Make { path: path.to_owned(), reason };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(failed(Errno::EINVAL));
        };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory = open(parent, flags, Mode::empty()).map_err(failed)?;
        Ok(Self { directory, name: name.to_owned() })
    }

    /// Makes the file, empty. One that is there goes.
    pub fn make(path: &Path) -> Result<Self, Error> {
        let failed = |reason| Error::Make { path: path.to_owned(), reason };
        let file = Self::at(path)?;
        let (directory, name): (_, &OsStr) = (&file.directory, &file.name);
        match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(reason) => return Err(failed(reason)),
        }
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made = openat(directory, name, flags, Mode::S_IRUSR).map_err(failed)?;
        // The umask has no say.
        fchmod(&made, MODE).map_err(failed)?;
        Ok(file)
    }

    /// What is in it now, refused when it is more than `most` bytes. One that was removed is empty.
    pub fn read(&self, most: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
        let name: &OsStr = &self.name;
        // Without O_NONBLOCK a pipe in its place would make this wait for a writer.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let file = match openat(&self.directory, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Ok(Zeroizing::default()),
            Err(Errno::ELOOP | Errno::ENXIO) => return Err(Error::Replaced),
            Err(error) => return Err(Error::Unreadable(error)),
        };
        let what = fstat(&file).map_err(Error::Unreadable)?;
        if SFlag::from_bits_truncate(what.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
            return Err(Error::Replaced);
        }
        // One byte more than may be kept shows that it was too much. It never grows, so nothing of it stays behind in freed memory.
        let mut bytes = Zeroizing::new(vec![0; most + 1]);
        let mut length = 0;
        while length < bytes.len() {
            match read(&file, &mut bytes[length..]) {
                Ok(0) => break,
                Ok(more) => length += more,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(Error::Unreadable(error)),
            }
        }
        if length > most {
            return Err(Error::TooLong);
        }
        bytes.truncate(length);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    fn made() -> (tempfile::TempDir, PathBuf, OutputFile) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("output");
        let file = OutputFile::make(&path).unwrap();
        (dir, path, file)
    }

    #[test]
    fn it_is_made_anew_and_read_as_it_is_at_the_end() {
        let (dir, path, file) = made();
        assert_eq!((fs::metadata(&path).unwrap().mode() & 0o7777, file.read(MAX_OUTPUTS).unwrap().len()), (0o622, 0));
        fs::write(&path, "a=1\n").unwrap();
        assert_eq!(file.read(MAX_OUTPUTS).unwrap().as_slice(), b"a=1\n");
        // As tools do that never leave a half-written file.
        fs::write(dir.path().join("new"), "b=2\n").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(file.read(MAX_OUTPUTS).unwrap().as_slice(), b"b=2\n");
        fs::remove_file(&path).unwrap();
        assert_eq!(file.read(MAX_OUTPUTS).unwrap().as_slice(), b"");
        symlink("/etc/passwd", &path).unwrap();
        assert_eq!(OutputFile::make(&path).unwrap().read(MAX_OUTPUTS).unwrap().as_slice(), b"");
    }

    #[test]
    fn nothing_else_is_read_in_its_place() {
        let (dir, path, file) = made();
        let replaced = |make: &dyn Fn()| {
            fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).unwrap();
            make();
            matches!(file.read(MAX_OUTPUTS), Err(Error::Replaced))
        };
        assert!(replaced(&|| symlink("/etc/passwd", &path).unwrap()));
        assert!(replaced(&|| symlink("output", &path).unwrap()));
        assert!(replaced(&|| nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap()));
        assert!(replaced(&|| drop(std::os::unix::net::UnixListener::bind(&path).unwrap())));
        assert!(replaced(&|| fs::create_dir(&path).unwrap()));
        fs::remove_dir(&path).unwrap();
        // Another directory in the place of its own is not looked into.
        let (moved, own) = (dir.path().join("moved"), dir.path().join("own"));
        fs::create_dir(&own).unwrap();
        let file = OutputFile::make(&own.join("output")).unwrap();
        fs::write(own.join("output"), "a=1").unwrap();
        fs::rename(&own, &moved).unwrap();
        symlink("/etc", &own).unwrap();
        assert_eq!(file.read(MAX_OUTPUTS).unwrap().as_slice(), b"a=1");
    }

    #[test]
    fn no_more_is_read_than_may_be_kept() {
        let (_dir, path, file) = made();
        fs::write(&path, vec![b'x'; MAX_OUTPUTS]).unwrap();
        assert_eq!(file.read(MAX_OUTPUTS).unwrap().len(), MAX_OUTPUTS);
        fs::File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        let error = file.read(MAX_OUTPUTS).unwrap_err();
        assert!(error.to_string().contains("`$LONGSHORE_OUTPUT` has more than the 262144 bytes"), "{error}");
        let error = OutputFile::make(Path::new("/no/where/output")).unwrap_err().to_string();
        assert_eq!(error, "cannot make the file for outputs `/no/where/output`: No such file or directory");
    }
}
