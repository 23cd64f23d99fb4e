//! When a step has to end: its own timeout, the time without a controller, a cancel. Pure.

use std::time::Duration;

use longshore_core::init::control::Deadlines;

use crate::ledger::{CancelMark, Started};
use crate::session::Contact;

/// The deadlines that follow from everything known, `None` when what stands in the control file has to stay: nothing was
/// heard of the controller since this process began, so the agent before knew better.
///
/// A deadline of another boot means nothing, and no container of that boot runs any more.
#[must_use]
pub fn deadlines(started: &Started, contact: &Contact, cancel: Option<&CancelMark>, standing: Deadlines) -> Deadlines {
    let mut soft = match contact.max_disconnected {
        // 0: without bound.
        Some(bound) if contact.last_micros > 0 && !bound.is_zero() => {
            started.soft.min(contact.last_micros.saturating_add(micros(bound)))
        }
        Some(_) => started.soft,
        None if standing.soft == 0 => started.soft,
        None => standing.soft,
    };
    let mut hard = soft.saturating_add(micros(started.grace));
    if let Some(cancel) = cancel.filter(|cancel| cancel.boot_id == started.boot_id) {
        hard = hard.min(cancel.hard);
        soft = soft.min(hard);
    }
    Deadlines { soft, hard }
}

/// How often the deadline that depends on contact is renewed: far more often than it can pass.
#[must_use]
pub fn refresh_every(contact: &Contact) -> Duration {
    let bound = contact.max_disconnected.unwrap_or(Duration::from_secs(60));
    (bound / 20).clamp(Duration::from_secs(1), Duration::from_secs(60))
}

/// A duration in the microseconds that deadlines are counted in.
#[must_use]
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use longshore_core::time::Timestamp;

    use super::*;

    const SECOND: u64 = 1_000_000;

    fn started() -> Started {
        Started {
            at: Timestamp::from_micros(0),
            boot_id: "b".to_owned(),
            soft: 1_000 * SECOND,
            grace: Duration::from_secs(10),
        }
    }

    fn contact(last: u64, bound: u64) -> Contact {
        Contact { connected: true, last_micros: last * SECOND, max_disconnected: Some(Duration::from_secs(bound)) }
    }

    fn of(contact: &Contact, cancel: Option<&CancelMark>, standing: Deadlines) -> (u64, u64) {
        let deadlines = deadlines(&started(), contact, cancel, standing);
        (deadlines.soft / SECOND, deadlines.hard / SECOND)
    }

    #[test]
    fn the_time_without_contact_bounds_the_step_and_contact_renews_it() {
        let none = Deadlines::default();
        assert_eq!(of(&contact(100, 60), None, none), (160, 170));
        assert_eq!(of(&contact(200, 60), None, none), (260, 270));
        assert_eq!(of(&contact(990, 60), None, none), (1_000, 1_010));
        assert_eq!(of(&contact(100, 0), None, none), (1_000, 1_010));
    }

    #[test]
    fn before_the_first_contact_the_agent_before_knew_better() {
        let nothing = Contact::default();
        assert_eq!(of(&nothing, None, Deadlines { soft: 70 * SECOND, hard: 80 * SECOND }), (70, 80));
        assert_eq!(of(&nothing, None, Deadlines::default()), (1_000, 1_010));
    }

    #[test]
    fn a_cancel_brings_the_end_forward_and_never_puts_it_off() {
        let cancel =
            |hard: u64| CancelMark { boot_id: "b".to_owned(), hard: hard * SECOND, signalled: true, cause: None };
        let none = Deadlines::default();
        assert_eq!(of(&contact(100, 60), Some(&cancel(130)), none), (130, 130));
        assert_eq!(of(&contact(100, 60), Some(&cancel(900)), none), (160, 170));
        let other = CancelMark { boot_id: "other".to_owned(), ..cancel(130) };
        assert_eq!(of(&contact(100, 60), Some(&other), none), (160, 170));
    }
}
