//! Keeps the pool's plugins ready, and tells how far that is.
//!
//! What the controller wanted last is written down, so that a restarted agent has it before it is told again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use longshore_core::plugins::{self, Plugin, Readiness};

use super::{Runtime, Shared};
use crate::durable;
use crate::retry::{Policy, Retry};

/// The file in the state directory.
const FILE: &str = "plugins.json";
/// Waits between tries: a mirror may be away, or somebody corrects a file.
const AGAIN: Policy = Policy { first: Duration::from_secs(5), most: Duration::from_secs(120) };

/// The plugins that were wanted last.
#[must_use]
pub fn wanted_before(state_dir: &Path) -> Vec<Plugin> {
    let read = std::fs::read(state_dir.join(FILE)).ok();
    read.and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .filter(|set: &Vec<Plugin>| plugins::check(set).is_ok())
        .unwrap_or_default()
}

/// Makes ready what is wanted, again and again until it is, for as long as the agent runs.
pub async fn keep_ready<R: Runtime>(shared: Arc<Shared<R>>, state_dir: PathBuf) {
    let mut wanted = shared.plugins.subscribe();
    let mut retry = Retry::new(AGAIN);
    loop {
        let set = wanted.borrow_and_update().clone();
        remember(&state_dir, &set).await;
        let made = tokio::select! {
            made = make_ready(&shared, &set) => made,
            // What is under way is not wanted any more.
            () = crate::tasks::changed(&mut wanted) => {
                retry.reset();
                continue;
            }
        };
        if made {
            crate::tasks::changed(&mut wanted).await;
            retry.reset();
            continue;
        }
        tokio::select! {
            () = retry.pause() => {}
            () = crate::tasks::changed(&mut wanted) => retry.reset(),
        }
    }
}

/// Whether they are ready.
async fn make_ready<R: Runtime>(shared: &Shared<R>, set: &[Plugin]) -> bool {
    let digest = plugins::digest(set);
    let say = |ready, message: String| shared.board.plugins(Readiness { digest: digest.clone(), ready, message });
    let made = shared.runtime.warm_plugins(set, |message| say(false, message)).await;
    match made {
        Ok(()) if set.is_empty() => {
            shared.board.plugins(Readiness::default());
            true
        }
        Ok(()) => {
            say(true, format!("{} plugins", set.len()));
            tracing::info!(plugins = set.len(), digest, "the plugins of the pool are ready");
            true
        }
        Err(why) => {
            tracing::error!(%why, "the plugins of the pool are not ready, so no job is given to this agent");
            say(false, why.to_string());
            false
        }
    }
}

async fn remember(state_dir: &Path, set: &[Plugin]) {
    let path = state_dir.join(FILE);
    let Ok(bytes) = serde_json::to_vec(set) else { return };
    if let Err(error) = crate::tasks::blocking(move || durable::write(&path, &bytes)).await {
        tracing::warn!(%error, "the plugins of the pool are not written down; after a restart the controller says them again");
    }
}
