//! A deployment's events, followed across broken connections.
//!
//! Each log event carries a cursor, `STEP:OFFSET`. After a break the stream is asked for again behind the last cursor,
//! and what comes a second time all the same is dropped, so the log has no hole and no duplicate.

use std::collections::VecDeque;
use std::time::Duration;

use super::retry::{Patience, Retry};
use super::sse::{Event, Parser};
use super::{Client, Error, Request};

/// Longest silence of the server; it sends a sign of life more often than that.
const SILENCE: Duration = Duration::from_secs(60);

/// What following gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An event of the deployment.
    Event(Event),
    /// The connection is gone; it is being made again. Said once for each break.
    Away,
    /// It is there again.
    Back,
}

/// A deployment's events from the beginning to the end.
#[derive(Debug)]
pub struct Events<'a> {
    client: &'a Client,
    deployment: String,
    step: Option<String>,
    open: Option<(reqwest::Response, Parser)>,
    ready: VecDeque<Item>,
    cursor: Option<String>,
    overlap: bool,
    retry: Retry,
    first: bool,
    away: bool,
}

impl<'a> Events<'a> {
    /// Begins to follow; nothing is sent yet.
    #[must_use]
    pub fn of(client: &'a Client, deployment: &str, step: Option<&str>) -> Self {
        Self {
            client,
            deployment: deployment.to_owned(),
            step: step.map(str::to_owned),
            open: None,
            ready: VecDeque::new(),
            cursor: None,
            overlap: false,
            retry: Retry::begin(Patience::SHORT),
            first: true,
            away: false,
        }
    }

    /// The next item. It never ends by itself: the caller stops at the event `end`.
    ///
    /// # Errors
    /// When the server refuses, or stays away for longer than [`Patience::LONG`].
    pub async fn next(&mut self) -> Result<Item, Error> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(item);
            }
            match self.open.take() {
                None => self.connect().await?,
                Some((response, parser)) => self.read(response, parser).await?,
            }
        }
    }

    async fn connect(&mut self) -> Result<(), Error> {
        let request = Request::get(&["deployments", &self.deployment, "events"])
            .query("step", self.step.as_deref())
            .endless("text/event-stream")
            .from_cursor(self.cursor.as_deref());
        let patience = if self.first { Patience::SHORT } else { Patience::LONG };
        let response = match self.client.send(&request, patience).await {
            Ok(response) => response,
            // A server that is going down or coming up may well stumble; what is followed goes on all the same.
            Err(error) if !self.first && error.status().is_some_and(|status| status >= 500) => {
                return self.broken().await;
            }
            Err(error) => return Err(error),
        };
        self.overlap = self.cursor.is_some();
        self.first = false;
        if std::mem::take(&mut self.away) {
            self.ready.push_back(Item::Back);
        }
        self.open = Some((response, Parser::default()));
        Ok(())
    }

    async fn read(&mut self, mut response: reqwest::Response, mut parser: Parser) -> Result<(), Error> {
        // Silence and an error are the same here: the connection is of no use any more.
        if let Ok(Ok(Some(chunk))) = tokio::time::timeout(SILENCE, response.chunk()).await {
            let mut events = Vec::new();
            parser.push(&chunk, |event| events.push(event))?;
            if !events.is_empty() {
                self.retry = Retry::begin(Patience::LONG);
            }
            for event in events {
                self.take(event);
            }
            self.open = Some((response, parser));
            return Ok(());
        }
        self.broken().await
    }

    /// The stream ended without the event `end`: wait a little before it is asked for again. A server that takes
    /// connections and drops them at once is given up after a while, too.
    async fn broken(&mut self) -> Result<(), Error> {
        if !std::mem::replace(&mut self.away, true) {
            self.ready.push_back(Item::Away);
        }
        match self.retry.pause(None) {
            Some(pause) => {
                tokio::time::sleep(pause).await;
                Ok(())
            }
            None => Err(Error::BrokenOff {
                url: self.client.url().to_owned(),
                source: std::io::Error::other("the server ends the event stream again and again"),
            }),
        }
    }

    fn take(&mut self, event: Event) {
        if event.name == "log" && !event.id.is_empty() {
            if self.overlap && self.cursor.as_deref().is_some_and(|last| !is_behind(&event.id, last)) {
                return;
            }
            self.overlap = false;
            self.cursor = Some(event.id.clone());
        }
        self.ready.push_back(Item::Event(event));
    }
}

/// Whether a cursor lies behind another one; what cannot be compared does.
fn is_behind(cursor: &str, last: &str) -> bool {
    match (position(cursor), position(last)) {
        (Some((step, offset)), Some((last_step, last_offset))) => step != last_step || offset > last_offset,
        _ => cursor != last,
    }
}

/// A cursor's step and offset.
fn position(cursor: &str) -> Option<(&str, u64)> {
    let (step, offset) = cursor.rsplit_once(':')?;
    Some((step, offset.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_compared_within_a_step() {
        for (cursor, last, behind) in [
            ("a:10", "a:9", true),
            ("a:9", "a:9", false),
            ("a:9", "a:10", false),
            ("b:0", "a:9", true),
            ("x", "x", false),
            ("y", "x", true),
        ] {
            assert_eq!(is_behind(cursor, last), behind, "{cursor} {last}");
        }
    }
}
