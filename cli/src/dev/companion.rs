//! Finding the programs that `dev` starts.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::Error;

/// The path of a program that belongs to this one: beside it, else in PATH.
pub(super) fn find(name: &'static str) -> Result<PathBuf, Error> {
    let own = std::env::current_exe().ok().and_then(|own| own.canonicalize().ok());
    let beside = own.as_deref().and_then(Path::parent);
    look(name, beside, std::env::var_os("PATH").as_deref())
        .ok_or_else(|| Error::NoCompanion { name, beside: beside.map(Path::to_owned) })
}

fn look(name: &str, beside: Option<&Path>, path: Option<&OsStr>) -> Option<PathBuf> {
    let folders = path.map(std::env::split_paths).into_iter().flatten().filter(|folder| folder.is_absolute());
    beside.map(Path::to_owned).into_iter().chain(folders).map(|folder| folder.join(name)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_one_beside_comes_first() {
        let (beside, path) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let find = || look("tool", Some(beside.path()), Some(path.path().as_os_str()));
        assert_eq!(find(), None);
        for folder in [&path, &beside] {
            fs::write(folder.path().join("tool"), "").unwrap();
            assert_ne!(find(), Some(folder.path().join("tool")), "a file that cannot be run is no program");
            fs::set_permissions(folder.path().join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
            assert_eq!(find(), Some(folder.path().join("tool")));
        }
    }
}
