//! `longshore apply`: a project, created or updated from its spec.

use serde_json::Value;

use super::Context;
use super::spec_file::{SpecFile, mistakes};
use crate::args::Apply;
use crate::client::retry::Patience;
use crate::client::{Client, Error, Request};
use crate::exit::Exit;
use crate::failure::Failure;

pub(super) async fn run(context: &Context, args: &Apply) -> Result<Exit, Failure> {
    let output = context.output;
    let file = SpecFile::read(&args.file)?;
    let project = match file.check() {
        Ok(project) => project.name,
        Err(errors) => {
            output.message(&file.explain(&errors, output.paint_messages()));
            return Err(Failure::usage(format!("{} in `{}`", mistakes(errors.len()), file.name))
                .untouched("nothing was sent to the server"));
        }
    };
    let client = context.client()?;
    let answer = put(context, &client, &project, &file).await?;
    if output.is_json() {
        output.json(&answer)?;
        return Ok(Exit::Done);
    }
    let revision = answer.get("revision").map(Value::to_string).unwrap_or_default();
    let changed = answer.get("changed").and_then(Value::as_bool).unwrap_or(true);
    let verdict = if changed { "applied" } else { "already as in the file" };
    output.text(&format!("project {project}: {verdict} (revision {revision})"))?;
    Ok(Exit::Done)
}

async fn put(context: &Context, client: &Client, project: &str, file: &SpecFile) -> Result<Value, Failure> {
    let request = Request::put(&["projects", project]).yaml(file.bytes.clone());
    client.json(&request, Patience::SHORT).await.map_err(|error| {
        if let Error::Refused(problem) = &error {
            if !problem.errors.is_empty() {
                context.output.message(&file.explain(&problem.errors, context.output.paint_messages()));
            }
            // Whatever the server finds wrong with a spec is the spec's fault, as when it is found here.
            if problem.status == 422 {
                return Failure::from(error)
                    .with_exit(Exit::Usage)
                    .untouched(format!("project `{project}` is as it was"));
            }
        }
        Failure::from(error)
            .untouched(format!("project `{project}` is as it was, unless the answer was lost; applying again is safe"))
    })
}
