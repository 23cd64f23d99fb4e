//! `longshore join-token create`

use longshore_core::spec::duration;
use serde_json::{Value, json};

use super::{Context, text};
use crate::args::JoinTokenCreate;
use crate::client::Request;
use crate::client::retry::Patience;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::time::moment;

pub(super) async fn create(context: &Context, args: &JoinTokenCreate) -> Result<Exit, Failure> {
    let mut body = json!({ "pool": args.pool });
    if let Some(time) = args.expires_in {
        body["expires_in"] = json!(duration::format(time));
    }
    let answer = context.client()?.json(&Request::post(&["join-tokens"]).json(&body), Patience::SHORT).await?;
    if let Some(file) = &args.ca_file {
        let pem = answer.get("ca_pem").and_then(Value::as_str).unwrap_or_default();
        std::fs::write(file, pem).map_err(|error| {
            Failure::new(Exit::Failed, format!("the certificate cannot be written to `{}`: {error}", file.display()))
                .untouched("the token that was made is not shown and ends by itself")
        })?;
    }
    if context.output.is_json() {
        context.output.json(&answer)?;
        return Ok(Exit::Done);
    }
    let token = answer.get("token").and_then(Value::as_str);
    context.output.text(token.ok_or_else(|| Failure::new(Exit::Failed, "the server's answer holds no token"))?)?;
    let until = text(&answer, "expires_at").map(|at| format!(" until {}", moment(&at))).unwrap_or_default();
    context.output.message(&format!("for one agent of pool {}, shown once, valid{until}", args.pool));
    let ca = if args.ca_file.is_some() { "" } else { " (--ca-file gives the file for its `ca_file`)" };
    context.output.message(&format!(
        "on its machine: put the token into a file, then `longshore-agent enroll --config FILE --token-file FILE`{ca}"
    ));
    Ok(Exit::Done)
}
