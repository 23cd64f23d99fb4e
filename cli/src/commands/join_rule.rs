//! `longshore join-rule create`, `list`, `revoke`

use serde_json::{Map, Value, json};

use super::people::list_of;
use super::{Context, text};
use crate::args::join_rule::{JoinRuleCommand, JoinRuleCreate, JoinRuleId};
use crate::client::Request;
use crate::client::retry::Patience;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::table::Cell;
use crate::output::time::moment;

pub(super) async fn run(context: &Context, command: &JoinRuleCommand) -> Result<Exit, Failure> {
    match command {
        JoinRuleCommand::Create(args) => create(context, args).await,
        JoinRuleCommand::List => list(context).await,
        JoinRuleCommand::Revoke(args) => revoke(context, args).await,
    }
}

fn conditions(args: &JoinRuleCreate) -> Value {
    let (cloud, fields) = if let Some(account) = &args.aws_account {
        let own =
            [("region", args.aws_region.as_ref()), ("role", args.aws_role.as_ref()), ("vpc", args.aws_vpc.as_ref())];
        ("aws", [vec![("account", Some(account))], own.to_vec()].concat())
    } else if let Some(project) = &args.gcp_project {
        let account = args.gcp_service_account.as_ref();
        ("gcp", vec![("project", Some(project)), ("zone", args.gcp_zone.as_ref()), ("service_account", account)])
    } else {
        ("azure", vec![("subscription", args.azure_subscription.as_ref())])
    };
    let mut all = Map::new();
    all.insert("cloud".to_owned(), json!(cloud));
    for (name, value) in fields {
        if let Some(value) = value {
            all.insert(name.to_owned(), json!(value));
        }
    }
    Value::Object(all)
}

async fn create(context: &Context, args: &JoinRuleCreate) -> Result<Exit, Failure> {
    let labels: Map<String, Value> = args.labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let body = json!({ "pool": args.pool, "labels": labels, "conditions": conditions(args) });
    let answer = context.client()?.json(&Request::post(&["join-rules"]).json(&body), Patience::SHORT).await?;
    if let Some(file) = &args.ca_file {
        let pem = answer.get("ca_pem").and_then(Value::as_str).unwrap_or_default();
        std::fs::write(file, pem).map_err(|error| {
            Failure::new(Exit::Failed, format!("the certificate cannot be written to `{}`: {error}", file.display()))
                .untouched("the rule that was made counts; `longshore join-rule list` shows it")
        })?;
    }
    if context.output.is_json() {
        context.output.json(&answer)?;
        return Ok(Exit::Done);
    }
    context.output.text(&text(&answer, "id").unwrap_or_default())?;
    let cloud = answer.pointer("/conditions/cloud").and_then(Value::as_str).unwrap_or_default();
    context.output.message(&format!(
        "machines with {} join pool {}; on them: `longshore-agent enroll --{cloud} --config FILE`, or `join = \"{cloud}\"` in the file",
        said(&answer),
        args.pool
    ));
    Ok(Exit::Done)
}

/// The conditions of a rule, as they are typed.
fn said(rule: &Value) -> String {
    let conditions = rule.get("conditions").and_then(Value::as_object).cloned().unwrap_or_default();
    let cloud = conditions.get("cloud").and_then(Value::as_str).unwrap_or_default();
    let named = conditions.iter().filter(|(name, _)| *name != "cloud");
    let named =
        named.map(|(name, value)| format!("{cloud}-{}={}", name.replace('_', "-"), value.as_str().unwrap_or_default()));
    named.collect::<Vec<_>>().join(" ")
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let headings = (["ID", "POOL", "LABELS", "CONDITIONS", "STATE", "MADE", "BY"], "no join rules");
    list_of(context, &Request::get(&["join-rules"]), "join_rules", headings, |row| {
        let labels = row.get("labels").and_then(Value::as_object).into_iter().flatten();
        let labels: Vec<String> =
            labels.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default())).collect();
        [
            Cell::optional(text(row, "id")),
            Cell::optional(text(row, "pool")),
            Cell::optional(Some(labels.join(", ")).filter(|labels| !labels.is_empty())),
            Cell::Text(said(row)),
            Cell::State(text(row, "state").unwrap_or_default()),
            Cell::optional(text(row, "created_at").map(|at| moment(&at))),
            Cell::optional(text(row, "created_by")),
        ]
    })
    .await
}

async fn revoke(context: &Context, args: &JoinRuleId) -> Result<Exit, Failure> {
    let request = Request::delete(&["join-rules", &args.id]).repeatable();
    context.client()?.send(&request, Patience::SHORT).await?;
    if context.output.is_json() {
        context.output.json(&json!({ "id": args.id }))?;
    } else {
        context
            .output
            .text(&format!("join rule {} lets nobody in any more; agents that came in by it stay", args.id))?;
    }
    Ok(Exit::Done)
}
