//! An upload that goes on where the one before it broke off.
//!
//! It runs as a task of its own: when its caller is gone, what has come so far is still made durable.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use longshore_core::time::Timestamp;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;

use super::partial::{Partial, Turn, Upload};
use super::{Blobs, Error, Stored, archive, hex, io_error, keep};
use crate::clock::Clock;
use crate::tasks::OnError;

/// Bytes after which what has come is made durable.
const EVERY: u64 = 8 << 20;
/// Between two looks for uploads that nobody goes on with.
const SWEEP: Duration = Duration::from_secs(3_600);

/// What became of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumed {
    /// The package is stored.
    Stored(Stored),
    /// The body was a part only; so many bytes are durable now.
    Kept(u64),
}

impl Blobs {
    /// How far an upload is durable; `None` when nothing of it is kept.
    #[must_use]
    pub fn partial(&self, sha256: &str, by: &str) -> Option<Partial> {
        self.partials.get(sha256, by)
    }

    /// Removes uploads that nobody has gone on with for long; answers how many.
    #[must_use]
    pub fn sweep(&self, now: Timestamp) -> usize {
        self.partials.sweep(now)
    }

    /// Sweeps from time to time.
    pub fn sweep_forever(&self, clock: Clock) {
        let blobs = self.clone();
        self.tasks.spawn_until_stop("uploads", OnError::Log, async move {
            blobs.sweep_on(&clock).await;
            Ok::<(), Infallible>(())
        });
    }

    async fn sweep_on(&self, clock: &Clock) {
        loop {
            let removed = self.sweep(clock.now());
            if removed > 0 {
                tracing::info!(removed, "uploads that nobody went on with were removed");
            }
            clock.sleep(SWEEP).await;
        }
    }

    /// Takes an upload from its offset on. What is answered is durable.
    ///
    /// # Errors
    /// [`Error`]; what is durable of an upload that was cut stays, to go on from there.
    pub async fn resume(
        &self,
        upload: Upload,
        body: impl Stream<Item = Result<Bytes, axum::Error>> + Send + Unpin + 'static,
    ) -> Result<Resumed, Error> {
        let (done, result) = oneshot::channel();
        let blobs = self.clone();
        self.tasks.spawn("upload", OnError::Log, async move {
            // Nobody may be there any more to hear it.
            drop(done.send(blobs.take(&upload, body).await));
            Ok::<(), Infallible>(())
        });
        result.await.map_err(|_| Error::Stopping)?
    }

    async fn take(
        &self,
        upload: &Upload,
        body: impl Stream<Item = Result<Bytes, axum::Error>> + Send + Unpin,
    ) -> Result<Resumed, Error> {
        // All was sent before, and its sender never heard of it.
        if upload.offset == upload.length && self.size(&upload.sha256).await? == Some(upload.length) {
            return Ok(Resumed::Stored(Stored { bytes: upload.length, new: false }));
        }
        if upload.length > self.limits.packed {
            return Err(Error::TooLarge { limit: self.limits.packed });
        }
        let turn = Arc::new(self.partials.turn(upload).await?);
        let path = turn.path();
        let file = tokio::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).await;
        let mut file = file.map_err(io_error("open", &path))?;
        file.set_len(turn.offset).await.map_err(io_error("cut", &path))?;
        file.seek(SeekFrom::End(0)).await.map_err(io_error("seek in", &path))?;
        let (at, ended) = self.receive_part(&turn, upload, &mut file, body).await?;
        match ended {
            Ok(()) if at == upload.length => {
                self.complete(turn, upload, file.into_std().await).await.map(Resumed::Stored)
            }
            Ok(()) => Ok(Resumed::Kept(at)),
            Err(Error::Cut(source)) => Err(Error::CutAt { kept: at, source }),
            Err(error) => Err(error),
        }
    }

    /// Writes what comes, until it ends or may not go on; answers how much is durable, and how it ended.
    async fn receive_part(
        &self,
        turn: &Arc<Turn>,
        upload: &Upload,
        file: &mut tokio::fs::File,
        mut body: impl Stream<Item = Result<Bytes, axum::Error>> + Send + Unpin,
    ) -> Result<(u64, Result<(), Error>), Error> {
        let (mut at, mut durable) = (turn.offset, turn.offset);
        let ended = loop {
            let chunk = tokio::select! {
                biased;
                () = turn.stop.cancelled() => break Err(Error::TakenOver),
                () = self.tasks.token().cancelled() => break Err(Error::Stopping),
                chunk = body.next() => chunk,
            };
            let chunk = match chunk {
                None => break Ok(()),
                Some(Err(error)) => break Err(Error::Cut(error)),
                Some(Ok(chunk)) => chunk,
            };
            if at + chunk.len() as u64 > upload.length {
                break Err(Error::LongerThanSaid { announced: upload.length });
            }
            if let Err(source) = file.write_all(&chunk).await {
                break Err(io_error("write", &turn.path())(source));
            }
            at += chunk.len() as u64;
            if at - durable >= EVERY {
                self.checkpoint(turn, upload, file, at).await?;
                durable = at;
            }
        };
        if at > durable {
            self.checkpoint(turn, upload, file, at).await?;
        }
        Ok((at, ended))
    }

    async fn checkpoint(
        &self,
        turn: &Arc<Turn>,
        upload: &Upload,
        file: &mut tokio::fs::File,
        at: u64,
    ) -> Result<(), Error> {
        let path = turn.path();
        file.flush().await.map_err(io_error("write", &path))?;
        let file = file.try_clone().await.map_err(io_error("open", &path))?.into_std().await;
        let (turn, now) = (Arc::clone(turn), upload.now);
        self.tasks.blocking(move || turn.checkpoint(&file, at, now)).await.map_err(|_| Error::Stopping)?
    }

    /// All bytes are there: whether they are those that were announced, and fit for a package.
    async fn complete(&self, turn: Arc<Turn>, upload: &Upload, file: File) -> Result<Stored, Error> {
        let (place, limits, bytes) = (self.path_of(&upload.sha256)?, self.limits, upload.length);
        let expected = upload.sha256.clone();
        let work = move || -> Result<bool, Error> {
            let path = turn.path();
            // From here on it goes away by itself, unless it gets its name.
            let temporary = tempfile::TempPath::try_from_path(&path).map_err(io_error("take", &path))?;
            let temporary = tempfile::NamedTempFile::from_parts(file, temporary);
            let checked = matches(temporary.as_file(), &path, expected)
                .and_then(|()| Ok(archive::check(temporary.as_file(), bytes, limits)?))
                .and_then(|()| keep(temporary, &place));
            turn.forget();
            checked
        };
        let new = self.tasks.blocking(work).await.map_err(|_| Error::Stopping)??;
        Ok(Stored { bytes, new })
    }
}

/// Reads the whole again: parts of it may have come days ago.
fn matches(file: &File, path: &std::path::Path, expected: String) -> Result<(), Error> {
    let mut hash = Hash(digest::Context::new(&digest::SHA256));
    let mut from = file;
    io::Seek::rewind(&mut from).and_then(|()| io::copy(&mut from, &mut hash)).map_err(io_error("read", path))?;
    let found = hex::encode(hash.0.finish().as_ref());
    if found == expected { Ok(()) } else { Err(Error::Mismatch { expected, found }) }
}

struct Hash(digest::Context);

impl io::Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
