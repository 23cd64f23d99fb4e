//! Writing the archive in its one form.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;
use sha2::{Digest as _, Sha256};

use super::tree::{Entry, Kind};
use super::{Error, Package};

/// Compression level: zstd's own default.
const LEVEL: i32 = 3;

/// Where the bytes of files come from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    /// Each from its own file below this folder.
    Folder(&'a Path),
    /// All from one file, each at its place.
    #[cfg_attr(
        not(feature = "convert"),
        expect(dead_code, reason = "archives are a source for the command line alone")
    )]
    Spool(&'a File),
}

/// Writes the entries, sorted by their paths, to an unnamed temporary file.
pub(super) fn write(
    from: Source<'_>,
    entries: &[Entry],
    temporary: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Package, Error> {
    let failed = |source| Error::Write { folder: temporary.to_owned(), source };
    let file = tempfile::tempfile_in(temporary).map_err(failed)?;
    let hashing = Hashing { inner: io::BufWriter::with_capacity(256 << 10, file), hash: Sha256::new(), length: 0 };
    let mut compressor = zstd::Encoder::new(hashing, LEVEL).map_err(failed)?;
    compressor.include_checksum(true).map_err(failed)?;
    let mut archive = tar::Builder::new(compressor);
    let total = entries.iter().map(|entry| if let Kind::File { size, .. } = entry.kind { size } else { 0 }).sum();
    let mut done = 0;
    for entry in entries {
        append(&mut archive, (from, temporary), entry, &mut |bytes| {
            done += bytes;
            progress(done, total);
        })?;
    }
    let hashing = archive.into_inner().and_then(zstd::Encoder::finish).map_err(failed)?;
    let file = hashing.inner.into_inner().map_err(|error| failed(error.into_error()))?;
    Ok(Package { file, size: hashing.length, sha256: hex(&hashing.hash.finalize()), entries: entries.len() })
}

fn append(
    archive: &mut tar::Builder<impl Write>,
    (from, temporary): (Source<'_>, &Path),
    entry: &Entry,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    let failed = |source| Error::Write { folder: temporary.to_owned(), source };
    let mut header = tar::Header::new_gnu();
    header.set_mode(entry.mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    match &entry.kind {
        Kind::Folder => {
            header.set_entry_type(tar::EntryType::Directory);
            archive.append_data(&mut header, &entry.path, io::empty()).map_err(failed)
        }
        Kind::Link { target } => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            archive.append_link(&mut header, &entry.path, target).map_err(failed)
        }
        Kind::File { size, at } => {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(*size);
            match from {
                Source::Folder(root) => append_file(archive, &mut header, (root, temporary), entry, progress),
                Source::Spool(file) => {
                    let slice = Slice { file, at: *at, left: *size, progress };
                    archive.append_data(&mut header, &entry.path, slice).map_err(failed)
                }
            }
        }
    }
}

fn append_file(
    archive: &mut tar::Builder<impl Write>,
    header: &mut tar::Header,
    (root, temporary): (&Path, &Path),
    entry: &Entry,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    let unreadable = |source| Error::Unreadable { path: entry.path.clone(), source };
    let changed = || Error::Changed(entry.path.clone());
    let Kind::File { size, .. } = entry.kind else { return Ok(()) };
    // Not through a link that took the file's place, and not waiting on a pipe that did.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mut file =
        OpenOptions::new().read(true).custom_flags(flags.bits()).open(root.join(&entry.path)).map_err(unreadable)?;
    let before = file.metadata().map_err(unreadable)?;
    if !before.is_file() || before.len() != size {
        return Err(changed());
    }
    let mut counted = Counted { inner: (&mut file).take(size), left: size, error: None, progress };
    let appended = archive.append_data(header, &entry.path, &mut counted);
    let (left, error) = (counted.left, counted.error.take());
    if let Some(source) = error {
        return Err(unreadable(source));
    }
    if left > 0 {
        return Err(changed());
    }
    appended.map_err(|source| Error::Write { folder: temporary.to_owned(), source })?;
    let after = file.metadata().map_err(unreadable)?;
    let same = (before.len(), before.mtime(), before.mtime_nsec()) == (after.len(), after.mtime(), after.mtime_nsec());
    if same { Ok(()) } else { Err(changed()) }
}

/// Reads a file and keeps apart what the archive would mix up: an error of the file, an early end, an error of the archive.
struct Counted<'a> {
    inner: io::Take<&'a mut File>,
    left: u64,
    error: Option<io::Error>,
    progress: &'a mut dyn FnMut(u64),
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(count) => {
                let bytes = u64::try_from(count).unwrap_or(u64::MAX);
                self.left = self.left.saturating_sub(bytes);
                (self.progress)(bytes);
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.error = Some(error);
                Err(kind.into())
            }
        }
    }
}

/// A part of the spool.
struct Slice<'a> {
    file: &'a File,
    at: u64,
    left: u64,
    progress: &'a mut dyn FnMut(u64),
}

impl Read for Slice<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.file.read_at(buffer.get_mut(..most).unwrap_or_default(), self.at)?;
        if read == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let bytes = u64::try_from(read).unwrap_or(u64::MAX);
        (self.at, self.left) = (self.at + bytes, self.left - bytes);
        (self.progress)(bytes);
        Ok(read)
    }
}

/// Hashes and counts what passes.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    length: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..count).unwrap_or_default());
        self.length += u64::try_from(count).unwrap_or(u64::MAX);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
