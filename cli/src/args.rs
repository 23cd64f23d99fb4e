//! What can be typed.
//!
//! The texts here are the manual that people read first; `tests/help` holds them as golden files.

pub mod account;
pub mod agent;
pub mod artifacts;
pub mod library;
mod package;
pub mod people;
pub mod pool;
pub mod releases;
pub mod secrets;
pub mod stack;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use package::{PackageCommand, PackageList, PackagePush};

/// Runs infrastructure deployments on machines you own.
#[derive(Debug, Parser)]
#[command(name = "longshore", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "\
The server is named by LONGSHORE_URL and LONGSHORE_TOKEN, or by --url and --token-file.
Messages go to stderr, results to stdout.

Exit codes: 0 done (with --wait: succeeded), 1 failed, 2 wrong usage or a bad spec, 3 canceled,
4 outcome unknown or lost to infrastructure, 5 refused by the server, 6 server not reachable.

To try it on this machine: longshore dev --data DIR")]
pub struct Cli {
    /// What every command understands.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Address of the server; default: LONGSHORE_URL.
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub url: Option<String>,
    /// File that holds the token; default: the value of LONGSHORE_TOKEN.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub token_file: Option<PathBuf>,
    /// Form of the result.
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", default_value_t = Format::Text, help_heading = "Global options")]
    pub output: Format,
    /// No colours, also when the output is a terminal (as NO_COLOR does).
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_color: bool,
}

/// Form of a command's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For scripts: JSON.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a controller and one agent on this machine, to try things out.
    Dev(Dev),
    /// Write a first `longshore.yaml` for the program in a folder.
    ///
    /// A Pulumi program gives its name, its stacks as environments, and its backend; without one there is an example that
    /// runs a command. No server is needed. A file that is there stays as it is.
    Init(Init),
    /// Check a spec without a server.
    Validate(Validate),
    /// Create or update a project from its spec.
    ///
    /// What changes is shown first. On a terminal it is asked whether that is meant; elsewhere nothing is asked.
    Apply(Apply),
    /// Set a project's variables.
    #[command(subcommand)]
    Variable(VariableCommand),
    /// Make libraries: variables that projects share.
    #[command(subcommand)]
    Library(library::LibraryCommand),
    /// Make accounts: what steps need to call a cloud or Pulumi.
    #[command(subcommand)]
    Account(account::AccountCommand),
    /// Make releases, show and block them.
    #[command(subcommand)]
    Release(releases::ReleaseCommand),
    /// Upload packages and list them.
    #[command(subcommand)]
    Package(PackageCommand),
    /// Start a deployment.
    Deploy(Deploy),
    /// Deploy a release to the environments of its next phase.
    Promote(releases::Promote),
    /// Deploy the release that last succeeded in an environment before the one that is there now.
    Rollback(releases::Rollback),
    /// Work on a stack outside of releases: look at it, bring it back in line, remove it, free its lock.
    ///
    /// Each of these is a deployment of one step of the release that is in the environment: it waits for the same locks, and has a log
    /// and a timeline. On a protected environment, and where an approval guards the step, people are asked before anything is written.
    #[command(subcommand)]
    Stack(stack::StackCommand),
    /// List approvals that are asked for.
    Approvals(releases::Approvals),
    /// Look at one approval.
    #[command(subcommand)]
    Approval(releases::ApprovalCommand),
    /// Agree to an approval. When enough people did, its deployment goes on.
    Approve(releases::Decide),
    /// Refuse an approval. Its deployment ends there.
    Reject(releases::Decide),
    /// Say why a deployment waits: every rule, and for each agent what rejects it.
    Explain(releases::Explain),
    /// Look at deployments, or settle one whose outcome is unknown.
    #[command(subcommand)]
    Deployment(DeploymentCommand),
    /// Print a deployment's log.
    Logs(Logs),
    /// List and download the files that a deployment's steps left.
    #[command(subcommand)]
    Artifact(artifacts::ArtifactCommand),
    /// Ask a deployment to stop: its tool gets one SIGINT and time to end well.
    Cancel(Id),
    /// List the agents.
    Agents,
    /// Do something about one agent.
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    /// Look at pools of agents, and change what is set for them.
    #[command(subcommand)]
    Pool(pool::PoolCommand),
    /// List the stack locks and who holds them.
    Locks,
    /// Make tokens with which agents join.
    #[command(subcommand)]
    JoinToken(JoinTokenCommand),
    /// Make and list users.
    #[command(subcommand)]
    User(people::UserCommand),
    /// Make and change teams.
    #[command(subcommand)]
    Team(people::TeamCommand),
    /// Give roles and take them back.
    #[command(subcommand)]
    Role(people::RoleCommand),
    /// Make tokens and take them back.
    #[command(subcommand)]
    Token(people::TokenCommand),
    /// Look at the keys of the server's secrets, or change them.
    #[command(subcommand)]
    Secrets(secrets::SecretsCommand),
    /// Print who did what, and what was refused.
    Audit(people::Audit),
    /// Print who you are to the server and what you may do.
    Whoami,
    /// Explain a word that the server refuses with, or list all of them. No server is needed.
    Errors(Errors),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the version.
    Version,
}

/// `dev`
#[derive(Debug, Clone, Args)]
pub struct Dev {
    /// Folder for everything it keeps; created when missing. A second start on it carries on where it was.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// How many jobs the agent runs at a time.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub slots: u16,
}

/// `init`
#[derive(Debug, Clone, Args)]
pub struct Init {
    /// The folder of the program, or the one above it; the file goes there.
    #[arg(default_value = ".", value_name = "DIR")]
    pub dir: PathBuf,
    /// Image of the steps; default: one that fits the program.
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Replace a file that is there.
    #[arg(long)]
    pub force: bool,
}

/// `validate`
#[derive(Debug, Clone, Args)]
pub struct Validate {
    /// The spec; `-` reads it from standard input.
    #[arg(default_value = "longshore.yaml")]
    pub file: PathBuf,
}

/// `apply`
#[derive(Debug, Clone, Args)]
pub struct Apply {
    /// The spec; `-` reads it from standard input.
    #[arg(short, long, value_name = "FILE", default_value = "longshore.yaml")]
    pub file: PathBuf,
    /// Show what would change, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// Only if this is the project's newest revision (0: only if there is no such project); else the exit code is 5.
    #[arg(long, value_name = "N")]
    pub if_revision: Option<u64>,
}

/// `variable ...`
#[derive(Debug, Subcommand)]
pub enum VariableCommand {
    /// Set a variable; its value is read from standard input.
    ///
    /// The value is taken exactly as it comes, with a newline at its end if there is one. At a terminal it is asked for,
    /// and a secret is not shown while it is typed.
    Set(VariableSet),
    /// Say where a variable's value comes from in an environment, and what it beat.
    Explain(releases::VariableExplain),
}

/// `variable set`
#[derive(Debug, Clone, Args)]
pub struct VariableSet {
    /// The project.
    pub project: String,
    /// The variable.
    pub name: String,
    /// Keep it secret: stored encrypted, never shown again, masked in logs.
    #[arg(long)]
    pub secret: bool,
    /// Only for this environment.
    #[arg(long, value_name = "E", group = "scope")]
    pub env: Option<String>,
    /// Only for releases of this channel.
    #[arg(long, value_name = "C", group = "scope")]
    pub channel: Option<String>,
    /// Only for this step.
    #[arg(long, value_name = "STEP", group = "scope")]
    pub step: Option<String>,
    /// Only for jobs of this pool.
    #[arg(long, value_name = "POOL", group = "scope")]
    pub pool: Option<String>,
    /// Take one newline off the value's end.
    #[arg(long)]
    pub trim: bool,
}

/// `deploy`
#[derive(Debug, Clone, Args)]
pub struct Deploy {
    /// The project. With --local it may be left out.
    #[arg(required_unless_present = "local")]
    pub project: Option<String>,
    /// The environment it goes to.
    #[arg(long, value_name = "E")]
    pub env: String,
    /// Deploy a working tree: the folder as the package, and the `longshore.yaml` in it as it stands there, without applying
    /// it. Project, revisions and releases stay as they are; protected environments and later phases refuse it. It takes the
    /// right to apply.
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = ".", conflicts_with_all = ["package", "release"])]
    pub local: Option<PathBuf>,
    /// Folder, zip, tar, tar.gz or tar.zst to upload and give to the steps as their workspace. Of a folder, what
    /// `.longshoreignore` names (in the syntax of .gitignore) and `.git` stay out.
    #[arg(long, value_name = "PATH")]
    pub package: Option<PathBuf>,
    /// Branch, tag or whole commit id of the repository that the spec names (`source`), which the server fetches; default: the
    /// one of the spec.
    #[arg(long = "ref", id = "reference", value_name = "REF", conflicts_with_all = ["package", "release"])]
    pub reference: Option<String>,
    /// Version of the release to deploy; default: one is made of the project as it is now and the package.
    #[arg(long, value_name = "V")]
    pub release: Option<String>,
    /// Channel of the release that is made; default: the default channel.
    #[arg(long, value_name = "C", conflicts_with = "release")]
    pub channel: Option<String>,
    /// A value that the spec asks for; may be repeated.
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = releases::pair)]
    pub variables: Vec<(String, String)>,
    /// Do not begin before this time, as in `2026-11-21T10:00:00Z`.
    #[arg(long, value_name = "TIME")]
    pub not_before: Option<String>,
    /// Do not begin after this time.
    #[arg(long, value_name = "TIME")]
    pub expires_at: Option<String>,
    /// Begin before those that wait for the same thing and have less; 0 is usual.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub priority: i64,
    /// Leave out this step, which has to be `skippable`; may be repeated.
    #[arg(long, value_name = "STEP")]
    pub skip: Vec<String>,
    /// Let a person decide about a step that fails: `longshore deployment guide`.
    #[arg(long)]
    pub guided: bool,
    /// Follow it to its end: the log goes to stdout (with `-o json` to stderr), the exit code says how it ended.
    #[arg(long)]
    pub wait: bool,
    /// With --wait: how long an unknown outcome is waited for before the command ends with code 4.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration, requires = "wait")]
    pub unknown_after: Duration,
}

/// `deployment ...`
#[derive(Debug, Subcommand)]
pub enum DeploymentCommand {
    /// Show one deployment: steps, resources, outputs, attempts.
    Show(Id),
    /// List deployments, newest first.
    List(DeploymentList),
    /// Declare a deployment lost whose outcome is unknown, and free its stack.
    ///
    /// Only a person who has made sure that nothing of it runs any more may say so: the next deployment of the stack
    /// starts at once. The reason is recorded.
    Resolve(Resolve),
    /// Let a deployment that has not begun begin before all others that wait.
    Top(Id),
    /// Decide about a step that failed in a deployment that was started with --guided.
    ///
    /// A retry is a new job that begins with the step, in a fresh workspace. What is ignored counts as succeeded.
    Guide(Guide),
}

/// `deployment guide`
#[derive(Debug, Clone, Args)]
pub struct Guide {
    /// The deployment (`dep_...`).
    pub id: String,
    /// What becomes of the step.
    #[arg(value_enum)]
    pub choice: GuideChoice,
    /// The step that failed.
    #[arg(long, value_name = "NAME")]
    pub step: String,
    /// Why; kept with the step.
    #[arg(long, value_name = "TEXT")]
    pub comment: String,
}

/// What becomes of a step that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GuideChoice {
    /// It is tried again.
    Retry,
    /// It counts as if it had ended well.
    Ignore,
    /// It has failed.
    Fail,
}

/// `deployment list`
#[derive(Debug, Clone, Args)]
pub struct DeploymentList {
    /// Only of this project.
    #[arg(long, value_name = "PROJECT")]
    pub project: Option<String>,
    /// Only to this environment.
    #[arg(long, value_name = "E")]
    pub env: Option<String>,
    /// How many at most.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

/// `deployment resolve`
#[derive(Debug, Clone, Args)]
pub struct Resolve {
    /// The deployment (`dep_...`).
    pub id: String,
    /// How you know that nothing of it runs any more.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// Commands about one deployment.
#[derive(Debug, Clone, Args)]
pub struct Id {
    /// The deployment (`dep_...`).
    pub id: String,
}

/// `logs`
#[derive(Debug, Clone, Args)]
pub struct Logs {
    /// The deployment (`dep_...`).
    pub id: String,
    /// Only of this step.
    #[arg(long, value_name = "NAME")]
    pub step: Option<String>,
    /// Exactly the bytes the steps wrote, and nothing else.
    #[arg(long)]
    pub raw: bool,
    /// Go on until the deployment has ended.
    #[arg(short, long)]
    pub follow: bool,
}

/// `join-token ...`
#[derive(Debug, Subcommand)]
pub enum JoinTokenCommand {
    /// Make a token with which agents can join; it is shown once.
    Create(JoinTokenCreate),
    /// List join tokens: how many agents came in by each, and whether it still counts.
    List,
    /// Take a join token back. Agents that came in by it stay.
    Revoke(JoinTokenId),
}

/// `join-token revoke`
#[derive(Debug, Clone, Args)]
pub struct JoinTokenId {
    /// The join token (`tok_...`).
    pub id: String,
}

/// `join-token create`
#[derive(Debug, Clone, Args)]
pub struct JoinTokenCreate {
    /// The pool the agent joins.
    #[arg(long, value_name = "POOL", default_value = "default")]
    pub pool: String,
    /// How long it is valid; default: what the server says.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub expires_in: Option<Duration>,
    /// How many agents it lets in.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub uses: u32,
    /// A label that its agents get, as in `zone=a`; may be repeated.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = releases::pair)]
    pub labels: Vec<(String, String)>,
    /// Write the certificate of the server's authority here; the agent needs it to join.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

/// `errors`
#[derive(Debug, Clone, Args)]
pub struct Errors {
    /// The word, such as `secret_missing`; default: list them.
    pub code: Option<String>,
}

/// A duration as in the spec: `90s`, `2m`, `1h30m`.
fn duration(text: &str) -> Result<Duration, String> {
    longshore_core::spec::duration::parse(text)
        .ok_or_else(|| "write a duration such as `90s`, `2m` or `1h30m`".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_of_every_command_stand_anywhere() {
        let cli = Cli::try_parse_from(["longshore", "deploy", "shop", "--env", "dev", "-o", "json"]).unwrap();
        assert_eq!(cli.global.output, Format::Json);
        let cli = Cli::try_parse_from(["longshore", "-o", "json", "agents"]).unwrap();
        assert_eq!(cli.global.output, Format::Json);
    }
}
