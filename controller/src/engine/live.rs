//! What is only in memory: who wants to hear of changes, and what attempts are doing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use longshore_core::id::DeploymentId;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::view::ProgressView;

/// Changes that a slow listener may be behind before it only hears that something changed.
const BACKLOG: usize = 1024;

/// What changed of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Its view differs; read it again.
    State,
    /// What it is doing.
    Progress(ProgressView),
}

/// Changes of one deployment, from the moment of [`super::Engine::subscribe`] on.
#[derive(Debug)]
pub struct Changes {
    id: DeploymentId,
    source: broadcast::Receiver<(DeploymentId, Change)>,
}

impl Changes {
    /// The next change; when some were missed, [`Change::State`]. `None` when the controller stops.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            match self.source.recv().await {
                Ok((id, change)) if id == self.id => return Some(change),
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return Some(Change::State),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// Listeners and progress.
#[derive(Debug)]
pub(super) struct Live {
    changes: broadcast::Sender<(DeploymentId, Change)>,
    progress: Mutex<HashMap<DeploymentId, ProgressView>>,
}

impl Default for Live {
    fn default() -> Self {
        Self { changes: broadcast::Sender::new(BACKLOG), progress: Mutex::default() }
    }
}

impl Live {
    pub(super) fn subscribe(&self, id: DeploymentId) -> Changes {
        Changes { id, source: self.changes.subscribe() }
    }

    pub(super) fn changed(&self, id: DeploymentId) {
        // Nobody may be listening.
        let _heard = self.changes.send((id, Change::State)).is_ok();
    }

    pub(super) fn progressed(&self, id: DeploymentId, progress: ProgressView) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).insert(id, progress.clone());
        let _heard = self.changes.send((id, Change::Progress(progress))).is_ok();
    }

    pub(super) fn progress(&self, id: DeploymentId) -> Option<ProgressView> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(super) fn forget(&self, id: DeploymentId) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}
