//! `longshore artifact ...`

mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Context, deployment_id, rows, text};
use crate::args::artifacts::{ArtifactCommand, ArtifactDownload};
use crate::client::retry::Patience;
use crate::client::stream::Stream;
use crate::client::{Client, Request};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::table::{Cell, table};
use crate::output::time::size;
use target::{Target, place};

pub(super) async fn run(context: &Context, command: &ArtifactCommand) -> Result<Exit, Failure> {
    match command {
        ArtifactCommand::List(args) => list(context, &args.id).await,
        ArtifactCommand::Download(args) => download(context, args).await,
    }
}

async fn fetch(client: &Client, id: &str) -> Result<Value, Failure> {
    let id = deployment_id(id)?.to_string();
    Ok(client.json(&Request::get(&["deployments", &id, "artifacts"]), Patience::SHORT).await?)
}

async fn list(context: &Context, id: &str) -> Result<Exit, Failure> {
    let answer = fetch(&context.client()?, id).await?;
    if context.output.is_json() {
        context.output.json(&answer)?;
        return Ok(Exit::Done);
    }
    let origin = |row: &Value, name| Cell::optional(text(row, name));
    let kept: Vec<_> = rows(&answer, "artifacts")
        .iter()
        .map(|row| {
            let bytes = row.get("bytes").and_then(Value::as_u64).map(size);
            let cell = |name| origin(row, name);
            [cell("step"), cell("try"), cell("kind"), cell("path"), Cell::optional(bytes), cell("sha256")]
        })
        .collect();
    if kept.is_empty() {
        context.output.message("no files were kept");
    } else {
        let headings = ["STEP", "TRY", "KIND", "PATH", "SIZE", "SHA-256"];
        context.output.text(&table(headings, &kept, context.output.paint()))?;
    }
    let left: Vec<_> = rows(&answer, "left_out")
        .iter()
        .map(|row| {
            let cell = |name| origin(row, name);
            let path = text(row, "path").filter(|path| !path.is_empty());
            let path = path.unwrap_or_else(|| format!("({} files)", text(row, "count").unwrap_or_default()));
            [cell("step"), cell("try"), Cell::optional(Some(path)), cell("reason"), cell("message")]
        })
        .collect();
    if !left.is_empty() {
        let headings = ["STEP", "TRY", "LEFT OUT", "REASON", "WHY"];
        context.output.text(&format!("\n{}", table(headings, &left, context.output.paint())))?;
    }
    Ok(Exit::Done)
}

/// One file that is to be downloaded.
#[derive(Debug)]
struct Wanted {
    id: String,
    step: String,
    path: String,
    bytes: u64,
    sha256: String,
    state: bool,
    file: PathBuf,
}

async fn download(context: &Context, args: &ArtifactDownload) -> Result<Exit, Failure> {
    let client = context.client()?;
    let answer = fetch(&client, &args.id).await?;
    let wanted = choose(args, rows(&answer, "artifacts"))?;
    // Everything is looked at before the first byte is written.
    let places = wanted.iter().map(|one| place(&args.to, &one.file, args.force));
    let places = places.collect::<Result<Vec<_>, _>>()?;
    let mut done = Vec::new();
    for (one, path) in wanted.iter().zip(places) {
        get(&client, args, one, &path).await?;
        if !context.output.is_json() {
            context.output.text(&path.display().to_string())?;
        }
        done.push(json!({
            "step": one.step, "path": one.path, "file": path, "bytes": one.bytes, "sha256": one.sha256,
        }));
    }
    if context.output.is_json() {
        context.output.json(&json!({ "files": done }))?;
    }
    Ok(Exit::Done)
}

/// Picks from the list what was asked for, and says where each goes below the folder.
fn choose(args: &ArtifactDownload, list: &[Value]) -> Result<Vec<Wanted>, Failure> {
    let try_of = |row: &Value| row.get("try").and_then(Value::as_u64).unwrap_or(1);
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for row in list {
        let newest = last.entry(text(row, "step").unwrap_or_default()).or_default();
        *newest = try_of(row).max(*newest);
    }
    let mut wanted = Vec::new();
    for row in list {
        let cell = |name| text(row, name).unwrap_or_default();
        let (step, path, state) = (cell("step"), cell("path"), cell("kind") == "state");
        let number = args.number.map(u64::from).or_else(|| last.get(&step).copied());
        let named = args.paths.contains(&path);
        let asked = named || (args.paths.is_empty() && !state);
        if !asked || args.step.as_ref().is_some_and(|only| *only != step) || number != Some(try_of(row)) {
            continue;
        }
        let file = target::below(args.step.is_none().then_some(step.as_str()), &path)?;
        let bytes = row.get("bytes").and_then(Value::as_u64).unwrap_or(0);
        wanted.push(Wanted { id: cell("id"), step, path, bytes, sha256: cell("sha256"), state, file });
    }
    let missing = args.paths.iter().find(|path| !wanted.iter().any(|one| one.path == **path));
    if let Some(what) = missing.cloned().or_else(|| wanted.is_empty().then(|| "any file".to_owned())) {
        return Err(Failure::new(Exit::Refused, format!("the deployment left no `{what}` that was asked for"))
            .untouched("nothing was written")
            .next(format!("`longshore artifact list {}` shows what there is, and what was left out", args.id)));
    }
    let mut files = BTreeSet::new();
    if let Some(twice) = wanted.iter().find(|one| !files.insert(&one.file)) {
        return Err(Failure::usage(format!("two files would become `{}`", twice.file.display()))
            .untouched("nothing was written")
            .next("name one step with --step, or one try with --try"));
    }
    Ok(wanted)
}

async fn get(client: &Client, args: &ArtifactDownload, one: &Wanted, path: &std::path::Path) -> Result<(), Failure> {
    let untouched = |failure: Failure| failure.untouched(format!("`{}` is as it was", path.display()));
    let mut target = Target::open(path, one.state).map_err(untouched)?;
    let request = Request::get(&["deployments", &args.id, "artifacts", &one.id]).endless("application/octet-stream");
    let mut stream = Stream::of(client, request);
    while let Some(chunk) = stream.next().await.map_err(|error| untouched(error.into()))? {
        target.write(&chunk).map_err(untouched)?;
    }
    target.finish((one.bytes, &one.sha256), args.force).map_err(untouched)
}
