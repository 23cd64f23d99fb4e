//! Reads a spool once for both of its uses: the bytes that go up, and what the engine events in it say.
//!
//! Invariants: every byte before `parser.boundary()` was understood exactly once, whatever is read again for a stream that
//! broke; a range is given back only after [`Shipped`] with a boundary at or behind its end is durable, so that a restart
//! never needs what is gone; the tail stays, because the exit record is in it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use longshore_core::engine_event::EngineEvent;
use longshore_core::spool::{Decoder, HEADER, MAX_PAYLOAD, Stream, Whole};
use longshore_core::time::Timestamp;
use nix::fcntl::{FallocateFlags, fallocate};

use super::{Delivered, Error};
use crate::ledger::{self, Ledger, Shipped};

/// What is given back to the disk and what stays.
#[derive(Debug, Clone, Copy)]
pub(super) struct Space {
    /// Ranges are given back in steps of this.
    pub(super) step: u64,
    /// Stays on the disk.
    pub(super) tail: u64,
}

/// Steps that cost little to write down; the longest exit record stays.
const SPACE: Space = Space { step: 16 << 20, tail: (HEADER + MAX_PAYLOAD) as u64 };
/// Bytes read at once to catch up.
const CATCH_UP: usize = 256 << 10;

/// Reads one spool.
#[derive(Debug)]
pub struct Reader {
    file: Arc<File>,
    path: PathBuf,
    record: PathBuf,
    decoder: Decoder,
    whole: Whole,
    state: Shipped,
    pub(super) space: Space,
    /// The spool is no spool from here on; its bytes still go up as they are.
    unreadable: bool,
}

impl Reader {
    /// Opens the spool of a step; `shipped` is what an earlier agent had understood of it.
    ///
    /// # Errors
    /// [`Error::Spool`].
    pub fn open(step_dir: &Path, spool: &Path, shipped: Shipped) -> Result<Self, Error> {
        // Writing is needed to punch holes.
        let file = File::options()
            .read(true)
            .write(true)
            .open(spool)
            .map_err(|source| Error::Spool { path: spool.to_owned(), source })?;
        Ok(Self {
            file: Arc::new(file),
            path: spool.to_owned(),
            record: Ledger::shipped_file(step_dir),
            decoder: Decoder::new(shipped.boundary),
            whole: Whole::default(),
            state: shipped,
            space: SPACE,
            unreadable: false,
        })
    }

    pub(super) fn fault(&self, source: io::Error) -> Error {
        Error::Spool { path: self.path.clone(), source }
    }

    /// Prepares for reading from `durable` on: what is before it and was never understood is read now.
    pub(super) async fn seek(&mut self, durable: u64) -> Result<(), Error> {
        if durable < self.state.given_back {
            return Err(Error::GivenBack { asked: durable, given_back: self.state.given_back });
        }
        while self.decoder.offset() < durable && !self.unreadable {
            let from = self.decoder.offset();
            let most = usize::try_from(durable - from).unwrap_or(CATCH_UP).min(CATCH_UP);
            if self.read(from, most)?.is_empty() {
                break;
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// At most `most` bytes from `offset` on, which is not behind what was read so far.
    pub(super) fn read(&mut self, offset: u64, most: usize) -> Result<Vec<u8>, Error> {
        let mut data = vec![0; most];
        let read = self.file.read_at(&mut data, offset).map_err(|source| self.fault(source))?;
        if read == 0 {
            return Err(self.fault(io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than it was")));
        }
        data.truncate(read);
        let known = self.decoder.offset().saturating_sub(offset);
        if let Some(new) = usize::try_from(known).ok().and_then(|known| data.get(known..)) {
            self.understand(new);
        }
        Ok(data)
    }

    fn understand(&mut self, mut new: &[u8]) {
        while !self.unreadable {
            let piece = match self.decoder.decode(&mut new) {
                Ok(Some(piece)) => piece,
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, spool = %self.path.display(), "the spool cannot be understood from here on; it is shipped as it is");
                    self.unreadable = true;
                    return;
                }
            };
            match piece.header.stream {
                Stream::Stdout | Stream::Stderr => {}
                Stream::Exit => self.state.exit_at = i64::try_from(piece.header.at).ok().map(Timestamp::from_micros),
                Stream::Events => {
                    if let Some(payload) = self.whole.push(&piece) {
                        let event = EngineEvent::from_json(&payload)
                            .unwrap_or_else(|_| EngineEvent::unreadable(payload.len() as u64));
                        self.state.summary.add(&event);
                    }
                }
            }
        }
    }

    /// Gives what is durable and understood back to the disk, once it is worth it.
    pub(super) async fn give_back(&mut self, durable: u64) -> Result<(), Error> {
        let understood = if self.unreadable { durable } else { durable.min(self.decoder.boundary()) };
        let limit = understood.saturating_sub(self.space.tail) / self.space.step * self.space.step;
        if limit <= self.state.given_back {
            return Ok(());
        }
        let next = Shipped { boundary: self.decoder.boundary(), given_back: limit, ..self.state.clone() };
        let (record, file, written) = (self.record.clone(), Arc::clone(&self.file), next.clone());
        let done = crate::tasks::blocking(move || {
            ledger::save(&record, &written)?;
            let length = i64::try_from(limit).map_err(io::Error::other)?;
            // A file system without holes keeps the bytes; that costs space and nothing else.
            if let Err(error) =
                fallocate(&*file, FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, length)
            {
                tracing::debug!(%error, "shipped bytes stay on the disk");
            }
            Ok(())
        })
        .await;
        match done {
            Ok(()) => self.state = next,
            // A full disk: nothing was given back, and it is tried again with the next acknowledgement.
            Err(error) => {
                tracing::warn!(%error, spool = %self.path.display(), "cannot write down how far the spool was read");
            }
        }
        Ok(())
    }

    /// What is known at the end.
    pub(super) fn delivered(self, bytes: u64) -> Delivered {
        let summary = (self.state.summary.events > 0).then(|| Box::new(self.state.summary));
        Delivered { bytes, summary, exit_at: self.state.exit_at }
    }
}
