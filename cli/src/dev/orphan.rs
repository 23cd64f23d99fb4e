//! Children of an earlier `dev` that was killed before it could end them.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::layout::Layout;
use crate::output::Output;

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// How many looks until it is killed.
const LOOKS: u32 = 200;

/// Ends what is left of an earlier start, so that it does not stand in this one's way.
pub(super) async fn end(layout: &Layout, name: &'static str, output: Output) {
    let file = layout.pid_file(name);
    let pid = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
    if let Some(pid) = pid.filter(|pid| is_ours(*pid, layout.root())) {
        output.message(&format!("[dev] ending the {name} of an earlier start (process {pid})"));
        let send = |signal| {
            let _gone = kill(Pid::from_raw(pid), signal);
        };
        send(Signal::SIGTERM);
        let mut looks = 0;
        while is_ours(pid, layout.root()) && looks < 2 * LOOKS {
            looks += 1;
            if looks == LOOKS {
                send(Signal::SIGKILL);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    layout.forget(&file);
}

/// Whether the process was started with a configuration file of this folder: its number may be someone else's by now.
fn is_ours(pid: i32, root: &Path) -> bool {
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    arguments
        .split(|byte| *byte == 0)
        .any(|argument| Path::new(std::ffi::OsStr::from_bytes(argument)).parent() == Some(root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_is_not_ours() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(!is_ours(own, Path::new("/nowhere")));
        assert!(!is_ours(i32::MAX, Path::new("/nowhere")));
    }
}
