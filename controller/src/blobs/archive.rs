//! What may be in a package.
//!
//! A package is unpacked by the container engine into a job's workspace, so nothing in it may reach outside of that:
//! no absolute names, no `..` in names, no devices, no link that leaves. A link's target may begin with `..` as often as the
//! link lies deep, and have none after that; and no name may lead through a link. With both rules what a
//! link reaches can be told from its text alone.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};

use super::Error;

/// Most bytes of one name or link.
const MAX_NAME: usize = 4_096;
/// Deepest nesting of folders.
const MAX_DEPTH: usize = 100;
/// Unpacked bytes below which the ratio to the packed ones does not count.
const RATIO_FROM: u64 = 64 << 20;
/// Largest window of the decompressor, as a power of two: 128 MiB of memory.
const WINDOW_LOG: u32 = 27;

/// Bounds of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes as it is uploaded.
    pub packed: u64,
    /// Bytes of the archive when it is decompressed.
    pub unpacked: u64,
    /// Decompressed bytes for each compressed one.
    pub ratio: u64,
    /// Files, folders and links.
    pub entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { packed: 1 << 30, unpacked: 16 << 30, ratio: 200, entries: 200_000 }
    }
}

/// Why a package is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It cannot be read as an archive.
    #[error("it is not a zstd-compressed tar ({0})")]
    NotAnArchive(io::Error),
    /// It is too large when it is decompressed.
    #[error("it has more than {0} bytes when it is decompressed")]
    TooLarge(u64),
    /// It grows more than honest data does.
    #[error("it grows more than {0}-fold when it is decompressed")]
    Ratio(u64),
    /// Too many files.
    #[error("it has more than {0} entries")]
    TooMany(usize),
    /// One entry is not admitted.
    #[error("entry `{entry}` {why}")]
    Entry {
        /// Its name.
        entry: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Reads the whole archive and checks every entry. `packed` is the file's length.
pub(super) fn check(file: &File, packed: u64, limits: &Limits) -> Result<(), Refused> {
    let growth = packed.saturating_mul(limits.ratio).max(RATIO_FROM);
    let cap = growth.min(limits.unpacked);
    let over = if growth < limits.unpacked { Refused::Ratio(limits.ratio) } else { Refused::TooLarge(limits.unpacked) };
    let mut bounded = Bounded { inner: decoder(file).map_err(Refused::NotAnArchive)?, left: cap };
    match entries(&mut bounded, limits) {
        // The bound shows itself as an error of reading.
        Err(Refused::NotAnArchive(_)) if bounded.left == 0 => Err(over),
        other => other,
    }
}

fn entries(input: &mut impl Read, limits: &Limits) -> Result<(), Refused> {
    let mut archive = tar::Archive::new(&mut *input);
    let mut seen = Seen::default();
    for (count, entry) in archive.entries().map_err(Refused::NotAnArchive)?.enumerate() {
        if count >= limits.entries {
            return Err(Refused::TooMany(limits.entries));
        }
        let mut entry = entry.map_err(Refused::NotAnArchive)?;
        let name = entry.path_bytes().into_owned();
        check_entry(&entry, &name, &mut seen).map_err(|why| Refused::Entry { entry: shown(&name), why })?;
        io::copy(&mut entry, &mut io::sink()).map_err(Refused::NotAnArchive)?;
    }
    // What follows the end mark: nothing of use, but it must be whole and within the bounds.
    io::copy(input, &mut io::sink()).map_err(Refused::NotAnArchive)?;
    Ok(())
}

/// Names so far: which of them are links, and which are the folders of others.
#[derive(Default)]
struct Seen {
    links: HashSet<Vec<u8>>,
    folders: HashSet<Vec<u8>>,
}

fn check_entry<R: Read>(entry: &tar::Entry<'_, R>, name: &[u8], seen: &mut Seen) -> Result<(), String> {
    let parts = components(name)?;
    for end in 1..parts.len() {
        let folder = parts[..end].join(&b'/');
        if seen.links.contains(&folder) {
            return Err(format!("lies behind the link `{}`", shown(&folder)));
        }
        seen.folders.insert(folder);
    }
    let kind = entry.header().entry_type();
    let target = || entry.link_name_bytes().ok_or_else(|| "is a link without a target".to_owned());
    match kind {
        tar::EntryType::Regular
        | tar::EntryType::Continuous
        | tar::EntryType::GNUSparse
        | tar::EntryType::Directory => {}
        tar::EntryType::Symlink => {
            let own = parts.join(&b'/');
            if parts.is_empty() || seen.folders.contains(&own) {
                return Err("is a link with the name of a folder".to_owned());
            }
            check_target(&target()?, parts.len() - 1)?;
            seen.links.insert(own);
        }
        tar::EntryType::Link => {
            let to = target()?;
            let to = components(&to).map_err(|why| format!("is a link to what {why}"))?;
            if (1..=to.len()).any(|end| seen.links.contains(&to[..end].join(&b'/'))) {
                return Err("is a hard link through another link".to_owned());
            }
        }
        tar::EntryType::Char | tar::EntryType::Block => return Err("is a device".to_owned()),
        tar::EntryType::Fifo => return Err("is a named pipe".to_owned()),
        other => return Err(format!("is of a kind that is not known here ({:#04x})", other.as_byte())),
    }
    Ok(())
}

/// The parts of a name, without `.`; a name is relative and goes down only.
fn components(name: &[u8]) -> Result<Vec<&[u8]>, String> {
    if name.is_empty() || name.contains(&0) {
        return Err("has an empty name or one with a NUL".to_owned());
    }
    if name.len() > MAX_NAME {
        return Err(format!("has a name longer than {MAX_NAME} bytes"));
    }
    if name.starts_with(b"/") {
        return Err("has an absolute name".to_owned());
    }
    let parts: Vec<&[u8]> = name.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&b"..".as_slice()) {
        return Err("has `..` in its name".to_owned());
    }
    if parts.len() > MAX_DEPTH {
        return Err(format!("lies deeper than {MAX_DEPTH} folders"));
    }
    Ok(parts)
}

/// A symbolic link's target, for a link that lies in `depth` folders.
fn check_target(target: &[u8], depth: usize) -> Result<(), String> {
    if target.is_empty() || target.contains(&0) || target.len() > MAX_NAME {
        return Err("is a link with an empty or overlong target".to_owned());
    }
    if target.starts_with(b"/") {
        return Err(format!("is a link to `{}`, outside of the package", shown(target)));
    }
    let parts = || target.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".");
    let ups = parts().take_while(|part| *part == b"..").count();
    if ups > depth {
        return Err(format!("is a link to `{}`, outside of the package", shown(target)));
    }
    if parts().skip(ups).any(|part| part == b"..") {
        return Err(format!("is a link to `{}`: `..` may stand only at its beginning", shown(target)));
    }
    Ok(())
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(200).collect()
}

/// One regular file of the archive.
pub(super) fn read_entry(file: &File, path: &str, max: u64, limits: &Limits) -> Result<Option<Vec<u8>>, Error> {
    let damaged = |e| Error::Archive(Refused::NotAnArchive(e));
    let wanted =
        components(path.as_bytes()).map_err(|why| Error::Archive(Refused::Entry { entry: path.to_owned(), why }))?;
    let mut archive = tar::Archive::new(Bounded { inner: decoder(file).map_err(damaged)?, left: limits.unpacked });
    for entry in archive.entries().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let found = components(&entry.path_bytes()).is_ok_and(|parts| parts == wanted);
        if !found || !entry.header().entry_type().is_file() {
            continue;
        }
        if entry.size() > max {
            return Err(Error::EntryTooLarge { path: path.to_owned(), limit: max });
        }
        let mut bytes = Vec::new();
        entry.take(max).read_to_end(&mut bytes).map_err(damaged)?;
        return Ok(Some(bytes));
    }
    Ok(None)
}

fn decoder(file: &File) -> io::Result<zstd::Decoder<'static, BufReader<File>>> {
    let mut file = file.try_clone()?;
    file.rewind()?;
    let mut decoder = zstd::Decoder::new(file)?;
    decoder.window_log_max(WINDOW_LOG)?;
    Ok(decoder)
}

/// Fails, rather than ends, after so many bytes.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::other("larger than is taken"));
        }
        let most = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.inner.read(buf.get_mut(..most).unwrap_or_default())?;
        self.left -= read as u64;
        Ok(read)
    }
}
