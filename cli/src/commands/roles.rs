//! `longshore role`, `longshore token`

use longshore_core::id::{GrantId, InvalidId, TokenId};
use longshore_core::spec::duration;
use serde_json::{Value, json};

use super::people::{list, show, time};
use super::{Context, text};
use crate::args::people::{RoleCommand, RoleGrant, TokenCommand, TokenCreate};
use crate::client::Request;
use crate::client::retry::Patience;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::table::Cell;
use crate::output::time::moment;

pub(super) async fn role(context: &Context, command: &RoleCommand) -> Result<Exit, Failure> {
    match command {
        RoleCommand::Grant(args) => grant(context, args).await,
        RoleCommand::List => list_roles(context).await,
        RoleCommand::Revoke(args) => {
            let id: GrantId = args.id.parse().map_err(|error| bad_id(&error, "role list"))?;
            let request = Request::delete(&["role-grants", &id.to_string()]);
            show(context, &request, |role| format!("{} has the role {} no more", subject(role), in_words(role))).await
        }
    }
}

pub(super) async fn token(context: &Context, command: &TokenCommand) -> Result<Exit, Failure> {
    match command {
        TokenCommand::Create(args) => create_token(context, args).await,
        TokenCommand::List => list_tokens(context).await,
        TokenCommand::Revoke(args) => {
            let id: TokenId = args.id.parse().map_err(|error| bad_id(&error, "token list"))?;
            let request = Request::delete(&["tokens", &id.to_string()]).repeatable();
            context.client()?.send(&request, Patience::SHORT).await?;
            if context.output.is_json() {
                context.output.json(&json!({ "id": id }))?;
            } else {
                context.output.text(&format!("{id} counts no more"))?;
            }
            Ok(Exit::Done)
        }
    }
}

fn bad_id(error: &InvalidId, command: &str) -> Failure {
    Failure::usage(error.to_string()).next(format!("`longshore {command}` shows the ids"))
}

/// A role and where it holds.
pub(super) fn in_words(role: &Value) -> String {
    let name = text(role, "role").unwrap_or_default();
    match (text(role, "project"), text(role, "environment")) {
        (None, None) => format!("{name} everywhere"),
        (Some(project), None) => format!("{name} in project {project}"),
        (Some(project), Some(environment)) => format!("{name} in environment {environment} of project {project}"),
        (None, Some(environment)) => format!("{name} in environment {environment} of every project"),
    }
}

fn subject(role: &Value) -> String {
    match (text(role, "user"), text(role, "team")) {
        (Some(user), _) => format!("user {user}"),
        (None, team) => format!("team {}", team.unwrap_or_default()),
    }
}

async fn grant(context: &Context, args: &RoleGrant) -> Result<Exit, Failure> {
    let body = json!({ "user": args.user, "team": args.team, "role": args.role, "project": args.project, "environment": args.env });
    // The same role given twice is one.
    let request = Request::post(&["role-grants"]).json(&body).repeatable();
    show(context, &request, |role| format!("{} has the role {}", subject(role), in_words(role))).await
}

async fn list_roles(context: &Context) -> Result<Exit, Failure> {
    let headings = (["ID", "WHO", "ROLE", "PROJECT", "ENVIRONMENT", "GIVEN", "BY"], "no roles that you administer");
    list(context, "role-grants", headings, |role| {
        let all = |name| Cell::from(text(role, name).unwrap_or_else(|| "all".to_owned()));
        let cell = |name| Cell::optional(text(role, name));
        let who = subject(role).into();
        [
            cell("id"),
            who,
            cell("role"),
            all("project"),
            all("environment"),
            time(role, "created_at"),
            cell("created_by"),
        ]
    })
    .await
}

async fn create_token(context: &Context, args: &TokenCreate) -> Result<Exit, Failure> {
    let body = json!({
        "user": args.user,
        "expires_in": args.expires.map(duration::format),
        "role": args.role,
        "project": args.project,
        "environment": args.env,
    });
    let answer = context.client()?.json(&Request::post(&["tokens"]).json(&body), Patience::SHORT).await?;
    if context.output.is_json() {
        context.output.json(&answer)?;
        return Ok(Exit::Done);
    }
    let token = answer.get("token").and_then(Value::as_str);
    context.output.text(token.ok_or_else(|| Failure::new(Exit::Failed, "the server's answer holds no token"))?)?;
    let id = text(&answer, "id").unwrap_or_default();
    let until = text(&answer, "expires_at").map(|at| format!(" until {}", moment(&at))).unwrap_or_default();
    context.output.message(&format!("{id} of user {}, shown once, valid{until}", args.user));
    Ok(Exit::Done)
}

async fn list_tokens(context: &Context) -> Result<Exit, Failure> {
    let headings = (["TOKEN", "USER", "LIMIT", "MADE", "ENDS"], "no tokens");
    list(context, "tokens", headings, |token| {
        let cell = |name| Cell::optional(text(token, name));
        let limit = Cell::optional(token.get("limit").filter(|limit| limit.is_object()).map(in_words));
        [cell("id"), cell("user"), limit, time(token, "created_at"), time(token, "expires_at")]
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_told_with_its_place() {
        let words = |project: Option<&str>, environment: Option<&str>| {
            in_words(&json!({ "role": "viewer", "project": project, "environment": environment }))
        };
        assert_eq!(words(None, None), "viewer everywhere");
        assert_eq!(words(Some("shop"), None), "viewer in project shop");
        assert_eq!(words(Some("shop"), Some("dev")), "viewer in environment dev of project shop");
        assert_eq!(words(None, Some("dev")), "viewer in environment dev of every project");
    }
}
