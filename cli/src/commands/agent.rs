//! `longshore agent release`, `revoke`, `readmit`

use serde_json::json;

use super::Context;
use crate::args::agent::AgentCommand;
use crate::client::Request;
use crate::client::retry::Patience;
use crate::exit::Exit;
use crate::failure::Failure;

pub(super) async fn run(context: &Context, command: &AgentCommand) -> Result<Exit, Failure> {
    let (id, verb, done) = match command {
        AgentCommand::Release(args) => (&args.id, "release", "gets jobs again"),
        AgentCommand::Revoke(args) => (&args.id, "revoke", "is cut off"),
        AgentCommand::Readmit(args) => (&args.id, "readmit", "may join again with its machine, as another agent"),
    };
    let request = Request::post(&["agents", id, verb]).json(&json!({})).repeatable();
    context
        .client()?
        .send(&request, Patience::SHORT)
        .await
        .map_err(|error| Failure::from(error).next("see which agents there are: `longshore agents`".to_owned()))?;
    if context.output.is_json() {
        context.output.json(&json!({ "id": id }))?;
    } else {
        context.output.text(&format!("agent {id} {done}"))?;
    }
    Ok(Exit::Done)
}
