//! `longshore pool`

use std::io::Read as _;
use std::path::Path;

use longshore_core::pool::Pool;
use serde_json::{Value, json};

use super::people::{list, show};
use super::{Context, pool_scaling, text};
use crate::args::pool::{PoolApply, PoolCommand};
use crate::client::Request;
use crate::client::retry::Patience;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::table::Cell;
use crate::output::time::moment;

/// Largest file of settings in bytes.
const MAX_FILE: u64 = 1 << 20;

pub(super) async fn run(context: &Context, command: &PoolCommand) -> Result<Exit, Failure> {
    match command {
        PoolCommand::List => {
            let headings = ["POOL", "AGENTS", "STATE", "FOR"];
            list(context, "pools", (headings, "no pools: no agent has joined and nothing was set"), row).await
        }
        PoolCommand::Show(args) => one(context, &args.pool).await,
        PoolCommand::Apply(args) => apply(context, args).await,
        PoolCommand::Scaling(args) => pool_scaling::run(context, &args.pool).await,
        PoolCommand::Pause(args) => pause(context, &args.pool, Some(&args.reason)).await,
        PoolCommand::Resume(args) => pause(context, &args.pool, None).await,
    }
}

fn row(pool: &Value) -> [Cell; 4] {
    let number = |name| pool.get(name).and_then(Value::as_u64).unwrap_or(0);
    let setting = |name| pool.get("settings").and_then(|settings| text(settings, name));
    let state = if setting("paused").is_some() { "paused" } else { "open" };
    [
        Cell::optional(text(pool, "name")),
        Cell::Text(format!("{} of {}", number("connected"), number("agents"))),
        Cell::State(state.to_owned()),
        Cell::optional(setting("description")),
    ]
}

async fn one(context: &Context, pool: &str) -> Result<Exit, Failure> {
    let answer = context.client()?.json(&Request::get(&["pools", pool]), Patience::SHORT).await?;
    if context.output.is_json() {
        context.output.json(&answer)?;
        return Ok(Exit::Done);
    }
    let settings = answer.get("settings").cloned().unwrap_or_else(|| json!({}));
    let file = toml::to_string(&settings).map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("the server's answer cannot be shown as a file: {error}; `-o json` shows it"),
        )
    })?;
    match (text(&answer, "revision"), text(&answer, "updated_by"), text(&answer, "updated_at")) {
        (Some(revision), Some(by), Some(at)) => {
            context.output.message(&format!("revision {revision}, set by {by} at {}", moment(&at)));
        }
        _ => context.output.message("nothing was ever set: it has the defaults"),
    }
    let file = file.trim_end();
    if !file.is_empty() {
        context.output.text(file)?;
    }
    Ok(Exit::Done)
}

async fn apply(context: &Context, args: &PoolApply) -> Result<Exit, Failure> {
    let (name, text) = read(&args.file)?;
    let wrong = |what: String| {
        Failure::usage(format!("the settings in `{name}` are wrong: {what}"))
            .untouched("nothing was sent to the server")
            .next("`longshore pool show` prints what is set, in the form that is asked for")
    };
    let settings: Pool = toml::from_str(&text).map_err(|error| wrong(error.to_string().trim_end().to_owned()))?;
    settings.check().map_err(|bad| wrong(bad.to_string()))?;
    put(context, &args.pool, &json!(settings), args.if_revision, "settings are applied").await
}

/// Only `paused` is changed, and only what was read is written back.
async fn pause(context: &Context, pool: &str, reason: Option<&str>) -> Result<Exit, Failure> {
    let known = context.client()?.json(&Request::get(&["pools", pool]), Patience::SHORT).await?;
    let mut settings = known.get("settings").cloned().unwrap_or_else(|| json!({}));
    if let Some(fields) = settings.as_object_mut() {
        match reason {
            Some(reason) => fields.insert("paused".to_owned(), json!(reason)),
            None => fields.remove("paused"),
        };
    }
    let words = if reason.is_some() { "is paused: no job starts there" } else { "is open: its jobs start" };
    put(context, pool, &settings, known.get("revision").and_then(Value::as_u64), words).await
}

async fn put(
    context: &Context,
    pool: &str,
    settings: &Value,
    if_revision: Option<u64>,
    words: &str,
) -> Result<Exit, Failure> {
    let request = Request::put(&["pools", pool]).query("if_revision", if_revision).json(settings);
    show(context, &request, |answer| {
        format!("pool {pool}: {words} (revision {})", text(answer, "revision").unwrap_or_default())
    })
    .await
}

/// The text of a file, or of standard input for `-`, with what to call it.
fn read(path: &Path) -> Result<(String, String), Failure> {
    let (name, source): (_, std::io::Result<Box<dyn std::io::Read>>) = if path.as_os_str() == "-" {
        ("standard input".to_owned(), Ok(Box::new(std::io::stdin().lock())))
    } else {
        (path.display().to_string(), std::fs::File::open(path).map(|file| Box::new(file) as _))
    };
    let mut text = String::new();
    let read = source.and_then(|source| source.take(MAX_FILE + 1).read_to_string(&mut text));
    let read = read.map_err(|error| {
        Failure::usage(format!("the settings `{name}` cannot be read: {error}"))
            .untouched("nothing was sent to the server")
    })?;
    if u64::try_from(read).unwrap_or(u64::MAX) > MAX_FILE {
        return Err(Failure::usage(format!("the settings `{name}` are larger than 1 MiB"))
            .untouched("nothing was sent to the server"));
    }
    Ok((name, text))
}
