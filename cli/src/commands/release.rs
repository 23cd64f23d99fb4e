//! `longshore release`, `longshore promote`, `longshore rollback`

use serde_json::{Value, json};

use super::package::source;
use super::people::list_of;
use super::{Context, package, text};
use crate::args::releases::{
    Promote, ReleaseBlock, ReleaseCommand, ReleaseCreate, ReleaseDiff, ReleaseList, ReleaseName, Rollback,
};
use crate::client::Request;
use crate::client::retry::Patience;
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::progress::Progress;
use crate::output::table::Cell;
use crate::output::time::{moment, size};

pub(super) async fn run(context: &Context, command: &ReleaseCommand) -> Result<Exit, Failure> {
    match command {
        ReleaseCommand::Create(args) => create(context, args).await,
        ReleaseCommand::Show(args) => show(context, args).await,
        ReleaseCommand::List(args) => releases(context, args).await,
        ReleaseCommand::Diff(args) => diff(context, args).await,
        ReleaseCommand::Block(args) => block(context, args).await,
        ReleaseCommand::Unblock(args) => unblock(context, args).await,
    }
}

async fn create(context: &Context, args: &ReleaseCreate) -> Result<Exit, Failure> {
    let client = context.client()?;
    let mut progress = Progress::new(context.output);
    let package = match &args.package {
        Some(folder) => {
            let prepared = package::upload(&client, &mut progress, folder).await;
            Some(prepared.map_err(|failure| failure.untouched("no release was made"))?.sha256)
        }
        None => None,
    };
    let mut body = json!({ "version": args.version, "package": package });
    if let Some(channel) = &args.channel {
        body["channel"] = json!(channel);
    }
    if let Some(reference) = &args.reference {
        body["ref"] = json!(reference);
    }
    // Without a package the server may have a commit to fetch, which has its own limit there.
    let request = Request::post(&["projects", &args.project, "releases"]).json(&body).endless("application/json");
    let made = client.json(&request, Patience::SHORT).await;
    let made = made.map_err(|error| Failure::from(error).untouched("no release was made"))?;
    let version = text(&made, "version").unwrap_or_default();
    if context.output.is_json() {
        let channel = made.get("channel");
        context.output.json(&json!({ "release": made.get("id"), "version": version, "channel": channel }))?;
    } else {
        context.output.text(&format!("release {version} of {}", args.project))?;
        context.output.message(&format!(
            "next: `longshore deploy {0} --release {version} --env E`, or `longshore promote {0} --release {version}`",
            args.project
        ));
    }
    Ok(Exit::Done)
}

async fn release(context: &Context, project: &str, version: &str) -> Result<Value, Failure> {
    let request = Request::get(&["projects", project, "releases", version]);
    Ok(context.client()?.json(&request, Patience::SHORT).await?)
}

async fn show(context: &Context, args: &ReleaseName) -> Result<Exit, Failure> {
    let release = release(context, &args.project, &args.version).await?;
    print(context, &release)?;
    Ok(Exit::Done)
}

fn print(context: &Context, release: &Value) -> Result<(), Failure> {
    if context.output.is_json() {
        return context.output.json(release);
    }
    context.output.text(lines(release).join("\n").as_str())
}

/// A release in lines, of which two can be compared.
fn lines(release: &Value) -> Vec<String> {
    let part = |name: &str| text(release, name).unwrap_or_default();
    let mut lines = vec![format!(
        "release {} of {} (revision {}, made {} by {})",
        part("version"),
        part("project"),
        part("revision"),
        moment(&part("created_at")),
        part("created_by")
    )];
    if let Some(reason) = text(release, "blocked") {
        lines.push(format!("BLOCKED: {reason}"));
    }
    lines.extend(held(release));
    lines
}

fn held(release: &Value) -> Vec<String> {
    let mut lines: Vec<String> = text(release, "channel").map(|name| format!("channel   {name}")).into_iter().collect();
    if let Some(package) = release.get("package").filter(|package| !package.is_null()) {
        let bytes = package.get("bytes").and_then(Value::as_u64).unwrap_or_default();
        lines.push(format!("package   {} ({})", text(package, "sha256").unwrap_or_default(), size(bytes)));
        lines.extend(package.get("source").and_then(source).map(|source| format!("source    {source}")));
    }
    for (reference, digest) in release.get("images").and_then(Value::as_object).into_iter().flatten() {
        lines.push(format!("image     {reference} {}", digest.as_str().unwrap_or_default()));
    }
    for step in release.get("steps").and_then(Value::as_array).into_iter().flatten() {
        let mut more: Vec<String> = ["image", "group", "when"]
            .iter()
            .filter_map(|name| Some(format!("{name} {}", text(step, name)?)))
            .collect();
        if let Some(child) = step.get("child").filter(|child| !child.is_null()) {
            let part = |name| text(child, name).unwrap_or_default();
            more.push(format!("release {} of {}", part("version"), part("project")));
        }
        let (name, kind) = (text(step, "name").unwrap_or_default(), text(step, "kind").unwrap_or_default());
        lines.push(format!("step      {name} ({kind}) {}", more.join(", ")).trim_end().to_owned());
    }
    for variable in release.get("variables").and_then(Value::as_array).into_iter().flatten() {
        let scope = text(variable, "environment").map(|name| format!(" in {name}")).unwrap_or_default();
        let value = match (variable.get("secret").and_then(Value::as_bool), text(variable, "value")) {
            (Some(true), _) => "[secret]".to_owned(),
            (_, value) => value.unwrap_or_else(|| "-".to_owned()),
        };
        if let Some(account) = text(variable, "account") {
            lines.push(format!("account   {account}.{}{scope} = {value}", text(variable, "name").unwrap_or_default()));
            continue;
        }
        let scope = match text(variable, "library") {
            Some(library) => format!("{scope} of library {library}"),
            None => scope,
        };
        lines.push(format!("variable  {}{scope} = {value}", text(variable, "name").unwrap_or_default()));
    }
    lines
}

async fn diff(context: &Context, args: &ReleaseDiff) -> Result<Exit, Failure> {
    let from = release(context, &args.project, &args.from).await?;
    let to = release(context, &args.project, &args.to).await?;
    let (before, after) = (held(&from), held(&to));
    let gone: Vec<_> = before.iter().filter(|line| !after.contains(line)).cloned().collect();
    let new: Vec<_> = after.iter().filter(|line| !before.contains(line)).cloned().collect();
    let revisions = (text(&from, "revision"), text(&to, "revision"));
    if context.output.is_json() {
        let channel = json!({ "from": from.get("channel"), "to": to.get("channel") });
        context.output.json(&json!({ "from": args.from, "to": args.to, "revision": { "from": revisions.0, "to": revisions.1 }, "channel": channel, "removed": gone, "added": new }))?;
        return Ok(Exit::Done);
    }
    let mut lines: Vec<String> = gone.iter().map(|line| format!("- {line}")).collect();
    lines.extend(new.iter().map(|line| format!("+ {line}")));
    if revisions.0 != revisions.1 {
        lines.push(format!(
            "~ spec: revision {} -> {}",
            revisions.0.unwrap_or_default(),
            revisions.1.unwrap_or_default()
        ));
    }
    context.output.text(&if lines.is_empty() { "both hold the same".to_owned() } else { lines.join("\n") })?;
    Ok(Exit::Done)
}

async fn releases(context: &Context, args: &ReleaseList) -> Result<Exit, Failure> {
    let request = Request::get(&["projects", &args.project, "releases"])
        .query("limit", Some(args.limit))
        .query("channel", args.channel.as_deref())
        .query("before", args.before.as_deref())
        .query("local", args.local.then_some(true));
    let head = ["VERSION", "CHANNEL", "REVISION", "MADE", "BY", "BLOCKED"];
    list_of(context, &request, "releases", (head, "no releases"), |row| {
        let cell = |name| Cell::optional(text(row, name));
        let made = Cell::optional(text(row, "created_at").map(|at| moment(&at)));
        [cell("version"), cell("channel"), cell("revision"), made, cell("created_by"), cell("blocked")]
    })
    .await
}

async fn block(context: &Context, args: &ReleaseBlock) -> Result<Exit, Failure> {
    let request = Request::post(&["projects", &args.project, "releases", &args.version, "block"]);
    let request = request.json(&json!({ "reason": args.reason })).repeatable();
    changed(context, &request, &format!("release {} of {} is blocked", args.version, args.project)).await
}

async fn unblock(context: &Context, args: &ReleaseName) -> Result<Exit, Failure> {
    let request = Request::post(&["projects", &args.project, "releases", &args.version, "unblock"]).repeatable();
    changed(context, &request, &format!("release {} of {} may be deployed", args.version, args.project)).await
}

async fn changed(context: &Context, request: &Request, words: &str) -> Result<Exit, Failure> {
    let release = context.client()?.json(request, Patience::SHORT).await?;
    if context.output.is_json() {
        context.output.json(&release)?;
    } else {
        context.output.text(words)?;
    }
    Ok(Exit::Done)
}

pub(super) async fn promote(context: &Context, args: &Promote) -> Result<Exit, Failure> {
    let variables: serde_json::Map<String, Value> =
        args.variables.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let body = json!({ "operation_id": clock::operation_id(), "variables": variables });
    let request =
        Request::post(&["projects", &args.project, "releases", &args.release, "promote"]).json(&body).repeatable();
    let answer = context.client()?.json(&request, Patience::SHORT).await;
    let answer = answer.map_err(|error| Failure::from(error).untouched("nothing was deployed"))?;
    if context.output.is_json() {
        context.output.json(&answer)?;
        return Ok(Exit::Done);
    }
    let phase = text(&answer, "phase").unwrap_or_default();
    let mut lines = vec![format!("release {} goes to phase {phase}", args.release)];
    for row in answer.get("deployments").and_then(Value::as_array).into_iter().flatten() {
        let cell = |name| text(row, name).unwrap_or_default();
        lines.push(format!("{} to {}", cell("deployment"), cell("environment")));
    }
    context.output.text(&lines.join("\n"))?;
    Ok(Exit::Done)
}

pub(super) async fn rollback(context: &Context, args: &Rollback) -> Result<Exit, Failure> {
    let body = json!({ "environment": args.env, "operation_id": clock::operation_id() });
    let request = Request::post(&["projects", &args.project, "rollback"]).json(&body).repeatable();
    let answer = context.client()?.json(&request, Patience::SHORT).await;
    let answer = answer.map_err(|error| Failure::from(error).untouched("nothing was deployed"))?;
    if context.output.is_json() {
        context.output.json(&answer)?;
        return Ok(Exit::Done);
    }
    let cell = |name| text(&answer, name).unwrap_or_default();
    context.output.text(&cell("deployment"))?;
    context.output.message(&format!(
        "{} goes back to release {}; follow it: longshore logs {} -f",
        args.env,
        cell("release"),
        cell("deployment")
    ));
    Ok(Exit::Done)
}
