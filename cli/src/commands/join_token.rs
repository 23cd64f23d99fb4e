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
    if context.output.is_json() {
        context.output.json(&answer)?;
        return Ok(Exit::Done);
    }
    let token = answer.get("token").and_then(Value::as_str);
    context.output.text(token.ok_or_else(|| Failure::new(Exit::Failed, "the server's answer holds no token"))?)?;
    let until = text(&answer, "expires_at").map(|at| format!(" until {}", moment(&at))).unwrap_or_default();
    context.output.message(&format!("for one agent of pool {}, shown once, valid{until}", args.pool));
    context.output.message(
        "on its machine: put the token into a file, then `longshore-agent enroll --config FILE --token-file FILE`",
    );
    Ok(Exit::Done)
}
