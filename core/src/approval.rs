//! An approval: a recorded decision of people, and who may take part in it.
//!
//! Pure. A person has one word; a rejection ends it at once; it is granted when enough people agreed; what it was bound to may
//! move and void it, also when it is granted already; it expires by its own clock only while it is pending.

use serde::{Deserialize, Serialize};

use crate::id::ApprovalId;
use crate::time::Timestamp;

/// Where an approval stands, as CONTRACT names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// People are asked.
    Pending,
    /// Enough people agreed.
    Granted,
    /// A person refused.
    Rejected,
    /// What it was bound to moved, or its deployment ended.
    Void,
    /// Nobody decided in time.
    Expired,
}

impl ApprovalState {
    /// The word in JSON and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Granted => "granted",
            Self::Rejected => "rejected",
            Self::Void => "void",
            Self::Expired => "expired",
        }
    }
}

/// An approval as decisions see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Its id.
    pub id: ApprovalId,
    /// Where it stands.
    pub state: ApprovalState,
    /// How many people have to agree.
    pub needs: u32,
    /// Teams whose members may decide; none: whoever may approve there.
    pub teams: Vec<String>,
    /// When it expires.
    pub expires_at: Timestamp,
    /// Why it is void.
    pub void_reason: Option<String>,
    /// When it was decided.
    pub decided_at: Option<Timestamp>,
}

/// Somebody who wants to decide.
#[derive(Debug, Clone, Copy)]
pub struct Voter<'a> {
    /// Name.
    pub name: &'a str,
    /// Teams that the person is in.
    pub teams: &'a [String],
    /// Who started the deployment.
    pub deployer: &'a str,
    /// The environment is protected: who deploys may not approve.
    pub protected: bool,
}

/// What happens to an approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A person agrees; so many others did before.
    Grant {
        /// People who agreed before.
        before: u32,
    },
    /// A person refuses.
    Reject,
    /// What it was bound to moved, or its deployment ended.
    Void(String),
    /// Its time is over.
    TimePassed,
}

/// Why an event was not accepted. Nothing changes then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It is decided already.
    #[error("approval `{0}` is {1} already")]
    Decided(ApprovalId, &'static str),
    /// Who deploys may not approve.
    #[error("`{0}` started this deployment, and the environment is protected: somebody else has to decide")]
    OwnDeployment(String),
    /// Not in a team that is asked.
    #[error("`{person}` is in none of the teams that are asked: {teams}")]
    NotInTeam {
        /// The person.
        person: String,
        /// The teams.
        teams: String,
    },
    /// Its time is not over.
    #[error("approval `{0}` has time left")]
    NotYet(ApprovalId),
}

/// Whether a person may decide.
///
/// # Errors
/// [`Rejected::OwnDeployment`], [`Rejected::NotInTeam`].
pub fn may_vote(approval: &Approval, voter: &Voter<'_>) -> Result<(), Rejected> {
    if voter.protected && voter.name == voter.deployer {
        return Err(Rejected::OwnDeployment(voter.name.to_owned()));
    }
    if approval.teams.is_empty() || approval.teams.iter().any(|team| voter.teams.contains(team)) {
        return Ok(());
    }
    let teams: Vec<_> = approval.teams.iter().map(|team| format!("`{team}`")).collect();
    Err(Rejected::NotInTeam { person: voter.name.to_owned(), teams: teams.join(", ") })
}

/// Decides what an event makes of an approval.
///
/// # Errors
/// [`Rejected::Decided`], [`Rejected::NotYet`]; nothing changes then.
pub fn decide(approval: &Approval, event: &Event, now: Timestamp) -> Result<Approval, Rejected> {
    let moved = matches!((approval.state, event), (ApprovalState::Granted, Event::Void(_)));
    if approval.state != ApprovalState::Pending && !moved {
        return Err(Rejected::Decided(approval.id, approval.state.as_str()));
    }
    let mut next = approval.clone();
    let expired = now >= approval.expires_at;
    next.state = match event {
        Event::Void(reason) => {
            next.void_reason = Some(reason.clone());
            ApprovalState::Void
        }
        Event::TimePassed if !expired => return Err(Rejected::NotYet(approval.id)),
        Event::TimePassed => ApprovalState::Expired,
        // A word that comes when the time is over does not count, whether or not the clock was looked at before.
        Event::Grant { .. } | Event::Reject if expired => {
            return Err(Rejected::Decided(approval.id, ApprovalState::Expired.as_str()));
        }
        Event::Reject => ApprovalState::Rejected,
        Event::Grant { before } if before.saturating_add(1) >= approval.needs => ApprovalState::Granted,
        Event::Grant { .. } => ApprovalState::Pending,
    };
    if next.state != ApprovalState::Pending {
        next.decided_at = Some(now);
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn approval(needs: u32, teams: &[&str]) -> Approval {
        Approval {
            id: ApprovalId::new(Timestamp::from_micros(1), [1; 10]),
            state: ApprovalState::Pending,
            needs,
            teams: teams.iter().map(|team| (*team).to_owned()).collect(),
            expires_at: Timestamp::from_micros(100),
            void_reason: None,
            decided_at: None,
        }
    }

    fn state(event: &Event, now: i64) -> Result<ApprovalState, Rejected> {
        decide(&approval(2, &[]), event, Timestamp::from_micros(now)).map(|next| next.state)
    }

    #[test]
    fn enough_people_grant_it_and_one_rejects_it() {
        assert_eq!(state(&Event::Grant { before: 0 }, 9), Ok(ApprovalState::Pending));
        assert_eq!(state(&Event::Grant { before: 1 }, 9), Ok(ApprovalState::Granted));
        assert_eq!(state(&Event::Reject, 9), Ok(ApprovalState::Rejected));
        assert_eq!(state(&Event::Void("moved".to_owned()), 9), Ok(ApprovalState::Void));
    }

    #[test]
    fn its_time_ends_at_an_instant() {
        assert!(matches!(state(&Event::TimePassed, 99), Err(Rejected::NotYet(_))));
        assert_eq!(state(&Event::TimePassed, 100), Ok(ApprovalState::Expired));
        assert!(matches!(state(&Event::Grant { before: 1 }, 100), Err(Rejected::Decided(_, "expired"))));
        assert!(matches!(state(&Event::Reject, 100), Err(Rejected::Decided(_, "expired"))));
    }

    #[test]
    fn a_decision_stands() {
        for decided in [ApprovalState::Granted, ApprovalState::Rejected, ApprovalState::Void, ApprovalState::Expired] {
            let decided = Approval { state: decided, ..approval(1, &[]) };
            for event in [Event::Grant { before: 0 }, Event::Reject, Event::Void(String::new()), Event::TimePassed] {
                if decided.state == ApprovalState::Granted && matches!(event, Event::Void(_)) {
                    continue;
                }
                assert!(decide(&decided, &event, Timestamp::from_micros(200)).is_err());
            }
        }
    }

    #[test]
    fn what_was_agreed_to_may_move_all_the_same() {
        let granted = Approval { state: ApprovalState::Granted, ..approval(1, &[]) };
        let next =
            decide(&granted, &Event::Void("the state has moved".to_owned()), Timestamp::from_micros(200)).unwrap();
        assert_eq!((next.state, next.void_reason.as_deref()), (ApprovalState::Void, Some("the state has moved")));
    }

    #[test]
    fn who_may_decide() {
        let (ops, other) = (vec!["ops".to_owned()], vec!["web".to_owned()]);
        let voter = |teams, name, protected| Voter { name, teams, deployer: "anna", protected };
        let asked = approval(1, &["ops"]);
        assert_eq!(may_vote(&asked, &voter(&ops, "bob", true)), Ok(()));
        assert!(matches!(may_vote(&asked, &voter(&other, "bob", true)), Err(Rejected::NotInTeam { .. })));
        assert!(matches!(may_vote(&asked, &voter(&ops, "anna", true)), Err(Rejected::OwnDeployment(_))));
        assert_eq!(may_vote(&asked, &voter(&ops, "anna", false)), Ok(()));
        assert_eq!(may_vote(&approval(1, &[]), &voter(&other, "bob", true)), Ok(()));
    }
}
