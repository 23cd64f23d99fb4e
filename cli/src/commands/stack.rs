//! `longshore stack`: preview, up, refresh, destroy, drift and unlock, outside of releases.

use std::io::{self, IsTerminal as _, Write as _};

use serde_json::{Value, json};

use super::Context;
use super::deploy::{accepted, finish, goes_on};
use super::wait::Wait;
use crate::args::stack::{Stack, StackCommand};
use crate::client::retry::Patience;
use crate::client::{Client, Error, Request};
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::progress::Progress;
use crate::signals::Signals;
use crate::tasks;

/// The refusal that asks for the stack's name.
const CONFIRM: &str = "confirm_needed";

pub(super) async fn run(context: &Context, command: &StackCommand) -> Result<Exit, Failure> {
    let (operation, args, confirm) = match command {
        StackCommand::Preview(args) => ("preview", args, None),
        StackCommand::Up(args) => ("up", args, None),
        StackCommand::Refresh(args) => ("refresh", args, None),
        StackCommand::Destroy(args) => ("destroy", &args.stack, args.confirm.as_deref()),
        StackCommand::Drift(args) => ("drift", args, None),
        StackCommand::Unlock(args) => ("unlock", args, None),
    };
    let mut signals =
        Signals::listen().map_err(|error| Failure::new(Exit::Failed, format!("cannot listen for Ctrl-C: {error}")))?;
    tokio::select! {
        result = work(context, operation, args, confirm) => result,
        exit = signals.next() => Err(Failure::new(exit, "interrupted")
            .untouched("what was accepted goes on")
            .next(format!("`longshore deployment list --project {}` shows it", args.project))),
    }
}

async fn work(context: &Context, operation: &str, args: &Stack, confirm: Option<&str>) -> Result<Exit, Failure> {
    let client = context.client()?;
    let mut body = body(operation, args, confirm);
    let mut answer = ask(&client, args, &body).await;
    if let Err(Error::Refused(problem)) = &answer
        && problem.code == CONFIRM
        && confirm.is_none()
        && io::stdin().is_terminal()
        && context.output.is_watched()
    {
        body["confirm"] = json!(typed(&problem.detail).await?);
        answer = ask(&client, args, &body).await;
    }
    let answer = answer.map_err(|error| {
        let untouched = if matches!(error, Error::Refused(_)) {
            "nothing was queued"
        } else {
            "nothing was queued, unless the answer was lost"
        };
        let next = format!("see what was accepted: `longshore deployment list --project {}`", args.project);
        Failure::from(error).untouched(untouched).next(next)
    })?;
    let id = answer.get("deployment").and_then(Value::as_str);
    let id = id.ok_or_else(|| Failure::new(Exit::Failed, "the server accepted it without telling its id"))?;
    if !args.wait {
        return accepted(context, id);
    }
    let mut progress = Progress::new(context.output);
    progress.message(&format!("{operation} of {} in {} is accepted as {id}", args.project, args.env));
    let shown = Wait::new(context, &mut progress, args.unknown_after)
        .follow(&client, id)
        .await
        .map_err(|failure| goes_on(failure, id))?;
    finish(context, &shown)
}

async fn ask(client: &Client, args: &Stack, body: &Value) -> Result<Value, Error> {
    let request = Request::post(&["projects", &args.project, "operations"]).json(body).repeatable();
    client.json(&request, Patience::SHORT).await
}

fn body(operation: &str, args: &Stack, confirm: Option<&str>) -> Value {
    let mut body = json!({ "operation": operation, "environment": args.env, "operation_id": clock::operation_id() });
    let named = [("step", args.step.as_deref()), ("release", args.release.as_deref()), ("confirm", confirm)];
    for (name, value) in named {
        if let Some(value) = value {
            body[name] = json!(value);
        }
    }
    if !args.variables.is_empty() {
        body["variables"] = args.variables.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    }
    body
}

/// What a person types who was told what is about to be removed.
async fn typed(detail: &str) -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::new(Exit::Failed, format!("the terminal cannot be read: {error}"));
    let _nobody_reads =
        write!(io::stderr(), "{detail}\ntype the name of the stack: ").and_then(|()| io::stderr().flush());
    let line = tasks::blocking(|| {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|_| line)
    });
    Ok(line.await.and_then(|line| line).map_err(failed)?.trim().to_owned())
}
