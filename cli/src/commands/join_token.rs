//! `longshore join-token create`, `list`, `revoke`

use longshore_core::spec::duration;
use serde_json::{Value, json};

use super::people::list_of;
use super::{Context, text};
use crate::args::{JoinTokenCreate, JoinTokenId};
use crate::client::Request;
use crate::client::retry::Patience;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::table::Cell;
use crate::output::time::moment;

pub(super) async fn create(context: &Context, args: &JoinTokenCreate) -> Result<Exit, Failure> {
    let mut body = json!({ "pool": args.pool, "uses": args.uses });
    if !args.labels.is_empty() {
        body["labels"] = args.labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    }
    if let Some(time) = args.expires_in {
        body["expires_in"] = json!(duration::format(time));
    }
    let answer = context.client()?.json(&Request::post(&["join-tokens"]).json(&body), Patience::SHORT).await?;
    if let Some(file) = &args.ca_file {
        let pem = answer.get("ca_pem").and_then(Value::as_str).unwrap_or_default();
        std::fs::write(file, pem).map_err(|error| {
            Failure::new(Exit::Failed, format!("the certificate cannot be written to `{}`: {error}", file.display()))
                .untouched("the token that was made is not shown and ends by itself")
        })?;
    }
    if context.output.is_json() {
        context.output.json(&answer)?;
        return Ok(Exit::Done);
    }
    let token = answer.get("token").and_then(Value::as_str);
    context.output.text(token.ok_or_else(|| Failure::new(Exit::Failed, "the server's answer holds no token"))?)?;
    let until = text(&answer, "expires_at").map(|at| format!(" until {}", moment(&at))).unwrap_or_default();
    let agents = if args.uses == 1 { "one agent".to_owned() } else { format!("{} agents", args.uses) };
    context.output.message(&format!("for {agents} of pool {}, shown once, valid{until}", args.pool));
    let ca = if args.ca_file.is_some() { "" } else { " (--ca-file gives the file for its `ca_file`)" };
    context.output.message(&format!(
        "on the machine: put the token into a file, then `longshore-agent enroll --config FILE --token-file FILE`{ca}"
    ));
    Ok(Exit::Done)
}

pub(super) async fn list(context: &Context) -> Result<Exit, Failure> {
    let headings = (["ID", "POOL", "LABELS", "STATE", "AGENTS", "UNTIL", "BY"], "no join tokens");
    list_of(context, &Request::get(&["join-tokens"]), "join_tokens", headings, |row| {
        let cell = |name| Cell::optional(text(row, name));
        let part = |name| text(row, name).unwrap_or_default();
        let labels = row.get("labels").and_then(Value::as_object).into_iter().flatten();
        let labels: Vec<String> =
            labels.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default())).collect();
        [
            cell("id"),
            cell("pool"),
            Cell::optional(Some(labels.join(", ")).filter(|labels| !labels.is_empty())),
            Cell::State(part("state")),
            Cell::Text(format!("{} of {}", part("used"), part("uses"))),
            Cell::optional(text(row, "expires_at").map(|at| moment(&at))),
            cell("created_by"),
        ]
    })
    .await
}

pub(super) async fn revoke(context: &Context, args: &JoinTokenId) -> Result<Exit, Failure> {
    let request = Request::delete(&["join-tokens", &args.id]).repeatable();
    context.client()?.send(&request, Patience::SHORT).await?;
    if context.output.is_json() {
        context.output.json(&json!({ "id": args.id }))?;
    } else {
        context.output.text(&format!("join token {} lets nobody in any more", args.id))?;
    }
    Ok(Exit::Done)
}
