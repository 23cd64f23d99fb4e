//! Plugins as trees of files: unpacked without leaving their directory, and known by one digest.
//!
//! The digest is what `find . -type f -printf '%P\n' | LC_ALL=C sort | xargs -d'\n' sha256sum | sha256sum` prints in the directory. Links and other
//! special files are in no plugin, so nothing outside is ever read through one.

use std::fs::{File, Permissions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Most files and directories in a plugin, and most bytes.
const MAX_ENTRIES: usize = 50_000;
const MAX_BYTES: u64 = 4 << 30;
/// Deepest directory.
const MAX_DEPTH: usize = 40;

/// Reads a stream and makes its SHA-256.
pub(in crate::executor) struct Hashing<R> {
    from: R,
    hash: Sha256,
}

impl<R: Read> Hashing<R> {
    pub(in crate::executor) fn new(from: R) -> Self {
        Self { from, hash: Sha256::new() }
    }

    /// Reads the rest too: the checksum is of all of it.
    pub(in crate::executor) fn finish(mut self) -> io::Result<String> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(hex(self.hash))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.hash.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn odd(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Unpacks a tar, without its first `strip` directories, into a directory that is empty.
pub(super) fn unpack(tar: impl Read, strip: usize, to: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(tar);
    let (mut entries, mut bytes) = (0, 0_u64);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let shown = path.display().to_string();
        let inside = inside(&path, strip).ok_or_else(|| odd(format!("entry `{shown}` leads out of the plugin")))?;
        entries += 1;
        bytes = bytes.saturating_add(entry.size());
        if entries > MAX_ENTRIES || bytes > MAX_BYTES {
            return Err(odd("is larger than a plugin may be".to_owned()));
        }
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            std::fs::create_dir_all(to.join(inside))?;
        } else if kind.is_file() {
            if inside.as_os_str().is_empty() {
                return Err(odd(format!("`{shown}` is a file and not a directory")));
            }
            let path = to.join(inside);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            let mut file = File::options().write(true).create_new(true).open(&path)?;
            io::copy(&mut entry, &mut file)?;
            let runs = entry.header().mode()? & 0o111 != 0;
            file.set_permissions(Permissions::from_mode(if runs { 0o755 } else { 0o644 }))?;
            file.flush()?;
        } else if !matches!(kind, tar::EntryType::XGlobalHeader | tar::EntryType::XHeader) {
            return Err(odd(format!("entry `{shown}` is no file and no directory, and plugins are nothing else")));
        }
    }
    Ok(())
}

/// The path without its first directories; `None` when it would lead outside.
fn inside(path: &Path, strip: usize) -> Option<PathBuf> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part),
            Component::CurDir => {}
            _ => return None,
        }
    }
    (parts.len() <= MAX_DEPTH).then(|| parts.into_iter().skip(strip).collect())
}

/// Copies a directory of the host.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for path in files(from)? {
        let target = to.join(&path);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::copy(from.join(path), &target)?;
    }
    Ok(())
}

/// Gives every file a second name in another directory.
pub(super) fn link(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir(to)?;
    for path in files(from)? {
        let target = to.join(&path);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::hard_link(from.join(path), target)?;
    }
    readable(to)
}

/// The digest of a tree.
pub(super) fn digest(root: &Path) -> io::Result<String> {
    let mut all = Sha256::new();
    for path in files(root)? {
        let sum = Hashing::new(File::open(root.join(&path))?).finish()?;
        all.update(format!("{sum}  {}\n", path.display()));
    }
    Ok(hex(all))
}

/// Makes a tree readable for every user of a step, writable for none, and durable.
pub(super) fn settle(root: &Path) -> io::Result<()> {
    for path in files(root)? {
        let file = File::open(root.join(path))?;
        let runs = file.metadata()?.permissions().mode() & 0o111 != 0;
        file.set_permissions(Permissions::from_mode(if runs { 0o555 } else { 0o444 }))?;
        file.sync_all()?;
    }
    readable(root)
}

fn readable(root: &Path) -> io::Result<()> {
    for directory in directories(root)? {
        std::fs::set_permissions(directory, Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Removes a tree, if there is one.
pub(super) fn remove(root: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(root) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Every file, relative, in the order of bytes.
fn files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for directory in directories(root)? {
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            let (kind, path) = (entry.file_type()?, entry.path());
            let relative = path.strip_prefix(root).map_err(io::Error::other)?.to_owned();
            if kind.is_file() {
                found.push(relative);
            } else if !kind.is_dir() {
                return Err(odd(format!(
                    "`{}` is no file and no directory, and plugins are nothing else",
                    relative.display()
                )));
            }
            if found.len() > MAX_ENTRIES {
                return Err(odd("has more files than a plugin may have".to_owned()));
            }
        }
    }
    found.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
    Ok(found)
}

/// A directory and all below it.
fn directories(root: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut found, mut at) = (vec![root.to_owned()], 0);
    while let Some(directory) = found.get(at).cloned() {
        at += 1;
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                found.push(entry.path());
            }
        }
        if found.len() > MAX_ENTRIES {
            return Err(odd("has more directories than a plugin may have".to_owned()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, content) in entries {
            let mut header = tar::Header::new_ustar();
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            header.set_size(content.len() as u64);
            if kind.is_symlink() {
                header.set_size(0);
                header.set_link_name(content).unwrap();
            }
            header.set_cksum();
            let body = if kind.is_symlink() { "" } else { content };
            builder.append(&header, body.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn what_leads_out_of_a_plugin_is_not_unpacked() {
        use tar::EntryType::{Regular, Symlink};
        for (entries, says) in [
            (&[("../x", Regular, "x")][..], "leads out"),
            (&[("/etc/x", Regular, "x")][..], "leads out"),
            (&[("a/../../x", Regular, "x")][..], "leads out"),
            (&[("link", Symlink, "/etc/passwd")][..], "no file and no directory"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let to = dir.path().join("to");
            std::fs::create_dir(&to).unwrap();
            let error = unpack(archive(entries).as_slice(), 0, &to).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_tree_has_the_digest_that_the_command_in_the_manual_prints() {
        let dir = tempfile::tempdir().unwrap();
        let entries = [("r/b", tar::EntryType::Regular, "two"), ("r/a/x y", tar::EntryType::Regular, "one")];
        unpack(archive(&entries).as_slice(), 1, dir.path()).unwrap();
        settle(dir.path()).unwrap();
        let command = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d'\\n' sha256sum | sha256sum";
        let printed = std::process::Command::new("sh").args(["-c", command]).current_dir(dir.path()).output().unwrap();
        let printed = String::from_utf8(printed.stdout).unwrap();
        assert_eq!(digest(dir.path()).unwrap(), printed.split(' ').next().unwrap());
        let linked = dir.path().join("linked");
        link(&dir.path().join("a"), &linked).unwrap();
        assert_eq!(std::fs::read_to_string(linked.join("x y")).unwrap(), "one");
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        assert!(digest(dir.path()).is_err());
    }
}
