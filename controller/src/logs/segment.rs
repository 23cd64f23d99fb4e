//! The file of one log, as its writer sees it.
//!
//! Frames: payload length `u32`, CRC32C `u32` over offset and payload, offset in the spool `u64`, payload; all little endian. A
//! frame without payload says that the log is complete. What follows the first frame that is cut or does not match its CRC was never
//! acknowledged and is cut off when the file is opened.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Bytes, BytesMut};
use longshore_core::spool::Decoder;

use crate::hex;

/// Bytes before each payload.
pub(super) const HEAD: usize = 16;
/// Longest payload of a frame; a longer one is no frame of ours.
pub(super) const MAX_FRAME: usize = 4 << 20;
/// Payload that small chunks are gathered up to.
const GATHER: usize = 1 << 20;

/// What bytes are written to. A file, or in tests a disk that is full.
pub(super) trait Media: Send {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
    fn cut(&self, length: u64) -> io::Result<()>;
}

impl Media for File {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

/// Header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) offset: u64,
    crc: u32,
}

impl Head {
    fn of(offset: u64, payload: &[u8]) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        // A payload is never longer than MAX_FRAME.
        head[..4].copy_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
        head[4..8].copy_from_slice(&checksum(offset, payload).to_le_bytes());
        head[8..].copy_from_slice(&offset.to_le_bytes());
        head
    }

    /// Reads a header; `None` when it cannot be one.
    pub(super) fn parse(head: &[u8; HEAD]) -> Option<Self> {
        let [l0, l1, l2, l3, c0, c1, c2, c3, o @ ..] = *head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let head = Self { length, offset: u64::from_le_bytes(o), crc: u32::from_le_bytes([c0, c1, c2, c3]) };
        (length <= MAX_FRAME).then_some(head)
    }

    pub(super) fn admits(&self, payload: &[u8]) -> bool {
        payload.len() == self.length && checksum(self.offset, payload) == self.crc
    }
}

fn checksum(offset: u64, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&offset.to_le_bytes()), payload)
}

/// What of a log is stored for good.
#[derive(Clone)]
pub(super) struct Tail {
    /// Bytes of the spool.
    pub(super) spool: u64,
    /// Bytes of the file.
    pub(super) file: u64,
    /// Payload bytes of standard output and standard error.
    pub(super) log: u64,
    /// Nothing may follow.
    pub(super) sealed: bool,
    sha: Context,
    decoder: Decoder,
    /// The bytes stopped being a spool; they are kept, but have no digest.
    broken: bool,
}

impl Tail {
    fn empty() -> Self {
        Self {
            spool: 0,
            file: 0,
            log: 0,
            sealed: false,
            sha: Context::new(&SHA256),
            decoder: Decoder::new(0),
            broken: false,
        }
    }

    fn take(&mut self, payload: &[u8]) {
        self.spool += payload.len() as u64;
        self.file += (HEAD + payload.len()) as u64;
        let mut rest = payload;
        while !self.broken && !rest.is_empty() {
            match self.decoder.decode(&mut rest) {
                Ok(Some(piece)) if piece.header.stream.is_log() => {
                    self.sha.update(piece.data);
                    self.log += piece.data.len() as u64;
                }
                Ok(_) => {}
                Err(_) => self.broken = true,
            }
        }
    }

    /// SHA-256 in hex over standard output and standard error; `None` when the bytes are no spool.
    pub(super) fn sha256(&self) -> Option<String> {
        (!self.broken).then(|| hex::encode(self.sha.clone().finish().as_ref()))
    }
}

/// The file, open for appending.
pub(super) struct Segment {
    media: Box<dyn Media>,
    pub(super) tail: Tail,
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment")
            .field("spool", &self.tail.spool)
            .field("file", &self.tail.file)
            .finish_non_exhaustive()
    }
}

/// Why nothing was appended.
#[derive(Debug)]
pub(super) enum Refused {
    /// A gap: the next byte has to be at this offset.
    Gap(u64),
    /// The log is complete.
    Sealed,
    /// The disk.
    Io(io::Error),
}

impl Segment {
    /// Opens or makes the file, checks every frame and cuts off what was torn.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let length = file.metadata()?.len();
        if length == 0 {
            // The file's name must survive what its bytes survive.
            let mut folder = path.parent();
            for _ in 0..3 {
                let Some(one) = folder else { break };
                File::open(one)?.sync_all()?;
                folder = one.parent();
            }
        }
        let tail = scan(&file, length)?;
        if tail.file < length {
            tracing::warn!(path = %path.display(), cut = length - tail.file, "cut off the torn end of a log; it was never acknowledged");
            file.set_len(tail.file)?;
        }
        Ok(Self { media: Box::new(file), tail })
    }

    #[cfg(test)]
    pub(super) fn on(media: Box<dyn Media>) -> Self {
        Self { media, tail: Tail::empty() }
    }

    /// Appends chunks of the spool, each with its offset, and makes them durable. What is there already is passed over.
    ///
    /// All or nothing: after an error the log is as it was, and the same chunks may come again.
    pub(super) fn append(&mut self, chunks: &[(u64, Bytes)]) -> Result<(), Refused> {
        let mut next = self.tail.clone();
        let written = self.write(&mut next, chunks);
        let synced = match written {
            Ok(()) if next.file == self.tail.file => return Ok(()),
            Ok(()) => self.media.sync().map_err(Refused::Io),
            Err(refused) => Err(refused),
        };
        match synced {
            Ok(()) => {
                self.tail = next;
                Ok(())
            }
            Err(refused) => {
                if let Err(error) = self.media.cut(self.tail.file) {
                    // What stands there is a cut frame or one that will be written over: readers stop before it.
                    tracing::warn!(%error, "the rest of a failed write stays in the log file for now");
                }
                Err(refused)
            }
        }
    }

    fn write(&self, next: &mut Tail, chunks: &[(u64, Bytes)]) -> Result<(), Refused> {
        let mut gathered = BytesMut::new();
        let mut end = next.spool;
        for (offset, data) in chunks {
            let known = end.checked_sub(*offset).ok_or(Refused::Gap(end))?;
            let Some(fresh) =
                usize::try_from(known).ok().and_then(|known| data.get(known..)).filter(|fresh| !fresh.is_empty())
            else {
                continue;
            };
            if next.sealed {
                return Err(Refused::Sealed);
            }
            end += fresh.len() as u64;
            if gathered.is_empty() && fresh.len() >= GATHER {
                self.frame(next, fresh)?;
                continue;
            }
            gathered.extend_from_slice(fresh);
            if gathered.len() >= GATHER {
                self.frame(next, &gathered)?;
                gathered.clear();
            }
        }
        if gathered.is_empty() { Ok(()) } else { self.frame(next, &gathered) }
    }

    fn frame(&self, next: &mut Tail, payload: &[u8]) -> Result<(), Refused> {
        for part in payload.chunks(MAX_FRAME) {
            self.media.write_at(&Head::of(next.spool, part), next.file).map_err(Refused::Io)?;
            self.media.write_at(part, next.file + HEAD as u64).map_err(Refused::Io)?;
            next.take(part);
        }
        Ok(())
    }

    /// Says for good that nothing follows. Not synced: it can be said again.
    pub(super) fn seal(&mut self) -> io::Result<()> {
        if !self.tail.sealed {
            // In memory first: a full disk must not let anything in any more.
            self.tail.sealed = true;
            self.media.write_at(&Head::of(self.tail.spool, &[]), self.tail.file)?;
            self.tail.file += HEAD as u64;
        }
        Ok(())
    }
}

/// Reads a file up to the first frame that does not hold.
fn scan(file: &File, length: u64) -> io::Result<Tail> {
    let mut tail = Tail::empty();
    let mut payload = Vec::new();
    while let Some(head) = read_head(file, tail.file, length)? {
        if head.length == 0 && head.offset == tail.spool && head.admits(&[]) {
            tail.sealed = true;
            tail.file += HEAD as u64;
            break;
        }
        payload.resize(head.length, 0);
        file.read_exact_at(&mut payload, tail.file + HEAD as u64)?;
        if head.offset != tail.spool || !head.admits(&payload) {
            break;
        }
        tail.take(&payload);
    }
    Ok(tail)
}

/// The header at `at` of a frame that ends within `limit`.
pub(super) fn read_head(file: &File, at: u64, limit: u64) -> io::Result<Option<Head>> {
    if at + HEAD as u64 > limit {
        return Ok(None);
    }
    let mut head = [0; HEAD];
    file.read_exact_at(&mut head, at)?;
    Ok(Head::parse(&head).filter(|head| at + (HEAD + head.length) as u64 <= limit))
}
