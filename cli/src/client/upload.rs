//! Packages: asked for by digest, uploaded when the server does not have them.

use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use reqwest::{Method, header};
use tokio_util::io::ReaderStream;

use super::retry::{Patience, Retry};
use super::{Client, Error, Request, Tried, after};

/// Bytes that are read from the file at a time.
const CHUNK: usize = 128 << 10;

impl Client {
    /// Whether the server has the package with this SHA-256 (64 hex digits).
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn has_package(&self, sha256: &str, patience: Patience) -> Result<bool, Error> {
        let request = Request::new(Method::HEAD, &["packages", sha256]);
        match self.send(&request, patience).await {
            Ok(_) => Ok(true),
            Err(error) if error.status() == Some(404) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Uploads a package from its first byte to its last; `sent` hears how many bytes have left so far, from 0 again when
    /// the upload had to start over.
    ///
    /// # Errors
    /// As [`Client::send`]; also when the file cannot be read.
    pub async fn upload_package(
        &self,
        sha256: &str,
        file: &File,
        size: u64,
        patience: Patience,
        sent: impl Fn(u64) + Clone + Send + Sync + 'static,
    ) -> Result<(), Error> {
        let mut retry = Retry::begin(patience);
        loop {
            let tried = self.upload_once(sha256, file, size, sent.clone()).await;
            let (error, at_least): (Error, Option<Duration>) = match tried {
                Ok(()) => return Ok(()),
                Err(Tried::Over(error)) => return Err(error),
                Err(Tried::Again { error, at_least }) => (error, at_least),
            };
            match retry.pause(at_least) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(after(error, retry.waited())),
            }
        }
    }

    async fn upload_once(
        &self,
        sha256: &str,
        file: &File,
        size: u64,
        sent: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<(), Tried> {
        let local = |source| Tried::Over(Error::Local { what: "cannot read the package again".to_owned(), source });
        let mut again = file.try_clone().map_err(local)?;
        again.seek(SeekFrom::Start(0)).map_err(local)?;
        let mut total: u64 = 0;
        sent(0);
        let chunks = ReaderStream::with_capacity(tokio::fs::File::from_std(again), CHUNK).inspect_ok(move |chunk| {
            total += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            sent(total);
        });
        let url = self.address.url(["packages", sha256].into_iter());
        let builder = self
            .http
            .put(url)
            .header(header::CONTENT_TYPE, "application/zstd")
            .header(header::CONTENT_LENGTH, size)
            .body(reqwest::Body::wrap_stream(chunks));
        let answer = self.authorized(builder).send().await;
        self.judge(answer, true).await.map(drop)
    }
}
