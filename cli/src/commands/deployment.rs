//! `longshore deployment show`, `list`, `resolve`, `top`, `guide`.

use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{Context, deployment_id, show};
use crate::args::{DeploymentList, Guide, GuideChoice, Id, Resolve};
use crate::client::Request;
use crate::client::model::Deployment;
use crate::client::retry::Patience;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::table::{Cell, table};
use crate::output::time::{between, moment};

pub(super) async fn show(context: &Context, args: &Id) -> Result<Exit, Failure> {
    deployment_id(&args.id)?;
    let shown = context.client()?.json(&Request::get(&["deployments", &args.id]), Patience::SHORT).await?;
    print(context, &shown).map(|()| Exit::Done)
}

/// Prints one deployment in the form that was asked for.
pub(super) fn print(context: &Context, shown: &Value) -> Result<(), Failure> {
    match Deployment::read(shown) {
        Some(deployment) if !context.output.is_json() => {
            context.output.text(&show::deployment(&deployment, context.output.paint()))
        }
        _ => context.output.json(shown),
    }
}

pub(super) async fn list(context: &Context, args: &DeploymentList) -> Result<Exit, Failure> {
    let request = Request::get(&["deployments"])
        .query("project", args.project.as_deref())
        .query("environment", args.env.as_deref())
        .query("limit", Some(args.limit));
    let list = context.client()?.json(&request, Patience::SHORT).await?;
    if context.output.is_json() {
        context.output.json(&list)?;
        return Ok(Exit::Done);
    }
    let deployments = super::rows(&list, "deployments");
    if deployments.is_empty() {
        context.output.message("no deployments yet; `longshore deploy PROJECT --env E` starts one");
        return Ok(Exit::Done);
    }
    let rows: Vec<[Cell; 7]> =
        deployments.iter().filter_map(|value| Deployment::deserialize(value).ok()).map(row).collect();
    context.output.text(&table(
        ["DEPLOYMENT", "PROJECT", "ENVIRONMENT", "WHAT", "STATE", "CREATED", "TOOK"],
        &rows,
        context.output.paint(),
    ))?;
    Ok(Exit::Done)
}

fn row(deployment: Deployment) -> [Cell; 7] {
    let what = match (deployment.operation, deployment.release) {
        (Some(operation), _) => Some(operation.kind),
        (None, release) => release.map(|version| format!("release {version}")),
    };
    let took = between(deployment.created_at.as_deref(), deployment.ended_at.as_deref());
    let mark = if deployment.local.is_some() { " (local)" } else { "" };
    [
        deployment.id.into(),
        format!("{}{mark}", deployment.project).into(),
        deployment.environment.into(),
        Cell::optional(what),
        Cell::State(deployment.state),
        Cell::optional(deployment.created_at.as_deref().map(moment)),
        Cell::optional(took),
    ]
}

pub(super) async fn resolve(context: &Context, args: &Resolve) -> Result<Exit, Failure> {
    deployment_id(&args.id)?;
    if args.reason.trim().is_empty() {
        return Err(Failure::usage("--reason is empty")
            .untouched("the deployment is as it was")
            .next("say how you know that nothing of it runs any more"));
    }
    let request = Request::post(&["deployments", &args.id, "resolve"]).json(&json!({ "reason": args.reason }));
    let answer = context.client()?.json(&request, Patience::SHORT).await.map_err(|error| {
        Failure::from(error).next(format!("see where it stands: `longshore deployment show {}`", args.id))
    })?;
    if context.output.is_json() {
        context.output.json(&answer)?;
    } else {
        context.output.text(&format!("{} is declared lost; its stack is free", args.id))?;
    }
    Ok(Exit::Done)
}

pub(super) async fn guide(context: &Context, args: &Guide) -> Result<Exit, Failure> {
    deployment_id(&args.id)?;
    let (choice, words) = match args.choice {
        GuideChoice::Retry => ("retry", "is tried again"),
        GuideChoice::Ignore => ("ignore", "counts as succeeded"),
        GuideChoice::Fail => ("fail", "has failed"),
    };
    let request = Request::post(&["deployments", &args.id, "steps", &args.step, "guide"]);
    let request = request.json(&json!({ "choice": choice, "comment": args.comment }));
    let answer = context.client()?.json(&request, Patience::SHORT).await;
    let answer = answer.map_err(|error| Failure::from(error).untouched(format!("step {} is as it was", args.step)))?;
    if context.output.is_json() {
        context.output.json(&answer)?;
    } else {
        context.output.text(&format!("step {} of {} {words}", args.step, args.id))?;
    }
    Ok(Exit::Done)
}

pub(super) async fn top(context: &Context, args: &Id) -> Result<Exit, Failure> {
    deployment_id(&args.id)?;
    let request = Request::post(&["deployments", &args.id, "top"]).repeatable();
    let answer = context.client()?.json(&request, Patience::SHORT).await;
    let answer = answer.map_err(|error| Failure::from(error).untouched("the order is as it was"))?;
    if context.output.is_json() {
        context.output.json(&answer)?;
    } else {
        context.output.text(&format!("{} begins before the others that wait", args.id))?;
    }
    Ok(Exit::Done)
}
