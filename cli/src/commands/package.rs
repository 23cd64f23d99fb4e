//! `longshore package push` and `list`, and what `deploy` does with its package.

use std::path::Path;

use longshore_core::source::{Address, Protocol};
use longshore_source::git::{self, Means, Wanted};
use longshore_source::pack::{self, Package};
use serde_json::{Value, json};

use super::{Context, rows, text};
use crate::args::{PackageCommand, PackageList, PackagePush};
use crate::client::retry::Patience;
use crate::client::{Client, Found, Request, Sent};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::progress::Progress;
use crate::output::table::{Cell, table};
use crate::output::time::{moment, size};
use crate::signals::Signals;
use crate::tasks;

/// A package that is on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pushed {
    /// SHA-256, 64 lowercase hex digits.
    pub(super) sha256: String,
    /// Its length.
    pub(super) bytes: u64,
    /// How many files, folders and links it holds.
    pub(super) entries: usize,
}

pub(super) async fn run(context: &Context, command: &PackageCommand) -> Result<Exit, Failure> {
    match command {
        PackageCommand::Push(args) => push(context, args).await,
        PackageCommand::List(args) => list(context, args).await,
    }
}

async fn push(context: &Context, args: &PackagePush) -> Result<Exit, Failure> {
    if let Some(project) = &args.project {
        return make(context, project, args.reference.as_deref()).await;
    }
    let mut signals =
        Signals::listen().map_err(|error| Failure::new(Exit::Failed, format!("cannot listen for Ctrl-C: {error}")))?;
    let client = context.client()?;
    let mut progress = Progress::new(context.output);
    let done = tokio::select! {
        done = push_from(&client, &mut progress, args) => done,
        exit = signals.next() => Err(Failure::new(exit, "interrupted")),
    };
    let (Pushed { sha256, bytes, entries }, commit) = done.map_err(|failure| {
        failure
            .untouched("no package was stored, unless the upload was complete already")
            .next("push it again: it goes on from what has come")
    })?;
    if context.output.is_json() {
        let mut answer = json!({ "sha256": sha256, "bytes": bytes, "entries": entries });
        if let Some(commit) = commit {
            answer["commit"] = json!(commit);
        }
        context.output.json(&answer)?;
    } else {
        context.output.text(&sha256)?;
    }
    Ok(Exit::Done)
}

/// Lets the server make a package of a commit.
async fn make(context: &Context, project: &str, reference: Option<&str>) -> Result<Exit, Failure> {
    let body = reference.map_or_else(|| json!({}), |reference| json!({ "ref": reference }));
    // The same commit is the same package; how long it may take is for the server to say.
    let request = Request::post(&["projects", project, "packages"]).json(&body).repeatable();
    let made = context.client()?.json(&request.endless("application/json"), Patience::SHORT).await;
    let made = made.map_err(|error| Failure::from(error).untouched("no package was stored"))?;
    if context.output.is_json() {
        context.output.json(&made)?;
    } else {
        context.output.text(&text(&made, "sha256").unwrap_or_default())?;
        if let Some(source) = made.get("source").and_then(source) {
            context.output.message(&format!("it is {source}"));
        }
    }
    Ok(Exit::Done)
}

/// A commit that a package was made of, in words.
pub(super) fn source(source: &Value) -> Option<String> {
    let (url, reference, commit) = (text(source, "url")?, text(source, "ref")?, text(source, "commit")?);
    Some(format!("commit {commit} ({reference} of {url})"))
}

/// What is pushed, and of which commit it is.
async fn push_from(
    client: &Client,
    progress: &mut Progress,
    args: &PackagePush,
) -> Result<(Pushed, Option<String>), Failure> {
    if let Some(path) = &args.path {
        return Ok((upload(client, progress, path).await?, None));
    }
    let text = args.git.clone().unwrap_or_default();
    let allowed: &[Protocol] =
        if args.allow_file { &[Protocol::Https, Protocol::Ssh, Protocol::File] } else { &Protocol::SAFE };
    let address = Address::parse(&text, allowed).map_err(|error| {
        let next = match error {
            longshore_core::source::Error::Protocol(Protocol::File) => {
                "`--allow-file` takes a repository of this machine"
            }
            _ => "let a credential helper of git's, GIT_ASKPASS or an ssh key open it",
        };
        Failure::usage(error.to_string()).next(next)
    })?;
    let reference = args.reference.clone().unwrap_or_default();
    let wanted = Wanted { address, reference, dir: args.dir.clone() };
    progress.message(&format!("fetching {} of {}", wanted.reference, wanted.address));
    let checkout = git::check_out(&wanted, &Means::of_user()).await?;
    let folder = checkout.folder.clone();
    let pushed = packed(client, progress, &checkout.commit, move |meter| {
        pack::pack_checkout(&folder, &std::env::temp_dir(), meter)
    })
    .await?;
    progress.message(&format!("it is commit {}", checkout.commit));
    Ok((pushed, Some(checkout.commit)))
}

/// Packs a folder or an archive and makes sure that the server has the package.
pub(super) async fn upload(client: &Client, progress: &mut Progress, from: &Path) -> Result<Pushed, Failure> {
    let path = from.to_owned();
    packed(client, progress, &from.display().to_string(), move |meter| pack::pack(&path, meter)).await
}

/// Packs in one way or the other, and sends it unless the server has it.
async fn packed(
    client: &Client,
    progress: &mut Progress,
    what: &str,
    pack: impl FnOnce(&mut dyn FnMut(u64, u64)) -> Result<Package, pack::Error> + Send + 'static,
) -> Result<Pushed, Failure> {
    let meter = progress.bytes("pack", &format!("packing {what}"), 0);
    let packed = tasks::blocking(move || pack(&mut |done, total| meter.set_of(done, total))).await;
    let package = packed.map_err(|error| Failure::new(Exit::Failed, format!("packing stopped: {error}")))??;
    let Package { file, size: bytes, sha256, entries } = package;
    let things = if entries == 1 { "entry" } else { "entries" };
    let about = format!("package {} ({entries} {things}, {})", sha256.get(..12).unwrap_or(&sha256), size(bytes));
    let from = match client.find_package(&sha256, Patience::SHORT).await? {
        Found::Stored => {
            progress.clear();
            progress.message(&format!("{about} is on the server already"));
            return Ok(Pushed { sha256, bytes, entries });
        }
        Found::Part(from) => from.min(bytes),
    };
    if from > 0 {
        progress.message(&format!("going on with an upload that broke off: {} of it are there", size(from)));
    }
    let meter = progress.bytes("upload", &format!("uploading {}", size(bytes - from)), bytes);
    let package = Sent { sha256: &sha256, file: &file, size: bytes };
    client.upload_package(package, from, Patience::LONG, move |sent| meter.set(sent)).await?;
    progress.clear();
    progress.message(&format!("{about} is uploaded"));
    Ok(Pushed { sha256, bytes, entries })
}

async fn list(context: &Context, args: &PackageList) -> Result<Exit, Failure> {
    let request = Request::get(&["packages"]).query("limit", Some(args.limit));
    let list = context.client()?.json(&request, Patience::SHORT).await?;
    if context.output.is_json() {
        context.output.json(&list)?;
        return Ok(Exit::Done);
    }
    let packages = rows(&list, "packages");
    if packages.is_empty() {
        context.output.message("no packages yet; `longshore package push PATH` uploads one");
        return Ok(Exit::Done);
    }
    let rows: Vec<_> = packages.iter().map(row).collect();
    context.output.text(&table(["PACKAGE", "SIZE", "STORED", "BY", "SOURCE"], &rows, context.output.paint()))?;
    Ok(Exit::Done)
}

fn row(package: &Value) -> [Cell; 5] {
    [
        Cell::optional(text(package, "sha256")),
        Cell::optional(package.get("bytes").and_then(Value::as_u64).map(size)),
        Cell::optional(text(package, "created_at").map(|at| moment(&at))),
        Cell::optional(text(package, "created_by")),
        Cell::optional(package.get("source").and_then(source)),
    ]
}
