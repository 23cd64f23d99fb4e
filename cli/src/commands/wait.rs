//! Following a deployment to its end.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::Context;
use super::log_text::LogText;
use crate::client::events::{Events, Item};
use crate::client::model::{Deployment, LogPiece, Progress as ProgressEvent};
use crate::client::retry::Patience;
use crate::client::sse::Event;
use crate::client::{Client, Request};
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::paint::Paint;
use crate::output::progress::Progress;

/// What is known while a deployment is followed.
pub(super) struct Wait<'a> {
    context: &'a Context,
    progress: &'a mut Progress,
    log: LogText,
    /// Nobody reads stdout any more; the exit code still counts.
    mute: bool,
    said: (String, Option<String>),
    unknown_after: Duration,
    unknown_since: Option<Instant>,
}

impl<'a> Wait<'a> {
    /// `unknown_after`: how long an unknown outcome is waited for.
    pub(super) fn new(context: &'a Context, progress: &'a mut Progress, unknown_after: Duration) -> Self {
        let paint = if context.output.is_json() { context.output.paint_messages() } else { context.output.paint() };
        Self {
            context,
            progress,
            log: LogText::new(paint, false),
            mute: false,
            said: (String::new(), None),
            unknown_after,
            unknown_since: None,
        }
    }

    /// Follows to the end, or to an outcome that stays unknown, and gives the deployment's JSON.
    pub(super) async fn follow(mut self, client: &Client, id: &str) -> Result<Value, Failure> {
        let mut events = Events::of(client, id, None);
        while let Some(item) = self.next(&mut events).await? {
            match item {
                Item::Away => {
                    self.progress.message("the connection to the server is gone; the deployment goes on, trying again");
                }
                Item::Back => self.progress.message("the server is back"),
                Item::Event(event) if event.name == "end" => break,
                Item::Event(event) => self.event(&event)?,
            }
        }
        self.progress.clear();
        if !self.log.ends_line() && self.context.output.shares_terminal() {
            self.context.output.message("");
        }
        Ok(client.json(&Request::get(&["deployments", id]), Patience::LONG).await?)
    }

    /// The next item; `None` when the outcome was unknown for too long.
    async fn next(&self, events: &mut Events<'_>) -> Result<Option<Item>, Failure> {
        let Some(since) = self.unknown_since else { return Ok(Some(events.next().await?)) };
        let left = self.unknown_after.saturating_sub(clock::instant().saturating_duration_since(since));
        match tokio::time::timeout(left, events.next()).await {
            Ok(item) => Ok(Some(item?)),
            Err(_too_long) => Ok(None),
        }
    }

    fn event(&mut self, event: &Event) -> Result<(), Failure> {
        match event.name.as_str() {
            "log" => match serde_json::from_str(&event.data) {
                Ok(piece) => self.piece(&piece),
                Err(error) => Err(Failure::new(
                    Exit::Failed,
                    format!("the server sent a piece of log that cannot be read: {error}"),
                )),
            },
            "state" => {
                let value = serde_json::from_str(&event.data).unwrap_or(Value::Null);
                if let Some(deployment) = Deployment::read(&value) {
                    self.state(&deployment);
                }
                Ok(())
            }
            "progress" => {
                if let Ok(event) = serde_json::from_str(&event.data) {
                    show_progress(self.progress, &event);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn piece(&mut self, piece: &LogPiece) -> Result<(), Failure> {
        let bytes = self.log.show(piece);
        if self.mute || bytes.is_empty() {
            return Ok(());
        }
        let output = self.context.output;
        let result = self.progress.suspended(self.log.ends_line(), || {
            if output.is_json() { output.message_bytes(&bytes) } else { output.bytes(&bytes) }
        });
        match result {
            Err(failure) if failure.is_silent() => {
                self.mute = true;
                Ok(())
            }
            other => other,
        }
    }

    fn state(&mut self, deployment: &Deployment) {
        self.log.set_headings(deployment.steps.len() > 1);
        let unknown = deployment.state == "unknown";
        self.unknown_since = unknown.then(|| self.unknown_since.unwrap_or_else(clock::instant));
        let why = deployment.waits_for().or_else(|| deployment.reason.clone());
        let now = (deployment.state.clone(), why);
        let nothing_new = now == self.said || (now.1.is_none() && now.0 == self.said.0);
        if nothing_new || deployment.is_over() {
            return;
        }
        let paint = self.context.output.paint_messages();
        self.progress.message(&said(&now.0, now.1.as_deref(), paint));
        if deployment.state == "running" {
            let step =
                deployment.steps.iter().find(|step| step.state == "running").map_or("", |step| step.name.as_str());
            self.progress.watched_phase("run", &format!("running {step}"));
        }
        self.said = now;
    }
}

fn said(state: &str, why: Option<&str>, paint: Paint) -> String {
    match why {
        Some(why) => format!("{}: {why}", paint.state(state)),
        None => paint.state(state),
    }
}

fn show_progress(progress: &mut Progress, event: &ProgressEvent) {
    let step = event.step.as_deref().map(|step| format!("{step}: ")).unwrap_or_default();
    let what = if event.message.is_empty() { &event.phase } else { &event.message };
    let (key, message) = (format!("{step}{}", event.phase), format!("{step}{what}"));
    match (event.current, event.total) {
        // The server says 0 for what it does not know.
        (Some(current), Some(total)) if total > 0 => progress.part(&key, &message, current, total),
        _ => progress.phase(&key, &message),
    }
}
