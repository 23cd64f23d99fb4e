//! Starting a command, reaping what ends, killing what is left.

use longshore_core::init::{Command, EVENT_FD};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{AccessFlags, Pid, access, getpid};
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use zeroize::Zeroize as _;

/// Where programs are looked for when the image sets no `PATH`: Docker's own default.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// A command's ends of its pipes.
#[derive(Debug)]
pub struct Ends {
    /// Its standard output.
    pub stdout: OwnedFd,
    /// Its standard error.
    pub stderr: OwnedFd,
    /// Its event pipe, if it gets one.
    pub events: Option<OwnedFd>,
}

/// The command that runs, and everything it has left behind.
#[derive(Debug, Default)]
pub struct Processes {
    main: Option<Pid>,
    ended: Option<Ended>,
}

impl Processes {
    /// Starts a command in a process group of its own, with the default action for every signal and none
    /// blocked. It gets the descriptors 0 to 2, the event pipe at [`EVENT_FD`] if there is one, and no other: all of
    /// init's are closed on exec. The error is a sentence.
    pub fn start(&mut self, command: &Command, env: &[(String, String)], cwd: &str, ends: &Ends) -> Result<(), String> {
        let Some(program) = command.argv.first() else {
            return Err("cannot start a command without a program".to_owned());
        };
        let failed = |why: &str| format!("cannot start `{program}`: {why}");
        // The child has its directory from this process, which needs none itself.
        std::env::set_current_dir(cwd)
            .map_err(|error| failed(&format!("working directory `{cwd}`: {}", reason(&error))))?;
        let env = environment(env);
        let path = find(program, env.get(OsStr::new("PATH"))).map_err(|error| failed(why(error)))?;
        let pid = spawn(&path, &command.argv, &env, ends).map_err(|error| failed(why(error)))?;
        self.ended = None;
        self.main = Some(pid);
        Ok(())
    }

    /// Whether the command's own process has not ended.
    #[must_use]
    pub fn running(&self) -> bool {
        self.main.is_some() && self.ended.is_none()
    }

    /// How the command ended.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// Hands SIGINT to the command's process group; true if there was one.
    pub fn interrupt(&self) -> bool {
        self.running() && self.main.is_some_and(|group| killpg(group, Signal::SIGINT).is_ok())
    }

    /// Buries all that have ended. True if no process is left.
    pub fn reap(&mut self) -> bool {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if self.is_main(pid) => self.ended = Some(Ended::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) if self.is_main(pid) => {
                    self.ended = Some(Ended::Signal(signal as i32));
                }
                Ok(WaitStatus::StillAlive) => return false,
                Ok(_) | Err(Errno::EINTR) => {}
                // ECHILD: nobody is left.
                Err(_) => return true,
            }
        }
    }

    fn is_main(&self, pid: Pid) -> bool {
        self.main == Some(pid) && self.ended.is_none()
    }

    /// Kills every process of the container but this one. Anywhere else than in a PID namespace of its own it kills its own
    /// descendants only: the command's group, and all children (this process is a subreaper, so orphans become that).
    pub fn kill_all(&self) {
        if getpid().as_raw() == 1 {
            // No process left is no failure.
            kill(Pid::from_raw(-1), Signal::SIGKILL).ok();
            return;
        }
        if let Some(group) = self.main.filter(|_| self.running()) {
            killpg(group, Signal::SIGKILL).ok();
        }
        let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        for child in children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()) {
            kill(Pid::from_raw(child), Signal::SIGKILL).ok();
        }
    }
}

/// The image's environment with what the agent adds.
fn environment(added: &[(String, String)]) -> BTreeMap<OsString, OsString> {
    let own = std::env::vars_os();
    own.chain(added.iter().map(|(name, value)| (name.into(), value.into()))).collect()
}

/// Where a program is: itself if it has a slash in it, else in the first directory of `PATH` that has one that may be run.
fn find(program: &str, path: Option<&OsString>) -> Result<PathBuf, Errno> {
    if program.contains('/') {
        return Ok(PathBuf::from(program));
    }
    let mut error = Errno::ENOENT;
    for directory in std::env::split_paths(path.map_or_else(|| OsStr::new(DEFAULT_PATH), OsString::as_os_str)) {
        let candidate = directory.join(program);
        match access(&candidate, AccessFlags::X_OK) {
            Ok(()) if candidate.is_file() => return Ok(candidate),
            Err(Errno::EACCES) => error = Errno::EACCES,
            _ => {}
        }
    }
    Err(error)
}

fn spawn(path: &Path, argv: &[String], env: &BTreeMap<OsString, OsString>, ends: &Ends) -> nix::Result<Pid> {
    let c_string = |bytes: Vec<u8>| CString::new(bytes).map_err(|_| Errno::EINVAL);
    let argv = argv.iter().map(|argument| c_string(argument.clone().into_bytes())).collect::<nix::Result<Vec<_>>>()?;
    let pair = |(name, value): (&OsString, &OsString)| [name.as_bytes(), b"=", value.as_bytes()].concat();
    let env = env.iter().map(|entry| c_string(pair(entry))).collect::<nix::Result<Vec<_>>>()?;
    let mut files = PosixSpawnFileActions::init()?;
    let null = open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    files.add_dup2(null.as_raw_fd(), 0)?;
    files.add_dup2(ends.stdout.as_raw_fd(), 1)?;
    files.add_dup2(ends.stderr.as_raw_fd(), 2)?;
    if let Some(events) = &ends.events {
        // Last, because one of the others may have this number here.
        files.add_dup2(events.as_raw_fd(), EVENT_FD)?;
    }
    let mut how = PosixSpawnAttr::init()?;
    how.set_pgroup(Pid::from_raw(0))?;
    how.set_sigmask(&SigSet::empty())?;
    how.set_sigdefault(&SigSet::all())?;
    how.set_flags(
        PosixSpawnFlags::POSIX_SPAWN_SETPGROUP
            | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK
            | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF,
    )?;
    let spawned = posix_spawn(path, &files, &how, &argv, &env);
    // It holds secrets.
    env.into_iter().for_each(|entry| entry.into_bytes().zeroize());
    spawned
}

fn why(error: Errno) -> &'static str {
    match error {
        Errno::ENOENT => "no such program in the image (or no interpreter for it)",
        Errno::EACCES => "permission denied",
        Errno::ENOEXEC => "not a program of this machine, nor a script that names its interpreter",
        Errno::E2BIG => "arguments and environment are too long in sum",
        Errno::EINVAL => "arguments and environment may hold no NUL",
        other => other.desc(),
    }
}

/// An error of the system without its number.
fn reason(error: &std::io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |code| Errno::from_raw(code).desc().to_lowercase())
}
