//! `longshore agents`, `longshore agent show`, `drain`, `undrain`, `release`, `revoke`, `readmit`

use longshore_core::id::AgentId;
use longshore_core::time::Timestamp;
use serde_json::{Value, json};

use super::{Context, rows, text};
use crate::args::agents::{AgentCommand, AgentDrain};
use crate::client::Request;
use crate::client::retry::Patience;
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::table::{Cell, table};
use crate::output::time::moment;

pub(super) async fn run(context: &Context, all: bool) -> Result<Exit, Failure> {
    let request = Request::get(&["agents"]).query("all", all.then_some(true));
    let list = context.client()?.json(&request, Patience::SHORT).await?;
    if context.output.is_json() {
        context.output.json(&list)?;
        return Ok(Exit::Done);
    }
    let agents = rows(&list, "agents");
    if agents.is_empty() {
        context.output.message("no agents yet; `longshore join-token create` makes a token with which one can join, `longshore join-rule create` a rule for machines of a cloud");
        return Ok(Exit::Done);
    }
    let rows: Vec<_> = agents.iter().map(row).collect();
    context.output.text(&table(
        ["AGENT", "HOST", "POOL", "STATE", "JOBS", "LAST SEEN", "VERSION"],
        &rows,
        context.output.paint(),
    ))?;
    for agent in agents {
        if let Some(words) = draining(agent, clock::now()) {
            context.output.text(&format!("{} is {words}", text(agent, "id").unwrap_or_default()))?;
        }
    }
    for remark in remarks(agents) {
        context.output.message(&remark);
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

/// The state, with why an agent is gone, and that another process has its identity.
fn state(agent: &Value) -> String {
    let state = text(agent, "state").unwrap_or_else(|| "-".to_owned());
    match text(agent, "gone") {
        Some(why) => format!("{state} ({why})"),
        None if agent.get("cloned").and_then(Value::as_bool) == Some(true) => format!("{state}, copied"),
        None => state,
    }
}

/// Runs what was typed about one agent.
pub(super) async fn one(context: &Context, command: &AgentCommand) -> Result<Exit, Failure> {
    match command {
        AgentCommand::Show(args) => show(context, &args.id).await,
        AgentCommand::Drain(args) => drain(context, args).await,
        AgentCommand::Undrain(args) => {
            told(context, &args.id, "undrain", None, "is offered jobs again, unless it drains by itself").await
        }
        AgentCommand::Release(args) => told(context, &args.id, "release", None, "gets jobs again").await,
        AgentCommand::Revoke(args) => told(context, &args.id, "revoke", None, "is cut off").await,
        AgentCommand::Readmit(args) => {
            told(context, &args.id, "readmit", None, "may join again with its machine, as another agent").await
        }
    }
}

async fn drain(context: &Context, args: &AgentDrain) -> Result<Exit, Failure> {
    let body = args.reason.as_ref().map_or_else(|| json!({}), |reason| json!({ "reason": reason }));
    told(context, &args.id, "drain", Some(body), "is offered no more jobs; what it has goes on").await
}

async fn told(context: &Context, id: &str, what: &str, body: Option<Value>, done: &str) -> Result<Exit, Failure> {
    agent_id(id)?;
    let request = Request::post(&["agents", id, what]).repeatable();
    let request = match &body {
        Some(body) => request.json(body),
        None => request,
    };
    context.client()?.send(&request, Patience::SHORT).await?;
    if context.output.is_json() {
        context.output.json(&json!({ "id": id }))?;
    } else {
        context.output.text(&format!("agent {id} {done}"))?;
    }
    Ok(Exit::Done)
}

async fn show(context: &Context, id: &str) -> Result<Exit, Failure> {
    agent_id(id)?;
    let list = context.client()?.json(&Request::get(&["agents"]), Patience::SHORT).await?;
    let found = rows(&list, "agents").iter().find(|agent| text(agent, "id").as_deref() == Some(id));
    let Some(agent) = found else {
        return Err(
            Failure::new(Exit::Refused, format!("there is no agent `{id}`")).next("`longshore agents` lists them")
        );
    };
    if context.output.is_json() {
        context.output.json(agent)?;
        return Ok(Exit::Done);
    }
    context.output.text(&shown(agent, clock::now()))?;
    Ok(Exit::Done)
}

/// Everything of one agent, a line each.
fn shown(agent: &Value, now: Timestamp) -> String {
    let field = |name| text(agent, name).unwrap_or_else(|| "-".to_owned());
    let mut lines = vec![
        format!("agent     {}", field("id")),
        format!("host      {}", field("hostname")),
        format!("pool      {}", field("pool")),
        format!("state     {}", draining(agent, now).unwrap_or_else(|| field("state"))),
        format!("jobs      {} of {}", field("busy"), field("slots")),
        format!("machine   {}", field("machine")),
        format!("version   {}", field("version")),
        format!("last seen {}", text(agent, "seen_at").map_or_else(|| "never".to_owned(), |at| moment(&at))),
    ];
    if let Some(plugins) = agent.get("plugins").filter(|plugins| !plugins.is_null()) {
        let ready = plugins.get("ready").and_then(Value::as_bool) == Some(true);
        let state = if ready { "ready" } else { "not ready, so it is given no job" };
        lines.push(format!("plugins   {state}: {}", text(plugins, "message").unwrap_or_default()));
    }
    for (name, value) in agent.get("labels").and_then(Value::as_object).into_iter().flatten() {
        lines.push(format!("label     {name}={}", value.as_str().unwrap_or_default()));
    }
    for attempt in agent.get("attempts").and_then(Value::as_array).into_iter().flatten() {
        lines.push(format!("attempt   {}", attempt.as_str().unwrap_or_default()));
    }
    lines.join("\n")
}

/// As in `draining: 2 jobs, 14 min left, because spot notice`.
fn draining(agent: &Value, now: Timestamp) -> Option<String> {
    let draining = agent.get("draining").filter(|draining| !draining.is_null())?;
    let jobs = match draining.get("jobs").and_then(Value::as_u64) {
        Some(0) | None => "no jobs".to_owned(),
        Some(1) => "1 job".to_owned(),
        Some(jobs) => format!("{jobs} jobs"),
    };
    let deadline = text(draining, "deadline").and_then(|at| at.parse::<Timestamp>().ok());
    let left = deadline.map(|at| format!(", {} left", left(at.since(now).as_secs()))).unwrap_or_default();
    let by = text(draining, "by").map(|by| format!("{by} wants it: ")).unwrap_or_default();
    Some(format!("draining: {jobs}{left}, because {by}{}", text(draining, "reason").unwrap_or_default()))
}

fn left(seconds: u64) -> String {
    if seconds < 120 { format!("{seconds} s") } else { format!("{} min", seconds / 60) }
}

fn agent_id(text: &str) -> Result<AgentId, Failure> {
    text.parse().map_err(|error: longshore_core::id::InvalidId| {
        Failure::usage(error.to_string()).next("`longshore agents` shows the ids")
    })
}

fn row(agent: &Value) -> [Cell; 7] {
    let number = |name| text(agent, name).unwrap_or_else(|| "?".to_owned());
    [
        Cell::optional(text(agent, "id")),
        Cell::optional(text(agent, "hostname")),
        Cell::optional(text(agent, "pool")),
        Cell::State(state(agent)),
        Cell::Text(format!("{} of {}", number("busy"), number("slots"))),
        Cell::optional(text(agent, "seen_at").map(|at| moment(&at))),
        Cell::optional(text(agent, "version")),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
    fn a_drain_says_how_many_how_long_and_why() {
        let now = "2026-11-28T21:00:00Z".parse().unwrap();
        let agent = |draining: Value| json!({"id": "agt_1", "state": "draining", "draining": draining});
        let spot =
            json!({"reason": "spot notice", "by": null, "since": null, "deadline": "2026-11-28T21:14:30Z", "jobs": 2});
        assert_eq!(draining(&agent(spot), now).as_deref(), Some("draining: 2 jobs, 14 min left, because spot notice"));
        let kernel = json!({"reason": "new kernel", "by": "anna", "since": null, "deadline": null, "jobs": 0});
        let shown = shown(&agent(kernel), now);
        assert!(shown.contains("state     draining: no jobs, because anna wants it: new kernel"), "{shown}");
        assert_eq!(draining(&agent(Value::Null), now), None);
    }

    #[test]
    fn plugins_of_the_pool_are_a_line_where_it_lists_some() {
        let now = "2026-11-28T21:00:00Z".parse().unwrap();
        let line = |plugins: Value| {
            let shown = shown(&json!({"id": "agt_1", "plugins": plugins}), now);
            shown.lines().find(|line| line.starts_with("plugins")).map(str::to_owned)
        };
        assert_eq!(line(Value::Null), None);
        let ready = json!({"ready": true, "digest": "ab", "message": "2 plugins"});
        assert_eq!(line(ready).unwrap(), "plugins   ready: 2 plugins");
        let busy = json!({"ready": false, "digest": "ab", "message": "1 of 2 plugins are there"});
        assert_eq!(line(busy).unwrap(), "plugins   not ready, so it is given no job: 1 of 2 plugins are there");
    }

    #[test]
    fn an_agent_is_one_row() {
        let agent = json!({"id": "agt_1", "hostname": "worker", "pool": "default", "state": "connected", "busy": 1, "slots": 2, "seen_at": "2026-11-21T10:00:00.000Z", "version": "0.1.0"});
        let shown = table(["A", "H", "P", "S", "J", "L", "V"], &[row(&agent)], Paint::new(false));
        assert!(shown.ends_with("agt_1  worker  default  connected  1 of 2  2026-11-21 10:00:00Z  0.1.0"), "{shown}");
    }
}
