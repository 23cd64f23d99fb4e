//! No job is taken while jobs could reach the cloud's metadata service and the configuration does not permit it.
//!
//! What runs from before goes on and is reported: only new offers are held back. It is looked at again until it is well, and then
//! now and then and at each SIGHUP: a rule of a firewall may go as it came.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;

use crate::config::Metadata;
use crate::executor::{Error, Executor, metadata::remedy};

/// Between two looks while it is not well.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Between two looks while it is well.
const LOOK_ANEW: Duration = Duration::from_secs(3_600);

/// Why no jobs are taken, as one look found it.
pub(super) async fn look(executor: &Executor, wanted: Metadata) -> Option<String> {
    match wanted {
        Metadata::Allowed => None,
        Metadata::Blocked => judge(executor.metadata_in_reach().await),
    }
}

/// Looks again, for as long as the agent runs.
pub(super) async fn follow(
    executor: Executor,
    wanted: Metadata,
    held_back: watch::Sender<Option<String>>,
    mut hangups: watch::Receiver<u64>,
) {
    if wanted == Metadata::Allowed {
        return;
    }
    loop {
        let held = held_back.borrow().is_some();
        tokio::select! {
            () = tokio::time::sleep(if held { LOOK_AGAIN } else { LOOK_ANEW }) => {}
            () = crate::tasks::changed(&mut hangups) => {}
        }
        let reason = look(&executor, wanted).await;
        if held && reason.is_none() {
            tracing::info!("jobs do not reach the cloud's metadata service any more; jobs are taken");
        }
        held_back.send_if_modified(|last| {
            let differs = *last != reason;
            *last = reason;
            differs
        });
    }
}

fn judge(reached: Result<Vec<SocketAddr>, Error>) -> Option<String> {
    let reason = match reached {
        Ok(reached) if reached.is_empty() => return None,
        Ok(reached) => {
            let places: Vec<String> = reached.iter().map(|place| place.ip().to_string()).collect();
            format!(
                "jobs would reach the cloud's metadata service ({}) and with it the rights of this host, so no job is taken; {}",
                places.join(", "),
                remedy(&reached)
            )
        }
        Err(error) => format!(
            "whether jobs reach the cloud's metadata service cannot be found out, so no job is taken ({}); see to the engine, \
             or permit it with `metadata = \"allowed\"`",
            error.full()
        ),
    };
    tracing::error!(reason, "this agent is not ready");
    Some(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reached_or_not_known_holds_jobs_back() {
        assert_eq!(judge(Ok(vec![])), None);
        let reached = judge(Ok(vec!["169.254.169.254:80".parse().unwrap()])).unwrap();
        assert!(reached.contains("(169.254.169.254)") && reached.contains("DOCKER-USER"), "{reached}");
        let error = Error::Engine { what: "import".to_owned(), detail: "no".to_owned() };
        assert!(judge(Err(error)).unwrap().contains("cannot be found out"));
    }
}
