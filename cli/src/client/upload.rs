//! Packages: asked for by digest, uploaded when the server does not have them, from where an upload before broke off.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _, stream};
use reqwest::header::HeaderName;
use reqwest::{Method, StatusCode, header};

use super::retry::{Patience, Retry};
use super::{Client, Error, Request, Tried, after, header_text};
use crate::tasks;

/// Bytes that are read from the file at a time.
const CHUNK: usize = 128 << 10;
/// Where the body of an upload begins; in an answer, how much is durable.
const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
/// Length of the whole.
const LENGTH: HeaderName = HeaderName::from_static("upload-length");
/// Refusals after which the upload goes on from where the server says that it stands.
const GO_ON: [&str; 2] = ["upload_offset", "upload_cut"];

/// The refusal after which the upload is tried in one piece, of which nothing is kept on the way.
const CROWDED: &str = "uploads_crowded";

/// What the server has of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// All of it.
    Stored,
    /// The bytes below this one.
    Part(u64),
}

/// A package to upload.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'a> {
    /// SHA-256, 64 lowercase hex digits.
    pub sha256: &'a str,
    /// All of it.
    pub file: &'a File,
    /// Its length.
    pub size: u64,
}

impl Client {
    /// What the server has of the package with this SHA-256 (64 hex digits).
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn find_package(&self, sha256: &str, patience: Patience) -> Result<Found, Error> {
        let mut retry = Retry::begin(patience);
        loop {
            let (error, at_least) = match self.find_once(sha256).await {
                Ok(found) => return Ok(found),
                Err(Tried::Over(error)) => return Err(error),
                Err(Tried::Again { error, at_least }) => (error, at_least),
            };
            wait(&mut retry, error, at_least).await?;
        }
    }

    async fn find_once(&self, sha256: &str) -> Result<Found, Tried> {
        let request = Request::new(Method::HEAD, &["packages", sha256]);
        let sent = self.build(&request).send().await;
        if let Ok(response) = &sent
            && response.status() == StatusCode::NOT_FOUND
        {
            let kept = header_text(response, OFFSET).and_then(|text| text.parse().ok());
            return Ok(Found::Part(kept.unwrap_or_default()));
        }
        self.judge(sent, true).await.map(|_| Found::Stored)
    }

    /// Uploads a package from the byte `from` on. When that breaks off, it goes on from the last byte that the server has kept;
    /// `patience` is that for a series of tries without a byte more. `sent` hears how many bytes have left so far, or are there.
    ///
    /// # Errors
    /// As [`Client::send`]; also when the file cannot be read.
    pub async fn upload_package(
        &self,
        package: Sent<'_>,
        mut from: u64,
        patience: Patience,
        sent: impl Fn(u64) + Clone + Send + Sync + 'static,
    ) -> Result<(), Error> {
        let mut retry = Retry::begin(patience);
        // Whether the server has to be asked first where the upload stands.
        let mut lost = false;
        let mut whole = false;
        loop {
            let tried = if lost { self.find_once(package.sha256).await } else { Ok(Found::Part(from)) };
            let tried = match tried {
                Ok(Found::Part(kept)) => {
                    if kept > from {
                        retry = Retry::begin(patience);
                    }
                    from = kept.min(package.size);
                    self.upload_once(package, if whole { None } else { Some(from) }, sent.clone()).await
                }
                other => other,
            };
            let (error, at_least) = match tried {
                Ok(Found::Stored) => return Ok(()),
                // The server took a part, as asked or by its own will: the rest follows at once if it is more than before.
                Ok(Found::Part(kept)) if kept > from => {
                    (from, lost) = (kept, false);
                    continue;
                }
                Ok(Found::Part(_)) => return Err(self.not_longshore("it takes no more of the package".to_owned())),
                Err(Tried::Over(error)) => return Err(error),
                Err(Tried::Again { error, at_least }) => (error, at_least),
            };
            let crowded = matches!(&error, Error::Refused(problem) if problem.code == CROWDED);
            if crowded && !whole {
                (whole, from) = (true, 0);
                continue;
            }
            lost = true;
            wait(&mut retry, error, at_least).await?;
        }
    }

    /// From a byte on, so that what comes is kept; or all of it in one piece.
    async fn upload_once(
        &self,
        package: Sent<'_>,
        part: Option<u64>,
        sent: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<Found, Tried> {
        let local = |source| Tried::Over(Error::Local { what: "cannot read the package again".to_owned(), source });
        let from = part.unwrap_or_default();
        let file = Arc::new(package.file.try_clone().map_err(local)?);
        sent(from);
        let chunks = chunks(file, from).inspect_ok(move |(chunk, at)| sent(at + chunk.len() as u64));
        let chunks = chunks.map_ok(|(chunk, _)| chunk);
        let url = self.address.url(["packages", package.sha256].into_iter());
        let mut builder = self
            .http
            .put(url)
            .header(header::CONTENT_TYPE, "application/zstd")
            .header(header::CONTENT_LENGTH, package.size - from)
            .body(reqwest::Body::wrap_stream(chunks));
        if part.is_some() {
            builder = builder.header(OFFSET, from).header(LENGTH, package.size);
        }
        let answer = self.authorized(builder).send().await;
        match self.judge(answer, true).await {
            Ok(response) if response.status() == StatusCode::ACCEPTED => {
                let kept = header_text(&response, OFFSET).and_then(|text| text.parse().ok());
                Ok(Found::Part(kept.unwrap_or_default()))
            }
            Ok(_) => Ok(Found::Stored),
            Err(Tried::Over(Error::Refused(problem))) if GO_ON.contains(&problem.code.as_str()) => {
                Err(Tried::Again { error: Error::Refused(problem), at_least: None })
            }
            Err(other) => Err(other),
        }
    }
}

/// A file from a byte on, with the place of each piece. Read by place: a stream that was given up may still be reading, and two of
/// one file share where they stand.
fn chunks(file: Arc<File>, from: u64) -> impl Stream<Item = io::Result<(Bytes, u64)>> + Send + 'static {
    stream::try_unfold((file, from), |(file, at)| async move {
        let reading = Arc::clone(&file);
        let read = tasks::blocking(move || {
            let mut piece = vec![0; CHUNK];
            let read = reading.read_at(&mut piece, at)?;
            piece.truncate(read);
            io::Result::Ok(piece)
        });
        let piece = Bytes::from(read.await.map_err(io::Error::other)??);
        let next = at + piece.len() as u64;
        Ok((!piece.is_empty()).then_some(((piece, at), (file, next))))
    })
}

/// Waits for the next try, or gives up with what happened last.
async fn wait(retry: &mut Retry, error: Error, at_least: Option<Duration>) -> Result<(), Error> {
    match retry.pause(at_least) {
        Some(pause) => {
            tokio::time::sleep(pause).await;
            Ok(())
        }
        None => Err(after(error, retry.waited())),
    }
}
