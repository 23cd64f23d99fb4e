//! `longshore explain`, `longshore variable explain`

use longshore_core::id::JobId;
use serde_json::Value;

use super::{Context, deployment_id, rows, text};
use crate::args::releases::{Explain, VariableExplain};
use crate::client::Request;
use crate::client::retry::Patience;
use crate::exit::Exit;
use crate::failure::Failure;

pub(super) async fn deployment(context: &Context, args: &Explain) -> Result<Exit, Failure> {
    if args.id.parse::<JobId>().is_err() {
        deployment_id(&args.id)?;
    }
    let request = Request::get(&["deployments", &args.id, "explain"]);
    let answer = context.client()?.json(&request, Patience::SHORT).await?;
    if context.output.is_json() {
        context.output.json(&answer)?;
        return Ok(Exit::Done);
    }
    let id = text(&answer, "id").unwrap_or_default();
    let mut lines = vec![format!("{id} is {}", text(&answer, "state").unwrap_or_default())];
    for rule in rows(&answer, "rules") {
        let mark = if rule.get("ok").and_then(Value::as_bool) == Some(true) { "ok   " } else { "waits" };
        lines.push(format!(
            "{mark}  {}: {}",
            text(rule, "rule").unwrap_or_default(),
            text(rule, "message").unwrap_or_default()
        ));
    }
    for agent in rows(&answer, "agents") {
        let why: Vec<_> = rows(agent, "rejected_by").iter().filter_map(|row| text(row, "message")).collect();
        let why = if why.is_empty() { "may have the job".to_owned() } else { why.join("; ") };
        lines.push(format!("agent  {} {why}", text(agent, "agent").unwrap_or_default()));
    }
    context.output.text(&lines.join("\n"))?;
    Ok(Exit::Done)
}

pub(super) async fn variable(context: &Context, args: &VariableExplain) -> Result<Exit, Failure> {
    let request = Request::get(&["projects", &args.project, "variables", &args.name, "explain"])
        .query("environment", Some(&args.env))
        .query("channel", args.channel.as_deref())
        .query("step", args.step.as_deref());
    let answer = context.client()?.json(&request, Patience::SHORT).await?;
    if context.output.is_json() {
        context.output.json(&answer)?;
        return Ok(Exit::Done);
    }
    let line = |row: &Value| {
        format!(
            "{} from {}",
            text(row, "value").unwrap_or_else(|| "[not shown]".to_owned()),
            text(row, "from").unwrap_or_default()
        )
    };
    let mut lines = vec![format!("{} = {}", args.name, line(&answer))];
    lines.extend(rows(&answer, "beaten").iter().map(|row| format!("  beats {}", line(row))));
    context.output.text(&lines.join("\n"))?;
    Ok(Exit::Done)
}
