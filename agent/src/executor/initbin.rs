//! The program that is PID 1 of every job container: embedded in the agent, laid out once, linked into each step.
//!
//! Invariant: what is linked has the very bytes that this agent was built with; it is compared, by its SHA-256, at each start of
//! the agent. The embedded copy is compressed, and no page of it is read while the one that is laid out is right.

use std::fs::{File, Permissions, hard_link};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use super::files::file_error;
use super::plugins::Hashing;
use super::{Error, StepDir};

/// `longshore-init`, static, as gzip.
static PACKED: &[u8] = include_bytes!(env!("LONGSHORE_INIT"));
/// SHA-256 of what is packed, in hex.
const SHA256: &str = env!("LONGSHORE_INIT_SHA256");

/// The program's bytes.
fn unpacked() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    GzDecoder::new(PACKED).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Lays the verified copy out and returns its path.
pub(super) fn lay_out(state_dir: &Path) -> Result<PathBuf, Error> {
    let path = state_dir.join("init");
    let same = || Ok::<_, io::Error>(Hashing::new(File::open(&path)?).finish()? == SHA256 && mode(&path)? == 0o755);
    if !same().unwrap_or(false) {
        let write = || {
            crate::durable::make_dir(state_dir)?;
            crate::durable::write(&path, &unpacked()?)?;
            std::fs::set_permissions(&path, Permissions::from_mode(0o755))
        };
        write().map_err(file_error("write", &path))?;
    }
    Ok(path)
}

/// Puts init into the directory that is mounted into the step's container.
pub(super) fn link(verified: &Path, dir: &StepDir) -> Result<(), Error> {
    let path = dir.mnt().join("init");
    let link = || {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // A file system without links, or one with too many of them, gets a copy.
        hard_link(verified, &path).or_else(|_| std::fs::copy(verified, &path).map(drop))
    };
    link().map_err(file_error("create", &path))
}

/// An archive that holds init at this absolute path and nothing else.
pub(super) fn tar(path: &str) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let path = Path::new(path.trim_start_matches('/'));
    // Directories that are only implied may not be everyone's to enter where the engine maps users.
    if let Some(parent) = path.parent().filter(|parent| *parent != Path::new("")) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        header.set_mode(0o755);
        tar.append_data(&mut header, parent, io::empty())?;
    }
    let init = unpacked()?;
    let mut header = tar::Header::new_gnu();
    header.set_size(init.len() as u64);
    header.set_mode(0o755);
    tar.append_data(&mut header, path, init.as_slice())?;
    tar.into_inner()
}

fn mode(path: &Path) -> io::Result<u32> {
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_copy_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = lay_out(dir.path()).unwrap();
        let step = StepDir::new(dir.path(), 0);
        step.make().unwrap();
        link(&path, &step).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, b"something else").unwrap();
        lay_out(dir.path()).unwrap();
        let init = unpacked().unwrap();
        assert!(std::fs::read(&path).unwrap() == init && std::fs::read(step.mnt().join("init")).unwrap() == init);
        // Else it would be laid out anew at every start.
        assert_eq!(Hashing::new(init.as_slice()).finish().unwrap(), SHA256);
        assert_eq!(mode(&path).unwrap(), 0o755);
        link(&path, &step).unwrap();
    }
}
