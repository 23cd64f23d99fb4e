//! Users, teams, roles, tokens and the audit, as they are typed.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{ArgGroup, Args, Subcommand};
use longshore_core::access::Role;

use super::duration;

fn role() -> impl clap::builder::TypedValueParser<Value = Role> {
    PossibleValuesParser::new(Role::ALL.map(Role::as_str)).try_map(|text| text.parse::<Role>())
}

/// `user ...`
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make a user; it may do nothing until it has a role.
    Create(UserCreate),
    /// List the users.
    List,
    /// Let a user's tokens count no more; what it has started goes on.
    Disable(UserName),
    /// Let a user's tokens count again.
    Enable(UserName),
}

/// `user create`
#[derive(Debug, Clone, Args)]
pub struct UserCreate {
    /// The name; it is never given to another one.
    pub name: String,
    /// It is no person but something such as a CI server.
    #[arg(long)]
    pub service: bool,
}

/// One user.
#[derive(Debug, Clone, Args)]
pub struct UserName {
    /// The user.
    pub name: String,
}

/// `team ...`
#[derive(Debug, Subcommand)]
pub enum TeamCommand {
    /// Make a team.
    Create(TeamCreate),
    /// Put a user into a team.
    Add(Membership),
    /// Take a user out of a team.
    Remove(Membership),
    /// List the teams and who is in them.
    List,
}

/// `team create`
#[derive(Debug, Clone, Args)]
pub struct TeamCreate {
    /// The name; it is never given to another one.
    pub name: String,
    /// A user who is in it; may be given more than once.
    #[arg(long = "member", value_name = "USER")]
    pub members: Vec<String>,
}

/// A team and a user.
#[derive(Debug, Clone, Args)]
pub struct Membership {
    /// The team.
    pub team: String,
    /// The user.
    pub user: String,
}

/// `role ...`
#[derive(Debug, Subcommand)]
pub enum RoleCommand {
    /// Give a role to a user or to everyone in a team.
    ///
    /// viewer: sees. deployer: sees, deploys, cancels, promotes, rolls back, makes releases, sets plain variables.
    /// approver: sees, approves, rejects. admin: everything.
    Grant(RoleGrant),
    /// List the roles that were given.
    List,
    /// Take a role back.
    Revoke(RoleRevoke),
}

/// `role grant`
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("subject").required(true).args(["user", "team"]))]
pub struct RoleGrant {
    /// The role.
    #[arg(value_parser = role())]
    pub role: Role,
    /// Give it to this user.
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Give it to everyone in this team.
    #[arg(long, value_name = "TEAM")]
    pub team: Option<String>,
    /// Only in this project; default: in all.
    #[arg(long, value_name = "PROJECT")]
    pub project: Option<String>,
    /// Only in this environment; default: in all.
    #[arg(long, value_name = "E")]
    pub env: Option<String>,
}

/// `role revoke`
#[derive(Debug, Clone, Args)]
pub struct RoleRevoke {
    /// What was given (`grn_...`).
    pub id: String,
}

/// `token ...`
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token for a user; it is shown once.
    ///
    /// With --role, --project or --env it may do only so much of what the user may do.
    Create(TokenCreate),
    /// List the tokens, without their text.
    List,
    /// Take a token back; it counts no more from now on.
    Revoke(TokenRevoke),
}

/// `token create`
#[derive(Debug, Clone, Args)]
pub struct TokenCreate {
    /// The user it speaks for.
    #[arg(long, value_name = "USER")]
    pub user: String,
    /// How long it counts; default: 90 days.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub expires: Option<Duration>,
    /// Not more than this role.
    #[arg(long, value_parser = role())]
    pub role: Option<Role>,
    /// Only in this project.
    #[arg(long, value_name = "PROJECT")]
    pub project: Option<String>,
    /// Only in this environment.
    #[arg(long, value_name = "E")]
    pub env: Option<String>,
}

/// `token revoke`
#[derive(Debug, Clone, Args)]
pub struct TokenRevoke {
    /// The token (`tok_...`), not its text.
    pub id: String,
}

/// `audit`
#[derive(Debug, Clone, Args)]
pub struct Audit {
    /// Not before this: a time as in `2026-11-21T10:00:00Z`, or how long ago, as in `1h`; default: from the beginning.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
}
