//! Running git with nothing but what is asked for.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::Address;
use crate::exit::Exit;
use crate::failure::Failure;

/// What of the user's own environment git may see: how to get through, and nothing that moves or runs anything else.
const KEPT: [&str; 5] = ["GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSH_VARIANT", "GIT_ASKPASS", "GIT_CONFIG_COUNT"];
const KEPT_STARTS: [&str; 3] = ["GIT_SSL_", "GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_"];
/// Stands before every command, and beats every file of settings.
const ALWAYS: [&str; 7] = [
    "protocol.allow=never",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.autocrlf=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
];
/// Most of what git says that is passed on, in characters.
const MAX_SAID: usize = 600;

/// Whose settings count.
#[derive(Debug, Clone, Copy)]
pub(super) enum Settings<'a> {
    /// Nobody's.
    None,
    /// Nobody's, with this folder to work in.
    Tree(&'a Path),
    /// Those of the user and the system.
    Users,
}

/// git on one repository in a temporary folder.
#[derive(Debug)]
pub(super) struct Git {
    home: PathBuf,
    protocol: &'static str,
}

impl Git {
    pub(super) fn new(home: &Path, address: &Address) -> Self {
        Self { home: home.to_owned(), protocol: address.protocol() }
    }

    pub(super) fn repository(&self) -> PathBuf {
        self.home.join("repository")
    }

    /// Runs a command and gives what it printed.
    pub(super) async fn run(&self, settings: Settings<'_>, args: &[&str], more: &[&OsStr]) -> Result<Vec<u8>, Failure> {
        let mut command = self.command(settings);
        command.args(args).args(more);
        let name = args.first().copied().unwrap_or_default();
        let done = command.output().await.map_err(|error| not_started(&error))?;
        if done.status.success() {
            return Ok(done.stdout);
        }
        let said = said(&done.stderr);
        let what = if said.is_empty() {
            format!("`git {name}` failed ({})", done.status)
        } else {
            format!("`git {name}` failed: {said}")
        };
        Err(Failure::new(Exit::Failed, what))
    }

    fn command(&self, settings: Settings<'_>) -> Command {
        let mut command = Command::new("git");
        // Ctrl-C ends this program, and what it started with it.
        command.current_dir(&self.home).stdin(Stdio::null()).kill_on_drop(true);
        let users = matches!(settings, Settings::Users);
        for (name, _) in std::env::vars_os() {
            if is_of_git(&name) && !(users && is_kept(&name)) {
                command.env_remove(&name);
            }
        }
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_DIR", self.repository()).env("LC_ALL", "C");
        command.env("GIT_ALLOW_PROTOCOL", self.protocol).env("GIT_LFS_SKIP_SMUDGE", "1");
        if users {
            if std::env::var_os("GIT_SSH_COMMAND").or_else(|| std::env::var_os("GIT_SSH")).is_none() {
                command.env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes");
            }
        } else {
            command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
            command.env("GIT_ATTR_NOSYSTEM", "1").env("XDG_CONFIG_HOME", &self.home);
        }
        for setting in ALWAYS {
            command.args(["-c", setting]);
        }
        command.args(["-c", &format!("protocol.{}.allow=always", self.protocol)]);
        if let Settings::Tree(folder) = settings {
            command.args(["-c", "core.bare=false"]).env("GIT_WORK_TREE", folder);
        }
        command
    }
}

fn is_of_git(name: &OsString) -> bool {
    name.to_string_lossy().starts_with("GIT_")
}

fn is_kept(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    KEPT.contains(&&*name) || KEPT_STARTS.iter().any(|start| name.starts_with(start))
}

fn not_started(error: &io::Error) -> Failure {
    let next = "install git, or check the repository out elsewhere and push the folder";
    let what = match error.kind() {
        io::ErrorKind::NotFound => "there is no `git` on this machine".to_owned(),
        _ => format!("`git` cannot be started: {error}"),
    };
    Failure::new(Exit::Failed, what).next(next)
}

/// What git said, on one line, without what a terminal would obey and without passwords in addresses.
pub(super) fn said(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let words = text.split_whitespace().map(|word| match word.split_once("://") {
        Some((before, rest)) => match rest.split_once('@') {
            Some((_, after)) => format!("{before}://...@{after}"),
            None => word.to_owned(),
        },
        None => word.to_owned(),
    });
    let line = words.collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(MAX_SAID).collect()
}
