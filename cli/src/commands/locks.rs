//! `longshore locks`

use serde_json::Value;

use super::{Context, rows, text};
use crate::client::Request;
use crate::client::retry::Patience;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::table::{Cell, table};
use crate::output::time::moment;

pub(super) async fn run(context: &Context) -> Result<Exit, Failure> {
    let list = context.client()?.json(&Request::get(&["locks"]), Patience::SHORT).await?;
    if context.output.is_json() {
        context.output.json(&list)?;
        return Ok(Exit::Done);
    }
    let locks = rows(&list, "locks");
    if locks.is_empty() {
        context.output.message("no stack is locked");
        return Ok(Exit::Done);
    }
    let rows: Vec<_> = locks.iter().map(row).collect();
    context.output.text(&table(
        ["LOCK", "DEPLOYMENT", "ATTEMPT", "STATE", "SINCE", "REASON"],
        &rows,
        context.output.paint(),
    ))?;
    Ok(Exit::Done)
}

fn row(lock: &Value) -> [Cell; 6] {
    [
        Cell::optional(text(lock, "key")),
        Cell::optional(text(lock, "deployment")),
        Cell::optional(text(lock, "attempt")),
        Cell::State(text(lock, "state").unwrap_or_else(|| "-".to_owned())),
        Cell::optional(text(lock, "since").map(|at| moment(&at))),
        Cell::optional(text(lock, "reason")),
    ]
}
