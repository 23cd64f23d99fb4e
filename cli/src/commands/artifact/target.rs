//! Where a downloaded file goes. The names come from a server: none of them leads out of the folder, and no link in it is followed.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use longshore_core::artifacts::is_path;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::exit::Exit;
use crate::failure::Failure;

/// The place of a file below the folder.
pub(super) fn below(step: Option<&str>, path: &str) -> Result<PathBuf, Failure> {
    let plain = |text: &str| is_path(text) && !text.contains('\\');
    if !plain(path) || step.is_some_and(|step| !plain(step) || step.contains('/')) {
        return Err(Failure::new(
            Exit::Failed,
            format!("the server names a file `{path}`, which could leave the folder"),
        )
        .untouched("nothing was written"));
    }
    Ok(Path::new(step.unwrap_or_default()).join(path))
}

/// Makes the folders of a file and refuses a place that is taken.
pub(super) fn place(to: &Path, file: &Path, force: bool) -> Result<PathBuf, Failure> {
    let path = to.join(file);
    make(to, file).map_err(|error| failed("make the folder of", &path, &error).untouched("nothing was written"))?;
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(path),
        Ok(found) if force && !found.is_dir() => Ok(path),
        Ok(_) => Err(Failure::new(Exit::Failed, format!("`{}` is there already", path.display()))
            .untouched("nothing was written")
            .next("give another folder, or replace files with --force")),
        Err(error) => Err(failed("look at", &path, &error)),
    }
}

fn make(to: &Path, file: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let mut folder = to.to_owned();
    for part in file.parent().into_iter().flat_map(Path::components) {
        folder.push(part);
        match fs::create_dir(&folder) {
            Ok(()) => {}
            // A link in its place could lead anywhere.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && fs::symlink_metadata(&folder)?.is_dir() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A file on its way: it has a name of its own until it is whole.
pub(super) struct Target<'a> {
    path: &'a Path,
    file: NamedTempFile,
    sha: Sha256,
    bytes: u64,
}

impl<'a> Target<'a> {
    /// Begins beside the place; one that is dropped leaves nothing. `private`: only for the user's own eyes.
    pub(super) fn open(path: &'a Path, private: bool) -> Result<Self, Failure> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let mode = if private { 0o600 } else { 0o666 };
        let made = tempfile::Builder::new()
            .prefix(".longshore-")
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(folder);
        let file = made.map_err(|error| failed("make a file beside", path, &error))?;
        Ok(Self { path, file, sha: Sha256::new(), bytes: 0 })
    }

    /// Takes the next bytes.
    pub(super) fn write(&mut self, chunk: &[u8]) -> Result<(), Failure> {
        self.sha.update(chunk);
        self.bytes += chunk.len() as u64;
        self.file.write_all(chunk).map_err(|error| failed("write", self.path, &error))
    }

    /// Gives it its name, if it is what was announced.
    pub(super) fn finish(self, (bytes, sha256): (u64, &str), force: bool) -> Result<(), Failure> {
        let found: String = self.sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if self.bytes != bytes || found != sha256 {
            let text =
                format!("what came for `{}` is not what the server lists: its SHA-256 is {found}", self.path.display());
            return Err(Failure::new(Exit::Failed, text).next("try again; if it stays so, look at the server's disk"));
        }
        let path = self.path;
        self.file.as_file().sync_all().map_err(|error| failed("write", path, &error))?;
        let kept = if force { self.file.persist(path) } else { self.file.persist_noclobber(path) };
        kept.map(drop).map_err(|error| failed("name", path, &error.error))
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot {what} `{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_folder() {
        assert_eq!(below(Some("build"), "a/b").unwrap(), Path::new("build/a/b"));
        assert_eq!(below(None, "a").unwrap(), Path::new("a"));
        for (step, path) in [
            (None, "../a"),
            (None, "/etc/x"),
            (Some(".."), "a"),
            (Some("a/b"), "c"),
            (Some(""), "a"),
            (None, "a\\..\\b"),
        ] {
            assert!(below(step, path).is_err(), "{step:?} {path}");
        }
        let dir = tempfile::tempdir().unwrap();
        let (to, outside) = (dir.path().join("to"), dir.path().join("outside"));
        fs::create_dir_all(&outside).unwrap();
        place(&to, Path::new("a/b/c"), false).unwrap();
        std::os::unix::fs::symlink(&outside, to.join("link")).unwrap();
        assert!(place(&to, Path::new("link/x"), true).is_err());
        assert!(place(&to, Path::new("link"), false).is_err(), "it is there");
        assert!(place(&to, Path::new("a/b"), true).is_err(), "a folder is not replaced");
    }

    #[test]
    fn a_file_has_its_name_when_it_is_whole_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let sum = |text: &[u8]| Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let put = |text: &[u8], bytes, force| {
            let mut target = Target::open(&path, false).unwrap();
            text.chunks(2).for_each(|chunk| target.write(chunk).unwrap());
            target.finish((bytes, &sum(b"whole")), force)
        };
        assert!(put(b"whol", 4, false).is_err() && put(b"whole", 6, false).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        put(b"whole", 5, false).unwrap();
        assert!(put(b"whole", 5, false).is_err(), "it came into being meanwhile");
        fs::write(&path, "old").unwrap();
        put(b"whole", 5, true).unwrap();
        assert_eq!((fs::read(&path).unwrap(), fs::read_dir(dir.path()).unwrap().count()), (b"whole".to_vec(), 1));
    }
}
