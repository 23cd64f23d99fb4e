//! `longshore library`

use serde_json::{Value, json};

use super::people::{list, show, time};
use super::{Context, rows, text, variable};
use crate::args::VariableSet;
use crate::args::library::{LibraryCommand, LibraryName, LibrarySet};
use crate::client::Request;
use crate::client::retry::Patience;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::table::{Cell, table};

pub(super) async fn run(context: &Context, command: &LibraryCommand) -> Result<Exit, Failure> {
    match command {
        LibraryCommand::Create(args) => create(context, args).await,
        LibraryCommand::Set(args) => set(context, args).await,
        LibraryCommand::Show(args) => one(context, args).await,
        LibraryCommand::List => {
            list(context, "libraries", (["LIBRARY", "MADE", "BY"], "no libraries"), |row| {
                let cell = |name| Cell::optional(text(row, name));
                [cell("name"), time(row, "created_at"), cell("created_by")]
            })
            .await
        }
    }
}

async fn create(context: &Context, args: &LibraryName) -> Result<Exit, Failure> {
    let request = Request::post(&["libraries"]).json(&json!({ "name": args.name }));
    let done = show(context, &request, |_| format!("library {} is made", args.name)).await?;
    if !context.output.is_json() {
        let next =
            format!("fill it with `longshore library set {0} NAME`, include it with `libraries: [{0}]`", args.name);
        context.output.message(&next);
    }
    Ok(done)
}

async fn set(context: &Context, args: &LibrarySet) -> Result<Exit, Failure> {
    let LibrarySet { library, name, secret, env, trim } = args.clone();
    let args = VariableSet { project: library, name, secret, env, channel: None, step: None, pool: None, trim };
    variable::put(context, &args, ("library", &["libraries", &args.project, "variables", &args.name])).await
}

async fn one(context: &Context, args: &LibraryName) -> Result<Exit, Failure> {
    let answer = context.client()?.json(&Request::get(&["libraries", &args.name]), Patience::SHORT).await?;
    if context.output.is_json() {
        context.output.json(&answer)?;
        return Ok(Exit::Done);
    }
    let lines: Vec<_> = rows(&answer, "variables")
        .iter()
        .map(|row| {
            let cell = |name| Cell::optional(text(row, name));
            let secret = row.get("secret").and_then(Value::as_bool) == Some(true);
            let value = if secret { Cell::optional(Some("[secret]".to_owned())) } else { cell("value") };
            [cell("name"), cell("environment"), value, time(row, "updated_at")]
        })
        .collect();
    if lines.is_empty() {
        context.output.message("no variables");
    } else {
        context.output.text(&table(["VARIABLE", "ENVIRONMENT", "VALUE", "SET"], &lines, context.output.paint()))?;
    }
    Ok(Exit::Done)
}
