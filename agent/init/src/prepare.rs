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
        Prepare::LinkFarm { sources, target, shared } => {
            let target = Path::new(target);
            match shared.as_ref().map(Path::new).filter(|shared| shared.is_dir()) {
                Some(shared) => {
                    if let Some(parent) = target.parent() {
                        directory(parent)?;
                    }
                    link(shared, target)?;
                    link_farm(sources, shared, true)
                }
                None => {
                    unlink_dangling(target)?;
                    link_farm(sources, target, false)
                }
            }
        }
    }
}

fn directory(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|source| Error { path: path.to_owned(), source })
}

/// An earlier step of the attempt had a shared directory and this one has none.
fn unlink_dangling(target: &Path) -> Result<(), Error> {
    if fs::symlink_metadata(target).is_ok_and(|found| found.is_symlink()) && !target.exists() {
        return fs::remove_file(target).map_err(|source| Error { path: target.to_owned(), source });
    }
    Ok(())
}

/// `only_new`: a directory that is there is left as it is, with what is in it.
fn link_farm(sources: &[String], target: &Path, only_new: bool) -> Result<(), Error> {
    directory(target)?;
    for source in sources {
        for entry in readable(Path::new(source)) {
            let own = target.join(entry.file_name());
            if only_new && fs::symlink_metadata(&own).is_ok() {
                continue;
            }
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
        let what = Prepare::LinkFarm { sources, target: to.to_string_lossy().into_owned(), shared: None };
        prepare(&what).unwrap();
        prepare(&what).unwrap();
        assert!(fs::symlink_metadata(to.join("resource-dock-v1")).unwrap().is_dir());
        assert_eq!(fs::read_to_string(to.join("resource-dock-v1/bin")).unwrap(), "x");
        assert!(fs::symlink_metadata(to.join("resource-dock-v1/sub")).unwrap().is_symlink());
        fs::write(to.join("resource-dock-v1/own"), "").unwrap();
        assert!(!from.join("resource-dock-v1/own").exists());
    }

    #[test]
    fn a_shared_directory_stands_in_for_the_target_and_keeps_what_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let text = |path: &str| at(path).to_string_lossy().into_owned();
        for (path, content) in [("baked/a-v1/bin", "baked"), ("baked/b-v1/bin", "baked"), ("shared/a-v1/bin", "pool")] {
            fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            fs::write(at(path), content).unwrap();
        }
        let farm = |shared: &str| Prepare::LinkFarm {
            sources: vec![text("baked")],
            target: text("home/.pulumi/plugins"),
            shared: Some(text(shared)),
        };
        prepare(&farm("shared")).unwrap();
        prepare(&farm("shared")).unwrap();
        assert_eq!(fs::read_link(at("home/.pulumi/plugins")).unwrap(), at("shared"));
        for (plugin, content) in [("a-v1", "pool"), ("b-v1", "baked")] {
            assert_eq!(fs::read_to_string(at("home/.pulumi/plugins").join(plugin).join("bin")).unwrap(), content);
        }
        // A later step without it.
        fs::remove_dir_all(at("shared")).unwrap();
        prepare(&farm("shared")).unwrap();
        assert!(fs::symlink_metadata(at("home/.pulumi/plugins")).unwrap().is_dir());
        assert_eq!(fs::read_to_string(at("home/.pulumi/plugins/a-v1/bin")).unwrap(), "baked");
    }

    #[test]
    fn an_error_names_the_path() {
        let error = prepare(&Prepare::Directory { path: "/proc/x".into() }).unwrap_err();
        assert_eq!(error.to_string(), "cannot prepare `/proc/x`");
    }
}
