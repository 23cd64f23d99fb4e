//! `longshore agents` and `longshore agent release`

use serde_json::{Value, json};

use super::{Context, rows, text};
use crate::args::agent::AgentId;
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
        ["AGENT", "HOST", "POOL", "STATE", "JOBS", "LAST SEEN", "VERSION"],
        &rows,
        context.output.paint(),
    ))?;
    for remark in remarks(agents) {
        context.output.message(&remark);
    }
    Ok(Exit::Done)
}

pub(super) async fn release(context: &Context, args: &AgentId) -> Result<Exit, Failure> {
    let request = Request::post(&["agents", &args.id, "release"]).repeatable();
    context
        .client()?
        .send(&request, Patience::SHORT)
        .await
        .map_err(|error| Failure::from(error).next("see which agents there are: `longshore agents`".to_owned()))?;
    if context.output.is_json() {
        context.output.json(&json!({ "id": args.id }))?;
    } else {
        context.output.text(&format!("agent {} gets jobs again", args.id))?;
    }
    Ok(Exit::Done)
}

/// Why an agent gets no jobs although it is connected, for people.
fn remarks(agents: &[Value]) -> Vec<String> {
    let about = |agent: &Value| {
        let id = text(agent, "id").unwrap_or_default();
        let low = agent.get("low").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let quarantined = agent.get("quarantined").and_then(Value::as_str);
        let hint = quarantined.map(|_| format!("; `longshore agent release {id}` ends it")).unwrap_or_default();
        let quarantined = quarantined.map(|words| format!("agent {id} {words}{hint}"));
        let low = low.map(|words| format!("agent {id}: {words}")).collect::<Vec<_>>();
        quarantined.into_iter().chain(low).collect::<Vec<_>>()
    };
    agents.iter().flat_map(about).collect()
}

fn row(agent: &Value) -> [Cell; 7] {
    let number = |name| text(agent, name).unwrap_or_else(|| "?".to_owned());
    [
        Cell::optional(text(agent, "id")),
        Cell::optional(text(agent, "hostname")),
        Cell::optional(text(agent, "pool")),
        Cell::State(text(agent, "state").unwrap_or_else(|| "-".to_owned())),
        Cell::Text(format!("{} of {}", number("busy"), number("slots"))),
        Cell::optional(text(agent, "seen_at").map(|at| moment(&at))),
        Cell::optional(text(agent, "version")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::paint::Paint;

    #[test]
    fn who_gets_no_jobs_is_remarked_upon() {
        let agents = [
            json!({"id": "agt_1", "quarantined": null, "low": []}),
            json!({"id": "agt_2", "quarantined": "is quarantined since noon", "low": ["its disk has 1MiB left"]}),
        ];
        assert_eq!(
            remarks(&agents),
            [
                "agent agt_2 is quarantined since noon; `longshore agent release agt_2` ends it",
                "agent agt_2: its disk has 1MiB left"
            ]
        );
    }

    #[test]
    fn an_agent_is_one_row() {
        let agent = json!({"id": "agt_1", "hostname": "worker", "pool": "default", "state": "connected", "busy": 1, "slots": 2, "seen_at": "2026-11-21T10:00:00.000Z", "version": "0.1.0"});
        let shown = table(["A", "H", "P", "S", "J", "L", "V"], &[row(&agent)], Paint::new(false));
        assert!(shown.ends_with("agt_1  worker  default  connected  1 of 2  2026-11-21 10:00:00Z  0.1.0"), "{shown}");
    }
}
