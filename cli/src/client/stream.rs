//! Long answers, read on across broken connections.
//!
//! A stored log only ever grows at its end, so after a break the same answer is asked for again and the part that was
//! handed over already is skipped.

use std::time::Duration;

use bytes::{Buf as _, Bytes};

use super::retry::{Patience, Retry};
use super::{Client, Error, Request};

/// Longest silence of the server in the middle of an answer.
const SILENCE: Duration = Duration::from_secs(60);

/// An answer, piece by piece.
#[derive(Debug)]
pub struct Stream<'a> {
    client: &'a Client,
    request: Request,
    open: Option<reqwest::Response>,
    given: u64,
    skip: u64,
    retry: Retry,
    first: bool,
}

impl<'a> Stream<'a> {
    /// Begins; nothing is sent yet.
    #[must_use]
    pub fn of(client: &'a Client, request: Request) -> Self {
        Self { client, request, open: None, given: 0, skip: 0, retry: Retry::begin(Patience::LONG), first: true }
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// When the server refuses, stays away, or breaks off again and again.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let mut response = match self.open.take() {
                Some(response) => response,
                None => self.connect().await?,
            };
            let source = match tokio::time::timeout(SILENCE, response.chunk()).await {
                Ok(Ok(None)) => return Ok(None),
                Ok(Ok(Some(chunk))) => {
                    self.open = Some(response);
                    let fresh = self.fresh(chunk);
                    if fresh.is_empty() {
                        continue;
                    }
                    return Ok(Some(fresh));
                }
                Ok(Err(error)) => std::io::Error::other(error.without_url()),
                Err(elapsed) => elapsed.into(),
            };
            match self.retry.pause(None) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(Error::BrokenOff { url: self.client.url().to_owned(), source }),
            }
        }
    }

    async fn connect(&mut self) -> Result<reqwest::Response, Error> {
        let patience = if std::mem::take(&mut self.first) { Patience::SHORT } else { Patience::LONG };
        let response = self.client.send(&self.request, patience).await?;
        self.skip = self.given;
        Ok(response)
    }

    /// What of a chunk was not handed over before.
    fn fresh(&mut self, mut chunk: Bytes) -> Bytes {
        let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        let known = self.skip.min(length);
        self.skip -= known;
        chunk.advance(usize::try_from(known).unwrap_or(chunk.len()));
        if !chunk.is_empty() {
            self.given += length - known;
            self.retry = Retry::begin(Patience::LONG);
        }
        chunk
    }
}
