//! `longshore secrets`

use serde_json::Value;

use super::people::{show, time};
use super::{Context, rows, text};
use crate::args::secrets::SecretsCommand;
use crate::client::Request;
use crate::client::retry::Patience;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::table::{Cell, table};

pub(super) async fn run(context: &Context, command: &SecretsCommand) -> Result<Exit, Failure> {
    match command {
        SecretsCommand::Status => status(context).await,
        SecretsCommand::Rotate => rotate(context).await,
    }
}

async fn status(context: &Context) -> Result<Exit, Failure> {
    let answer = context.client()?.json(&Request::get(&["secrets"]), Patience::SHORT).await?;
    if context.output.is_json() {
        context.output.json(&answer)?;
        return Ok(Exit::Done);
    }
    let keys: Vec<_> = rows(&answer, "keys")
        .iter()
        .map(|key| {
            let cell = |name| Cell::optional(text(key, name));
            let seals = key.get("current").and_then(Value::as_bool) == Some(true);
            [cell("key"), time(key, "created_at"), cell("rows"), Cell::optional(seals.then(|| "seals".to_owned()))]
        })
        .collect();
    context.output.text(&table(["KEY", "MADE", "SECRETS", ""], &keys, context.output.paint()))?;
    let left = answer.get("remaining").and_then(Value::as_u64).unwrap_or_default();
    context.output.message(&format!("wrapped by {}", text(&answer, "kek").unwrap_or_default()));
    if left > 0 {
        context.output.message(&format!("{left} secrets are still to be moved to the key that seals"));
    }
    Ok(Exit::Done)
}

async fn rotate(context: &Context) -> Result<Exit, Failure> {
    let request = Request::post(&["secrets", "rotate"]);
    let done = show(context, &request, |answer| {
        let (key, left) = (text(answer, "key").unwrap_or_default(), text(answer, "remaining").unwrap_or_default());
        if answer.get("started").and_then(Value::as_bool) == Some(true) {
            format!("key {key} seals from now on; {left} secrets are being moved to it")
        } else {
            format!("a rotation to key {key} is under way already; {left} secrets are still to be moved")
        }
    })
    .await?;
    context.output.message("`longshore secrets status` shows how far it is");
    Ok(done)
}
