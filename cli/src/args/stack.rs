//! Operations on stacks, as they are typed.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::duration;
use super::releases::pair;

/// `stack ...`
#[derive(Debug, Subcommand)]
pub enum StackCommand {
    /// Show what applying a release would change; writes nothing.
    Preview(Stack),
    /// Apply the release that is in the environment once more.
    Up(Stack),
    /// Make the stack's state as the outside world is.
    Refresh(Stack),
    /// Remove every resource of a stack. Its name has to be typed.
    Destroy(StackDestroy),
    /// Say how the outside world differs from the stack's state; writes nothing. Exit code 1 when it does.
    Drift(Stack),
    /// Remove Pulumi's own lock from a stack, if whoever holds it is an attempt that is proven to be over.
    Unlock(Stack),
}

/// An operation on a stack.
#[derive(Debug, Clone, Args)]
pub struct Stack {
    /// The project.
    pub project: String,
    /// The environment.
    #[arg(long, value_name = "E")]
    pub env: String,
    /// The `pulumi` step whose program and stack are meant; needed where there is more than one.
    #[arg(long, value_name = "STEP")]
    pub step: Option<String>,
    /// Version of the release; default: the one that is in the environment.
    #[arg(long, value_name = "V")]
    pub release: Option<String>,
    /// A value that the spec asks for; may be repeated. Default: those of the deployment that is there.
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = pair)]
    pub variables: Vec<(String, String)>,
    /// Follow it to its end: the log goes to stdout (with `-o json` to stderr), the exit code says how it ended.
    #[arg(long)]
    pub wait: bool,
    /// With --wait: how long an unknown outcome is waited for before the command ends with code 4.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration, requires = "wait")]
    pub unknown_after: Duration,
}

/// `stack destroy`
#[derive(Debug, Clone, Args)]
pub struct StackDestroy {
    /// What and where.
    #[command(flatten)]
    pub stack: Stack,
    /// The name of the stack; on a terminal it is asked for.
    #[arg(long, value_name = "STACK")]
    pub confirm: Option<String>,
}
