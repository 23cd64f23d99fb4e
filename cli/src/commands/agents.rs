//! `longshore agents`

use serde_json::Value;

use super::{Context, rows, text};
use crate::client::Request;
use crate::client::retry::Patience;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::table::{Cell, table};
use crate::output::time::moment;

pub(super) async fn run(context: &Context) -> Result<Exit, Failure> {
    let list = context.client()?.json(&Request::get(&["agents"]), Patience::SHORT).await?;
    if context.output.is_json() {
        context.output.json(&list)?;
        return Ok(Exit::Done);
    }
    let agents = rows(&list, "agents");
    if agents.is_empty() {
        context.output.message("no agents yet; `longshore join-token create` makes a token with which one can join");
        return Ok(Exit::Done);
    }
    let rows: Vec<_> = agents.iter().map(row).collect();
    context.output.text(&table(
        ["AGENT", "NAME", "POOL", "STATE", "SLOTS", "LAST SEEN", "VERSION"],
        &rows,
        context.output.paint(),
    ))?;
    Ok(Exit::Done)
}

fn row(agent: &Value) -> [Cell; 7] {
    let state = text(agent, "state").unwrap_or_else(|| {
        if agent.get("connected").and_then(Value::as_bool) == Some(true) { "connected" } else { "disconnected" }
            .to_owned()
    });
    [
        Cell::optional(text(agent, "id")),
        Cell::optional(text(agent, "name")),
        Cell::optional(text(agent, "pool")),
        Cell::State(state),
        Cell::optional(text(agent, "slots")),
        Cell::optional(text(agent, "last_seen").map(|at| moment(&at))),
        Cell::optional(text(agent, "version")),
    ]
}
