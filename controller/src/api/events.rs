//! A deployment followed live, as server-sent events.
//!
//! Events: `state` (the deployment as it is shown), `progress`, `log` (a [`LogPiece`], with the cursor to resume behind it as
//! its id), and at last `end`. A cursor is `<step>:<offset>`; with it (`Last-Event-ID`, or `cursor=`) the log goes on right
//! behind what was seen. A stream holds a few records in memory: who reads slowly is served slowly.

#![expect(unused_qualifications, reason = "utoipa writes paths out in full")]

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use longshore_core::id::{AttemptId, DeploymentId};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::deployments::view;
use super::extract::{Asked, Id};
use super::logs::{LogPiece, steps_of};
use super::problem::{Problem, ProblemView, chain};
use crate::engine::{Change, Changes, ProgressView, StepLog};
use crate::logs::{Reader, Record};
use crate::tasks::OnError;

/// Events that wait for a slow reader.
const AHEAD: usize = 8;
/// Between two signs of life on a silent stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Where to begin.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct AskEvents {
    /// As the id of the last `log` event that was seen; `Last-Event-ID` does the same.
    cursor: Option<String>,
    /// The log of this step only.
    step: Option<String>,
}

/// Data of the last event.
#[derive(Debug, Serialize, ToSchema)]
struct End {
    /// The state it ended in.
    state: String,
}

/// A place in the log of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cursor {
    step: String,
    offset: u64,
}

impl std::str::FromStr for Cursor {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let parsed = text
            .rsplit_once(':')
            .and_then(|(step, offset)| Some(Self { step: step.to_owned(), offset: offset.parse().ok()? }));
        parsed.ok_or_else(|| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "bad_cursor",
                "the cursor is not of the form `<step>:<offset>`: send the id of a `log` event as it came",
            )
        })
    }
}

/// Follows a deployment until it has ended. What happened before is told first.
#[utoipa::path(get, path = "/deployments/{id}/events", tag = "deployments", operation_id = "deployment_events", security(("token" = [])),
    params(("id" = String, Path, description = "`dep_...`"), AskEvents, ("Last-Event-ID" = Option<String>, Header, description = "Resume behind this `log` event")),
    responses((status = 200, body = LogPiece, content_type = "text/event-stream"), (status = 400, body = ProblemView), (status = 404, body = ProblemView)))]
pub(super) async fn events(
    State(api): State<Api>,
    Id(id): Id<DeploymentId>,
    Asked(asked): Asked<AskEvents>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let header = headers.get("last-event-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let cursor =
        header.or(asked.cursor).filter(|text| !text.is_empty()).map(|text| text.parse::<Cursor>()).transpose()?;
    // Before the first look, so that nothing is missed between both.
    let changes = api.engine.subscribe(id);
    let steps = steps_of(&api, id, asked.step.as_deref()).await?;
    if let Some(cursor) = &cursor
        && !steps.iter().any(|step| step.name == cursor.step)
    {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "bad_cursor",
            format!("the cursor names step `{}`, which is not followed here", cursor.step),
        ));
    }
    let (events_tx, events_rx) = mpsc::channel(AHEAD);
    let (tasks, stop) = (api.tasks.clone(), api.accepting.clone());
    let follower = Follower { api, id, only: asked.step, changes, events_tx: events_tx.clone(), last: String::new() };
    tasks.spawn_until_stop("events", OnError::Log, async move {
        tokio::select! {
            () = events_tx.closed() => Ok(()),
            () = stop.cancelled() => Ok(()),
            done = follower.run(cursor) => done.or_else(Stop::into_result),
        }
    });
    let events = futures_util::StreamExt::map(ReceiverStream::new(events_rx), Ok);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// Why following stops before the end.
enum Stop {
    /// Nobody reads any more, or the controller stops.
    Gone,
    /// Something cannot be read.
    Failed(String),
}

impl Stop {
    fn into_result(self) -> Result<(), String> {
        match self {
            Self::Gone => Ok(()),
            Self::Failed(why) => Err(why),
        }
    }
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Failed(problem.detail().to_owned())
    }
}

impl From<crate::logs::Error> for Stop {
    fn from(error: crate::logs::Error) -> Self {
        Self::Failed(chain(&error))
    }
}

struct Follower {
    api: Api,
    id: DeploymentId,
    only: Option<String>,
    changes: Changes,
    /// follower --events in order--> the response's body
    events_tx: mpsc::Sender<Event>,
    /// The state that was last sent, so that only changes are.
    last: String,
}

impl Follower {
    async fn run(mut self, cursor: Option<Cursor>) -> Result<(), Stop> {
        self.send_state().await?;
        if let Some(progress) = self.api.engine.progress(self.id) {
            self.send_progress(&progress).await?;
        }
        let mut steps = self.steps().await?;
        let mut at =
            cursor.as_ref().and_then(|cursor| steps.iter().position(|step| step.name == cursor.step)).unwrap_or(0);
        let mut from = cursor.map_or(0, |cursor| cursor.offset);
        while let Some(step) = steps.get(at).cloned() {
            match step.attempt {
                Some(attempt) => self.send_log(&step, attempt, from).await?,
                None if step.ended => {}
                None => {
                    self.wait().await?;
                    steps = self.steps().await?;
                    continue;
                }
            }
            (at, from) = (at + 1, 0);
            steps = self.steps().await?;
        }
        loop {
            let state = self.send_state().await?;
            if matches!(state.as_str(), "succeeded" | "failed" | "canceled" | "lost") {
                return self.send("end", None, &End { state }).await;
            }
            self.wait().await?;
        }
    }

    async fn steps(&self) -> Result<Vec<StepLog>, Stop> {
        Ok(steps_of(&self.api, self.id, self.only.as_deref()).await?)
    }

    /// Waits for a change and passes it on.
    async fn wait(&mut self) -> Result<(), Stop> {
        let change = self.changes.next().await;
        self.pass_on(change).await
    }

    async fn pass_on(&mut self, change: Option<Change>) -> Result<(), Stop> {
        match change {
            Some(Change::State) => self.send_state().await.map(drop),
            Some(Change::Progress(progress)) => self.send_progress(&progress).await,
            None => Err(Stop::Gone),
        }
    }

    async fn send_log(&mut self, step: &StepLog, attempt: AttemptId, from: u64) -> Result<(), Stop> {
        let mut reader = self.api.engine.logs().reader(attempt, step.index, from);
        // A step that ended before the controller's start is not announced any more: what is stored is all.
        while let Some(record) = if step.ended { reader.next().await? } else { self.next_live(&mut reader).await? } {
            if let Some(piece) = LogPiece::of(&step.name, attempt, &record) {
                self.send("log", Some(format!("{}:{}", step.name, record.end)), &piece).await?;
            }
        }
        Ok(())
    }

    /// The next record; changes that come while it is waited for are passed on.
    async fn next_live(&mut self, reader: &mut Reader) -> Result<Option<Record>, Stop> {
        let next = reader.next_live();
        // Kept over the changes: a read that is dropped half-way would lose its place.
        tokio::pin!(next);
        loop {
            tokio::select! {
                biased;
                record = &mut next => return Ok(record?),
                change = self.changes.next() => self.pass_on(change).await?,
            }
        }
    }

    /// Sends the deployment as it is now, if it differs from what was sent; gives its state.
    async fn send_state(&mut self) -> Result<String, Stop> {
        let view = view(&self.api, self.id).await?;
        let text = serde_json::to_string(&view).map_err(|e| Stop::Failed(e.to_string()))?;
        if text != self.last {
            self.deliver(Event::default().event("state").data(&text)).await?;
            self.last = text;
        }
        Ok(view.state)
    }

    async fn send_progress(&self, progress: &ProgressView) -> Result<(), Stop> {
        self.send("progress", None, progress).await
    }

    async fn send(&self, name: &str, id: Option<String>, data: &impl Serialize) -> Result<(), Stop> {
        let text = serde_json::to_string(data).map_err(|e| Stop::Failed(e.to_string()))?;
        let event = Event::default().event(name).data(text);
        self.deliver(match id {
            Some(id) => event.id(id),
            None => event,
        })
        .await
    }

    async fn deliver(&self, event: Event) -> Result<(), Stop> {
        self.events_tx.send(event).await.map_err(|_| Stop::Gone)
    }
}
