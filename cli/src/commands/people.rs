//! `longshore user`, `longshore team`, `longshore whoami`

use serde_json::{Value, json};

use super::{Context, rows, text};
use crate::args::people::{Membership, TeamCommand, TeamCreate, UserCommand, UserCreate};
use crate::client::Request;
use crate::client::retry::Patience;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::table::{Cell, table};
use crate::output::time::moment;

pub(super) async fn user(context: &Context, command: &UserCommand) -> Result<Exit, Failure> {
    match command {
        UserCommand::Create(args) => create_user(context, args).await,
        UserCommand::List => list_users(context).await,
        UserCommand::Disable(args) => enable(context, &args.name, false).await,
        UserCommand::Enable(args) => enable(context, &args.name, true).await,
    }
}

pub(super) async fn team(context: &Context, command: &TeamCommand) -> Result<Exit, Failure> {
    match command {
        TeamCommand::Create(args) => create_team(context, args).await,
        TeamCommand::Add(args) => member(context, args, true).await,
        TeamCommand::Remove(args) => member(context, args, false).await,
        TeamCommand::List => list_teams(context).await,
    }
}

/// Makes a call and shows its answer, for people as `words` of it.
pub(super) async fn show(
    context: &Context,
    request: &Request,
    words: impl FnOnce(&Value) -> String,
) -> Result<Exit, Failure> {
    let answer = context.client()?.json(request, Patience::SHORT).await?;
    if context.output.is_json() {
        context.output.json(&answer)?;
    } else {
        context.output.text(&words(&answer))?;
    }
    Ok(Exit::Done)
}

/// Makes a call and shows its list as a table; `none` is said when it is empty.
pub(super) async fn list<const N: usize>(
    context: &Context,
    path: &str,
    (headings, none): ([&str; N], &str),
    row: fn(&Value) -> [Cell; N],
) -> Result<Exit, Failure> {
    list_of(context, &Request::get(&[path]), path, (headings, none), row).await
}

/// Makes a call that answers a list, bare or under `name`, and shows it as a table; `none` is said when it is empty.
pub(super) async fn list_of<const N: usize>(
    context: &Context,
    request: &Request,
    name: &str,
    (headings, none): ([&str; N], &str),
    row: fn(&Value) -> [Cell; N],
) -> Result<Exit, Failure> {
    let answer = context.client()?.json(request, Patience::SHORT).await?;
    if context.output.is_json() {
        context.output.json(&answer)?;
        return Ok(Exit::Done);
    }
    let rows: Vec<_> = rows(&answer, name).iter().map(row).collect();
    if rows.is_empty() {
        context.output.message(none);
    } else {
        context.output.text(&table(headings, &rows, context.output.paint()))?;
    }
    Ok(Exit::Done)
}

/// A cell with a point in time.
pub(super) fn time(row: &Value, name: &str) -> Cell {
    Cell::optional(text(row, name).map(|at| moment(&at)))
}

/// Names of a list in a row.
fn names(row: &Value, name: &str) -> String {
    rows(row, name).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

async fn create_user(context: &Context, args: &UserCreate) -> Result<Exit, Failure> {
    let request = Request::post(&["users"]).json(&json!({ "name": args.name, "service": args.service }));
    let done = show(context, &request, |_| format!("user {} is made", args.name)).await?;
    if !context.output.is_json() {
        let next = format!("give it a role: `longshore role grant --user {} ROLE`", args.name);
        context.output.message(&format!("it may do nothing yet; {next}"));
    }
    Ok(done)
}

async fn list_users(context: &Context) -> Result<Exit, Failure> {
    let headings = (["USER", "KIND", "MADE", "DISABLED"], "no users");
    list(context, "users", headings, |user| {
        let cell = |name| Cell::optional(text(user, name));
        [cell("name"), cell("kind"), time(user, "created_at"), time(user, "disabled_at")]
    })
    .await
}

async fn enable(context: &Context, name: &str, enabled: bool) -> Result<Exit, Failure> {
    let (verb, words) =
        if enabled { ("enable", "its tokens count again") } else { ("disable", "its tokens count no more") };
    show(context, &Request::post(&["users", name, verb]), |_| format!("user {name} is {verb}d; {words}")).await
}

async fn create_team(context: &Context, args: &TeamCreate) -> Result<Exit, Failure> {
    let request = Request::post(&["teams"]).json(&json!({ "name": args.name, "members": args.members }));
    show(context, &request, in_words).await
}

fn in_words(team: &Value) -> String {
    let name = text(team, "name").unwrap_or_default();
    match names(team, "members").as_str() {
        "" => format!("team {name}: nobody"),
        members => format!("team {name}: {members}"),
    }
}

async fn member(context: &Context, args: &Membership, is_in: bool) -> Result<Exit, Failure> {
    let path = ["teams", &args.team, "members", &args.user];
    let request = if is_in { Request::put(&path) } else { Request::delete(&path).repeatable() };
    show(context, &request, in_words).await
}

async fn list_teams(context: &Context) -> Result<Exit, Failure> {
    let headings = (["TEAM", "MEMBERS"], "no teams yet; `longshore team create NAME --member USER` makes one");
    list(context, "teams", headings, |team| [Cell::optional(text(team, "name")), names(team, "members").into()]).await
}

pub(super) async fn whoami(context: &Context) -> Result<Exit, Failure> {
    show(context, &Request::get(&["whoami"]), |who| {
        let mut lines = vec![format!("user {}", text(who, "user").unwrap_or_default())];
        lines.extend(Some(names(who, "teams")).filter(|teams| !teams.is_empty()).map(|teams| format!("teams {teams}")));
        let roles = rows(who, "roles");
        lines.extend(roles.iter().map(|role| format!("role {}", super::roles::in_words(role))));
        if roles.is_empty() {
            lines.push("no role: it may do nothing".to_owned());
        }
        let limit = who.get("limit").filter(|limit| limit.is_object());
        lines.extend(limit.map(|limit| format!("the token is limited to {}", super::roles::in_words(limit))));
        lines.join("\n")
    })
    .await
}
