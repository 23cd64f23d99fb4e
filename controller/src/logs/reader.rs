//! Reading a log record by record, from an offset, with bounded memory.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use longshore_core::spool::{Decoder, HEADER, Whole};
use tokio::sync::watch;

use super::log::{Log, Stand, whole};
use super::segment::{self, Segment};
use super::{Error, Record, blocking};

/// Bytes that are read from the disk at a time.
const BATCH: usize = 1 << 20;

/// Reads one log.
#[derive(Debug)]
pub struct Reader {
    log: Arc<Log>,
    stand_rx: watch::Receiver<Stand>,
    ready: VecDeque<Record>,
    cursor: Option<Cursor>,
}

/// Where the next bytes come from.
#[derive(Debug)]
struct Cursor {
    segment: Option<Segment>,
    decoder: Decoder,
    buffer: Whole,
}

impl Reader {
    pub(super) fn new(log: Arc<Log>, from: u64) -> Self {
        let stand_rx = log.stand_tx.subscribe();
        let cursor = Cursor { segment: None, decoder: Decoder::new(from), buffer: Whole::default() };
        Self { log, stand_rx, ready: VecDeque::new(), cursor: Some(cursor) }
    }

    /// The next record of what is stored now; `None` at its end.
    ///
    /// # Errors
    /// When the file cannot be read, or the offset it began at was no record's.
    pub async fn next(&mut self) -> Result<Option<Record>, Error> {
        loop {
            if let Some(record) = self.ready.pop_front() {
                return Ok(Some(record));
            }
            let durable = self.stand_rx.borrow().durable;
            // The cursor is gone only when an earlier read failed or was dropped half-way.
            let Some(mut cursor) = self.cursor.take() else { return Err(Error::Stopping) };
            if cursor.decoder.offset() >= durable {
                self.cursor = Some(cursor);
                return Ok(None);
            }
            let folder = self.log.folder.clone();
            let (cursor, ready) = blocking(move || {
                let ready = cursor.read(&folder, durable)?;
                Ok((cursor, ready))
            })
            .await?;
            self.cursor = Some(cursor);
            self.ready = ready;
        }
    }

    /// The next record, waited for; `None` when the log has ended for good.
    ///
    /// # Errors
    /// As [`Reader::next`].
    pub async fn next_live(&mut self) -> Result<Option<Record>, Error> {
        loop {
            let stand = *self.stand_rx.borrow_and_update();
            if let Some(record) = self.next().await? {
                return Ok(Some(record));
            }
            if stand.ended || self.stand_rx.changed().await.is_err() {
                return Ok(None);
            }
        }
    }
}

impl Cursor {
    /// Reads the next bytes before `durable`; the records that are whole.
    fn read(&mut self, folder: &std::path::Path, durable: u64) -> Result<VecDeque<Record>, Error> {
        let mut ready = VecDeque::new();
        let mut read = 0;
        while read < BATCH && self.decoder.offset() < durable {
            let at = self.decoder.offset();
            let Some(data) = self.bytes(folder, at, durable)? else { break };
            read += data.len();
            let mut input = &data[..];
            while let Some(piece) = self.decoder.decode(&mut input).map_err(Error::Spool)? {
                let (header, offset) = (piece.header, piece.record);
                if let Some(data) = whole(&mut self.buffer, &piece) {
                    let end = offset + HEADER as u64 + u64::from(header.len);
                    ready.push_back(Record { offset, end, stream: header.stream, at: header.at, data });
                }
            }
        }
        Ok(ready)
    }

    /// Bytes from `at`, as many as one frame has of them.
    fn bytes(&mut self, folder: &std::path::Path, at: u64, durable: u64) -> Result<Option<Bytes>, Error> {
        loop {
            if self.segment.is_none() {
                let starts = segment::list(folder)?;
                let Some(start) = starts.into_iter().rev().find(|start| *start <= at) else { return Ok(None) };
                let mut segment = Segment::read(folder, start)?;
                segment.skip_to(at)?;
                self.segment = Some(segment);
            }
            let Some(segment) = &mut self.segment else { return Ok(None) };
            if let Some((offset, data)) = segment.next()? {
                let skip = usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX);
                let end = usize::try_from(durable.saturating_sub(offset)).unwrap_or(usize::MAX).min(data.len());
                return Ok((skip < end).then(|| data.slice(skip..end)));
            }
            // This segment has no more; the next one begins right here, or the file is damaged.
            let path = segment.path.clone();
            let (damaged_at, next) = (segment.at, segment::path(folder, at));
            if next == path || !next.exists() {
                return Err(Error::Damaged { path, at: damaged_at });
            }
            self.segment = None;
        }
    }
}
