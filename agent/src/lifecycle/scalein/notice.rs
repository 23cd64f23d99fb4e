//! What a cloud says is going to happen to this machine, in one form for all clouds.

use std::time::Duration;

use longshore_core::time::Timestamp;

/// Where a word comes from: each source is asked by itself, and knows of at most one thing that matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// AWS: `spot/instance-action`.
    Spot,
    /// AWS: `events/recommendations/rebalance`.
    Rebalance,
    /// AWS: the state that the scaling group wants.
    Group,
    /// GCP: `instance/preempted`.
    Preempted,
    /// GCP: `instance/maintenance-event`.
    Maintenance,
    /// Azure: scheduled events.
    Events,
}

/// The end of a machine, or of its rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    /// For people: goes into "draining, because ...".
    pub(crate) reason: String,
    /// When it happens.
    pub(crate) when: When,
    /// What the cloud is told when no job is left, if anything.
    pub(crate) acknowledge: Option<String>,
}

/// When something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Nobody says, or it ends no job: jobs are let finish.
    Open,
    /// Then.
    At(Timestamp),
    /// So long after it was first said.
    After(Duration),
    /// When the group's lifecycle hook is done or has timed out.
    Hook,
}

/// What one look at a source brought. An error changes nothing of what is known.
pub(crate) type Look = (Source, Result<Option<Notice>, String>);

impl Notice {
    pub(crate) fn new(reason: impl Into<String>, when: When) -> Self {
        Self { reason: reason.into(), when, acknowledge: None }
    }
}

#[cfg(feature = "aws")]
pub(crate) mod aws {
    use longshore_cloud::imds::SpotAction;
    use longshore_core::time::Timestamp;

    use super::{Notice, When};

    pub(crate) fn spot(action: Option<SpotAction>) -> Option<Notice> {
        let SpotAction { action, at } = action?;
        Some(Notice::new(format!("spot notice: {action} at {at}"), When::At(at)))
    }

    pub(crate) fn rebalance(since: Option<Timestamp>) -> Option<Notice> {
        since.map(|_| Notice::new("rebalance recommendation", When::Open))
    }

    /// `hook`: this agent keeps the group's hook alive, so it has as long as that lasts.
    pub(crate) fn group(target: Option<&str>, hook: bool) -> Option<Notice> {
        let terminates = matches!(target?, "Terminated" | "Warmed:Terminated");
        let when = if hook { When::Hook } else { When::Open };
        terminates.then(|| Notice::new("the scaling group terminates this instance", when))
    }
}

#[cfg(feature = "gcp")]
pub(crate) mod gcp {
    use std::time::Duration;

    use longshore_cloud::gcp::Maintenance;

    use super::{Notice, When};

    /// A spot instance is shut down so long after it is said to be preempted.
    const PREEMPTION: Duration = Duration::from_secs(30);
    /// An instance that cannot move is stopped so long after that is said.
    const MAINTENANCE: Duration = Duration::from_secs(60);

    pub(crate) fn preempted(preempted: bool) -> Option<Notice> {
        preempted.then(|| Notice::new("spot notice: the instance is preempted", When::After(PREEMPTION)))
    }

    pub(crate) fn maintenance(event: Maintenance) -> Option<Notice> {
        (event == Maintenance::Terminate)
            .then(|| Notice::new("host maintenance stops the instance", When::After(MAINTENANCE)))
    }
}

#[cfg(feature = "azure")]
pub(crate) mod azure {
    use longshore_cloud::azure::{EventKind, ScheduledEvent};

    use super::{Notice, When};

    /// The event of this machine that comes first; one that only freezes it comes after those that end jobs.
    pub(crate) fn first(events: &[ScheduledEvent], machine: &str, acknowledge: bool) -> Option<Notice> {
        let own = events.iter().filter(|event| event.resources.iter().any(|name| name == machine));
        let event = own.min_by_key(|event| (event.kind == EventKind::Freeze, event.not_before))?;
        let (what, when) = match (event.kind, event.not_before) {
            (EventKind::Freeze, _) => ("freeze", When::Open),
            (EventKind::Preempt, at) => ("spot notice: preempt", begins(at)),
            (EventKind::Terminate, at) => ("terminate", begins(at)),
            (EventKind::Reboot, at) => ("reboot", begins(at)),
            (EventKind::Redeploy, at) => ("redeploy", begins(at)),
        };
        // For other machines that stand in the same event nobody here can speak.
        let alone = event.resources.len() == 1 && !event.started;
        Some(Notice {
            acknowledge: (acknowledge && alone).then(|| event.id.clone()),
            ..Notice::new(format!("scheduled event: {what}"), when)
        })
    }

    /// What has begun already ends now.
    fn begins(at: Option<longshore_core::time::Timestamp>) -> When {
        at.map_or(When::After(std::time::Duration::ZERO), When::At)
    }
}
