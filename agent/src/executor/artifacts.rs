//! What a step left, read out of its ended container through the engine's archive API.
//!
//! init has moved what is kept into one folder, under numbers. Invariants: what is read is bounded by what init listed, so nothing
//! here has to trust a name; bytes wait in bounded channels, whoever is slow.

use std::io::{self, Read};

use bollard::query_parameters::DownloadFromContainerOptionsBuilder;
use bytes::Bytes;
use futures_util::StreamExt as _;
use longshore_core::artifacts::KEPT;
use tokio::sync::mpsc;

use super::engine::is_missing;
use super::{Error, Executor, settings};
use crate::tasks;

/// Pieces of the engine's answer that may wait.
const PIECES: usize = 4;
/// Bytes of a file that are handed on at once.
const CHUNK: u64 = 256 << 10;

/// A part of what a step left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A file begins.
    File {
        /// Its index in the exit record's list.
        index: usize,
        /// Its length.
        bytes: u64,
    },
    /// The next bytes of the file that began last.
    Data(Bytes),
}

impl Executor {
    /// Reads the kept files of a step, one after the other, into `to`. A folder that is not there has none. Whoever reads may hang up.
    ///
    /// # Errors
    /// When the engine fails; the file that began last may lack its end then.
    pub async fn artifacts(&self, container: &str, step: u32, to: mpsc::Sender<Piece>) -> Result<(), Error> {
        let path = format!("{}/{KEPT}", settings::artifacts(step));
        let options = DownloadFromContainerOptionsBuilder::new().path(&path).build();
        let mut answer = std::pin::pin!(self.inner.docker.download_from_container(container, Some(options)));
        let (raw_tx, raw_rx) = mpsc::channel(PIECES);
        let reading = tasks::blocking(move || Ok(unpack(Raw { from: raw_rx, rest: Bytes::new() }, &to)));
        let pumping = async move {
            while let Some(chunk) = answer.next().await {
                match chunk {
                    // Nobody reads on.
                    Ok(chunk) => {
                        if raw_tx.send(chunk).await.is_err() {
                            return Ok(());
                        }
                    }
                    Err(error) if is_missing(&error) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        let (unpacked, pumped) = tokio::join!(reading, pumping);
        let what = || format!("read `{path}` of container `{container}`");
        pumped.map_err(|error| self.failed(what(), error))?;
        match unpacked {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) | Err(error) => Err(Error::Engine { what: what(), detail: error.to_string() }),
        }
    }
}

/// Hands the files of an archive on; an end of whoever takes them is no error.
fn unpack(archive: impl Read, to: &mpsc::Sender<Piece>) -> io::Result<()> {
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let index = entry.path_bytes().rsplit(|byte| *byte == b'/').next().and_then(|name| {
            let name = std::str::from_utf8(name).ok()?;
            name.parse::<usize>().ok().filter(|index| index.to_string() == name)
        });
        let Some(index) = index.filter(|_| entry.header().entry_type().is_file()) else { continue };
        let bytes = entry.size();
        if to.blocking_send(Piece::File { index, bytes }).is_err() {
            return Ok(());
        }
        let mut left = bytes;
        while left > 0 {
            let mut chunk = Vec::new();
            let read = (&mut entry).take(CHUNK.min(left)).read_to_end(&mut chunk)? as u64;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left -= read;
            if to.blocking_send(Piece::Data(chunk.into())).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The engine's answer as something to read from.
struct Raw {
    from: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl Read for Raw {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.from.blocking_recv() {
                Some(chunk) => self.rest = chunk,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.rest.len());
        buffer[..length].copy_from_slice(&self.rest.split_to(length));
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, name, *content).unwrap();
        }
        archive.into_inner().unwrap()
    }

    fn pieces(bytes: &[u8]) -> (io::Result<()>, Vec<Piece>) {
        let (to, mut from) = mpsc::channel(100);
        let done = unpack(bytes, &to);
        drop(to);
        (done, std::iter::from_fn(|| from.try_recv().ok()).collect())
    }

    #[test]
    fn numbered_files_are_handed_on_and_nothing_else() {
        let file = tar::EntryType::Regular;
        let long = vec![7; (CHUNK + 5).try_into().unwrap()];
        let bytes = archive(&[
            ("kept/", tar::EntryType::Directory, b""),
            ("kept/0", file, b"abc"),
            ("kept/00", file, b"x"),
            ("kept/a", file, b"x"),
            ("kept/12", file, b""),
            ("kept/3", file, &long),
        ]);
        let (done, pieces) = pieces(&bytes);
        done.unwrap();
        let data = |bytes: &[u8]| Piece::Data(Bytes::copy_from_slice(bytes));
        let want = [
            Piece::File { index: 0, bytes: 3 },
            data(b"abc"),
            Piece::File { index: 12, bytes: 0 },
            Piece::File { index: 3, bytes: CHUNK + 5 },
            data(&long[5..]),
            data(&[7; 5]),
        ];
        assert_eq!(pieces, want);
    }

    #[test]
    fn a_cut_archive_is_an_error() {
        let bytes = archive(&[("kept/0", tar::EntryType::Regular, &[1; 2000])]);
        assert!(pieces(&bytes[..1500]).0.is_err());
    }
}
