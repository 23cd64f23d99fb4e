//! What git says of a folder that somebody works in; for people, so whatever goes wrong is silence.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

/// The state of a checkout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The commit, in full.
    pub commit: String,
    /// Whether something in the folder differs from it; what git ignores does not count.
    pub dirty: bool,
}

/// The commit that is checked out in a folder; `None` when it is in no checkout, or git does not say.
pub async fn state(folder: &Path) -> Option<State> {
    let commit = git(folder, &["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]).await?;
    let changes = git(folder, &["status", "--porcelain", "--ignore-submodules=none", "--", "."]).await?;
    Some(State { commit: commit.trim().to_owned(), dirty: !changes.trim().is_empty() })
}

async fn git(folder: &Path, args: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    command.args(["--no-optional-locks", "-c", "core.fsmonitor=false", "-C"]).arg(folder).args(args);
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    // Of another repository, when this runs in a hook of it.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(name);
    }
    let done = command.output().await.ok()?;
    done.status.success().then(|| String::from_utf8_lossy(&done.stdout).into_owned())
}
