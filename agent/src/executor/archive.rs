//! A package on its way into a workspace: rewritten entry by entry, hostile entries refused.
//!
//! The engine unpacks what leaves here below the job's volume. Invariants: every entry lies under `workspace/`, no
//! entry lies behind a link, every link leads to a place in the workspace, and there are only directories, files and
//! links. Modes, times and links stay; owners become the image's user; names of owners and extended attributes go.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use tar::{Builder, EntryType, Header};

use super::Owner;

/// Most entries of a package.
const MAX_ENTRIES: usize = 500_000;
/// Log of the largest zstd window accepted (16 MiB): what unpacking may take of the agent's memory.
const WINDOW_LOG_MAX: u32 = 24;
/// The setuid and setgid bits have no effect without new privileges, so they go.
const MODE_MASK: u32 = 0o1777;

/// Why a package was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// An entry that no package of ours has.
    #[error("its entry `{entry}` {why}")]
    Entry { entry: String, why: String },
    /// More than this agent permits.
    #[error("it has {0}")]
    TooMuch(String),
    /// Not a tar.zst, or a damaged one.
    #[error("it cannot be read as tar.zst ({0})")]
    Unreadable(#[source] io::Error),
    /// Whoever takes the result has hung up; that side knows why.
    #[error("the rewritten package was not taken")]
    NotTaken(#[source] io::Error),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    File,
    Link,
}

/// Writes `workspace/` and `home/` with the package (tar.zst) in the former as a plain tar.
pub(super) fn rewrite(
    package: Option<Box<dyn Read + Send>>,
    owner: Owner,
    most_bytes: u64,
    out: impl Write,
) -> Result<(), Refused> {
    let mut writer = Writer { tar: Builder::new(out), owner, seen: HashMap::new(), left: most_bytes, most_bytes };
    for name in ["workspace/", "home/"] {
        writer.directory(Path::new(name), 0o755, 0)?;
    }
    if let Some(package) = package {
        let mut plain = zstd::Decoder::new(package).map_err(Refused::Unreadable)?;
        plain.window_log_max(WINDOW_LOG_MAX).map_err(Refused::Unreadable)?;
        let mut archive = tar::Archive::new(plain);
        for entry in archive.entries().map_err(Refused::Unreadable)? {
            writer.entry(entry.map_err(Refused::Unreadable)?)?;
        }
    }
    writer.tar.into_inner().and_then(|mut out| out.flush()).map_err(Refused::NotTaken)
}

struct Writer<W: Write> {
    tar: Builder<W>,
    owner: Owner,
    seen: HashMap<Box<[u8]>, Kind>,
    left: u64,
    most_bytes: u64,
}

impl<W: Write> Writer<W> {
    fn entry(&mut self, mut entry: tar::Entry<'_, impl Read>) -> Result<(), Refused> {
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let raw = entry.path_bytes().into_owned();
        let refused = |why: String| Refused::Entry { entry: shown(&raw), why };
        let Some(parts) = parts(&raw).map_err(|why| refused(why.to_owned()))? else {
            return Ok(());
        };
        if self.seen.len() >= MAX_ENTRIES {
            return Err(Refused::TooMuch(format!("more than {MAX_ENTRIES} entries")));
        }
        let mtime = entry.header().mtime().unwrap_or(0);
        let mode = entry.header().mode().unwrap_or(0o644) & MODE_MASK;
        self.parents(&raw, &parts, mtime)?;
        let inner = parts.join(&b'/');
        let path = in_workspace(&inner);
        let path = Path::new(OsStr::from_bytes(&path));
        let link = || entry.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
        match kind {
            EntryType::Directory => {
                self.remember(&inner, Kind::Directory).map_err(refused)?;
                self.directory(path, mode, mtime)
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.remember(&inner, Kind::File).map_err(refused)?;
                let size = entry.size();
                self.left = self
                    .left
                    .checked_sub(size)
                    .ok_or_else(|| Refused::TooMuch(format!("more than {} bytes", self.most_bytes)))?;
                let mut header = self.header(EntryType::Regular, mode, mtime, size);
                self.tar.append_data(&mut header, path, Exactly { from: &mut entry, left: size }).map_err(file_error)
            }
            EntryType::Symlink => {
                let target = link();
                stays(&target, parts.len() - 1)
                    .map_err(|why| refused(format!("links to `{}`, which {why}", shown(&target))))?;
                self.remember(&inner, Kind::Link).map_err(refused)?;
                self.link(EntryType::Symlink, path, Path::new(OsStr::from_bytes(&target)), mtime)
            }
            EntryType::Link => {
                let target = link();
                let wrong = || {
                    refused(format!(
                        "is a hard link to `{}`, which is no file before it in the package",
                        shown(&target)
                    ))
                };
                let to = parts_of(&target).ok_or_else(wrong)?.join(&b'/');
                if self.seen.get(to.as_slice()) != Some(&Kind::File) {
                    return Err(wrong());
                }
                self.remember(&inner, Kind::File).map_err(refused)?;
                let to = in_workspace(&to);
                self.link(EntryType::Link, path, Path::new(OsStr::from_bytes(&to)), mtime)
            }
            _ => Err(refused("is neither directory, file nor link".to_owned())),
        }
    }

    /// Directories that the package leaves out get the image's user too.
    fn parents(&mut self, raw: &[u8], parts: &[&[u8]], mtime: u64) -> Result<(), Refused> {
        for depth in 1..parts.len() {
            let inner = parts[..depth].join(&b'/');
            match self.seen.get(inner.as_slice()) {
                Some(Kind::Directory) => {}
                Some(_) => {
                    let why = format!("lies below `{}`, which is not a directory", shown(&inner));
                    return Err(Refused::Entry { entry: shown(raw), why });
                }
                None => {
                    self.seen.insert(inner.clone().into(), Kind::Directory);
                    let path = in_workspace(&inner);
                    self.directory(Path::new(OsStr::from_bytes(&path)), 0o755, mtime)?;
                }
            }
        }
        Ok(())
    }

    fn remember(&mut self, inner: &[u8], kind: Kind) -> Result<(), String> {
        match self.seen.insert(inner.into(), kind) {
            None => Ok(()),
            Some(before) if before == kind && kind != Kind::Link => Ok(()),
            Some(_) => Err("stands in the package twice".to_owned()),
        }
    }

    fn header(&self, kind: EntryType, mode: u32, mtime: u64, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(mtime);
        header.set_size(size);
        header.set_uid(u64::from(self.owner.uid));
        header.set_gid(u64::from(self.owner.gid));
        header
    }

    fn directory(&mut self, path: &Path, mode: u32, mtime: u64) -> Result<(), Refused> {
        let mut header = self.header(EntryType::Directory, mode, mtime, 0);
        self.tar.append_data(&mut header, path, io::empty()).map_err(Refused::NotTaken)
    }

    fn link(&mut self, kind: EntryType, path: &Path, target: &Path, mtime: u64) -> Result<(), Refused> {
        let mut header = self.header(kind, 0o777, mtime, 0);
        self.tar.append_link(&mut header, path, target).map_err(Refused::NotTaken)
    }
}

/// Marks errors of the package, so that they are told from those of whoever takes the result.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct OfPackage(io::Error);

fn file_error(error: io::Error) -> Refused {
    if error.get_ref().is_some_and(|inner| inner.is::<OfPackage>()) {
        Refused::Unreadable(error)
    } else {
        Refused::NotTaken(error)
    }
}

/// Reads as many bytes as a header promised: fewer would shift every later entry.
struct Exactly<R> {
    from: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.from.read(&mut buffer[..most]).map_err(|error| io::Error::other(OfPackage(error)))?;
        if read == 0 && most > 0 {
            return Err(io::Error::other(OfPackage(io::ErrorKind::UnexpectedEof.into())));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

fn in_workspace(inner: &[u8]) -> Vec<u8> {
    [b"workspace/", inner].concat()
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(300).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The names of a path; `None` for the root itself.
fn parts(path: &[u8]) -> Result<Option<Vec<&[u8]>>, &'static str> {
    if path.starts_with(b"/") {
        return Err("has an absolute path");
    }
    let parts = parts_of(path).ok_or("has `..` in its path")?;
    Ok((!parts.is_empty()).then_some(parts))
}

fn parts_of(path: &[u8]) -> Option<Vec<&[u8]>> {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    (!path.starts_with(b"/") && !parts.contains(&&b".."[..])).then_some(parts)
}

/// Whether a link whose directory lies `depth` below the workspace stays in it. `..` is good only in front: behind a name
/// it would be resolved behind whatever that name links to.
fn stays(target: &[u8], depth: usize) -> Result<(), &'static str> {
    if target.is_empty() || target.starts_with(b"/") {
        return Err("is outside the package");
    }
    let mut parts = target.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").peekable();
    let mut ups = 0;
    while parts.next_if(|part| *part == b"..").is_some() {
        ups += 1;
    }
    if ups > depth {
        return Err("leaves the package");
    }
    if parts.any(|part| part == b"..") {
        return Err("has `..` behind a name");
    }
    Ok(())
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
