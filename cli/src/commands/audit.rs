//! `longshore audit`: a page at a time, so that it may be long.

use serde_json::Value;

use super::{Context, rows, text};
use crate::args::people::Audit;
use crate::client::Request;
use crate::client::retry::Patience;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::table::{Cell, table};
use crate::output::time::moment;

pub(super) async fn run(context: &Context, args: &Audit) -> Result<Exit, Failure> {
    let client = context.client()?;
    let mut after = None;
    loop {
        let request = Request::get(&["audit"]).query("since", args.since.as_deref()).query("after", after.as_deref());
        let page = client.json(&request, Patience::SHORT).await?;
        let events = rows(&page, "events");
        if context.output.is_json() {
            for event in events {
                context.output.json(event)?;
            }
        } else if !events.is_empty() {
            let rows: Vec<_> = events.iter().map(row).collect();
            let headings = ["AT", "ACTOR", "ACTION", "OBJECT", "OUTCOME", "DETAIL"];
            context.output.text(&table(headings, &rows, context.output.paint()))?;
        }
        after = text(&page, "next");
        if after.is_none() {
            return Ok(Exit::Done);
        }
    }
}

fn row(event: &Value) -> [Cell; 6] {
    let cell = |name| Cell::optional(text(event, name));
    let detail = event.get("detail").filter(|detail| detail.as_object().is_none_or(|fields| !fields.is_empty()));
    [
        Cell::optional(text(event, "at").map(|at| moment(&at))),
        cell("actor"),
        cell("action"),
        cell("object"),
        cell("outcome"),
        Cell::optional(detail),
    ]
}
