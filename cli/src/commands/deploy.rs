//! `longshore deploy`: pack, upload, ask for the deployment and, with `--wait`, follow it to its end.

use std::cell::RefCell;

use serde_json::{Value, json};

use super::deploy_local::Tree;
use super::wait::Wait;
use super::{Context, deployment, package, show};
use crate::args::Deploy;
use crate::client::model::Deployment;
use crate::client::retry::Patience;
use crate::client::{Client, Error, Request};
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::progress::Progress;
use crate::output::time::between;
use crate::signals::Signals;

/// How far the command is, for the message when it is interrupted.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Preparing,
    Asking(String),
    Accepted(String),
}

pub(super) async fn run(context: &Context, args: &Deploy) -> Result<Exit, Failure> {
    let mut signals =
        Signals::listen().map_err(|error| Failure::new(Exit::Failed, format!("cannot listen for Ctrl-C: {error}")))?;
    let stage = RefCell::new(Stage::Preparing);
    tokio::select! {
        result = work(context, args, &stage) => result,
        exit = signals.next() => Err(interrupted(exit, &stage.borrow())),
    }
}

async fn work(context: &Context, args: &Deploy, stage: &RefCell<Stage>) -> Result<Exit, Failure> {
    let client = context.client()?;
    let mut progress = Progress::new(context.output);
    let tree = match &args.local {
        Some(folder) => Some(Tree::read(context, args, folder).await?),
        None => None,
    };
    if let Some(tree) = &tree {
        tree.tell(context, &client).await?;
    }
    let package = tree.as_ref().map(Tree::folder).or(args.package.as_deref());
    let uploaded = match package {
        Some(path) => Some(
            package::upload(&client, &mut progress, path)
                .await
                .map_err(|failure| failure.untouched("nothing was deployed"))?
                .sha256,
        ),
        None => None,
    };
    let project = tree.as_ref().map(|tree| &tree.project).or(args.project.as_ref()).cloned().unwrap_or_default();
    stage.replace(Stage::Asking(project.clone()));
    let id = ask(&client, args, (&project, tree.as_ref(), uploaded.as_deref())).await?;
    stage.replace(Stage::Accepted(id.clone()));
    if !args.wait {
        return accepted(context, &id);
    }
    progress.message(&format!("deployment {id} of {project} to {} is accepted", args.env));
    let shown = Wait::new(context, &mut progress, args.unknown_after)
        .follow(&client, &id)
        .await
        .map_err(|failure| goes_on(failure, &id))?;
    finish(context, &shown)
}

/// Asks for the deployment; a repeated request is known by its operation id.
async fn ask(
    client: &Client,
    args: &Deploy,
    (project, tree, package): (&str, Option<&Tree>, Option<&str>),
) -> Result<String, Failure> {
    let mut body = json!({ "project": project, "environment": args.env, "operation_id": clock::operation_id() });
    if let Some(sha256) = package {
        body["package"] = json!(sha256);
    }
    if let Some(tree) = tree {
        body["local"] = tree.body();
    }
    for (name, value) in [
        ("release", &args.release),
        ("channel", &args.channel),
        ("ref", &args.reference),
        ("not_before", &args.not_before),
        ("expires_at", &args.expires_at),
    ] {
        if let Some(value) = value {
            body[name] = json!(value);
        }
    }
    if !args.variables.is_empty() {
        body["variables"] = args.variables.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    }
    if args.priority != 0 {
        body["priority"] = json!(args.priority);
    }
    if !args.skip.is_empty() {
        body["skip"] = json!(args.skip);
    }
    if args.guided {
        body["guided"] = json!(true);
    }
    // Without a package the server may have a commit to fetch, which has its own limit there.
    let request = Request::post(&["deployments"]).json(&body).repeatable().endless("application/json");
    let answer = client.json(&request, Patience::SHORT).await.map_err(|error| {
        let untouched = if matches!(error, Error::Refused(_)) {
            "nothing was deployed"
        } else {
            "nothing was deployed, unless the answer was lost"
        };
        let next = format!("see what was accepted: `longshore deployment list --project {project}`");
        Failure::from(error).untouched(untouched).next(next)
    })?;
    let id = answer.get("deployment").and_then(Value::as_str);
    id.map(str::to_owned)
        .ok_or_else(|| Failure::new(Exit::Failed, "the server accepted the deployment without telling its id"))
}

pub(super) fn accepted(context: &Context, id: &str) -> Result<Exit, Failure> {
    if context.output.is_json() {
        context.output.json(&json!({ "deployment": id }))?;
    } else {
        context.output.text(id)?;
        context.output.message(&format!("accepted; follow it: longshore logs {id} -f"));
    }
    Ok(Exit::Done)
}

/// Shows how it ended: with JSON on stdout, else on stderr, since stdout has the log.
pub(super) fn finish(context: &Context, shown: &Value) -> Result<Exit, Failure> {
    let state = shown.get("state").and_then(Value::as_str).unwrap_or_default();
    let exit = Exit::of_state(state);
    if context.output.is_json() {
        deployment::print(context, shown)?;
        return Ok(exit);
    }
    if let Some(deployment) = Deployment::read(shown) {
        context.output.message(&summary(context, &deployment));
    }
    Ok(exit)
}

fn summary(context: &Context, deployment: &Deployment) -> String {
    let paint = context.output.paint_messages();
    let took = between(deployment.created_at.as_deref(), deployment.ended_at.as_deref())
        .map(|took| format!(" after {took}"))
        .unwrap_or_default();
    let reason = deployment.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let head = format!("{} {}{took}{reason}", deployment.id, paint.state(&deployment.state));
    let next = match deployment.state.as_str() {
        "succeeded" | "canceled" => String::new(),
        "failed" | "lost" => {
            format!("\nnext: `longshore deployment show {id}`, `longshore logs {id}`", id = deployment.id)
        }
        _ => format!(
            "\nnext: its stack stays locked until the agent is back or a person settles it: `longshore deployment show {id}`, then `longshore deployment resolve {id} --reason TEXT`",
            id = deployment.id
        ),
    };
    format!("{}{}\n{head}{next}", show::steps(&deployment.steps, paint), show::details(deployment, paint))
}

pub(super) fn goes_on(failure: Failure, id: &str) -> Failure {
    failure
        .untouched(format!("deployment {id} goes on"))
        .next(format!("follow it: `longshore logs {id} -f`; how it stands: `longshore deployment show {id}`"))
}

fn interrupted(exit: Exit, stage: &Stage) -> Failure {
    match stage {
        Stage::Preparing => Failure::new(exit, "interrupted").untouched("nothing was deployed"),
        Stage::Asking(project) => Failure::new(exit, "interrupted while the deployment was being asked for")
            .untouched("it may have been accepted or not")
            .next(format!("`longshore deployment list --project {project}` shows it if it was")),
        Stage::Accepted(id) => Failure::new(exit, "interrupted")
            .untouched(format!("deployment {id} goes on"))
            .next(format!("follow it: `longshore logs {id} -f`; stop it: `longshore cancel {id}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_says_what_goes_on() {
        let said = |stage| interrupted(Exit::Interrupted, &stage);
        let accepted = said(Stage::Accepted("dep_1".to_owned()));
        assert_eq!(accepted.exit.code(), 130);
        assert!(
            accepted.to_string().contains("dep_1 goes on") && accepted.to_string().contains("longshore cancel dep_1")
        );
        assert!(said(Stage::Preparing).to_string().contains("nothing was deployed"));
        assert!(said(Stage::Asking("shop".to_owned())).to_string().contains("may have been accepted"));
    }
}
