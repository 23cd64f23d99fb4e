//! The one gate: whether a release may go to an environment now, for every caller (promise P12).
//!
//! Pure; the clock is an argument. REST, CLI, schedule, automatic phase and child all come through [`check`].

use std::collections::BTreeSet;

use crate::spec::{Mode, Operation, Phase, Require};
use crate::time::Timestamp;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The lifecycle as the release has it.
    pub lifecycle: &'a [Phase],
    /// Its channel, where the project has channels.
    pub channel: Option<&'a str>,
    /// Where it is to go.
    pub environment: &'a str,
    /// Environments in which a deployment of the release succeeded.
    pub succeeded: &'a BTreeSet<String>,
    /// Version of the release.
    pub version: &'a str,
    /// Why the release may not be deployed, if so.
    pub blocked: Option<&'a str>,
    /// It is not deployed: this is done to its stack.
    pub operation: Option<Operation>,
    /// It is of a working tree, which no release holds: it has passed nothing, and nobody can promote it.
    pub local: bool,
    /// The environment is protected.
    pub protected: bool,
    /// Not before.
    pub not_before: Option<Timestamp>,
    /// Not after.
    pub expires_at: Option<Timestamp>,
}

/// Why not (now).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// A person blocked the release.
    #[error("release `{version}` is blocked: {reason}")]
    Blocked {
        /// Its version.
        version: String,
        /// The person's words.
        reason: String,
    },
    /// The environment is in no phase.
    #[error(
        "environment `{environment}` is in no phase of the lifecycle{}",
        channel.as_ref().map(|name| format!(" of channel `{name}`")).unwrap_or_default()
    )]
    NoPhase {
        /// The environment.
        environment: String,
        /// The release's channel, where the project has channels.
        channel: Option<String>,
    },
    /// An earlier phase has not been passed.
    #[error("release `{version}` has not passed phase `{phase}`: {missing}")]
    PhaseNotPassed {
        /// Its version.
        version: String,
        /// The first phase that was not passed.
        phase: String,
        /// What is missing, for people.
        missing: String,
    },
    /// A working tree may not go to a protected environment.
    #[error("environment `{environment}` is protected, and takes no working tree")]
    LocalProtected {
        /// The environment.
        environment: String,
    },
    /// A working tree may not go past the first phases.
    #[error(
        "a working tree may not go to `{environment}`: phase `{phase}` has to be passed first, and only a release can"
    )]
    LocalPhase {
        /// The environment.
        environment: String,
        /// The first phase that has to be passed.
        phase: String,
    },
    /// Its time has not come.
    #[error("it is scheduled for {at}")]
    TooEarly {
        /// The time.
        at: Timestamp,
    },
    /// Its time is over.
    #[error("it was not to begin after {at}, and that has passed")]
    Expired {
        /// The time.
        at: Timestamp,
    },
}

impl Denied {
    /// The rule's name, stable.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::Blocked { .. } => "release_blocked",
            Self::NoPhase { .. } | Self::PhaseNotPassed { .. } => "lifecycle",
            Self::LocalProtected { .. } => "local_protected",
            Self::LocalPhase { .. } => "local_phase",
            Self::TooEarly { .. } => "schedule",
            Self::Expired { .. } => "expired",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Blocked { version, .. } => {
                format!(
                    "deploy another release, or `longshore release unblock PROJECT {version}` when the reason is gone"
                )
            }
            Self::NoPhase { .. } => "add it to a phase of `lifecycle` and make a new release".to_owned(),
            Self::PhaseNotPassed { .. } => {
                "deploy it there first: `longshore promote PROJECT --release VERSION` goes to the next phase".to_owned()
            }
            Self::LocalProtected { .. } | Self::LocalPhase { .. } => {
                "apply the project and deploy a release: `longshore apply`, then `longshore deploy PROJECT --env E`; or \
                 deploy the working tree to an environment of the first phase"
                    .to_owned()
            }
            Self::TooEarly { .. } => "it begins by itself; cancel it if it is not wanted any more".to_owned(),
            Self::Expired { .. } => "ask for a new deployment".to_owned(),
        }
    }

    /// Whether waiting is enough.
    #[must_use]
    pub const fn passes_by_itself(&self) -> bool {
        matches!(self, Self::TooEarly { .. })
    }
}

/// Whether the release may go there now.
///
/// # Errors
/// The first rule that says no.
pub fn check(wish: &Wish<'_>, now: Timestamp) -> Result<(), Denied> {
    // A blocked release is no reason to leave its stack as it is: it may be looked at and cleared away, but not applied.
    let applies = matches!(wish.operation, None | Some(Operation::Up));
    if let Some(reason) = wish.blocked.filter(|_| applies) {
        return Err(Denied::Blocked { version: wish.version.to_owned(), reason: reason.to_owned() });
    }
    if let Some(at) = wish.expires_at.filter(|at| *at <= now) {
        return Err(Denied::Expired { at });
    }
    if wish.local && wish.protected {
        return Err(Denied::LocalProtected { environment: wish.environment.to_owned() });
    }
    // An operation is on a stack that is there already, so no release goes anywhere.
    if !wish.lifecycle.is_empty() && wish.operation.is_none() {
        let holds = |phase: &Phase| phase.environments.iter().any(|name| name == wish.environment);
        let Some(at) = wish.lifecycle.iter().position(holds) else {
            let (environment, channel) = (wish.environment.to_owned(), wish.channel.map(str::to_owned));
            return Err(Denied::NoPhase { environment, channel });
        };
        let open =
            wish.lifecycle.iter().take(at).find_map(|phase| missing(phase, wish.succeeded).map(|why| (phase, why)));
        if let Some((phase, missing)) = open {
            let (version, phase) = (wish.version.to_owned(), phase.name.clone());
            if wish.local {
                return Err(Denied::LocalPhase { environment: wish.environment.to_owned(), phase });
            }
            return Err(Denied::PhaseNotPassed { version, phase, missing });
        }
    }
    match wish.not_before.filter(|at| *at > now) {
        Some(at) => Err(Denied::TooEarly { at }),
        None => Ok(()),
    }
}

/// What a phase still asks for; `None` when it was passed.
fn missing(phase: &Phase, succeeded: &BTreeSet<String>) -> Option<String> {
    let (have, lack): (Vec<_>, Vec<_>) = phase.environments.iter().partition(|name| succeeded.contains(*name));
    let needed = match phase.require {
        Require::Optional => 0,
        Require::All => phase.environments.len(),
        Require::AtLeast(number) => usize::try_from(number).unwrap_or(usize::MAX),
    };
    if have.len() >= needed {
        return None;
    }
    let lack: Vec<_> = lack.into_iter().map(|name| format!("`{name}`")).collect();
    Some(match phase.require {
        Require::AtLeast(number) => {
            format!("it needs {number} of its environments and has {}; not there yet: {}", have.len(), lack.join(", "))
        }
        _ => format!("it has not succeeded in {}", lack.join(", ")),
    })
}

/// The phase that a release goes to next: the first that it has not passed. An optional phase is only entered by name.
#[must_use]
pub fn next_phase<'a>(lifecycle: &'a [Phase], succeeded: &BTreeSet<String>) -> Option<&'a Phase> {
    lifecycle.iter().find(|phase| missing(phase, succeeded).is_some())
}

/// Environments that a release goes to by itself now: those of the next phase if that is automatic.
#[must_use]
pub fn automatic<'a>(lifecycle: &'a [Phase], succeeded: &BTreeSet<String>) -> Vec<&'a str> {
    let next = next_phase(lifecycle, succeeded).filter(|phase| phase.mode == Mode::Automatic);
    let names = next.into_iter().flat_map(|phase| &phase.environments);
    names.map(String::as_str).filter(|name| !succeeded.contains(*name)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn phase(name: &str, environments: &[&str], mode: Mode, require: Require) -> Phase {
        Phase {
            name: name.to_owned(),
            environments: environments.iter().map(|name| (*name).to_owned()).collect(),
            mode,
            require,
        }
    }

    fn lifecycle() -> Vec<Phase> {
        vec![
            phase("test", &["dev", "qa"], Mode::Automatic, Require::AtLeast(1)),
            phase("try", &["lab"], Mode::Automatic, Require::Optional),
            phase("stage", &["staging"], Mode::Manual, Require::All),
            phase("live", &["eu", "us"], Mode::Automatic, Require::All),
        ]
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn asked(environment: &str, succeeded: &[&str]) -> Result<(), Denied> {
        let (lifecycle, succeeded) = (lifecycle(), set(succeeded));
        check(&wish(&lifecycle, environment, &succeeded), Timestamp::from_micros(50))
    }

    fn wish<'a>(lifecycle: &'a [Phase], environment: &'a str, succeeded: &'a BTreeSet<String>) -> Wish<'a> {
        let (version, operation) = ("1.0.0", None);
        let (local, protected, not_before, expires_at) = (false, false, None, None);
        Wish {
            lifecycle,
            channel: None,
            environment,
            succeeded,
            version,
            blocked: None,
            operation,
            local,
            protected,
            not_before,
            expires_at,
        }
    }

    #[test]
    fn every_rule_has_a_word() {
        let at = Timestamp::from_micros(0);
        let (version, environment) = ("1.0.0".to_owned(), "dev".to_owned());
        for denied in [
            Denied::Blocked { version: version.clone(), reason: String::new() },
            Denied::NoPhase { environment: environment.clone(), channel: None },
            Denied::LocalProtected { environment: environment.clone() },
            Denied::LocalPhase { environment, phase: String::new() },
            Denied::PhaseNotPassed { version, phase: String::new(), missing: String::new() },
            Denied::TooEarly { at },
            Denied::Expired { at },
        ] {
            assert!(crate::problem::is_code(denied.rule()), "{denied:?}");
        }
    }

    #[test]
    fn phases_are_passed_in_order() {
        assert_eq!(asked("dev", &[]), Ok(()));
        assert!(matches!(asked("staging", &[]), Err(Denied::PhaseNotPassed { phase, .. }) if phase == "test"));
        assert_eq!(asked("staging", &["qa"]), Ok(()), "one of two is enough, and the optional phase is left out");
        assert!(matches!(asked("us", &["dev"]), Err(Denied::PhaseNotPassed { phase, missing, .. })
            if phase == "stage" && missing.contains("`staging`")));
        assert!(matches!(asked("elsewhere", &["dev"]), Err(Denied::NoPhase { .. })));
        assert_eq!(check(&wish(&[], "any", &set(&[])), Timestamp::from_micros(1)), Ok(()));
    }

    #[test]
    fn a_blocked_release_and_a_wrong_time_are_denied() {
        let (none, succeeded, now) = (vec![], set(&[]), Timestamp::from_micros(50));
        let plain = wish(&none, "dev", &succeeded);
        assert!(matches!(check(&Wish { blocked: Some("CVE"), ..plain }, now), Err(Denied::Blocked { .. })));
        let (early, late) = (Some(Timestamp::from_micros(49)), Some(Timestamp::from_micros(51)));
        assert!(matches!(check(&Wish { not_before: late, ..plain }, now), Err(Denied::TooEarly { .. })));
        assert_eq!(check(&Wish { not_before: early, expires_at: late, ..plain }, now), Ok(()));
        assert!(matches!(check(&Wish { expires_at: Some(now), ..plain }, now), Err(Denied::Expired { .. })));
        let both = Wish { not_before: late, expires_at: early, ..plain };
        assert!(matches!(check(&both, now), Err(Denied::Expired { .. })), "what never may begin does not wait");
    }

    #[test]
    fn an_operation_goes_nowhere_but_applies_no_blocked_release() {
        let (lifecycle, succeeded, now) = (lifecycle(), set(&[]), Timestamp::from_micros(50));
        let there = wish(&lifecycle, "us", &succeeded);
        for operation in
            [Operation::Preview, Operation::Refresh, Operation::Destroy, Operation::Drift, Operation::Unlock]
        {
            assert_eq!(check(&Wish { operation: Some(operation), blocked: Some("CVE"), ..there }, now), Ok(()));
            let over = Wish { operation: Some(operation), expires_at: Some(now), ..there };
            assert!(matches!(check(&over, now), Err(Denied::Expired { .. })), "its time counts as for everything");
        }
        let up = Wish { operation: Some(Operation::Up), ..there };
        assert_eq!(check(&up, now), Ok(()));
        assert!(matches!(check(&Wish { blocked: Some("CVE"), ..up }, now), Err(Denied::Blocked { .. })));
    }

    #[test]
    fn a_working_tree_goes_where_nothing_has_to_be_passed_first() {
        let (lifecycle, none, now) = (lifecycle(), set(&[]), Timestamp::from_micros(50));
        let to = |environment, protected| {
            check(&Wish { local: true, protected, ..wish(&lifecycle, environment, &none) }, now)
        };
        assert_eq!((to("dev", false), to("qa", false)), (Ok(()), Ok(())));
        assert!(matches!(to("dev", true), Err(Denied::LocalProtected { .. })));
        for environment in ["lab", "staging", "eu"] {
            assert!(matches!(to(environment, false), Err(Denied::LocalPhase { phase, .. }) if phase == "test"));
        }
        assert!(matches!(to("elsewhere", false), Err(Denied::NoPhase { .. })));
        let free = Wish { local: true, ..wish(&[], "any", &none) };
        assert_eq!(check(&free, now), Ok(()));
        assert_eq!(check(&Wish { local: false, protected: true, ..free }, now), Ok(()), "a release may");
    }

    #[test]
    fn automatic_phases_fire_when_they_may_and_optional_ones_never_do() {
        let next = |have: &[&str]| {
            let lifecycle = lifecycle();
            automatic(&lifecycle, &set(have)).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(next(&[]), ["dev", "qa"]);
        assert_eq!(next(&["dev"]), Vec::<String>::new(), "the next phase is a person's affair");
        assert_eq!(next(&["dev", "staging", "eu"]), ["us"]);
        assert_eq!(next(&["dev", "staging", "eu", "us"]), Vec::<String>::new());
    }

    proptest! {
        /// Whatever a release has reached: what fires by itself is allowed, and more success never takes a permission away.
        #[test]
        fn the_gate_agrees_with_itself(have in proptest::sample::subsequence(vec!["dev", "qa", "lab", "staging", "eu", "us"], 0..6), more in 0..6_usize) {
            let (lifecycle, succeeded) = (lifecycle(), set(&have));
            let now = Timestamp::from_micros(50);
            for environment in automatic(&lifecycle, &succeeded) {
                prop_assert_eq!(check(&wish(&lifecycle, environment, &succeeded), now), Ok(()));
            }
            let mut wider = succeeded.clone();
            wider.insert(["dev", "qa", "lab", "staging", "eu", "us"][more].to_owned());
            for environment in ["dev", "lab", "staging", "eu"] {
                if check(&wish(&lifecycle, environment, &succeeded), now).is_ok() {
                    prop_assert_eq!(check(&wish(&lifecycle, environment, &wider), now), Ok(()));
                }
            }
        }
    }
}
