//! `longshore pool scaling`

use serde_json::Value;

use super::{Context, text};
use crate::client::Request;
use crate::client::retry::Patience;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::table::{Cell, table};
use crate::output::time::{length, moment};

pub(super) async fn run(context: &Context, pool: &str) -> Result<Exit, Failure> {
    let view = context.client()?.json(&Request::get(&["pools", pool, "scaling"]), Patience::SHORT).await?;
    if context.output.is_json() {
        context.output.json(&view)?;
        return Ok(Exit::Done);
    }
    for line in lines(&view) {
        context.output.text(&line)?;
    }
    let events = view.get("events").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if !events.is_empty() {
        let rows: Vec<_> = events.iter().map(event).collect();
        context.output.text("")?;
        context.output.text(&table(["AT", "DID", "MACHINES", "WHY"], &rows, context.output.paint()))?;
    }
    Ok(Exit::Done)
}

fn lines(view: &Value) -> Vec<String> {
    let number = |path: &str| view.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let mut jobs = format!("jobs: {} queued", number("/queued"));
    let waiting = view.get("waiting").and_then(Value::as_object).into_iter().flatten();
    let reasons: Vec<String> = waiting.map(|(reason, count)| format!("{count} {reason}")).collect();
    if !reasons.is_empty() {
        jobs.push_str(&format!(" ({})", reasons.join(", ")));
    }
    if let Some(oldest) = view.get("oldest_wait_seconds").and_then(Value::as_u64) {
        jobs.push_str(&format!(", the oldest for {}", length(std::time::Duration::from_secs(oldest))));
        jobs.push_str(&format!("; a further agent would help {}", number("/helped")));
    }
    let mut lines = vec![
        jobs,
        format!("slots: {} of {} busy, {} free", number("/slots/busy"), number("/slots/total"), number("/slots/free")),
        format!(
            "agents: {} connected, {} of them draining; {} disconnected",
            number("/agents/connected"),
            number("/agents/draining"),
            number("/agents/disconnected")
        ),
    ];
    if number("/unknown_attempts") > 0 {
        lines.push(format!("attempts whose end is not known: {}", number("/unknown_attempts")));
    }
    match view.get("scaler").filter(|scaler| !scaler.is_null()) {
        None => lines.push("scaler: off; `scaling` of the pool's settings turns it on".to_owned()),
        Some(scaler) => lines.extend(scaler_lines(scaler)),
    }
    lines
}

fn scaler_lines(scaler: &Value) -> Vec<String> {
    let word = |name| text(scaler, name).unwrap_or_default();
    let count = |name: &str| scaler.get(name).and_then(Value::as_u64);
    let set = count("capacity").map_or_else(|| "not known".to_owned(), |count| count.to_string());
    let mut first = format!(
        "scaler: {} group `{}` of {} to {} machines, {} slots kept warm; set to {set}",
        word("kind"),
        word("group"),
        word("min"),
        word("max"),
        word("warm")
    );
    if let Some(absent) = count("absent").filter(|absent| *absent > 0) {
        first.push_str(&format!(", {absent} of them not connected"));
    }
    let mut lines = vec![first];
    match (text(scaler, "decision"), text(scaler, "decided_at")) {
        (Some(decision), Some(at)) => {
            lines.push(format!("decided at {}: {decision}: {}", moment(&at), word("message")));
        }
        _ => lines.push("decided: nothing yet".to_owned()),
    }
    for agent in scaler.get("leaving").and_then(Value::as_array).into_iter().flatten() {
        let told =
            if agent.get("told") == Some(&Value::Bool(true)) { "the group ends it" } else { "the group is told" };
        let (id, instance) = (text(agent, "agent").unwrap_or_default(), text(agent, "instance").unwrap_or_default());
        lines.push(format!("leaving: {id} on `{instance}`: {told}"));
    }
    lines
}

fn event(event: &Value) -> [Cell; 4] {
    let number = |name| text(event, name).unwrap_or_default();
    let machines = match text(event, "action").as_deref() {
        Some("grow" | "shrink") => format!("{} -> {}", number("from"), number("to")),
        _ => "-".to_owned(),
    };
    [
        Cell::optional(text(event, "at").map(|at| moment(&at))),
        Cell::optional(text(event, "action")),
        Cell::Text(machines),
        Cell::optional(text(event, "message")),
    ]
}
