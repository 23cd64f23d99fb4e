//! A child process that is started again when it dies, as systemd would.

use std::cell::Cell;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::{Error, layout};
use crate::connect;
use crate::output::Output;

/// Pause before a child is started again.
const PAUSE: Duration = Duration::from_secs(1);
/// Time a child has to end by itself.
const GRACE: Duration = Duration::from_secs(10);
/// Longest line that is prefixed as one.
const LONGEST_LINE: usize = 64 << 10;

/// A program to keep running.
#[derive(Debug)]
pub(super) struct Program {
    /// Stands before each line it prints, and in messages.
    pub(super) name: &'static str,
    pub(super) path: PathBuf,
    pub(super) args: Vec<OsString>,
    /// Rewritten at each start.
    pub(super) pid_file: PathBuf,
    /// How often it died.
    pub(super) deaths: Cell<u32>,
    /// The exit code of its last death.
    pub(super) last_code: Cell<Option<i32>>,
}

/// When to begin and when to end.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// Start it.
    pub(super) go: CancellationToken,
    /// Ask it to end.
    pub(super) stop: CancellationToken,
    /// Do not wait for it.
    pub(super) force: CancellationToken,
    /// It has ended.
    pub(super) done: CancellationToken,
}

/// Keeps a program running from `go` to `stop`.
pub(super) async fn supervise(program: &Program, control: &Control, output: Output) {
    let wanted = control.stop.run_until_cancelled(control.go.cancelled()).await;
    while wanted.is_some() && !control.stop.is_cancelled() {
        let result = once(program, control, output).await;
        if control.stop.is_cancelled() {
            break;
        }
        program.last_code.set(result.as_ref().ok().and_then(ExitStatus::code));
        output.message(&match result {
            Ok(status) => format!(
                "[dev] the {} ended ({}); starting it again in {} s",
                program.name,
                ended(status),
                PAUSE.as_secs()
            ),
            Err(error) => format!("[dev] {}", crate::failure::chain(&error)),
        });
        program.deaths.set(program.deaths.get().saturating_add(1));
        control.stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
    }
    // A process id that is used again by something else must not be read as ours.
    let _missing = std::fs::remove_file(&program.pid_file);
    control.done.cancel();
}

/// A command with nothing of this process's secrets and in a process group of its own, so that Ctrl-C reaches `dev` alone.
pub(super) fn command(path: &std::path::Path) -> Command {
    let mut command = std::process::Command::new(path);
    command.process_group(0).env_remove(connect::TOKEN).env_remove(connect::URL);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut command = Command::from(command);
    command.kill_on_drop(true);
    command
}

async fn once(program: &Program, control: &Control, output: Output) -> Result<ExitStatus, Error> {
    let failed = |source| Error::Start { name: program.name, path: program.path.clone(), source };
    let mut child = command(&program.path).args(&program.args).spawn().map_err(failed)?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    if let Some(pid) = pid {
        layout::write(&program.pid_file, &format!("{pid}\n"))?;
    }
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let printing = async { tokio::join!(prefix(program.name, stdout, output), prefix(program.name, stderr, output)) };
    let ending = async {
        tokio::select! {
            status = child.wait() => return status,
            () = control.stop.cancelled() => {}
        }
        signal(pid, Signal::SIGTERM);
        tokio::select! {
            status = child.wait() => return status,
            () = tokio::time::sleep(GRACE) => output.message(&format!("[dev] the {} does not end; killing it", program.name)),
            () = control.force.cancelled() => {}
        }
        signal(pid, Signal::SIGKILL);
        child.wait().await
    };
    let (mut printing, mut ending) = (std::pin::pin!(printing), std::pin::pin!(ending));
    let status = tokio::select! {
        status = &mut ending => {
            // What it printed last; a grandchild that keeps the pipe open must not hold us.
            let _rest = tokio::time::timeout(Duration::from_millis(500), printing).await;
            status
        }
        // Both pipes are closed, but it lives.
        _ = &mut printing => ending.await,
    };
    status.map_err(failed)
}

fn signal(pid: Option<i32>, signal: Signal) {
    if let Some(pid) = pid {
        // It may have ended on its own just now.
        let _gone = kill(Pid::from_raw(pid), signal);
    }
}

fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "without a status".to_owned(),
    }
}

/// Copies what a child prints to stderr, each line with the child's name before it.
async fn prefix(name: &str, from: Option<impl AsyncRead + Unpin>, output: Output) {
    let Some(mut from) = from else { return };
    let head = output.paint_messages().dim(&format!("[{name}]"));
    let (mut line, mut buffer) = (Vec::new(), vec![0_u8; 8 << 10]);
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        for byte in buffer.iter().take(count).copied() {
            if byte == b'\n' || line.len() >= LONGEST_LINE {
                print(&head, &line);
                line.clear();
            }
            if byte != b'\n' {
                line.push(byte);
            }
        }
    }
    if !line.is_empty() {
        print(&head, &line);
    }
}

fn print(head: &str, line: &[u8]) {
    let mut shown = Vec::with_capacity(head.len() + line.len() + 2);
    for part in [head.as_bytes(), b" ", line, b"\n"] {
        shown.extend_from_slice(part);
    }
    // That nobody reads our messages is no reason to stop reading the child's.
    let _nobody_reads = std::io::stderr().lock().write_all(&shown);
}
