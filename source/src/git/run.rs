//! Running git with nothing but what is asked for, within bounds.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use longshore_core::redact::Patterns;
use longshore_core::source::Address;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

use super::{Access, Credentials, Error, Means};

/// What of the user's own environment git may see: how to get through, and nothing that moves or runs anything else.
const KEPT: [&str; 5] = ["GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSH_VARIANT", "GIT_ASKPASS", "GIT_CONFIG_COUNT"];
const KEPT_STARTS: [&str; 3] = ["GIT_SSL_", "GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_"];
/// What of a server's environment git may see: where programs are, and how to get out.
const PASSED: [&str; 11] = [
    "PATH",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];
/// Stands before every command, and beats every file of settings.
const ALWAYS: [&str; 9] = [
    "protocol.allow=never",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.autocrlf=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    // One file, whatever comes: it is what the size is taken of.
    "fetch.unpackLimit=1",
    "http.followRedirects=false",
];
/// With credentials of our own: no helper but the one that reads our file.
const OWN: [&str; 4] =
    ["credential.helper=", "credential.helper=store", "credential.interactive=false", "core.askPass="];
/// How ssh is called with credentials of our own; `HOME` is the temporary folder.
const SSH: &str = "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=yes -o GlobalKnownHostsFile=/dev/null \
                   -o \"UserKnownHostsFile=\\\"$HOME/known_hosts\\\"\" -o UpdateHostKeys=no -o IdentitiesOnly=yes \
                   -o IdentityAgent=none -o ClearAllForwardings=yes -i \"$HOME/key\"";
/// Without a key of our own: none, and not that of whoever runs the server either.
const NO_KEY: &str = "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=yes -o GlobalKnownHostsFile=/dev/null \
                      -o UserKnownHostsFile=/dev/null -o IdentityAgent=none -o IdentityFile=none -o PubkeyAuthentication=no";
/// Most of what git says that is passed on, in characters.
const MAX_SAID: usize = 600;
/// Most bytes of an answer; 200,000 entries of a tree fit many times.
const MAX_OUT: u64 = 128 << 20;
/// Most bytes of what it says that are looked at.
const MAX_ERR: u64 = 64 << 10;
/// Between two looks at how large the repository has become.
const LOOK: Duration = Duration::from_millis(200);

/// Whose settings count.
#[derive(Debug, Clone, Copy)]
pub(super) enum Settings<'a> {
    /// Nobody's.
    None,
    /// Nobody's, with this folder to work in.
    Tree(&'a Path),
    /// Those that open the repository.
    Fetch,
}

/// git on one repository in a temporary folder.
#[derive(Debug)]
pub(super) struct Git<'a> {
    home: PathBuf,
    protocol: &'static str,
    means: &'a Means,
    hidden: Patterns,
}

impl<'a> Git<'a> {
    pub(super) fn new(home: &Path, address: &Address, means: &'a Means) -> Self {
        let (home, protocol) = (home.to_owned(), address.protocol().as_str());
        Self { home, protocol, means, hidden: means.access.hidden() }
    }

    pub(super) fn repository(&self) -> PathBuf {
        self.home.join("repository")
    }

    /// Runs a command and gives what it printed.
    pub(super) async fn run(&self, settings: Settings<'_>, args: &[&str], more: &[&OsStr]) -> Result<Vec<u8>, Error> {
        let mut command = self.command(settings);
        command.args(args).args(more);
        let name = args.first().copied().unwrap_or_default();
        let mut running = Running::start(command, !self.is_users())?;
        let done = tokio::select! {
            done = running.done(name) => done?,
            () = self.grown() => return Err(Error::TooLarge(self.means.bytes)),
        };
        if done.status.success() {
            return Ok(done.out);
        }
        let said = said(&self.hidden.mask_bytes(&done.err));
        let said = if said.is_empty() { done.status.to_string() } else { said };
        Err(Error::Failed { command: name.to_owned(), said })
    }

    /// Ends once the repository is larger than it may be.
    async fn grown(&self) {
        while size(&self.repository()) <= self.means.bytes {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn is_users(&self) -> bool {
        matches!(self.means.access, Access::Users)
    }

    fn command(&self, settings: Settings<'_>) -> Command {
        let mut command = Command::new("git");
        // Whoever gives up on it ends it, and what it started with it.
        command.current_dir(&self.home).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        let users = self.is_users() && matches!(settings, Settings::Fetch);
        self.environment(&mut command, users);
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
        if !self.is_users() {
            for setting in OWN {
                command.args(["-c", setting]);
            }
        }
        command.args(["-c", &format!("protocol.{}.allow=always", self.protocol)]);
        if let Settings::Tree(folder) = settings {
            command.args(["-c", "core.bare=false"]).env("GIT_WORK_TREE", folder);
        }
        command
    }

    /// The command of a fetch.
    #[cfg(test)]
    #[cfg(feature = "convert")]
    pub(super) fn command_for_test(&self) -> std::process::Command {
        let mut command = std::process::Command::new("git");
        let made = self.command(Settings::Fetch);
        let made = made.as_std();
        command.args(made.get_args());
        command.envs(made.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command
    }

    /// What git sees of the environment around it.
    fn environment(&self, command: &mut Command, users: bool) {
        if self.is_users() {
            for (name, _) in std::env::vars_os() {
                if is_of_git(&name) && !(users && is_kept(&name)) {
                    command.env_remove(&name);
                }
            }
            return;
        }
        let ssh = if matches!(self.means.access, Access::Own(Some(Credentials::Key { .. }))) { SSH } else { NO_KEY };
        command.env_clear().env("HOME", &self.home).env("GIT_SSH_COMMAND", ssh).env("GIT_SSH_VARIANT", "ssh");
        for name in PASSED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
    }
}

/// A git that runs; dropped before its end, it is killed with all that it started.
struct Running {
    child: Child,
    /// Its own group of processes.
    group: Option<Pid>,
}

/// How it ended, and what it said.
struct Done {
    status: ExitStatus,
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Running {
    fn start(mut command: Command, grouped: bool) -> Result<Self, Error> {
        if grouped {
            command.process_group(0);
        }
        let child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::Missing,
            _ => Error::Start(error),
        })?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Ok(Self { group: id.filter(|_| grouped).map(Pid::from_raw), child })
    }

    async fn done(&mut self, name: &str) -> Result<Done, Error> {
        let (out, err) = (self.child.stdout.take(), self.child.stderr.take());
        let flood = || Error::Flood(name.to_owned());
        let out = async {
            let mut bytes = Vec::new();
            read(out, MAX_OUT + 1, &mut bytes).await?;
            if bytes.len() as u64 > MAX_OUT { Err(flood()) } else { Ok(bytes) }
        };
        let err = async {
            let mut bytes = Vec::new();
            let rest = read(err, MAX_ERR, &mut bytes).await?;
            if let Some(mut rest) = rest {
                tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.map_err(Error::Start)?;
            }
            Ok(bytes)
        };
        let (out, err) = tokio::try_join!(out, err)?;
        let status = self.child.wait().await.map_err(Error::Start)?;
        // Its number may be another's from now on.
        self.group = None;
        Ok(Done { status, out, err })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // Nothing of it may be left already.
            let _gone = killpg(group, Signal::SIGKILL).is_err();
        }
    }
}

/// Reads so much; gives what there may be more to read from.
async fn read<R: AsyncRead + Unpin>(from: Option<R>, most: u64, to: &mut Vec<u8>) -> Result<Option<R>, Error> {
    let Some(from) = from else { return Ok(None) };
    let mut part = from.take(most);
    part.read_to_end(to).await.map_err(Error::Start)?;
    Ok(Some(part.into_inner()))
}

/// Bytes of all files below a folder. What goes away meanwhile does not count.
fn size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let one = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => size(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(one).fold(0, u64::saturating_add)
}

fn is_of_git(name: &OsString) -> bool {
    name.to_string_lossy().starts_with("GIT_")
}

fn is_kept(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    KEPT.contains(&&*name) || KEPT_STARTS.iter().any(|start| name.starts_with(start))
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
