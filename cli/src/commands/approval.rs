//! `longshore approvals`, `longshore approve`, `longshore reject`

use longshore_core::id::ApprovalId;
use serde_json::{Value, json};

use super::people::list_of;
use super::{Context, deployment_id, plan_text, text};
use crate::args::releases::{Approvals, Decide};
use crate::client::Request;
use crate::client::retry::Patience;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::table::Cell;
use crate::output::time::moment;

pub(super) async fn approvals(context: &Context, args: &Approvals) -> Result<Exit, Failure> {
    let deployment = args.deployment.as_deref().map(deployment_id).transpose()?;
    let request = Request::get(&["approvals"]).query("deployment", deployment);
    list_of(
        context,
        &request,
        "approvals",
        (
            ["APPROVAL", "STATE", "PROJECT", "ENV", "RELEASE", "STEP", "PLAN", "NEEDS", "GRANTED BY", "EXPIRES"],
            "no approvals",
        ),
        |row| {
            let cell = |name| Cell::optional(text(row, name));
            let people: Vec<_> = row
                .get("granted_by")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            [
                cell("id"),
                Cell::state(&text(row, "state").unwrap_or_default()),
                cell("project"),
                cell("environment"),
                cell("release"),
                cell("step"),
                Cell::optional(row.get("plan").and_then(counts)),
                cell("needs"),
                Cell::optional(Some(people.join(", ")).filter(|people| !people.is_empty())),
                Cell::optional(text(row, "expires_at").map(|at| moment(&at))),
            ]
        },
    )
    .await
}

/// What a plan would do, as `3 create, 1 update`; what stays as it is is left out.
pub(super) fn counts(plan: &Value) -> Option<String> {
    let resources = plan.get("resources")?.as_object()?;
    let changes = resources.iter().filter(|(op, _)| *op != "same").map(|(op, count)| format!("{count} {op}"));
    let changes: Vec<_> = changes.collect();
    Some(if changes.is_empty() { "no changes".to_owned() } else { changes.join(", ") })
}

fn approval_id(text: &str) -> Result<ApprovalId, Failure> {
    text.parse().map_err(|error: longshore_core::id::InvalidId| {
        Failure::usage(error.to_string()).next("`longshore approvals` shows the ids")
    })
}

pub(super) async fn show(context: &Context, id: &str) -> Result<Exit, Failure> {
    let id = approval_id(id)?.to_string();
    let shown = context.client()?.json(&Request::get(&["approvals", &id]), Patience::SHORT).await?;
    if context.output.is_json() {
        context.output.json(&shown)?;
    } else {
        context.output.text(&plan_text::approval(&shown, context.output.paint()))?;
    }
    Ok(Exit::Done)
}

pub(super) async fn decide(context: &Context, args: &Decide, verb: &str) -> Result<Exit, Failure> {
    let id = approval_id(&args.id)?;
    let request = Request::post(&["approvals", &id.to_string(), verb]).json(&json!({ "comment": args.comment }));
    let answer = context.client()?.json(&request, Patience::SHORT).await;
    let answer = answer.map_err(|error| Failure::from(error).untouched(format!("approval {id} is as it was")))?;
    if context.output.is_json() {
        context.output.json(&answer)?;
        return Ok(Exit::Done);
    }
    let cell = |name| text(&answer, name).unwrap_or_default();
    context.output.text(&format!(
        "{id} is {}; deployment {} of {} to {}",
        cell("state"),
        cell("deployment"),
        cell("project"),
        cell("environment")
    ))?;
    Ok(Exit::Done)
}
