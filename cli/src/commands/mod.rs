//! The commands, one file each. Every one gives an exit code or a [`Failure`].

mod account;
mod agents;
mod apply;
mod approval;
mod artifact;
mod audit;
mod cancel;
mod deploy;
mod deploy_local;
mod deployment;
mod explain;
mod join_rule;
mod join_token;
mod library;
mod locks;
mod log_text;
mod logs;
mod package;
mod people;
mod plan_text;
mod pool;
mod pool_scaling;
mod release;
mod roles;
mod secrets;
mod show;
mod spec_diff;
mod spec_file;
mod stack;
mod validate;
mod variable;
mod wait;

use clap::CommandFactory as _;
use longshore_core::id::DeploymentId;
use serde_json::{Value, json};

use crate::args::releases::ApprovalCommand;
use crate::args::{Cli, Command, DeploymentCommand, Global, JoinTokenCommand, VariableCommand};
use crate::client::Client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::{connect, dev, errors, init};

/// What every command gets.
#[derive(Debug, Clone)]
pub struct Context {
    /// Where to write.
    pub output: Output,
    global: Global,
}

impl Context {
    /// The client for the server that is named.
    ///
    /// # Errors
    /// When none is named.
    pub fn client(&self) -> Result<Client, Failure> {
        connect::client(&self.global)
    }
}

/// Runs the command that was typed.
///
/// # Errors
/// [`Failure`], to be shown.
pub async fn run(cli: Cli, output: Output) -> Result<Exit, Failure> {
    let context = Context { output, global: cli.global };
    match cli.command {
        Command::Dev(args) => dev::run(&context, &args).await,
        Command::Init(args) => init::run(&context, &args),
        Command::Validate(args) => validate::run(&context, &args),
        Command::Apply(args) => apply::run(&context, &args).await,
        Command::Variable(VariableCommand::Set(args)) => variable::set(&context, &args).await,
        Command::Variable(VariableCommand::Explain(args)) => explain::variable(&context, &args).await,
        Command::Account(command) => account::run(&context, &command).await,
        Command::Library(command) => library::run(&context, &command).await,
        Command::Release(command) => release::run(&context, &command).await,
        Command::Package(command) => package::run(&context, &command).await,
        Command::Deploy(args) => deploy::run(&context, &args).await,
        Command::Promote(args) => release::promote(&context, &args).await,
        Command::Stack(command) => stack::run(&context, &command).await,
        Command::Rollback(args) => release::rollback(&context, &args).await,
        Command::Approvals(args) => approval::approvals(&context, &args).await,
        Command::Approval(ApprovalCommand::Show(args)) => approval::show(&context, &args.id).await,
        Command::Approve(args) => approval::decide(&context, &args, "grant").await,
        Command::Reject(args) => approval::decide(&context, &args, "reject").await,
        Command::Explain(args) => explain::deployment(&context, &args).await,
        Command::Deployment(DeploymentCommand::Show(args)) => deployment::show(&context, &args).await,
        Command::Deployment(DeploymentCommand::List(args)) => deployment::list(&context, &args).await,
        Command::Deployment(DeploymentCommand::Resolve(args)) => deployment::resolve(&context, &args).await,
        Command::Deployment(DeploymentCommand::Top(args)) => deployment::top(&context, &args).await,
        Command::Deployment(DeploymentCommand::Guide(args)) => deployment::guide(&context, &args).await,
        Command::Logs(args) => logs::run(&context, &args).await,
        Command::Artifact(command) => artifact::run(&context, &command).await,
        Command::Cancel(args) => cancel::run(&context, &args).await,
        Command::Agents(args) => agents::run(&context, args.all).await,
        Command::Agent(command) => agents::one(&context, &command).await,
        Command::JoinRule(command) => join_rule::run(&context, &command).await,
        Command::Pool(command) => pool::run(&context, &command).await,
        Command::Locks => locks::run(&context).await,
        Command::JoinToken(JoinTokenCommand::Create(args)) => join_token::create(&context, &args).await,
        Command::JoinToken(JoinTokenCommand::List) => join_token::list(&context).await,
        Command::JoinToken(JoinTokenCommand::Revoke(args)) => join_token::revoke(&context, &args).await,
        Command::User(command) => people::user(&context, &command).await,
        Command::Team(command) => people::team(&context, &command).await,
        Command::Role(command) => roles::role(&context, &command).await,
        Command::Token(command) => roles::token(&context, &command).await,
        Command::Secrets(command) => secrets::run(&context, &command).await,
        Command::Audit(args) => audit::run(&context, &args).await,
        Command::Whoami => people::whoami(&context).await,
        Command::Errors(args) => errors::run(&context, &args),
        Command::Completions { shell } => completions(&context, shell),
        Command::Version => version(&context),
    }
}

fn completions(context: &Context, shell: clap_complete::Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "longshore", &mut script);
    context.output.bytes(&script).map(|()| Exit::Done)
}

fn version(context: &Context) -> Result<Exit, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    if context.output.is_json() {
        context.output.json(&json!({ "version": version }))?;
    } else {
        context.output.text(&format!("longshore {version}"))?;
    }
    Ok(Exit::Done)
}

/// Checks a deployment's id before anything is sent.
fn deployment_id(text: &str) -> Result<DeploymentId, Failure> {
    text.parse().map_err(|error: longshore_core::id::InvalidId| {
        Failure::usage(error.to_string()).next("`longshore deployment list` shows the ids")
    })
}

/// The rows of a list: the answer itself, or what it holds under `name`.
fn rows<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer.as_array().or_else(|| answer.get(name).and_then(Value::as_array)).map_or(&[], Vec::as_slice)
}

/// A field of a row as text; `None` when it is missing or null.
fn text(row: &Value, name: &str) -> Option<String> {
    match row.get(name)? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
