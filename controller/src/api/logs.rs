//! The log of a deployment as it is stored now, as exact bytes or as lines of JSON.

#![expect(unused_qualifications, reason = "utoipa writes paths out in full")]

use std::collections::VecDeque;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use longshore_core::id::{AttemptId, DeploymentId};
use longshore_core::spool::Stream;
use longshore_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::extract::{Asked, Id};
use super::problem::{Problem, ProblemView, chain};
use crate::engine::{self, StepLog};
use crate::logs::{self, Reader, Record};

/// Bytes that are gathered before a piece of the body is sent.
const PIECE: usize = 64 << 10;

/// How a log is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct AskLog {
    /// `raw`: exactly the bytes that the steps wrote; `ndjson` (the default): an object a line.
    #[serde(default)]
    #[param(inline)]
    format: Format,
    /// Of this step only.
    #[serde(default)]
    step: Option<String>,
}

/// Form of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Format {
    /// Exact bytes.
    Raw,
    /// An object a line.
    #[default]
    Ndjson,
}

/// A piece of a step's log: an event of the stream, a line of `ndjson`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct LogPiece {
    /// Name of the step.
    step: String,
    /// `att_...`.
    attempt: String,
    /// `stdout` or `stderr`.
    stream: &'static str,
    /// RFC 3339 in UTC, by the agent's clock.
    at: String,
    /// The text; what is not UTF-8 is replaced, then `bytes` has the exact form.
    text: String,
    /// Base64 of the exact bytes, only when `text` is not exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
}

impl LogPiece {
    /// `None` for a record that is no output of the step.
    pub(super) fn of(step: &str, attempt: AttemptId, record: &Record) -> Option<Self> {
        let stream = match record.stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
            Stream::Events | Stream::Exit => return None,
        };
        let text = String::from_utf8_lossy(&record.data);
        let bytes = matches!(text, std::borrow::Cow::Owned(_)).then(|| STANDARD.encode(&record.data));
        let at = Timestamp::from_micros(i64::try_from(record.at).unwrap_or(i64::MAX)).to_string();
        Some(Self { step: step.to_owned(), attempt: attempt.to_string(), stream, at, text: text.into_owned(), bytes })
    }
}

/// The logs of a deployment's steps, or of the one that is asked for.
pub(super) async fn steps_of(api: &Api, id: DeploymentId, only: Option<&str>) -> Result<Vec<StepLog>, Problem> {
    let found = api.engine.step_logs(id).await?;
    let all = found.ok_or_else(|| engine::Error::NotFound { kind: "deployment", name: id.to_string(), hint: None })?;
    let Some(name) = only else { return Ok(all) };
    let names = all.iter().map(|step| format!("`{}`", step.name)).collect::<Vec<_>>().join(", ");
    let chosen: Vec<_> = all.into_iter().filter(|step| step.name == name).collect();
    if chosen.is_empty() {
        return Err(engine::Error::NotFound {
            kind: "step",
            name: name.to_owned(),
            hint: Some(format!("the deployment has {names}")),
        }
        .into());
    }
    Ok(chosen)
}

/// What is stored of a deployment's log now, steps one after the other.
#[utoipa::path(get, path = "/deployments/{id}/log", tag = "deployments", operation_id = "deployment_log", security(("token" = [])),
    params(("id" = String, Path, description = "`dep_...`"), AskLog),
    responses(
        (status = 200, content((Vec<u8> = "application/octet-stream"), (LogPiece = "application/x-ndjson"))),
        (status = 404, body = ProblemView),
    ))]
pub(super) async fn log(
    State(api): State<Api>,
    Id(id): Id<DeploymentId>,
    Asked(asked): Asked<AskLog>,
) -> Result<Response, Problem> {
    let steps = steps_of(&api, id, asked.step.as_deref()).await?;
    let kind = match asked.format {
        Format::Raw => "application/octet-stream",
        Format::Ndjson => "application/x-ndjson",
    };
    let pump = Pump { api, steps: steps.into(), open: None, format: asked.format };
    // An error ends the body before its end mark, so the reader knows that it is not whole.
    let body = Body::from_stream(stream::try_unfold(pump, Pump::step));
    let mut response = body.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

/// Reads the steps' logs piece by piece.
struct Pump {
    api: Api,
    steps: VecDeque<StepLog>,
    open: Option<(StepLog, AttemptId, Reader)>,
    format: Format,
}

impl Pump {
    async fn step(mut self) -> Result<Option<(Bytes, Self)>, logs::Error> {
        let mut piece = BytesMut::new();
        while piece.len() < PIECE {
            let Some((step, attempt, mut reader)) = self.open.take() else {
                if self.open_next() {
                    continue;
                } else {
                    break;
                };
            };
            let record = reader
                .next()
                .await
                .inspect_err(|error| tracing::error!(error = %chain(error), "a log cannot be read"))?;
            if let Some(record) = record {
                self.add(&mut piece, &step.name, attempt, &record);
                self.open = Some((step, attempt, reader));
            }
        }
        Ok((!piece.is_empty()).then(|| (piece.freeze(), self)))
    }

    fn open_next(&mut self) -> bool {
        let Some(step) = self.steps.pop_front() else { return false };
        if let Some(attempt) = step.attempt {
            let reader = self.api.engine.logs().reader(attempt, step.index, 0);
            self.open = Some((step, attempt, reader));
        }
        true
    }

    fn add(&self, piece: &mut BytesMut, step: &str, attempt: AttemptId, record: &Record) {
        match self.format {
            Format::Raw if record.stream.is_log() => piece.extend_from_slice(&record.data),
            Format::Raw => {}
            Format::Ndjson => {
                if let Some(line) = LogPiece::of(step, attempt, record).and_then(|line| serde_json::to_vec(&line).ok())
                {
                    piece.extend_from_slice(&line);
                    piece.extend_from_slice(b"\n");
                }
            }
        }
    }
}
