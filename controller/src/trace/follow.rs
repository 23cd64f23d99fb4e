//! Reads the timeline on and sends what has ended as spans.
//!
//! How far it was sent is a row, written after the collector has taken the spans: what is sent twice because a crash came
//! in between is the same. Spans of requests wait in a channel with an end; what does not fit is dropped and counted.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use async_trait::async_trait;
use longshore_core::id::DeploymentId;
use longshore_core::time::Timestamp;
use tokio::sync::mpsc;

use super::facts::Facts;
use super::{Span, sampled};
use crate::engine::Engine;
use crate::store;
use crate::tasks::OnError;

/// What comes within this time is sent together.
const PACE: Duration = Duration::from_secs(1);
/// What could not be sent for so long is dropped.
const KEPT: Duration = Duration::from_secs(3_600);
/// Lines of the timeline that are looked at together.
const PAGE: u32 = 200;
/// Spans of requests that wait in the channel, and as many more that are held for the next try.
const WAITING: usize = 1_024;
/// Between two tries, growing.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// For the last spans, when the controller stops.
const LAST: Duration = Duration::from_secs(2);

/// Why spans were not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// Another try may do better.
    #[error("the collector did not take spans: {0}")]
    Later(String),
    /// These spans are never taken.
    #[error("the collector refuses spans: {0}")]
    Never(String),
}

/// Takes spans somewhere.
#[async_trait]
pub(crate) trait Export: Send + std::fmt::Debug {
    /// Sends them; answers how many of them were refused, and why.
    async fn export(&mut self, spans: &[Span]) -> Result<Option<(u64, String)>, Failed>;
}

/// The way of a request's span to the collector. A cheap handle.
#[derive(Debug, Clone)]
pub struct Traces {
    /// requests --spans--> follower
    spans: mpsc::Sender<Span>,
    part: f64,
}

impl Traces {
    /// Leaves a span to be sent. Never waits.
    pub fn leave(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            dropped(1);
        }
    }

    /// The part of the traces that no caller began that is sent.
    #[must_use]
    pub fn part(&self) -> f64 {
        self.part
    }
}

fn dropped(spans: u64) {
    metrics::counter!("longshore_trace_spans_dropped_total").increment(spans);
}

/// Follows the timeline until the controller stops. Where it goes on is known before anything is served.
///
/// # Errors
/// When rows cannot be read or saved.
pub(crate) async fn start(engine: Engine, exporter: Box<dyn Export>, part: f64) -> Result<Traces, store::Error> {
    let (traces, mut follower) = Follower::new(engine.clone(), exporter, part);
    follower.begin().await?;
    engine.tasks().spawn("traces", OnError::Log, follower.run());
    Ok(traces)
}

/// See [`start`].
pub(crate) struct Follower {
    engine: Engine,
    exporter: Box<dyn Export>,
    requests: mpsc::Receiver<Span>,
    /// Spans of requests that were not taken yet.
    held: Vec<Span>,
    /// The last line that was sent; `None`: not known yet.
    position: Option<i64>,
    part: f64,
}

/// Lines that were not sent yet.
struct Page {
    last: i64,
    full: bool,
    at: Timestamp,
    spans: Vec<Span>,
}

impl Follower {
    pub(crate) fn new(engine: Engine, exporter: Box<dyn Export>, part: f64) -> (Traces, Self) {
        // The number is there before something is dropped.
        dropped(0);
        let (spans, requests) = mpsc::channel(WAITING);
        (Traces { spans, part }, Self { engine, exporter, requests, held: Vec::new(), position: None, part })
    }

    async fn run(mut self) -> Result<(), Infallible> {
        let (stop, clock) = (self.engine.tasks().token().clone(), self.engine.clock().clone());
        // What the process before this one left.
        let mut wait = PACE;
        while !stop.is_cancelled() {
            if wait.is_zero() {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = self.engine.longer() => {}
                    span = self.requests.recv() => self.held.extend(span),
                }
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = clock.sleep(wait.max(PACE)) => {}
            }
            wait = match self.send().await {
                Ok(()) => Duration::ZERO,
                Err(error) => {
                    tracing::warn!(%error, "traces wait; they are sent when the collector takes them");
                    (wait * 2).clamp(AGAIN.0, AGAIN.1)
                }
            };
        }
        if tokio::time::timeout(LAST, self.send()).await.is_ok_and(|sent| sent.is_ok()) {
            return Ok(());
        }
        // Those of deployments are in the rows, and are sent after the next start.
        dropped(u64::try_from(self.held.len() + self.requests.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Sends all there is.
    pub(crate) async fn send(&mut self) -> Result<(), Failed> {
        loop {
            while self.held.len() < WAITING
                && let Ok(span) = self.requests.try_recv()
            {
                self.held.push(span);
            }
            let page = self.page().await.map_err(|error| Failed::Later(error.to_string()))?;
            let mut spans = std::mem::take(&mut self.held);
            let requests = spans.len();
            spans.extend(page.iter().flat_map(|page| page.spans.iter().cloned()));
            if let Err(error) = self.deliver(&spans, page.as_ref()).await {
                spans.truncate(requests);
                self.held = spans;
                return Err(error);
            }
            let Some(page) = page else { return Ok(()) };
            self.note(page.last).await.map_err(|error| Failed::Later(error.to_string()))?;
            if !page.full {
                return Ok(());
            }
        }
    }

    /// Sends spans, or drops them when that is all that can be done with them.
    async fn deliver(&mut self, spans: &[Span], page: Option<&Page>) -> Result<(), Failed> {
        if spans.is_empty() {
            return Ok(());
        }
        let all = u64::try_from(spans.len()).unwrap_or(u64::MAX);
        match self.exporter.export(spans).await {
            Ok(refused) => {
                let (refused, why) = refused.unwrap_or_default();
                if refused > 0 {
                    tracing::warn!(refused, why, "the collector did not take all spans");
                    dropped(refused.min(all));
                }
                metrics::counter!("longshore_trace_spans_sent_total").increment(all.saturating_sub(refused));
                Ok(())
            }
            Err(Failed::Never(why)) => {
                tracing::warn!(spans = all, why, "the collector refuses spans; they are dropped");
                dropped(all);
                Ok(())
            }
            Err(Failed::Later(why)) if page.is_some_and(|page| page.at.after(KEPT) < self.engine.clock().now()) => {
                tracing::warn!(spans = all, why, "the collector was away for too long; spans are dropped");
                dropped(all);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn page(&mut self) -> Result<Option<Page>, store::Error> {
        let position = match self.position {
            Some(position) => position,
            None => self.begin().await?,
        };
        let part = Some(self.part);
        self.engine
            .store()
            .read(move |tx| {
                Box::pin(async move {
                    let lines = tx.events_after(position, PAGE).await?;
                    let Some(last) = lines.last() else { return Ok(None) };
                    let (last, at, full) = (last.id, last.at, lines.len() == PAGE as usize);
                    let of: BTreeSet<DeploymentId> = lines.iter().filter_map(|line| line.deployment).collect();
                    let mut spans = Vec::new();
                    for id in of {
                        let Some(row) = tx.deployment(id).await?.filter(|row| sampled(row, part)) else { continue };
                        let ended = Facts::load(tx, row).await?.spans().into_iter();
                        spans.extend(
                            ended.filter(|(line, _)| (position + 1..=last).contains(line)).map(|(_, span)| span),
                        );
                    }
                    Ok::<_, store::Error>(Some(Page { last, full, at, spans }))
                })
            })
            .await
    }

    /// Where to go on. What was before the first start with traces, or is too old to be of use, is not sent.
    async fn begin(&mut self) -> Result<i64, store::Error> {
        let now = self.engine.clock().now();
        let old =
            Timestamp::from_micros(now.as_micros().saturating_sub(i64::try_from(KEPT.as_micros()).unwrap_or(i64::MAX)));
        let write = self.engine.store().write(move |tx| {
            Box::pin(async move {
                let from = match tx.trace_position().await? {
                    Some(position) => position.max(tx.last_event_before(old).await?),
                    None => tx.last_event_before(Timestamp::from_micros(i64::MAX)).await?,
                };
                tx.set_trace_position(from).await?;
                Ok::<_, store::Error>(from)
            })
        });
        let from = write.await?;
        self.position = Some(from);
        Ok(from)
    }

    async fn note(&mut self, last: i64) -> Result<(), store::Error> {
        // In memory first: a full disk must not send the same for ever.
        self.position = Some(last);
        let write = self.engine.store().write(move |tx| Box::pin(async move { tx.set_trace_position(last).await }));
        write.await
    }
}
