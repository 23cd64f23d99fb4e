//! Reading an archive: what is in it, and the bytes of its files on one spool.
//!
//! Nothing is unpacked to a path: the content of each file is appended to an unnamed temporary file, and its entry remembers
//! where. So no name in an archive, hostile or not, is ever used on this machine.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use longshore_core::archive::{Admitted, Checker, Refused, What};
use nix::fcntl::OFlag;

use super::tree::{Entry, Kind};
use super::{Error, LIMITS, tarball, zipped};

/// Mode of folders that an archive only implies.
const FOLDER_MODE: u32 = 0o755;
/// Bytes copied at a time.
const CHUNK: usize = 128 << 10;
/// Where a tar says what it is.
const TAR_MAGIC: u64 = 257;

/// What an archive holds.
#[derive(Debug)]
pub(super) struct Converted {
    /// Sorted by the bytes of their paths.
    pub(super) entries: Vec<Entry>,
    /// The bytes of its files.
    pub(super) spool: File,
}

/// Reads an archive; its first bytes say in which form it is, whatever it is called.
pub(super) fn read(path: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Converted, Error> {
    let missing = |source| Error::Missing { path: path.to_owned(), source };
    // Not waiting on a pipe that was named.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).map_err(missing)?;
    let metadata = file.metadata().map_err(missing)?;
    let form = if metadata.is_file() { Form::of(&file).map_err(missing)? } else { None };
    let form = form.ok_or_else(|| Error::Form(path.to_owned()))?;
    let mut collected = Collected::new(metadata.len())?;
    let packed = Packed { path, form: form.name(), bytes: metadata.len() };
    let mut watched = Watched { file, done: 0, total: packed.bytes, progress };
    match form {
        Form::Tar => tarball::read(&mut watched, &packed, &mut collected)?,
        Form::Gzip => tarball::read(flate2::read::MultiGzDecoder::new(watched), &packed, &mut collected)?,
        Form::Zstd => tarball::read(tarball::zstd(watched, &packed)?, &packed, &mut collected)?,
        Form::Zip => zipped::read(watched, &packed, &mut collected)?,
    }
    collected.finish()
}

/// The archive that is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed<'a> {
    pub(super) path: &'a Path,
    /// Its form, for messages.
    pub(super) form: &'static str,
    pub(super) bytes: u64,
}

impl Packed<'_> {
    /// It is not as its form demands.
    pub(super) fn damaged(&self, source: io::Error) -> Error {
        Error::Damaged { path: self.path.to_owned(), form: self.form, source }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Tar,
    Gzip,
    Zstd,
    Zip,
}

impl Form {
    fn of(file: &File) -> io::Result<Option<Self>> {
        let at = |offset| {
            let mut bytes = [0; 5];
            match file.read_exact_at(&mut bytes, offset) {
                Ok(()) => Ok(bytes),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok([0; 5]),
                Err(error) => Err(error),
            }
        };
        Ok(match (at(0)?, at(TAR_MAGIC)?) {
            // The second is an empty one.
            ([b'P', b'K', 3, 4, _] | [b'P', b'K', 5, 6, _], _) => Some(Self::Zip),
            ([0x1f, 0x8b, ..], _) => Some(Self::Gzip),
            ([0x28, 0xb5, 0x2f, 0xfd, _], _) => Some(Self::Zstd),
            (_, magic) if &magic == b"ustar" => Some(Self::Tar),
            _ => None,
        })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Tar => "tar",
            Self::Gzip => "tar.gz",
            Self::Zstd => "tar.zst",
            Self::Zip => "zip",
        }
    }
}

/// The entries so far, checked.
#[derive(Debug)]
pub(super) struct Collected {
    checker: Checker,
    entries: BTreeMap<Vec<u8>, (u32, Kind)>,
    spool: io::BufWriter<File>,
    /// Where the next file's bytes go.
    end: u64,
}

impl Collected {
    fn new(packed: u64) -> Result<Self, Error> {
        let spool = tempfile::tempfile().map_err(spool_error)?;
        let spool = io::BufWriter::with_capacity(256 << 10, spool);
        Ok(Self { checker: Checker::new(LIMITS, packed), entries: BTreeMap::new(), spool, end: 0 })
    }

    /// Takes an entry that has no content, or whose content is taken next.
    pub(super) fn entry(&mut self, name: &[u8], mode: u32, what: What<'_>) -> Result<(), Error> {
        let admitted = self.checker.entry(name, what).map_err(Error::Refused)?;
        let Some(Admitted { path, implied, target }) = admitted else { return Ok(()) };
        for folder in implied {
            self.entries.insert(folder, (FOLDER_MODE, Kind::Folder));
        }
        let (mode, kind) = match (what, target.and_then(|target| self.entries.get(&target).cloned())) {
            // A hard link is the file once more.
            (_, Some(file)) => file,
            (What::File { bytes }, None) => (mode, Kind::File { size: bytes, at: self.end }),
            (What::Symlink { target }, None) => {
                (0o777, Kind::Link { target: OsString::from_vec(target.to_vec()).into() })
            }
            (_, None) => (mode, Kind::Folder),
        };
        self.entries.insert(path, (mode & 0o777, kind));
        Ok(())
    }

    /// Takes the content of the file that was taken last: exactly as many bytes as it said. The error of `from` is passed on.
    pub(super) fn content(&mut self, name: &[u8], bytes: u64, from: &mut impl Read) -> Result<(), Content> {
        let mut buffer = vec![0; CHUNK];
        let mut left = bytes;
        loop {
            let read = match from.read(&mut buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Content::From(error)),
            };
            let short = |why: &str| Content::Error(Error::Refused(Refused::entry(name, why)));
            match left.checked_sub(read as u64) {
                Some(_) if read == 0 && left > 0 => return Err(short("ends before the length that it says")),
                Some(_) if read == 0 => break,
                Some(rest) => left = rest,
                None => return Err(short("is longer than it says")),
            }
            let chunk = buffer.get(..read).unwrap_or_default();
            self.spool.write_all(chunk).map_err(|source| Content::Error(spool_error(source)))?;
        }
        self.end += bytes;
        Ok(())
    }

    fn finish(self) -> Result<Converted, Error> {
        let spool = self.spool.into_inner().map_err(|error| spool_error(error.into_error()))?;
        let entries = self.entries.into_iter().map(|(path, (mode, kind))| Entry {
            path: OsString::from_vec(path).into(),
            mode,
            kind,
        });
        Ok(Converted { entries: entries.collect(), spool })
    }
}

/// Why a file's content was not taken.
#[derive(Debug)]
pub(super) enum Content {
    /// Where it comes from failed.
    From(io::Error),
    /// Anything else.
    Error(Error),
}

fn spool_error(source: io::Error) -> Error {
    Error::Write { folder: std::env::temp_dir(), source }
}

/// The archive's file; tells how far it is read.
pub(super) struct Watched<'a> {
    file: File,
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.done = self.done.saturating_add(u64::try_from(read).unwrap_or(u64::MAX)).min(self.total);
        (self.progress)(self.done, self.total);
        Ok(read)
    }
}

impl io::Seek for Watched<'_> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
