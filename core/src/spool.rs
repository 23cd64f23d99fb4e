//! Frames of the spool: the log of one step as `longshore-init` writes it.
//!
//! A spool is a sequence of records: a header of [`HEADER`] bytes and the bytes of the record.
//! The offset of a log is the byte offset in the spool; the controller stores the very same bytes.
//!
//! Header, all little endian: payload length `u32`, stream `u8`, version `u8` (1), magic `u16`
//! ([`MAGIC`]), sequence number `u64` (0 for the first record, then one more each), time `u64`
//! (microseconds since the UNIX epoch, by the clock of the container's host).
//!
//! Invariants: an exit record is the last one. What a job prints is payload and never parsed, so no job can
//! imitate a record. [`Decoder`] takes any bytes, keeps at most one header of them and never panics.

use serde::{Deserialize, Serialize};

/// Length of a record's header in bytes.
pub const HEADER: usize = 24;
/// Longest payload of one record in bytes.
pub const MAX_PAYLOAD: usize = 1 << 20;
/// Stands in bytes 6 and 7 of each header, little endian: the bytes `L` `s`.
pub const MAGIC: u16 = u16::from_le_bytes(*b"Ls");
/// The only version of the format so far.
pub const VERSION: u8 = 1;

/// What the payload of a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output of the step, secrets masked.
    Stdout,
    /// Standard error of the step, secrets masked.
    Stderr,
    /// One [`crate::engine_event::EngineEvent`] as JSON; always one whole record an event.
    Events,
    /// The [`crate::init::ExitRecord`] as JSON; one whole record, the last.
    Exit,
}

impl Stream {
    /// The number in the header.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::Events => 3,
            Self::Exit => 4,
        }
    }

    /// The stream with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Stdout),
            2 => Some(Self::Stderr),
            3 => Some(Self::Events),
            4 => Some(Self::Exit),
            _ => None,
        }
    }

    /// Whether its bytes count into the log's length and SHA-256.
    #[must_use]
    pub fn is_log(self) -> bool {
        matches!(self, Self::Stdout | Self::Stderr)
    }
}

/// Why bytes are not a spool. Offsets are those of the record's first byte in the spool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The magic number is missing.
    #[error("no record at offset {offset}: magic number is {found:#06x}")]
    Magic {
        /// Where.
        offset: u64,
        /// What stands there.
        found: u16,
    },
    /// A format newer than this program.
    #[error("record at offset {offset} has version {found}, only {VERSION} is known")]
    Version {
        /// Where.
        offset: u64,
        /// What stands there.
        found: u8,
    },
    /// A stream that does not exist.
    #[error("record at offset {offset} is of unknown stream {found}")]
    Stream {
        /// Where.
        offset: u64,
        /// What stands there.
        found: u8,
    },
    /// More payload than [`MAX_PAYLOAD`].
    #[error("record at offset {offset} claims {found} bytes, more than {MAX_PAYLOAD}")]
    TooLong {
        /// Where.
        offset: u64,
        /// Length in the header.
        found: u32,
    },
    /// A record is missing or doubled.
    #[error("record at offset {offset} has number {found} where {expected} was due")]
    Sequence {
        /// Where.
        offset: u64,
        /// The number that was due.
        expected: u64,
        /// The number that stands there.
        found: u64,
    },
    /// Something follows the exit record.
    #[error("record at offset {offset} follows the exit record")]
    AfterExit {
        /// Where.
        offset: u64,
    },
    /// The bytes end inside a record.
    #[error("record at offset {offset} is cut: {missing} bytes are missing")]
    Cut {
        /// Where.
        offset: u64,
        /// Bytes missing (of the header alone while that is not whole).
        missing: u64,
    },
}

/// What stands before each payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of payload, at most [`MAX_PAYLOAD`].
    pub len: u32,
    /// What the payload is.
    pub stream: Stream,
    /// 0 for the first record of a spool, then one more each.
    pub seq: u64,
    /// Microseconds since the UNIX epoch.
    pub at: u64,
}

impl Header {
    /// The header as it is written.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..4].copy_from_slice(&self.len.to_le_bytes());
        out[4] = self.stream.number();
        out[5] = VERSION;
        out[6..8].copy_from_slice(&MAGIC.to_le_bytes());
        out[8..16].copy_from_slice(&self.seq.to_le_bytes());
        out[16..].copy_from_slice(&self.at.to_le_bytes());
        out
    }

    /// Reads what [`Header::to_bytes`] wrote; `offset` is named in errors.
    pub fn parse(bytes: &[u8; HEADER], offset: u64) -> Result<Self, Error> {
        let [l0, l1, l2, l3, stream, version, m0, m1, rest @ ..] = *bytes;
        let (seq, at) = rest.split_at(8);
        let found = u16::from_le_bytes([m0, m1]);
        if found != MAGIC {
            return Err(Error::Magic { offset, found });
        }
        if version != VERSION {
            return Err(Error::Version { offset, found: version });
        }
        let Some(stream) = Stream::from_number(stream) else {
            return Err(Error::Stream { offset, found: stream });
        };
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        if len as usize > MAX_PAYLOAD {
            return Err(Error::TooLong { offset, found: len });
        }
        Ok(Self { len, stream, seq: word(seq), at: word(at) })
    }
}

fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte))
}

/// A run of bytes of one record's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The record's header.
    pub header: Header,
    /// Offset of the record's first header byte in the spool.
    pub record: u64,
    /// Position of `data` in the payload; 0 for the first piece.
    pub position: u32,
    /// Bytes of the payload, borrowed from the input. Empty only for a record without payload.
    pub data: &'a [u8],
    /// Whether the record ends with it.
    pub last: bool,
}

/// Reads records from bytes that arrive in slices of any length, without copying payload.
///
/// ```
/// # use longshore_core::spool::{Decoder, Header, Stream};
/// # let mut bytes = Header { len: 2, stream: Stream::Stdout, seq: 0, at: 1 }.to_bytes().to_vec();
/// # bytes.extend(b"hi");
/// let mut decoder = Decoder::new(0);
/// let mut input = &bytes[..];
/// while let Some(piece) = decoder.decode(&mut input)? {
///     assert_eq!(piece.data, b"hi");
/// }
/// assert!(input.is_empty());
/// decoder.finish()?;
/// # Ok::<(), longshore_core::spool::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Decoder {
    /// Where the record that is being read begins.
    record: u64,
    head: [u8; HEADER],
    /// Bytes of `head` that are there.
    filled: usize,
    /// The header once it is whole, and the payload bytes taken so far.
    current: Option<(Header, u32)>,
    next_seq: Option<u64>,
    ended: bool,
    failed: Option<Error>,
}

impl Decoder {
    /// Begins at a record boundary of a spool. At offset 0 the first record must have number 0; elsewhere the first number seen counts.
    #[must_use]
    pub fn new(offset: u64) -> Self {
        Self {
            record: offset,
            head: [0; HEADER],
            filled: 0,
            current: None,
            next_seq: (offset == 0).then_some(0),
            ended: false,
            failed: None,
        }
    }

    /// Takes bytes from the front of `input` up to the end of a record or of `input`.
    ///
    /// `None` means that `input` is used up. An error stays: every later call returns it again.
    pub fn decode<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Piece<'a>>, Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let (header, position) = match self.current {
            Some(current) => current,
            None => match self.header(input) {
                Ok(Some(header)) => (header, 0),
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.failed = Some(error.clone());
                    return Err(error);
                }
            },
        };
        let left = header.len - position;
        let take = input.len().min(left as usize);
        if take == 0 && left > 0 {
            self.current = Some((header, position));
            return Ok(None);
        }
        let (data, rest) = input.split_at(take);
        *input = rest;
        // `take` is at most `left`, so this is exact.
        let position_after = u32::try_from(take).map_or(header.len, |taken| position + taken);
        let last = position_after == header.len;
        let piece = Piece { header, record: self.record, position, data, last };
        if last {
            self.record += HEADER as u64 + u64::from(header.len);
            self.filled = 0;
            self.current = None;
            self.ended = header.stream == Stream::Exit;
        } else {
            self.current = Some((header, position_after));
        }
        Ok(Some(piece))
    }

    fn header(&mut self, input: &mut &[u8]) -> Result<Option<Header>, Error> {
        if self.ended && !input.is_empty() {
            return Err(Error::AfterExit { offset: self.record });
        }
        let take = input.len().min(HEADER - self.filled);
        let (bytes, rest) = input.split_at(take);
        *input = rest;
        self.head[self.filled..self.filled + take].copy_from_slice(bytes);
        self.filled += take;
        if self.filled < HEADER {
            return Ok(None);
        }
        let header = Header::parse(&self.head, self.record)?;
        if let Some(expected) = self.next_seq.filter(|expected| *expected != header.seq) {
            return Err(Error::Sequence { offset: self.record, expected, found: header.seq });
        }
        self.next_seq = Some(header.seq.wrapping_add(1));
        Ok(Some(header))
    }

    /// Offset of the record that is being read or comes next: everything before it was whole records.
    #[must_use]
    pub fn boundary(&self) -> u64 {
        self.record
    }

    /// Offset of the first byte not yet taken.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.record + self.filled as u64 + self.current.map_or(0, |(_, position)| u64::from(position))
    }

    /// Whether the exit record was read to its end.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Says whether the bytes ended at a record boundary.
    pub fn finish(&self) -> Result<(), Error> {
        let missing = match self.current {
            Some((header, position)) => u64::from(header.len - position),
            None if self.filled > 0 => (HEADER - self.filled) as u64,
            None => return Ok(()),
        };
        Err(Error::Cut { offset: self.record, missing })
    }
}

/// Puts the pieces of records together, for streams whose records are small and meant whole (events, exit).
#[derive(Debug, Default)]
pub struct Whole {
    bytes: Vec<u8>,
}

impl Whole {
    /// Takes the next piece of a record; returns the payload with the record's last piece. At most [`MAX_PAYLOAD`] bytes are kept.
    pub fn push(&mut self, piece: &Piece<'_>) -> Option<Vec<u8>> {
        if piece.position == 0 {
            self.bytes.clear();
        }
        self.bytes.extend_from_slice(piece.data);
        piece.last.then(|| std::mem::take(&mut self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spool(records: &[(Stream, Vec<u8>)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (seq, (stream, payload)) in records.iter().enumerate() {
            let header = Header {
                len: u32::try_from(payload.len()).unwrap(),
                stream: *stream,
                seq: seq as u64,
                at: 7 + seq as u64,
            };
            out.extend(header.to_bytes());
            out.extend(payload);
        }
        out
    }

    /// Every record whole, read through slices of the given lengths in turn.
    fn read(bytes: &[u8], cuts: &[usize]) -> Result<Vec<(Stream, Vec<u8>)>, Error> {
        let (mut decoder, mut whole, mut out) = (Decoder::new(0), Whole::default(), Vec::new());
        let (mut rest, mut cuts) = (bytes, cuts.iter().cycle());
        while !rest.is_empty() {
            let (mut slice, later) = rest.split_at((*cuts.next().unwrap()).clamp(1, rest.len()));
            rest = later;
            while let Some(piece) = decoder.decode(&mut slice)? {
                if let Some(payload) = whole.push(&piece) {
                    out.push((piece.header.stream, payload));
                }
            }
            assert_eq!(decoder.offset(), (bytes.len() - rest.len()) as u64);
        }
        decoder.finish()?;
        Ok(out)
    }

    fn log_stream() -> impl Strategy<Value = Stream> {
        prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr), Just(Stream::Events)]
    }

    proptest! {
        #[test]
        fn any_slicing_reads_the_same(
            records in proptest::collection::vec((log_stream(), proptest::collection::vec(any::<u8>(), 0..90)), 0..8),
            cuts in proptest::collection::vec(1usize..60, 1..6),
        ) {
            prop_assert_eq!(read(&spool(&records), &cuts).unwrap(), records);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 1usize..40) {
            drop(read(&bytes, &[cut]));
        }

        #[test]
        fn a_changed_header_is_refused_or_read_never_a_panic(at in 0usize..24, to in any::<u8>(), cut in 1usize..40) {
            let mut bytes = spool(&[(Stream::Stdout, b"one".to_vec()), (Stream::Stderr, b"two".to_vec())]);
            bytes[at] = to;
            drop(read(&bytes, &[cut]));
        }
    }

    #[test]
    fn errors_name_the_offset() {
        let mut bytes = spool(&[(Stream::Stdout, b"one".to_vec()), (Stream::Stderr, b"two".to_vec())]);
        let second = HEADER + 3;
        bytes[second + 4] = 9;
        assert_eq!(read(&bytes, &[5]), Err(Error::Stream { offset: 27, found: 9 }));
        bytes[second + 8] = 5;
        bytes[second + 4] = 2;
        assert_eq!(read(&bytes, &[500]), Err(Error::Sequence { offset: 27, expected: 1, found: 5 }));
        bytes[second + 3] = 1;
        assert_eq!(read(&bytes, &[1]), Err(Error::TooLong { offset: 27, found: 0x0100_0003 }));
        bytes[second + 6] = 0;
        assert!(matches!(read(&bytes, &[1]), Err(Error::Magic { offset: 27, .. })));
        assert_eq!(read(&bytes[..20], &[1]), Err(Error::Cut { offset: 0, missing: 4 }));
        assert_eq!(read(&bytes[..25], &[1]), Err(Error::Cut { offset: 0, missing: 2 }));
    }

    #[test]
    fn nothing_may_follow_the_exit_record() {
        let bytes = spool(&[(Stream::Exit, b"{}".to_vec()), (Stream::Stdout, b"late".to_vec())]);
        assert_eq!(read(&bytes, &[3]), Err(Error::AfterExit { offset: 26 }));
    }

    #[test]
    fn a_reader_may_begin_at_any_boundary() {
        let bytes = spool(&[(Stream::Stdout, b"one".to_vec()), (Stream::Stderr, b"two".to_vec())]);
        let mut decoder = Decoder::new(27);
        let mut input = &bytes[27..];
        let piece = decoder.decode(&mut input).unwrap().unwrap();
        assert_eq!((piece.header.seq, piece.record, piece.data), (1, 27, &b"two"[..]));
        assert_eq!(decoder.boundary(), bytes.len() as u64);
    }
}
