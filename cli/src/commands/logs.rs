//! `longshore logs`: what is stored now, or everything until the end.

use serde_json::Value;

use super::log_text::LogText;
use super::{Context, deployment_id};
use crate::args::Logs;
use crate::client::events::{Events, Item};
use crate::client::model::{Deployment, LogPiece};
use crate::client::retry::Patience;
use crate::client::stream::Stream;
use crate::client::{Client, Request};
use crate::exit::Exit;
use crate::failure::Failure;

pub(super) async fn run(context: &Context, args: &Logs) -> Result<Exit, Failure> {
    deployment_id(&args.id)?;
    if args.raw && context.output.is_json() {
        return Err(Failure::usage("--raw gives bytes and `-o json` gives JSON: use one of them"));
    }
    let client = context.client()?;
    let form = if args.raw {
        Form::Raw
    } else if context.output.is_json() {
        Form::Json
    } else {
        Form::Text(LogText::new(context.output.paint(), has_headings(&client, args).await?))
    };
    let mut writer = Writer { context, form };
    if args.follow {
        follow(&client, args, &mut writer).await?;
    } else {
        stored(&client, args, &mut writer).await?;
    }
    Ok(Exit::Done)
}

/// Several steps are told apart by headings.
async fn has_headings(client: &Client, args: &Logs) -> Result<bool, Failure> {
    if args.step.is_some() {
        return Ok(false);
    }
    let shown = client.json(&Request::get(&["deployments", &args.id]), Patience::SHORT).await?;
    Ok(Deployment::read(&shown).is_some_and(|deployment| deployment.steps.len() > 1))
}

async fn stored(client: &Client, args: &Logs, writer: &mut Writer<'_>) -> Result<(), Failure> {
    let (format, media) =
        if args.raw { ("raw", "application/octet-stream") } else { ("ndjson", "application/x-ndjson") };
    let request = Request::get(&["deployments", &args.id, "log"])
        .query("format", Some(format))
        .query("step", args.step.as_deref())
        .endless(media);
    let mut stream = Stream::of(client, request);
    let mut lines = Lines::default();
    while let Some(chunk) = stream.next().await? {
        if args.raw {
            writer.context.output.bytes(&chunk)?;
            continue;
        }
        for line in lines.push(&chunk) {
            writer.line(&line)?;
        }
    }
    Ok(())
}

async fn follow(client: &Client, args: &Logs, writer: &mut Writer<'_>) -> Result<(), Failure> {
    let output = writer.context.output;
    let mut events = Events::of(client, &args.id, args.step.as_deref());
    loop {
        match events.next().await? {
            Item::Away => output.message("the connection to the server is gone; trying again"),
            Item::Back => output.message("the server is back"),
            Item::Event(event) if event.name == "log" => {
                writer.line(event.data.as_bytes())?;
            }
            Item::Event(event) if event.name == "end" => return Ok(()),
            Item::Event(_) => {}
        }
    }
}

enum Form {
    Raw,
    Json,
    Text(LogText),
}

struct Writer<'a> {
    context: &'a Context,
    form: Form,
}

impl Writer<'_> {
    /// Writes one piece of log, given as JSON.
    fn line(&mut self, json: &[u8]) -> Result<(), Failure> {
        let output = self.context.output;
        let unreadable = |error: serde_json::Error| {
            Failure::new(Exit::Failed, format!("the server sent a piece of log that cannot be read: {error}"))
        };
        match &mut self.form {
            Form::Json => output.json(&serde_json::from_slice::<Value>(json).map_err(unreadable)?),
            Form::Raw => output.bytes(&serde_json::from_slice::<LogPiece>(json).map_err(unreadable)?.exact()),
            Form::Text(text) => output.bytes(&text.show(&serde_json::from_slice(json).map_err(unreadable)?)),
        }
    }
}

/// Cuts a stream into lines; what stands behind the last newline waits for the rest.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn push(&mut self, chunk: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        let mut rest = chunk;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, tail) = rest.split_at(end);
            let mut whole = std::mem::take(&mut self.0);
            whole.extend_from_slice(line);
            if !whole.is_empty() {
                lines.push(whole);
            }
            rest = tail.get(1..).unwrap_or_default();
        }
        self.0.extend_from_slice(rest);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_wherever_they_were_cut() {
        let text = b"one\n\ntwo\nthree\n";
        for cut in 0..=text.len() {
            let (mut lines, (head, tail)) = (Lines::default(), text.split_at(cut));
            let mut all = lines.push(head);
            all.extend(lines.push(tail));
            assert_eq!(all, [&b"one"[..], b"two", b"three"], "cut at {cut}");
        }
    }
}
