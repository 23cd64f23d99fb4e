//! `longshore apply`: a project, created or updated from its spec.
//!
//! What would change is shown first. On a terminal it is asked whether that is meant, and then nothing but that is done: the request
//! names the revision that was compared. Elsewhere nothing is ever asked.

use std::io::{self, IsTerminal as _, Write as _};

use longshore_core::spec::{Change, Project, diff};
use serde_json::{Value, json};

use super::spec_diff::render;
use super::spec_file::{SpecFile, mistakes};
use super::{Context, text};
use crate::args::Apply;
use crate::client::retry::Patience;
use crate::client::{Client, Error, Request};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::time::moment;
use crate::signals::Signals;
use crate::tasks;

/// What the server has.
pub(super) struct Known {
    /// 0: there is no such project.
    pub(super) revision: u64,
    /// `alice at 2026-11-21 10:00:00Z`.
    made_by: String,
    /// `None`: there is none, or this program does not understand it.
    pub(super) spec: Option<Project>,
}

pub(super) async fn run(context: &Context, args: &Apply) -> Result<Exit, Failure> {
    let output = context.output;
    let file = SpecFile::read(&args.file)?;
    let project = match file.check() {
        Ok(project) => project,
        Err(errors) => {
            output.message(&file.explain(&errors, output.paint_messages()));
            return Err(Failure::usage(format!("{} in `{}`", mistakes(errors.len()), file.name))
                .untouched("nothing was sent to the server"));
        }
    };
    let name = project.name.as_str();
    let client = context.client()?;
    let known = known(&client, name).await.map_err(|failure| failure.untouched(as_it_was(name)))?;
    let changes = match (known.revision, &known.spec) {
        (0, _) => Some(diff(None, &project)),
        (_, Some(before)) => Some(diff(Some(before), &project)),
        // A newer server has fields that this program does not know.
        (_, None) => None,
    };
    if args.dry_run {
        return dry_run(context, args, &known, name, changes.as_deref());
    }
    let shown = show(&known, name, changes.as_deref(), output.paint_messages());
    let changed = changes.as_ref().is_none_or(|changes| !changes.is_empty());
    if changed {
        output.message(&shown);
    }
    let mut if_revision = args.if_revision;
    if changed && !args.yes && io::stdin().is_terminal() && output.is_watched() {
        check(args.if_revision, &known, name)?;
        if !agreed().await? {
            return Err(Failure::new(Exit::Canceled, "not applied").untouched(as_it_was(name)));
        }
        if_revision = Some(known.revision);
    }
    let answer = put(context, &client, name, &file, if_revision).await?;
    if output.is_json() {
        output.json(&answer)?;
        return Ok(Exit::Done);
    }
    let revision = answer.get("revision").map(Value::to_string).unwrap_or_default();
    let changed = answer.get("changed").and_then(Value::as_bool).unwrap_or(true);
    let verdict = if changed { "applied" } else { "already as in the file" };
    output.text(&format!("project {name}: {verdict} (revision {revision})"))?;
    Ok(Exit::Done)
}

fn as_it_was(name: &str) -> String {
    format!("project `{name}` is as it was")
}

/// The newest spec on the server.
pub(super) async fn known(client: &Client, name: &str) -> Result<Known, Failure> {
    match client.json(&Request::get(&["projects", name, "spec"]), Patience::SHORT).await {
        Ok(answer) => {
            let at = text(&answer, "created_at").map(|at| moment(&at)).unwrap_or_default();
            let by = text(&answer, "created_by").unwrap_or_default();
            Ok(Known {
                revision: answer.get("revision").and_then(Value::as_u64).unwrap_or_default(),
                made_by: format!("{by} at {at}"),
                spec: answer.get("spec").and_then(|spec| serde_json::from_value(spec.clone()).ok()),
            })
        }
        Err(Error::Refused(problem)) if problem.code == "not_found" => {
            Ok(Known { revision: 0, made_by: String::new(), spec: None })
        }
        Err(error) => Err(error.into()),
    }
}

/// What would change, under a line that says between what.
pub(super) fn show(
    known: &Known,
    name: &str,
    changes: Option<&[Change]>,
    paint: crate::output::paint::Paint,
) -> String {
    let head = match known.revision {
        0 => format!("project {name} is new:"),
        revision => format!("project {name}, from revision {revision} (by {}) to the file:", known.made_by),
    };
    let body = match changes {
        Some([]) => "  no change".to_owned(),
        Some(changes) => render(changes, paint),
        None => "  what changes cannot be shown: the server is newer than this program".to_owned(),
    };
    format!("{}\n{body}", paint.bold(&head))
}

fn dry_run(
    context: &Context,
    args: &Apply,
    known: &Known,
    name: &str,
    changes: Option<&[Change]>,
) -> Result<Exit, Failure> {
    let output = context.output;
    let changed = changes.is_none_or(|changes| !changes.is_empty());
    if changed {
        check(args.if_revision, known, name)?;
    }
    if output.is_json() {
        output.json(&json!({ "project": name, "revision": known.revision, "changed": changed, "dry_run": true, "changes": changes }))?;
    } else {
        output.text(&show(known, name, changes, output.paint()))?;
    }
    Ok(Exit::Done)
}

/// The server's own rule, said before anybody is asked. The server checks again.
fn check(wanted: Option<u64>, known: &Known, name: &str) -> Result<(), Failure> {
    if wanted.is_none_or(|wanted| wanted == known.revision) {
        return Ok(());
    }
    let now = match known.revision {
        0 => "does not exist".to_owned(),
        revision => format!("is at revision {revision}, made by {}", known.made_by),
    };
    Err(Failure::new(Exit::Refused, format!("project `{name}` {now}"))
        .untouched(as_it_was(name))
        .next("look at what changed (`longshore apply --dry-run`), bring it into the file, and apply again with the newest revision"))
}

/// Asks at the terminal. Anything but yes is no.
async fn agreed() -> Result<bool, Failure> {
    let failed = |error: io::Error| Failure::new(Exit::Failed, format!("the terminal cannot be read: {error}"));
    let mut signals = Signals::listen().map_err(failed)?;
    let _nobody_reads = write!(io::stderr(), "apply? [y/N] ").and_then(|()| io::stderr().flush());
    let typed = tasks::blocking(|| {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|_| line)
    });
    let line = tokio::select! {
        line = typed => line.and_then(|line| line).map_err(failed)?,
        exit = signals.next() => return Err(Failure::new(exit, "interrupted").untouched("nothing was applied")),
    };
    Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

async fn put(
    context: &Context,
    client: &Client,
    project: &str,
    file: &SpecFile,
    if_revision: Option<u64>,
) -> Result<Value, Failure> {
    let request = Request::put(&["projects", project]).yaml(file.bytes.clone()).query("if_revision", if_revision);
    client.json(&request, Patience::SHORT).await.map_err(|error| {
        if let Error::Refused(problem) = &error {
            if !problem.errors.is_empty() {
                context.output.message(&file.explain(&problem.errors, context.output.paint_messages()));
            }
            // Whatever the server finds wrong with a spec is the spec's fault, as when it is found here.
            if problem.status == 422 {
                return Failure::from(error).with_exit(Exit::Usage).untouched(as_it_was(project));
            }
            if problem.status == 409 {
                return Failure::from(error).untouched(as_it_was(project));
            }
        }
        Failure::from(error)
            .untouched(format!("project `{project}` is as it was, unless the answer was lost; applying again is safe"))
    })
}
