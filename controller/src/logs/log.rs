//! One log: its end, its running digest, and the way to append.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use longshore_core::spool::{self, Decoder, Stream, Whole};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::segment::{self, FULL, MAX_DATA, Segment};
use super::{Digest, Error, Logs, blocking, lock};

/// Where a log stands, for those who wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stand {
    /// Bytes of the spool that are durable.
    pub(super) durable: u64,
    /// No more come.
    pub(super) ended: bool,
}

/// One log, shared by its writers and readers.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) folder: PathBuf,
    /// What was read from the disk or written; `None` until it was asked for.
    state: Mutex<Option<State>>,
    pub(super) stand_tx: watch::Sender<Stand>,
}

/// The running account of a log.
#[derive(Debug)]
struct State {
    /// The segment that is appended to; `None` until something is.
    segment: Option<Segment>,
    /// Start of the last segment and where its frames end in the file.
    last: Option<(u64, u64)>,
    account: Account,
}

/// What the bytes so far amount to.
#[derive(Debug, Clone)]
struct Account {
    decoder: Decoder,
    bytes: u64,
    hash: Sha256,
    exit: Vec<u8>,
}

impl Account {
    fn new() -> Self {
        Self { decoder: Decoder::new(0), bytes: 0, hash: Sha256::new(), exit: Vec::new() }
    }

    fn take(&mut self, mut data: &[u8]) -> Result<(), spool::Error> {
        while let Some(piece) = self.decoder.decode(&mut data)? {
            if piece.header.stream.is_log() {
                self.bytes += piece.data.len() as u64;
                self.hash.update(piece.data);
            } else if piece.header.stream == Stream::Exit {
                self.exit.extend_from_slice(piece.data);
            }
        }
        Ok(())
    }

    fn digest(&self) -> Digest {
        let sha256 = self.hash.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Digest {
            spool_bytes: self.decoder.offset(),
            bytes: self.bytes,
            sha256,
            exit_record: self.decoder.ended().then(|| self.exit.clone()),
            whole: self.decoder.finish().is_ok(),
        }
    }
}

impl Log {
    pub(super) fn new(folder: PathBuf, ended: bool) -> Self {
        Self { folder, state: Mutex::new(None), stand_tx: watch::Sender::new(Stand { durable: 0, ended }) }
    }

    /// Tells followers that no more comes.
    pub(super) fn end(&self) {
        self.stand_tx.send_modify(|stand| stand.ended = true);
    }

    /// Makes sure that what is on the disk is known.
    pub(super) async fn load(self: &Arc<Self>) -> Result<(), Error> {
        let log = self.clone();
        blocking(move || log.with_state(|_| Ok(()))).await
    }

    /// What is durable, by our own count.
    pub(super) async fn digest(self: &Arc<Self>) -> Result<Digest, Error> {
        let log = self.clone();
        blocking(move || log.with_state(|state| Ok(state.account.digest()))).await
    }

    fn with_state<T>(&self, work: impl FnOnce(&mut State) -> Result<T, Error>) -> Result<T, Error> {
        let mut guard = lock(&self.state);
        let state = match guard.as_mut() {
            Some(state) => state,
            None => {
                let state = State::read(&self.folder)?;
                self.publish(&state);
                guard.insert(state)
            }
        };
        work(state)
    }

    fn publish(&self, state: &State) {
        let durable = state.account.decoder.offset();
        let ended = state.account.decoder.ended();
        self.stand_tx.send_modify(|stand| {
            stand.durable = durable;
            stand.ended |= ended;
        });
    }

    /// Writes chunks that continue the log, makes them durable and answers the durable offset.
    fn append(&self, chunks: &[(u64, Bytes)]) -> Result<u64, Error> {
        self.with_state(|state| {
            let written = chunks.iter().try_for_each(|(offset, data)| state.append(&self.folder, *offset, data));
            // What came before a refused chunk is in the file, so it is made durable and told all the same.
            if let Some(segment) = &state.segment {
                segment.sync()?;
            }
            self.publish(state);
            written.map(|()| state.account.decoder.offset())
        })
    }
}

impl State {
    /// Reads a log from the disk. A torn last frame does not count.
    fn read(folder: &std::path::Path) -> Result<Self, Error> {
        let starts = segment::list(folder)?;
        let mut state = Self { segment: None, last: None, account: Account::new() };
        for (index, start) in starts.iter().enumerate() {
            let mut segment = Segment::read(folder, *start)?;
            let damaged = |at| Error::Damaged { path: segment::path(folder, *start), at };
            if *start != state.account.decoder.offset() {
                return Err(damaged(0));
            }
            while let Some((offset, data)) = segment.next()? {
                let continues = offset == state.account.decoder.offset();
                if !continues || state.account.take(&data).is_err() {
                    return Err(damaged(segment.at));
                }
            }
            let length = std::fs::metadata(&segment.path).map_err(|err| segment::file_error(&segment.path, "read", err))?.len();
            if index + 1 < starts.len() && segment.at != length {
                return Err(damaged(segment.at));
            }
            state.last = Some((*start, segment.at));
        }
        Ok(state)
    }

    fn append(&mut self, folder: &std::path::Path, offset: u64, data: &Bytes) -> Result<(), Error> {
        let end = self.account.decoder.offset();
        if offset > end {
            return Err(Error::Gap { offset, end });
        }
        // What is stored already was sent again after a reconnect.
        let known = usize::try_from(end - offset).unwrap_or(usize::MAX);
        let Some(new) = data.get(known..).filter(|new| !new.is_empty()) else { return Ok(()) };
        let mut end = end;
        for part in new.chunks(MAX_DATA) {
            let mut account = self.account.clone();
            account.take(part).map_err(Error::Spool)?;
            self.segment(folder, end)?.append(end, part)?;
            self.account = account;
            end += part.len() as u64;
        }
        Ok(())
    }

    /// The segment to append to at offset `end` of the spool.
    fn segment(&mut self, folder: &std::path::Path, end: u64) -> Result<&mut Segment, Error> {
        let (start, at) = match (&self.segment, self.last) {
            (Some(segment), Some((start, _))) => (start, segment.at),
            (None, Some(last)) => last,
            (_, None) => (end, 0),
        };
        let full = at >= FULL;
        if full {
            if let Some(segment) = &self.segment {
                segment.sync()?;
            }
            self.segment = None;
        }
        let (start, at) = if full { (end, 0) } else { (start, at) };
        let segment = match self.segment.take() {
            Some(segment) => segment,
            None => Segment::write(folder, start, at)?,
        };
        self.last = Some((start, at));
        Ok(self.segment.insert(segment))
    }
}

/// Appends to one log. Bytes count only after [`Writer::sync`].
#[derive(Debug)]
pub struct Writer {
    logs: Logs,
    log: Arc<Log>,
    pending: Vec<(u64, Bytes)>,
}

impl Writer {
    pub(super) fn new(logs: Logs, log: Arc<Log>) -> Self {
        Self { logs, log, pending: Vec::new() }
    }

    /// The durable offset: what an agent has to send next.
    ///
    /// # Errors
    /// When the log on the disk cannot be read.
    pub async fn durable(&self) -> Result<u64, Error> {
        self.log.load().await?;
        Ok(self.log.stand_tx.borrow().durable)
    }

    /// Takes bytes that begin at `offset` of the spool; nothing is written yet.
    pub fn append(&mut self, offset: u64, data: Bytes) {
        self.pending.push((offset, data));
    }

    /// Bytes taken and not yet written.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.iter().map(|(_, data)| data.len()).sum()
    }

    /// Writes what was taken, makes it durable, wakes the followers and answers the durable offset.
    ///
    /// # Errors
    /// When bytes do not continue the log, are no spool, or the disk takes no more. What was written before stays, and the
    /// rest may be sent again.
    pub async fn sync(&mut self) -> Result<u64, Error> {
        let chunks = std::mem::take(&mut self.pending);
        let log = self.log.clone();
        let done = blocking(move || log.append(&chunks)).await;
        match &done {
            Err(Error::File { path, what, source }) => {
                self.logs.set_health(Some(format!("the log file `{}` cannot be {what}: {source}", path.display())));
            }
            Ok(_) => self.logs.set_health(None),
            Err(_) => {}
        }
        done
    }
}

/// Puts a record together from pieces.
pub(super) fn whole(buffer: &mut Whole, piece: &spool::Piece<'_>) -> Option<Bytes> {
    buffer.push(piece).map(Bytes::from)
}
