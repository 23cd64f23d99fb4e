//! How a step's container ended.
//!
//! Invariant: only init's own record says how a step ended. The engine's word is asked for one thing: whether the
//! container runs. While the engine does not answer, nothing is concluded.

use bollard::errors::Error as Bollard;
use bollard::models::{ContainerState, ContainerStateStatusEnum};
use futures_util::StreamExt as _;
use longshore_core::init::{ExitRecord, NOT_STARTED};
use std::time::Duration;

use super::engine::is_missing;
use super::watch::FileWatch;
use super::{Executor, StepDir};
use crate::retry::{Policy, Retry};

/// Between looks at an engine that does not answer.
const ENGINE_AWAY: Policy = Policy { first: Duration::from_millis(200), most: Duration::from_secs(5) };

/// How a step's container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// By init's own account. The container may still be on its way out; nothing of the job runs any more.
    Exit(Box<ExitRecord>),
    /// It does not run (any more) and there is no exit record: the step is lost.
    Gone {
        /// What is known, for people.
        detail: String,
    },
}

impl Executor {
    /// Waits until the container has ended, across restarts of the engine and of this agent.
    ///
    /// `boundary` is a record boundary of the spool from which on it has no holes (0 when nothing was given back).
    pub async fn wait_end(&self, dir: &StepDir, container: &str, boundary: u64) -> End {
        let mut watch = FileWatch::new(&dir.control());
        let stopped = self.stopped(container);
        tokio::pin!(stopped);
        loop {
            watch.clear();
            if let Some(record) = record(dir) {
                return End::Exit(Box::new(record));
            }
            tokio::select! {
                () = watch.wait() => {}
                detail = &mut stopped => {
                    // What init wrote before the container stopped is there by now.
                    let found = record(dir).or_else(|| dir.spool_record(boundary));
                    return found.map_or(End::Gone { detail }, |record| End::Exit(Box::new(record)));
                }
            }
        }
    }

    /// Waits until the engine says that the container does not run, and returns what it knows.
    async fn stopped(&self, container: &str) -> String {
        let mut retry = Retry::new(ENGINE_AWAY);
        let mut engine_was_away = false;
        loop {
            // Waits for as long as the container runs; what the answer says is told by the look that follows.
            let mut ended = std::pin::pin!(self.inner.docker.wait_container(container, None));
            drop(ended.next().await);
            match self.inner.docker.inspect_container(container, None).await {
                Ok(found) if is_running(found.state.as_ref()) => {}
                Ok(found) => return told(found.state.as_ref(), engine_was_away),
                Err(error) if is_missing(&error) => return missing(engine_was_away),
                Err(error) => {
                    if !engine_was_away {
                        tracing::warn!(container, %error, "the container engine does not answer; waiting for it");
                    }
                    engine_was_away = true;
                }
            }
            retry.pause().await;
        }
    }

    /// What the engine knows of a container, for messages.
    pub(super) async fn describe(&self, container: &str) -> String {
        match self.inner.docker.inspect_container(container, None).await {
            Ok(found) => told(found.state.as_ref(), false),
            Err(error) if is_missing(&error) => missing(false),
            Err(error) => engine_words(&error),
        }
    }
}

fn record(dir: &StepDir) -> Option<ExitRecord> {
    dir.exit_record().unwrap_or_else(|error| {
        tracing::warn!(error = error.full(), "the control file cannot be read");
        None
    })
}

fn is_running(state: Option<&ContainerState>) -> bool {
    use ContainerStateStatusEnum::{PAUSED, RESTARTING, RUNNING};
    state
        .is_some_and(|state| state.running == Some(true) || matches!(state.status, Some(RUNNING | PAUSED | RESTARTING)))
}

fn missing(engine_was_away: bool) -> String {
    let mut text = "the container is gone: someone removed it, or the engine lost it".to_owned();
    add_restart(&mut text, engine_was_away);
    text
}

fn told(state: Option<&ContainerState>, engine_was_away: bool) -> String {
    let Some(state) = state else {
        return "the container does not run, and the engine says nothing about its end".to_owned();
    };
    if state.status == Some(ContainerStateStatusEnum::CREATED) {
        return "the container was never started".to_owned();
    }
    let mut text = match state.exit_code {
        Some(code) if code == i64::from(NOT_STARTED) => "the container ended without having got its orders".to_owned(),
        Some(137) => "the container was killed (exit code 137) and left no exit record".to_owned(),
        Some(code) => format!("the container ended with exit code {code} and left no exit record"),
        None => "the container ended and left no exit record".to_owned(),
    };
    if state.oom_killed == Some(true) {
        text.push_str("; the kernel killed it because it was out of memory");
    }
    if let Some(error) = state.error.as_deref().filter(|error| !error.is_empty()) {
        text.push_str("; the engine says: ");
        text.push_str(error);
    }
    add_restart(&mut text, engine_was_away);
    text
}

fn add_restart(text: &mut String, engine_was_away: bool) {
    if engine_was_away {
        text.push_str("; the engine was away in the meantime (restarted?)");
    }
}

fn engine_words(error: &Bollard) -> String {
    super::engine::detail(error).unwrap_or_else(|| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(status: ContainerStateStatusEnum, code: i64) -> ContainerState {
        ContainerState { status: Some(status), exit_code: Some(code), ..ContainerState::default() }
    }

    #[test]
    fn what_is_known_is_told() {
        let killed = ContainerState { oom_killed: Some(true), ..state(ContainerStateStatusEnum::EXITED, 137) };
        let text = told(Some(&killed), true);
        assert!(text.contains("killed") && text.contains("memory") && text.contains("restarted"), "{text}");
        assert!(told(Some(&state(ContainerStateStatusEnum::EXITED, 0)), false).contains("left no exit record"));
        assert!(told(Some(&state(ContainerStateStatusEnum::CREATED, 0)), false).contains("never started"));
        assert!(told(None, false).contains("says nothing"));
    }

    #[test]
    fn a_paused_container_has_not_ended() {
        assert!(is_running(Some(&state(ContainerStateStatusEnum::PAUSED, 0))));
        assert!(!is_running(Some(&state(ContainerStateStatusEnum::DEAD, 0))));
        assert!(!is_running(None));
    }
}
