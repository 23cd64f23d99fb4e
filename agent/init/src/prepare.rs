//! Changes to the container's file system before the first command.

use longshore_core::init::Prepare;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// What could not be prepared.
#[derive(Debug, thiserror::Error)]
#[error("cannot prepare `{path}`")]
pub struct Error {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Carries out one preparation. What is there already is left as it is.
pub fn prepare(what: &Prepare) -> Result<(), Error> {
    match what {
        Prepare::Directory { path } => directory(Path::new(path)),
        Prepare::LinkFarm { sources, target } => link_farm(sources, Path::new(target)),
    }
}

fn directory(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|source| Error { path: path.to_owned(), source })
}

fn link_farm(sources: &[String], target: &Path) -> Result<(), Error> {
    directory(target)?;
    for source in sources {
        for entry in readable(Path::new(source)) {
            let own = target.join(entry.file_name());
            if !entry.path().is_dir() {
                link(&entry.path(), &own)?;
                continue;
            }
            directory(&own)?;
            for file in readable(&entry.path()) {
                link(&file.path(), &own.join(file.file_name()))?;
            }
        }
    }
    Ok(())
}

/// Entries of a directory; none if it is missing or may not be read.
fn readable(path: &Path) -> Vec<fs::DirEntry> {
    fs::read_dir(path).map(|entries| entries.flatten().collect()).unwrap_or_default()
}

fn link(to: &Path, at: &Path) -> Result<(), Error> {
    match symlink(to, at) {
        Err(source) if source.kind() != ErrorKind::AlreadyExists => Err(Error { path: at.to_owned(), source }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_become_real_directories_of_links() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("baked"), dir.path().join("home/plugins"));
        fs::create_dir_all(from.join("resource-dock-v1/sub")).unwrap();
        fs::write(from.join("resource-dock-v1/bin"), "x").unwrap();
        fs::write(from.join("resource-dock-v1.lock"), "").unwrap();
        let sources = vec!["/does/not/exist".to_owned(), from.to_string_lossy().into_owned()];
        let what = Prepare::LinkFarm { sources, target: to.to_string_lossy().into_owned() };
        prepare(&what).unwrap();
        prepare(&what).unwrap();
        assert!(fs::symlink_metadata(to.join("resource-dock-v1")).unwrap().is_dir());
        assert_eq!(fs::read_to_string(to.join("resource-dock-v1/bin")).unwrap(), "x");
        assert!(fs::symlink_metadata(to.join("resource-dock-v1/sub")).unwrap().is_symlink());
        fs::write(to.join("resource-dock-v1/own"), "").unwrap();
        assert!(!from.join("resource-dock-v1/own").exists());
    }

    #[test]
    fn an_error_names_the_path() {
        let error = prepare(&Prepare::Directory { path: "/proc/x".into() }).unwrap_err();
        assert_eq!(error.to_string(), "cannot prepare `/proc/x`");
    }
}
