//! Segment files: frames of a log with a checksum each.
//!
//! A frame is `u32` length, `u32` CRC32C of offset and bytes, `u64` offset in the spool, all little endian, then the
//! bytes. A segment's name is the offset of its first byte. The last frame of the last segment may be torn by a
//! crash; whatever else does not match its checksum is damage and is said.

use std::fs::File;
use std::io::{ErrorKind, IoSlice, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{Error, Key};

/// Bytes before the data of a frame.
pub(super) const FRAME: u64 = 16;
/// Longest data of a frame.
pub(super) const MAX_DATA: usize = 1 << 20;
/// A segment that has grown to this is followed by another one.
pub(super) const FULL: u64 = 64 << 20;

/// Folder of a log.
pub(super) fn folder(logs: &Path, (attempt, step): Key) -> PathBuf {
    logs.join(attempt.hex()).join(step.to_string())
}

/// File of the segment that begins at `offset`.
pub(super) fn path(folder: &Path, offset: u64) -> PathBuf {
    folder.join(format!("{offset:020}.seg"))
}

/// Offsets at which the segments of a log begin, in order; none when there is no log.
pub(super) fn list(folder: &Path) -> Result<Vec<u64>, Error> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(file_error(folder, "read", source)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| file_error(folder, "read", source))?;
        let name = entry.file_name();
        let start = name.to_str().and_then(|name| name.strip_suffix(".seg"));
        found.extend(start.and_then(|digits| digits.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

pub(super) fn file_error(path: &Path, what: &'static str, source: std::io::Error) -> Error {
    Error::File { path: path.to_path_buf(), what, source }
}

/// A segment that is read or written.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    file: File,
    /// Where the next frame begins in the file.
    pub(super) at: u64,
}

impl Segment {
    /// Opens a segment to read from its beginning.
    pub(super) fn read(folder: &Path, start: u64) -> Result<Self, Error> {
        let path = path(folder, start);
        let file = File::open(&path).map_err(|source| file_error(&path, "read", source))?;
        Ok(Self { path, file, at: 0 })
    }

    /// Opens a segment to append at byte `at` of the file; what stands behind is cut off. A new one is made durable by name.
    pub(super) fn write(folder: &Path, start: u64, at: u64) -> Result<Self, Error> {
        let path = path(folder, start);
        let failed = |source| file_error(&path, "opened", source);
        let is_new = !path.exists();
        if is_new {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let file = File::options().create(true).read(true).write(true).truncate(false).open(&path).map_err(failed)?;
        file.set_len(at).map_err(failed)?;
        if is_new {
            let parents = [Some(folder), folder.parent(), folder.parent().and_then(Path::parent)];
            for parent in parents.into_iter().flatten() {
                File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed)?;
            }
        }
        Ok(Self { path, file, at })
    }

    /// Appends a frame; on failure the file is as it was.
    pub(super) fn append(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let header = header(offset, data);
        let written = write_all_at(&self.file, self.at, &header, data);
        if let Err(source) = written {
            // Best effort: a frame that is cut is recognised by its checksum.
            let _cut = self.file.set_len(self.at);
            return Err(file_error(&self.path, "written", source));
        }
        self.at += FRAME + data.len() as u64;
        Ok(())
    }

    /// Makes everything appended durable.
    pub(super) fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(|source| file_error(&self.path, "made durable", source))
    }

    /// The next frame: its offset in the spool and its bytes. `None` at the end of the file or at a torn frame.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Bytes)>, Error> {
        let Some((offset, len, crc)) = self.peek()? else { return Ok(None) };
        let mut data = vec![0; len];
        match self.file.read_exact_at(&mut data, self.at + FRAME) {
            Ok(()) => {}
            Err(err) if err.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            Err(source) => return Err(file_error(&self.path, "read", source)),
        }
        if checksum(offset, &data) != crc {
            return Ok(None);
        }
        self.at += FRAME + len as u64;
        Ok(Some((offset, data.into())))
    }

    /// Passes over the frames that end at or before `offset`, without reading their bytes.
    pub(super) fn skip_to(&mut self, offset: u64) -> Result<(), Error> {
        while let Some((begin, len, _)) = self.peek()? {
            if begin + len as u64 > offset {
                break;
            }
            self.at += FRAME + len as u64;
        }
        Ok(())
    }

    fn peek(&self) -> Result<Option<(u64, usize, u32)>, Error> {
        let mut header = [0; 16];
        match self.file.read_exact_at(&mut header, self.at) {
            Ok(()) => {}
            Err(err) if err.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            Err(source) => return Err(file_error(&self.path, "read", source)),
        }
        let [a, b, c, d, e, f, g, h, rest @ ..] = header;
        let len = u32::from_le_bytes([a, b, c, d]) as usize;
        let crc = u32::from_le_bytes([e, f, g, h]);
        // A torn header may claim anything.
        Ok((1..=MAX_DATA).contains(&len).then_some((u64::from_le_bytes(rest), len, crc)))
    }
}

fn checksum(offset: u64, data: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&offset.to_le_bytes()), data)
}

fn header(offset: u64, data: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    // Frames are at most `MAX_DATA` long.
    let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&len.to_le_bytes());
    out[4..8].copy_from_slice(&checksum(offset, data).to_le_bytes());
    out[8..].copy_from_slice(&offset.to_le_bytes());
    out
}

/// Writes header and data at a position; the data is not copied.
fn write_all_at(mut file: &File, at: u64, header: &[u8], data: &[u8]) -> std::io::Result<()> {
    use std::io::{Seek as _, SeekFrom};
    file.seek(SeekFrom::Start(at))?;
    let mut slices = [IoSlice::new(header), IoSlice::new(data)];
    let mut slices = &mut slices[..];
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(err) if err.kind() == ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    Ok(())
}
