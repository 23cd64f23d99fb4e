//! Whether jobs are safe on this host as its configuration wants it.
//!
//! What runs from before goes on and is reported: only new offers are held back. It is looked at again until it is well, and then
//! now and then and at each SIGHUP: a rule of a firewall may go as it came.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;

use super::metadata;
use crate::config::{Config, Metadata};
use crate::executor::Executor;
use crate::executor::probe::{self, NoEngine, Runc};

/// Between two looks while it is not well.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Between two looks while it is well.
const LOOK_ANEW: Duration = Duration::from_secs(3_600);

/// What the configuration wants of the host.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    metadata: Metadata,
    min_runc: Option<Runc>,
    socket: PathBuf,
}

impl Wanted {
    pub(super) fn of(config: &Config) -> Self {
        Self { metadata: config.metadata, min_runc: config.min_runc, socket: config.docker_socket.clone() }
    }
}

/// Why no jobs are taken, as one look found it.
pub(super) async fn look(executor: &Executor, wanted: &Wanted) -> Option<String> {
    let reason = match runc(wanted).await {
        Some(reason) => Some(reason),
        None => metadata::look(executor, wanted.metadata).await,
    };
    if let Some(reason) = &reason {
        tracing::error!(reason, "this agent is not ready");
    }
    reason
}

/// Looks again, for as long as the agent runs, if there is anything to look at.
pub(super) async fn follow(
    executor: Executor,
    wanted: Wanted,
    held_back: watch::Sender<Option<String>>,
    mut hangups: watch::Receiver<u64>,
) {
    if wanted.metadata == Metadata::Allowed && wanted.min_runc.is_none() {
        return;
    }
    loop {
        let held = held_back.borrow().is_some();
        tokio::select! {
            () = tokio::time::sleep(if held { LOOK_AGAIN } else { LOOK_ANEW }) => {}
            () = crate::tasks::changed(&mut hangups) => {}
        }
        let reason = look(&executor, &wanted).await;
        if held && reason.is_none() {
            tracing::info!("nothing holds jobs back any more; they are taken");
        }
        held_back.send_if_modified(|last| {
            let differs = *last != reason;
            *last = reason;
            differs
        });
    }
}

async fn runc(wanted: &Wanted) -> Option<String> {
    let least = wanted.min_runc?;
    match probe::look(&wanted.socket, None).await {
        Ok(facts) => judge(facts.runc.as_deref(), least),
        Err(NoEngine::Socket(error)) => Some(unknown(least, &error.to_string())),
        Err(NoEngine::Answer(error)) => Some(unknown(least, &error)),
    }
}

fn unknown(least: Runc, error: &str) -> String {
    format!(
        "whether the engine has runc {least} or newer (`docker.min_runc`) cannot be found out, so no job is taken ({error}); see to the engine"
    )
}

fn judge(version: Option<&str>, least: Runc) -> Option<String> {
    let found = match version {
        Some(version) => match version.parse::<Runc>() {
            Ok(runc) if runc >= least => return None,
            Ok(_) => format!("the engine has runc {version}"),
            Err(()) => format!("the engine's runc has the version `{version}`, which cannot be read"),
        },
        None => "the engine does not say which runc it has".to_owned(),
    };
    Some(format!(
        "{found}, and `docker.min_runc` wants {least} or newer, so no job is taken; upgrade the package of runc, or change `docker.min_runc`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_runc_holds_jobs_back() {
        let least = Runc::release(1, 2, 8);
        for good in ["1.2.8", "1.2.8+ds1", "1.3.0", "2.0.0", "1.10.0"] {
            assert_eq!(judge(Some(good), least), None, "{good}");
        }
        for bad in ["1.1.5+ds1", "1.2.7", "1.2.8-rc.1", "0.9", "v1", ""] {
            let reason = judge(Some(bad), least).unwrap();
            assert!(reason.contains("wants 1.2.8 or newer") && reason.contains("no job is taken"), "{bad}: {reason}");
        }
        assert!(judge(None, least).unwrap().contains("does not say"));
    }

    #[tokio::test]
    async fn without_a_wish_nobody_asks_and_an_engine_that_is_not_there_is_no_answer() {
        let wanted = |min_runc| Wanted { metadata: Metadata::Allowed, min_runc, socket: "/no/such.sock".into() };
        assert_eq!(runc(&wanted(None)).await, None);
        let reason = runc(&wanted(Some(Runc::release(1, 1, 0)))).await.unwrap();
        assert!(reason.contains("1.1.0") && reason.contains("cannot be found out"), "{reason}");
    }
}
