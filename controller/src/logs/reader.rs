//! Reading a log with bounded memory, from a record on, up to its end or along with its growth.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use longshore_core::id::AttemptId;
use longshore_core::spool::{Decoder, Whole};

use super::segment::{HEAD, read_head};
use super::{Error, Logs, Record};

/// Payload read at once, about.
const READ: usize = 256 << 10;

/// Reads one log.
#[derive(Debug)]
pub struct Reader {
    logs: Logs,
    attempt: AttemptId,
    step: u32,
    file: Option<Arc<File>>,
    /// Where the next frame begins in the file.
    at: u64,
    /// Bytes of the spool before this are not wanted.
    from: u64,
    decoder: Decoder,
    whole: Whole,
    records: VecDeque<Record>,
}

impl Reader {
    pub(super) fn new(logs: Logs, attempt: AttemptId, step: u32, from: u64) -> Self {
        let decoder = Decoder::new(from);
        Self {
            logs,
            attempt,
            step,
            file: None,
            at: 0,
            from,
            decoder,
            whole: Whole::default(),
            records: VecDeque::new(),
        }
    }

    /// The next record of what is stored now; `None` at its end, or where the last record is not whole yet.
    ///
    /// # Errors
    /// When the file cannot be read, or the reader was begun at no record's offset.
    pub async fn next(&mut self) -> Result<Option<Record>, Error> {
        loop {
            if let Some(record) = self.records.pop_front() {
                return Ok(Some(record));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// The next record, waited for; `None` when nothing follows for good.
    ///
    /// # Errors
    /// As [`Reader::next`].
    pub async fn next_live(&mut self) -> Result<Option<Record>, Error> {
        if let Some(record) = self.next().await? {
            return Ok(Some(record));
        }
        let log = self.logs.log(self.attempt, self.step).await?;
        let mut growth = log.growth();
        loop {
            let sealed = growth.borrow_and_update().sealed;
            if let Some(record) = self.next().await? {
                return Ok(Some(record));
            }
            if sealed || growth.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// Reads some frames; `false` when there are none.
    async fn fill(&mut self) -> Result<bool, Error> {
        let path = self.logs.path(self.attempt, self.step);
        let known = self.logs.durable(self.attempt, self.step);
        let (file, at, from) = (self.file.clone(), self.at, self.from);
        let read = self.logs.blocking(move || read(file, &path, at, from, known)).await??;
        let Some((file, frames, at)) = read else { return Ok(false) };
        (self.file, self.at) = (Some(file), at);
        let some = !frames.is_empty();
        for (offset, payload) in frames {
            let skip = usize::try_from(self.from.saturating_sub(offset)).unwrap_or(usize::MAX).min(payload.len());
            self.decode(&payload.slice(skip..))?;
        }
        Ok(some)
    }

    fn decode(&mut self, bytes: &Bytes) -> Result<(), Error> {
        let mut rest: &[u8] = bytes;
        while let Some(piece) = self.decoder.decode(&mut rest)? {
            // A record that lies whole in the frame is not copied.
            let data = if piece.last && piece.position == 0 {
                Some(bytes.slice_ref(piece.data))
            } else {
                self.whole.push(&piece).map(Bytes::from)
            };
            if let Some(data) = data {
                let (stream, at) = (piece.header.stream, piece.header.at);
                self.records.push_back(Record { offset: piece.record, end: self.decoder.boundary(), stream, at, data });
            }
        }
        Ok(())
    }
}

type Frames = (Arc<File>, Vec<(u64, Bytes)>, u64);

/// Frames of the file from `at` on that hold bytes at or after `from`; `None` when there is no file. `known`: where the file ends for readers.
fn read(
    file: Option<Arc<File>>,
    path: &Path,
    mut at: u64,
    from: u64,
    known: Option<u64>,
) -> Result<Option<Frames>, Error> {
    let failed = |source| Error::File { path: path.to_owned(), what: "read", source };
    let file = match file {
        Some(file) => file,
        None => match File::open(path) {
            Ok(file) => Arc::new(file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        },
    };
    let limit = match known {
        Some(known) => known,
        None => file.metadata().map_err(failed)?.len(),
    };
    let (mut frames, mut total) = (Vec::new(), 0);
    while total < READ {
        let Some(head) = read_head(&file, at, limit).map_err(failed)?.filter(|head| head.length > 0) else { break };
        let next = at + (HEAD + head.length) as u64;
        if head.offset + head.length as u64 > from {
            let mut payload = vec![0; head.length];
            file.read_exact_at(&mut payload, at + HEAD as u64).map_err(failed)?;
            if !head.admits(&payload) {
                // Behind what is acknowledged it is a torn end; before it the disk has changed bytes.
                if known.is_some() {
                    return Err(Error::Damaged { path: path.to_owned(), at });
                }
                break;
            }
            total += head.length;
            frames.push((head.offset, Bytes::from(payload)));
        }
        at = next;
    }
    Ok(Some((file, frames, at)))
}
