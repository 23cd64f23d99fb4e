//! `longshore cancel`

use serde_json::json;

use super::{Context, deployment_id};
use crate::args::Id;
use crate::client::Request;
use crate::client::retry::Patience;
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;

pub(super) async fn run(context: &Context, args: &Id) -> Result<Exit, Failure> {
    deployment_id(&args.id)?;
    let body = json!({ "operation_id": clock::operation_id() });
    let request = Request::post(&["deployments", &args.id, "cancel"]).json(&body).repeatable();
    let answer = context.client()?.json(&request, Patience::SHORT).await.map_err(|error| {
        Failure::from(error).next(format!("see where it stands: `longshore deployment show {}`", args.id))
    })?;
    if context.output.is_json() {
        context.output.json(&answer)?;
    } else {
        context.output.text(&format!("{} is asked to stop", args.id))?;
        context.output.message(&format!(
            "its tool gets one SIGINT and time to end well; follow it: longshore logs {} -f",
            args.id
        ));
    }
    Ok(Exit::Done)
}
